"""Machines in use, seen account by account: one list call serves all of them.

What a list tells anew is recorded under the machine's lease. What a complete list lacks is asked
for by itself, and closed only with the witnesses that `ending` demands. What it shows of our owner
and nothing wants is for `strays`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping

from gpubroker.fleet import accounts, booting, ending, following, strays, watching
from gpubroker.fleet.context import Context, Work, encoded, instance_of, ref_of
from gpubroker.fleet.leases import held
from gpubroker.model.errors import BrokerError, NotFound, OutcomeUnknown, Refused, Trouble
from gpubroker.model.identity import Ref
from gpubroker.model.instance import Instance, Listing
from gpubroker.model.terms import State
from gpubroker.providers.base import BootsOverSsh, Provider
from gpubroker.store.errors import LeaseHeld
from gpubroker.store.rows import AttemptRow

CADENCE_S = 60.0
"""So often an account's machines in use are looked at, by whichever process claims it."""
REFUSED_S = 3600.0
"""A start-up text that the machine refused is run again so late: it is in use meanwhile."""


async def observe(ctx: Context, *, cadence_s: float = CADENCE_S) -> tuple[str, ...]:
    """One look at every account with machines in use, all accounts at once.

    An account that another process has looked at within the cadence is left to it. Answer: what
    could not be seen, in words; nothing was concluded about it.
    """
    by_account: dict[tuple[str, str], list[AttemptRow]] = defaultdict(list)
    steady = ctx.store.steady()
    wanted = strays.in_use(steady)
    for attempt in steady:
        by_account[attempt.provider, attempt.account].append(attempt)
    seen = await asyncio.gather(
        *(
            _account(ctx, name, account, attempts, wanted)
            for (name, account), attempts in by_account.items()
            if ctx.store.claim(f"observe:{name}/{account}", ctx.at(), cadence_s)
        )
    )
    return tuple(problem for problems in seen for problem in problems)


async def _account(
    ctx: Context,
    name: str,
    account: str,
    attempts: list[AttemptRow],
    wanted: Mapping[str, Ref],
) -> tuple[str, ...]:
    by_scope: dict[str, list[AttemptRow]] = defaultdict(list)
    for attempt in attempts:
        by_scope[attempt.scope].append(attempt)
    problems: list[str] = []
    try:
        provider = ctx.clouds.provider(name, account)
        uid = await accounts.bound(ctx, provider)
        for scope, there in by_scope.items():
            listing = await ctx.lists.asked_after(provider, scope)
            if listing.account_uid != uid:
                await accounts.confirm(ctx, provider)
                continue
            await _scope(ctx, provider, listing, there)
            problems += (await strays.tend(ctx, provider, [listing], wanted)).problems
    except BrokerError as trouble:
        return (*problems, f"{name}/{account}: {trouble}")
    return (*problems, *await _set_up_again(ctx, provider, attempts))


async def _set_up_again(
    ctx: Context, provider: Provider, attempts: Iterable[AttemptRow]
) -> list[str]:
    """Run the start-up text that a start has left undone. Answer: what failed, in words."""

    async def one(launch_id: str, attempt_id: str) -> str:
        try:
            async with held(ctx, launch_id, patience_s=0.0) as work:
                present = next(row for row in work.attempts if row.id == attempt_id)
                instance = instance_of(present)
                if present.status == "made" and instance and instance.state is State.RUNNING:
                    await booting.again(ctx, work, present, provider, instance.ssh)
        except LeaseHeld:
            return ""  # whoever works on it sees to this too
        except BrokerError as trouble:
            if isinstance(trouble, Refused):
                ctx.store.claim(f"set up:{attempt_id}", ctx.at(), REFUSED_S)
            return f"{work.launch.name}: its start-up text is not run yet: {trouble}"
        return ""

    if not (provider.capabilities.stop_wipes and isinstance(provider, BootsOverSsh)):
        return []
    known = {attempt.id for attempt in attempts}
    owed = [
        row
        for launch_id in {attempt.launch_id for attempt in attempts}
        for row in ctx.store.attempts(launch_id)
        if row.id in known and booting.owed(ctx, row, provider)
    ]
    free = ctx.store.free(tuple(f"set up:{row.id}" for row in owed), ctx.at())
    owed = [row for row in owed if f"set up:{row.id}" in free]
    told = await asyncio.gather(*(one(row.launch_id, row.id) for row in owed))
    return [problem for problem in told if problem]


async def _scope(
    ctx: Context, provider: Provider, listing: Listing, attempts: Iterable[AttemptRow]
) -> None:
    told = {one.ref.id: one for one in listing.instances if one.state is not State.TERMINATED}
    missing = []
    for attempt in attempts:
        instance = told.get(attempt.ref_id or "")
        moved = following.elsewhere(ctx, attempt, provider, listing.instances)
        if moved is not None:
            await _record(ctx, provider, attempt, moved)
        elif instance is None:
            missing.append(attempt)
        elif attempt.look_failed or encoded(instance) != attempt.instance:
            await _record(ctx, provider, attempt, instance)
    for attempt in missing:
        # A list that lost a page or a region lacks machines that are there: each is asked for.
        await _missed(ctx, provider, attempt, complete=listing.complete)


async def _record(
    ctx: Context, provider: Provider, attempt: AttemptRow, instance: Instance
) -> None:
    try:
        async with held(ctx, attempt.launch_id, patience_s=0.0) as work:
            present = work.fresh(attempt)
            # A list may be older than what its machine was called since.
            its = instance.ref.id == present.ref_id or following.elsewhere(
                ctx, present, provider, [instance]
            )
            if present.status == "made" and its:
                present = following.follow(ctx, work, present, provider, instance.ref)
                watching.record(ctx, work, present, instance)
                ctx.boundary("observed in use")
    except LeaseHeld:
        return  # whoever works on it looks at it too


async def _missed(ctx: Context, provider: Provider, attempt: AttemptRow, *, complete: bool) -> None:
    young = ctx.at() - (attempt.made_at or 0.0) < provider.capabilities.list_lag_s
    if young or following.on_its_way(ctx, attempt, provider):
        return
    try:
        async with held(ctx, attempt.launch_id, patience_s=0.0) as work:
            present = work.fresh(attempt)
            if present.status != "made" or await _still_there(ctx, work, present, provider):
                return
            if complete:
                await ending.lost(ctx, work, present)
    except LeaseHeld:
        return
    except (Trouble, OutcomeUnknown) as trouble:
        ctx.store.add_event(
            ctx.at(), "look_failed", provider=provider.name, id=attempt.ref_id, why=str(trouble)
        )


async def _still_there(ctx: Context, work: Work, attempt: AttemptRow, provider: Provider) -> bool:
    """Whether the cloud shows by itself what its list lacks: many vanish at once by its mistake."""
    try:
        instance = await provider.get(ref_of(attempt))
    except NotFound:
        return False
    except Trouble:
        if provider.capabilities.gone == "absent":
            return False  # such a cloud has no words for what is gone: its lists decide
        raise
    if instance.state is State.TERMINATED:
        return False
    watching.record(ctx, work, attempt, instance)
    return True
