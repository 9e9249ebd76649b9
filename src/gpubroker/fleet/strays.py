"""Machines of our owner that nothing wants: told apart, warned of, ended when they appear.

One may appear long after its create was given up: it carries a closed attempt, and is owed a delete
whenever it does. So is the second machine of one attempt. Only warned of is what may be somebody's:
what carries an attempt that this store never had (another copy of it may), and what may have
inherited our marks from a machine of ours, as by a snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from gpubroker.fleet import accounts, ending, following
from gpubroker.fleet.context import Context, ref_of
from gpubroker.fleet.requests import Stray
from gpubroker.fleet.tending import warn_of_orphans
from gpubroker.model.errors import AuthFailed, BrokerError, NotFound
from gpubroker.model.identity import Ref, parse_name
from gpubroker.model.instance import Instance, Listing
from gpubroker.model.money import Nanos, cost
from gpubroker.model.terms import Carrier, State
from gpubroker.providers.base import Provider
from gpubroker.providers.calling import urgent
from gpubroker.store.rows import AttemptRow, LaunchRow, when

LOOK_S = 3600.0
"""So often every account is looked at, those without machines in use too."""
AGAIN_S = 30.0
"""Between two tries to end one that is still there, and two looks at its account, at least."""
TROUBLED_S = 300.0
"""After a look that failed the next one waits so long."""
DECIDED_S = 60.0
"""So long whoever decides about a machine that nothing wants is left alone with it."""
_NAMES = frozenset({Carrier.UNIQUE_NAME, Carrier.NAME})
_INHERITED = frozenset({Carrier.TAG, Carrier.KEY_COMMENT})
"""What a machine that a person makes may have from one of ours."""


class Seen(Struct, frozen=True):
    """What a look at the lists of one account came to."""

    owed: int
    """Machines that are to be gone, now or soon, and are not yet: the next look comes soon."""
    problems: tuple[str, ...]


class Records:
    """What the store knows of one cloud, with an eye to one account there.

    Two aliases may open the same account: what one of them made is no orphan to the other.
    """

    def __init__(
        self, rows: Sequence[AttemptRow], launches: Mapping[str, LaunchRow], account: str
    ) -> None:
        # Ids are unique within an account only.
        rows = sorted(rows, key=lambda row: row.account == account)
        self.attempts = {row.id: row for row in rows}
        self.by_place = {
            (row.scope, row.ref_id): row for row in self.attempts.values() if row.status == "made"
        }
        self.launches = launches


def whose(
    ctx: Context,
    instance: Instance,
    records: Records,
    provider: Provider,
    machines: Sequence[Instance],
) -> LaunchRow | str:
    """Its launch; else, of our owner, why nothing wants it; "" of any other owner or none."""
    # By its id first: a cloud may have lost or ignored the carrier, and an adopted machine has
    # somebody else's or none.
    known = records.by_place.get((instance.ref.scope, instance.ref.id))
    if known is not None and records.launches[known.launch_id].ended_at is None:
        return records.launches[known.launch_id]
    attempt = records.attempts.get(instance.attempt or "")
    if (
        attempt is not None
        and attempt.status == "made"
        and following.elsewhere(ctx, attempt, provider, machines) is instance
    ):
        return records.launches[attempt.launch_id]
    if instance.owner != ctx.store.owner:
        return ""
    if attempt is not None and attempt.status in {"intent", "sending", "unknown"}:
        return records.launches[attempt.launch_id]
    if (
        attempt is not None
        and attempt.status == "made"
        and following.may_be(ctx, attempt, provider, instance.ref)
    ):
        return records.launches[attempt.launch_id]
    return _why_unwanted(attempt)


def _why_unwanted(attempt: AttemptRow | None) -> str:
    if attempt is None:
        return "carries this store's owner, and the store has no such attempt"
    if attempt.open:
        return "a second machine of one attempt"
    return f"its attempt is closed ({attempt.status}), wanted by nothing"


def told(ctx: Context, instance: Instance, why: str, attempt: AttemptRow | None = None) -> Stray:
    """As people read it."""
    since = instance.created_at
    if since is None and attempt is not None:
        since = when(attempt.made_at or attempt.sent_at or attempt.created_at)
    price = instance.price
    if price is None and attempt is not None:
        price = Nanos(attempt.price)
    spent: Nanos | None = None
    if price is not None and since is not None:
        spent = cost(price, max(0.0, (ctx.now() - since).total_seconds()))
    return Stray(
        provider=instance.ref.provider,
        account=instance.ref.account,
        ref=instance.ref,
        name=instance.name,
        owner=instance.owner,
        gpu=instance.gpu,
        state=instance.state,
        price=price,
        since=since,
        cost=spent,
        why=why,
    )


def in_use(rows: Iterable[AttemptRow]) -> Mapping[str, Ref]:
    """Where machines are, by attempt."""
    return {row.id: ref_of(row) for row in rows}


def decision(ref: Ref) -> str:
    """The claim of whoever decides about it: a machine is adopted or ended, never both."""
    return f"adopt:{ref.provider}/{ref.account}/{ref.scope}/{ref.id}"


async def look(ctx: Context) -> tuple[str, ...]:
    """Every configured account, once in LOOK_S by one process; sooner while an end is owed there.

    Answer: what could not be seen or ended, in words.
    """
    by_claim = {f"strays:{name}/{alias}": (name, alias) for name, alias in ctx.clouds.configured()}
    here = tuple(claim for claim in by_claim if ctx.left.get(claim, 0.0) <= ctx.at())
    due = ctx.store.free(here, ctx.at())
    mine = [claim for claim in due if ctx.store.claim(f"{claim}:look", ctx.at(), AGAIN_S)]
    if not mine:
        return ()
    wanted = in_use(ctx.store.steady())
    seen = await asyncio.gather(*(_account(ctx, claim, *by_claim[claim], wanted) for claim in mine))
    return tuple(problem for problems in seen for problem in problems)


async def _account(
    ctx: Context, claim: str, name: str, account: str, wanted: Mapping[str, Ref]
) -> tuple[str, ...]:
    try:
        provider = ctx.clouds.provider(name, account)
        uid = await accounts.bound(ctx, provider)
        listings = [await ctx.lists.asked_after(provider, one) for one in await provider.scopes()]
        if any(one.account_uid != uid for one in listings):
            await accounts.confirm(ctx, provider)
        listings = [one for one in listings if one.account_uid == uid]
        seen = await tend(ctx, provider, listings, wanted)
    except BrokerError as trouble:
        if isinstance(trouble, AuthFailed):
            ctx.left[claim] = ctx.at() + TROUBLED_S  # another process may have a key that works
        else:
            ctx.store.claim(claim, ctx.at(), TROUBLED_S)
        return (f"{name}/{account}: {trouble}",)
    if not seen.owed:
        ctx.store.claim(claim, ctx.at(), LOOK_S)
    return seen.problems


async def tend(
    ctx: Context, provider: Provider, listings: Sequence[Listing], wanted: Mapping[str, Ref]
) -> Seen:
    """End what these lists show of our owner and nothing wants. `wanted`: known to be, by attempt.

    Lists need not be complete: nothing is concluded from what they lack.
    """
    machines = [
        one for listed in listings for one in listed.instances if one.state is not State.TERMINATED
    ]
    suspects = {
        one.ref: one
        for one in machines
        if one.owner == ctx.store.owner and wanted.get(one.attempt or "") != one.ref
    }
    if not suspects:
        return Seen(0, ())
    asked_at = min(listed.asked_at.timestamp() for listed in listings)
    # Read after the lists were fetched: what was made meanwhile has its attempt here.
    records = _records(ctx, provider, suspects.values())
    owed, problems = 0, []
    for one in suspects.values():
        why = whose(ctx, one, records, provider, machines)
        if not isinstance(why, str):
            continue
        attempt = records.attempts.get(one.attempt or "")
        stray = told(ctx, one, why, attempt)
        verdict = _verdict(one, attempt, provider, machines, asked_at)
        if verdict == "warn":
            warn_of_orphans(ctx, [stray])
        owed += verdict in {"end", "wait"}
        if attempt is not None and verdict == "end":
            try:
                await _end(ctx, provider, one, attempt, stray, machines)
            except BrokerError as trouble:
                where = f"{provider.name}/{provider.account}"
                problems.append(f"{where}: {one.ref.id}, which nothing wants: {trouble}")
    return Seen(owed, tuple(problems))


def _records(ctx: Context, provider: Provider, machines: Collection[Instance]) -> Records:
    rows = ctx.store.attempts_about(
        provider.name,
        [one.attempt or "" for one in machines],
        [one.ref.id for one in machines],
    )
    launches = {row.launch_id: ctx.store.launch(row.launch_id) for row in rows}
    return Records(rows, launches, provider.account)


def _verdict(
    instance: Instance,
    attempt: AttemptRow | None,
    provider: Provider,
    machines: Sequence[Instance],
    asked_at: float,
) -> Literal["end", "wait", "warn", "leave"]:
    """What is to be done about one that nothing wants. In doubt a person decides."""
    can = provider.capabilities
    if attempt is None:
        return "warn"
    shown_for_s = can.list_lag_s + can.absence_grace_s
    if not attempt.open and asked_at <= (attempt.closed_at or 0.0) + shown_for_s:
        return "wait"  # a list that is behind the times may make it look so
    own = next((one for one in machines if _is_its_own(one, attempt)), None)
    if attempt.open and own is None:
        return "leave"  # it may be that one, by another id
    if not _is_surely_ours(instance, attempt, provider):
        return "warn"
    if attempt.open and own is not None and can.start_renames and own.state is not State.RUNNING:
        return "warn"  # either may be the one in use
    return "end"


def _is_its_own(instance: Instance, attempt: AttemptRow) -> bool:
    return (instance.ref.scope, instance.ref.id) == (attempt.scope, attempt.ref_id)


def _is_surely_ours(instance: Instance, attempt: AttemptRow, provider: Provider) -> bool:
    """Whether a create of ours made it: a person's own machine may have inherited a tag or key."""
    can = provider.capabilities
    first, may = can.carriers[0], frozenset(can.carriers)
    if first is Carrier.TOKEN or not may & _INHERITED or _is_its_own(instance, attempt):
        return True
    if may & _NAMES and parse_name(instance.name) == (instance.owner, attempt.id):
        return True
    if instance.created_at is None or attempt.sent_at is None:
        return False
    return instance.created_at.timestamp() <= attempt.sent_at + can.create_deadline_s


