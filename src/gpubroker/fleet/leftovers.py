"""What launches leave beside their machines: keys, scripts, rules, addresses, disks.

Read only when a sweep asks. What one attempt needed is owed its release once the attempt is
closed; what an owner's machines share, once none of them is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from gpubroker.fleet import accounts
from gpubroker.fleet.context import Context
from gpubroker.fleet.requests import StrayResource, Whose
from gpubroker.model.errors import BrokerError, NotFound
from gpubroker.model.instance import HeldResource, Holdings, Instance
from gpubroker.model.terms import OWNER_WIDE, State
from gpubroker.providers.base import HasResources, Provider
from gpubroker.store.rows import AttemptRow


class Held(Struct, frozen=True):
    """What an account has beside its machines, as far as it could be read."""

    resources: tuple[HeldResource, ...]
    problems: tuple[str, ...]


async def held(provider: Provider, uid: str, scopes: Sequence[str]) -> Held:
    """Everything in all scopes, asked for at once; nothing where the cloud cannot be asked.

    An incomplete answer adds what it has: what it lacks is concluded from by nobody.
    """
    if not isinstance(provider, HasResources):
        return Held((), ())
    told = await asyncio.gather(
        *(provider.resources(scope) for scope in scopes), return_exceptions=True
    )
    found: dict[tuple[str, str, str], HeldResource] = {}
    problems = []
    for one in told:
        if isinstance(one, BrokerError):
            problems.append(str(one))
        elif isinstance(one, BaseException):
            raise one
        elif one.account_uid == uid:
            found |= {(held.what, held.ref.scope, held.ref.id): held for held in one.resources}
        if isinstance(one, Holdings) and not (one.complete and one.account_uid == uid):
            problems.append("the list of keys, scripts and the like is not complete")
    return Held(tuple(found.values()), tuple(dict.fromkeys(problems)))


def sort(
    ctx: Context,
    resources: Sequence[HeldResource],
    account: str,
    attempts: Mapping[str, AttemptRow],
    machines: Collection[Instance] | None,
    owner: str | None,
) -> list[StrayResource]:
    """Whose each of them is. `machines`: all of the account, None where the list is not whole.

    `attempts`: the store's, of this cloud, read after the resources were. `owner`: another
    gpubroker that a person has named.
    """
    living = _living(ctx, account, attempts, machines)
    found = []
    for one in resources:
        whose, why = _whose(ctx, one, attempts, living, owner)
        found.append(
            StrayResource(
                provider=one.ref.provider,
                account=account,
                what=one.what,
                ref=one.ref,
                name=one.name,
                owner=one.owner,
                whose=whose,
                since=one.created_at,
                why=why,
            )
        )
    return found


def _living(
    ctx: Context,
    account: str,
    attempts: Mapping[str, AttemptRow],
    machines: Collection[Instance] | None,
) -> frozenset[str] | None:
    """Owners with machines in the account, as far as a whole list and the store can tell."""
    if machines is None:
        return None
    owners = {one.owner for one in machines if one.owner and one.state is not State.TERMINATED}
    if any(row.open for row in attempts.values() if row.account == account):
        owners.add(ctx.store.owner)
    return frozenset(owners)


def _whose(
    ctx: Context,
    one: HeldResource,
    attempts: Mapping[str, AttemptRow],
    living: frozenset[str] | None,
    named: str | None,
) -> tuple[Whose, str]:
    if one.owner is None:
        return "foreign", "not made by gpubroker"
    ours = one.owner == ctx.store.owner
    if not ours and one.owner != named:
        return "foreign", f"made by gpubroker owner {one.owner}"
    if ours and one.attempt is not None and one.what not in OWNER_WIDE:
        return _of_an_attempt(attempts.get(one.attempt))
    # Shared; or another owner's, of whose attempts nothing is known here: a machine of his keeps
    # all of his things.
    kept: Whose = "ours" if ours else "foreign"
    if living is None:
        return kept, "whether a machine needs it is not known"
    if one.owner in living:
        return kept, "its owner's machines use it"
    return "orphan", "no machine of its owner is left"


def _of_an_attempt(attempt: AttemptRow | None) -> tuple[Whose, str]:
    if attempt is None:
        return "orphan", "the store has no such attempt"
    if attempt.open:
        return "ours", "its machine may exist"
    return "orphan", f"its attempt is closed ({attempt.status})"


async def end(ctx: Context, stray: StrayResource) -> None:
    """One that nothing needs. WrongState where its provider says that something does."""
    provider = ctx.clouds.provider(stray.provider, stray.account)
    await accounts.confirm(ctx, provider)
    if not isinstance(provider, HasResources):
        return
    ctx.store.add_event(
        ctx.at(),
        "leftover_end",
        provider=stray.provider,
        what=stray.what,
        id=stray.ref.id,
        name=stray.name,
    )
    try:
        await provider.discard(stray.what, stray.ref)
    except NotFound:
        return
