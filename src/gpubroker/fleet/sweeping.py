"""Every machine and resource of every account, sorted by whose it is; and, when asked, the mending.

Only what carries this store's owner is ever ended, or another's that a person has named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from gpubroker.fleet import accounts, ending, following, leftovers, strays
from gpubroker.fleet.context import Context, ref_of
from gpubroker.fleet.errors import StillThere
from gpubroker.fleet.leases import held
from gpubroker.fleet.requests import Stray, StrayResource, SweepReport
from gpubroker.fleet.strays import Records
from gpubroker.fleet.tending import warn_of_orphans
from gpubroker.model.errors import BrokerError, NotFound, OutcomeUnknown, Trouble, WrongState
from gpubroker.model.instance import Instance, Listing
from gpubroker.model.machine import Machine
from gpubroker.model.terms import State
from gpubroker.providers.base import Provider
from gpubroker.providers.calling import urgent
from gpubroker.store.errors import LeaseHeld
from gpubroker.store.rows import AttemptRow, LaunchRow

END_DEADLINE_S = 120.0
View = Callable[[LaunchRow], Machine]


class _Findings:
    def __init__(self) -> None:
        self.ours: list[LaunchRow] = []
        self.orphans: list[Stray] = []
        self.ghosts: list[AttemptRow] = []
        self.foreign: list[Stray] = []
        self.resources: list[StrayResource] = []
        self.errors: dict[str, str] = {}

    def problem(self, name: str, account: str, why: object) -> None:
        """One more thing that an account could not tell or did not let us do."""
        where = f"{name}/{account}"
        told = self.errors.get(where)
        self.errors[where] = f"{told}; {why}" if told and str(why) not in told else str(why)


async def sweep(
    ctx: Context, view: View, *, fix: bool = False, owner: str | None = None
) -> SweepReport:
    """Look at every configured account; with `fix`, end the orphans and close the ghosts.

    Machines go first, what they leave beside them after that. Only what is of this store's owner
    is ever ended, unless another `owner` is named.
    """
    findings = _Findings()
    await asyncio.gather(
        *(
            _look(ctx, findings, provider, account, owner)
            for provider, account in ctx.clouds.configured()
        )
    )
    warn_of_orphans(ctx, findings.orphans)
    ghosts = tuple(view(ctx.store.launch(ghost.launch_id)) for ghost in findings.ghosts)
    if fix:
        with urgent():
            await _mend(
                findings,
                [(stray, _end_stray(ctx, stray)) for stray in findings.orphans]
                + [(ghost, _close_ghost(ctx, ghost)) for ghost in findings.ghosts],
            )
            await _mend(
                findings,
                [
                    (one, leftovers.end(ctx, one))
                    for one in findings.resources
                    if one.whose == "orphan"
                ],
            )
    return SweepReport(
        ours=tuple(
            view(ctx.store.launch(launch_id))
            for launch_id in dict.fromkeys(launch.id for launch in findings.ours)
        ),
        orphans=tuple(findings.orphans),
        ghosts=ghosts,
        foreign=tuple(findings.foreign),
        resources=tuple(findings.resources),
        errors=findings.errors,
        fixed=fix,
    )


async def _mend(
    findings: _Findings,
    mendings: Sequence[tuple[Stray | StrayResource | AttemptRow, Coroutine[Any, Any, None]]],
) -> None:
    """All at once; one that fails is told, and costs the others nothing."""
    done = await asyncio.gather(*(mending for _, mending in mendings), return_exceptions=True)
    for (found, _), outcome in zip(mendings, done, strict=True):
        if isinstance(outcome, BrokerError):
            findings.problem(found.provider, found.account, outcome)
        elif outcome is not None:
            raise outcome


async def _look(
    ctx: Context, findings: _Findings, name: str, account: str, owner: str | None
) -> None:
    """One account: its machines, and what stands beside them."""
    try:
        provider = ctx.clouds.provider(name, account)
        uid = await accounts.confirm(ctx, provider)
        scopes = await provider.scopes()
    except BrokerError as error:
        findings.problem(name, account, error)
        return
    listings, whole = await _lists(findings, provider, uid, scopes)
    held = await leftovers.held(provider, uid, scopes)
    for problem in held.problems:
        findings.problem(name, account, problem)
    # Read after the lists were fetched: what was made meanwhile has its attempt here.
    records = Records(
        ctx.store.attempts_of_provider(name),
        {row.id: row for row in ctx.store.launches(include_ended=True)},
        account,
    )
    machines = [one for listing in listings for one in listing.instances]
    for instance in machines:
        _sort(ctx, findings, instance, records, owner, provider, machines)
    findings.resources += leftovers.sort(
        ctx, held.resources, account, records.attempts, machines if whole else None, owner
    )
    if not whole:
        return
    for attempt in records.by_place.values():
        if attempt.account == account and await _is_ghost(ctx, provider, attempt, listings):
            findings.ghosts.append(attempt)


async def _lists(
    findings: _Findings, provider: Provider, uid: str, scopes: Sequence[str]
) -> tuple[list[Listing], bool]:
    """Of all scopes, asked for at once; and whether they are everything that the account has."""
    told = await asyncio.gather(*(provider.list(one) for one in scopes), return_exceptions=True)
    for one in told:
        if isinstance(one, BrokerError):
            findings.problem(provider.name, provider.account, one)
        elif isinstance(one, BaseException):
            raise one
    listings = [one for one in told if isinstance(one, Listing) and one.account_uid == uid]
    whole = len(listings) == len(scopes) and all(one.complete for one in listings)
    if not whole:
        why = "the list is not complete: nothing was concluded from what it lacks"
        findings.problem(provider.name, provider.account, why)
    return listings, whole


def _sort(
    ctx: Context,
    findings: _Findings,
    instance: Instance,
    records: Records,
    owner: str | None,
    provider: Provider,
    machines: Sequence[Instance],
) -> None:
    if instance.state is State.TERMINATED:
        return
    whose = strays.whose(ctx, instance, records, provider, machines)
    if isinstance(whose, LaunchRow):
        findings.ours.append(whose)
    elif whose:
        attempt = records.attempts.get(instance.attempt or "")
        findings.orphans.append(strays.told(ctx, instance, whose, attempt))
    elif owner is not None and instance.owner == owner:
        findings.orphans.append(strays.told(ctx, instance, f"made by owner {owner}, as named"))
    else:
        made = f"made by gpubroker owner {instance.owner}" if instance.owner else ""
        findings.foreign.append(strays.told(ctx, instance, made or "not made by gpubroker"))


async def _is_ghost(
    ctx: Context, provider: Provider, attempt: AttemptRow, listings: Sequence[Listing]
) -> bool:
    told = [one for listing in listings for one in listing.instances]
    if (
        any(one.ref.id == attempt.ref_id and one.state is not State.TERMINATED for one in told)
        or following.elsewhere(ctx, attempt, provider, told)
        or following.on_its_way(ctx, attempt, provider)
    ):
        return False
    made_at = attempt.made_at or 0.0
    asked_at = min((one.asked_at.timestamp() for one in listings), default=0.0)
    if made_at >= asked_at or ctx.at() - made_at < provider.capabilities.list_lag_s:
        return False  # too young to be missed
    if provider.capabilities.gone == "absent":
        return True
    try:
        instance = await provider.get(ref_of(attempt))
    except NotFound:
        return True
    except BrokerError:
        return False  # nothing is concluded from a look that failed
    return instance.state is State.TERMINATED


async def _end_stray(ctx: Context, stray: Stray) -> None:
    """Terminate until the provider itself says that it is gone."""
    provider = ctx.clouds.provider(stray.provider, stray.account)
    uid = await accounts.confirm(ctx, provider)
    ctx.store.add_event(
        ctx.at(), "orphan_end", provider=stray.provider, id=stray.ref.id, name=stray.name
    )
    deadline = ctx.at() + END_DEADLINE_S
    asked_at: float | None = None
    while ctx.at() < deadline:
        pause = ending.LOOK_S
        try:
            if asked_at is None or ctx.at() - asked_at > ending.ASK_AGAIN_S:
                await provider.terminate(stray.ref)
                asked_at = ctx.at()
            if await _is_gone(ctx, provider, uid, stray, asked_at):
                return
        except NotFound:
            return
        except (Trouble, OutcomeUnknown, WrongState) as trouble:
            pause = getattr(trouble, "retry_after_s", None) or pause
        await ctx.clock.sleep(pause)
    raise StillThere(
        f"{stray.provider} {stray.ref.id} was asked to end and is still there after "
        f"{END_DEADLINE_S:.0f} s. Run gpubroker sweep --fix again."
    )


async def _is_gone(
    ctx: Context, provider: Provider, uid: str, stray: Stray, asked_at: float
) -> bool:
    """By the machine's own record; where such a cloud has no words for it, by a whole list."""
    if provider.capabilities.gone != "absent":
        return (await provider.get(stray.ref)).state is State.TERMINATED
    listing = await ctx.lists.asked_after(provider, stray.ref.scope, asked_at)
    there = any(
        one.ref == stray.ref and one.state is not State.TERMINATED for one in listing.instances
    )
    return listing.complete and listing.account_uid == uid and not there


async def _close_ghost(ctx: Context, attempt: AttemptRow) -> None:
    """A second complete list decides; the machine went without being asked to."""
    provider = ctx.clouds.provider(attempt.provider, attempt.account)
    await ctx.clock.sleep(provider.capabilities.absence_grace_s)
    since = ctx.at()  # one second list of each scope serves all ghosts of the account
    uid = await accounts.confirm(ctx, provider)
    listings = [
        await ctx.lists.asked_after(provider, scope, since) for scope in await provider.scopes()
    ]
    if not all(one.complete and one.account_uid == uid for one in listings):
        raise Trouble("the second list is not complete: nothing was closed")
    if not await _is_ghost(ctx, provider, attempt, listings):
        return
    if ctx.locks[attempt.launch_id].locked():
        return  # whoever works on it sees the same
    try:
        async with held(ctx, attempt.launch_id, patience_s=0.0) as work:
            present = work.fresh(attempt)
            if present.status == "made" and present.ref_id == attempt.ref_id:
                ending.close_lost(ctx, work, attempt)
    except LeaseHeld:
        return