async def _runs(provider: Provider, ref: Ref) -> bool:
    try:
        return (await provider.get(ref)).state is State.RUNNING
    except NotFound:
        return False


async def _end(
    ctx: Context,
    provider: Provider,
    instance: Instance,
    attempt: AttemptRow,
    stray: Stray,
    machines: Sequence[Instance],
) -> None:
    """Ask for it. The proof is a list without it: nothing is recorded to be there."""
    ref = instance.ref
    renames = attempt.open and provider.capabilities.start_renames
    if renames and not await _runs(provider, ref_of(attempt)):
        return  # the list was behind the times: either may be the one in use
    where = f"{attempt.id}:{ref.provider}:{ref.account}:{ref.scope}:{ref.id}"
    waited = ctx.store.claim(f"owed:{where}:waited", ctx.at(), ending.OVERDUE_S)
    first = ctx.store.notices.once(
        f"owed:{where}",
        ctx.at(),
        "owed_end",
        attempt.launch_id,
        provider=ref.provider,
        account=ref.account,
        id=ref.id,
        attempt=attempt.id,
        gpu=stray.gpu,
        price=stray.price,
        cost=stray.cost,
        why=stray.why,
    )
    if waited and not first and instance.state is not State.TERMINATING:
        warn_of_orphans(ctx, [stray])
    ctx.boundary("owed end recorded")
    if not ctx.store.claim(f"owed:{where}:asked", ctx.at(), AGAIN_S):
        return
    if not ctx.store.claim(decision(ref), ctx.at(), DECIDED_S):
        return  # it is being adopted
    await accounts.confirm(ctx, provider)
    now = _records(ctx, provider, [instance])
    if not isinstance(whose(ctx, instance, now, provider, machines), str):
        return  # adopted meanwhile
    with urgent(), contextlib.suppress(NotFound):
        await provider.terminate(ref)
    ctx.boundary("owed end sent")
