"""Every machine of every account, sorted by whose it is; and, when asked, the mending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gpubroker.fleet import accounts, ending
from gpubroker.fleet.context import Context, Work, ref_of
from gpubroker.fleet.errors import StillThere
from gpubroker.fleet.requests import Stray, SweepReport
from gpubroker.model.errors import BrokerError, NotFound, OutcomeUnknown, Trouble, WrongState
from gpubroker.model.instance import Instance, Listing
from gpubroker.model.machine import Machine
from gpubroker.model.money import Nanos, cost
from gpubroker.model.terms import State
from gpubroker.providers.base import Provider
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
        self.errors: dict[str, str] = {}


class _Records:
    """What the store knows of one account."""

    def __init__(self, ctx: Context, provider: str, account: str) -> None:
        self.attempts = {row.id: row for row in ctx.store.attempts_of_provider(provider, account)}
        self.by_place = {
            (row.scope, row.ref_id): row for row in self.attempts.values() if row.status == "made"
        }
        self.launches = {row.id: row for row in ctx.store.launches()}


async def sweep(
    ctx: Context, view: View, *, fix: bool = False, owner: str | None = None
) -> SweepReport:
    """Look at every configured account; with `fix`, end the orphans and close the ghosts.

    Only machines of this store's owner are ever ended, unless another `owner` is named.
    """
    findings = _Findings()
    await asyncio.gather(
        *(
            _look(ctx, findings, provider, account, owner)
            for provider, account in ctx.clouds.configured()
        )
    )
    ghosts = tuple(view(ctx.store.launch(ghost.launch_id)) for ghost in findings.ghosts)
    if fix:
        mendings = [(stray.provider, _end_stray(ctx, stray)) for stray in findings.orphans]
        mendings += [(ghost.provider, _close_ghost(ctx, ghost)) for ghost in findings.ghosts]
        for where, mending in mendings:
            try:
                await mending
            except BrokerError as error:
                findings.errors[where] = str(error)
    return SweepReport(
        ours=tuple(view(ctx.store.launch(launch.id)) for launch in findings.ours),
        orphans=tuple(findings.orphans),
        ghosts=ghosts,
        foreign=tuple(findings.foreign),
        errors=findings.errors,
        fixed=fix,
    )


async def _look(
    ctx: Context, findings: _Findings, name: str, account: str, owner: str | None
) -> None:
    try:
        provider = ctx.clouds.provider(name, account)
        uid = await accounts.confirm(ctx, provider)
        listings = [await provider.list(scope) for scope in await provider.scopes()]
    except BrokerError as error:
        findings.errors[f"{name}/{account}"] = str(error)
        return
    # Read after the lists were fetched: a machine made meanwhile has its attempt here.
    records = _Records(ctx, name, account)
    for listing in listings:
        for instance in listing.instances:
            _sort(ctx, findings, instance, records, owner)
    if not all(one.complete and one.account_uid == uid for one in listings):
        findings.errors[f"{name}/{account}"] = (
            "the list is not complete: nothing was concluded from what it lacks"
        )
        return
    for attempt in records.by_place.values():
        if await _is_ghost(ctx, provider, attempt, listings):
            findings.ghosts.append(attempt)


def _sort(
    ctx: Context,
    findings: _Findings,
    instance: Instance,
    records: _Records,
    owner: str | None,
) -> None:
    if instance.state is State.TERMINATED:
        return
    # By its id first: a cloud may have lost or ignored the carrier.
    if known := records.by_place.get((instance.ref.scope, instance.ref.id)):
        findings.ours.append(records.launches[known.launch_id])
        return
    if instance.owner != ctx.store.owner:
        if owner is not None and instance.owner == owner:
            findings.orphans.append(_stray(ctx, instance, f"made by owner {owner}, as named"))
        else:
            whose = f"made by gpubroker owner {instance.owner}" if instance.owner else ""
            findings.foreign.append(_stray(ctx, instance, whose or "not made by gpubroker"))
        return
    attempt = records.attempts.get(instance.attempt or "")
    if attempt is None:
        why = "carries this store's owner, and the store has no such attempt"
    elif attempt.status in {"intent", "sending", "unknown"}:
        findings.ours.append(records.launches[attempt.launch_id])
        return
    elif attempt.status == "made":
        why = "a second machine of one attempt"
    else:
        why = f"its attempt is closed ({attempt.status}), wanted by nothing"
    findings.orphans.append(_stray(ctx, instance, why))


async def _is_ghost(
    ctx: Context, provider: Provider, attempt: AttemptRow, listings: list[Listing]
) -> bool:
    if any(
        one.ref.id == attempt.ref_id and one.state is not State.TERMINATED
        for listing in listings
        for one in listing.instances
    ):
        return False
    if ctx.at() - (attempt.made_at or 0.0) < provider.capabilities.list_lag_s:
        return False
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
    ctx.store.add_event(
        ctx.at(), "orphan_end", provider=stray.provider, id=stray.ref.id, name=stray.name
    )
    deadline = ctx.at() + END_DEADLINE_S
    asked_at: float | None = None
    while ctx.at() < deadline:
        try:
            if asked_at is None or ctx.at() - asked_at > ending.ASK_AGAIN_S:
                await provider.terminate(stray.ref)
                asked_at = ctx.at()
            instance = await provider.get(stray.ref)
        except NotFound:
            return
        except (Trouble, OutcomeUnknown, WrongState) as trouble:
            await ctx.clock.sleep(getattr(trouble, "retry_after_s", None) or ending.LOOK_S)
            continue
        if instance.state is State.TERMINATED:
            return
        await ctx.clock.sleep(ending.LOOK_S)
    raise StillThere(
        f"{stray.provider} {stray.ref.id} was asked to end and is still there after "
        f"{END_DEADLINE_S:.0f} s. Run gpubroker sweep --fix again."
    )


async def _close_ghost(ctx: Context, attempt: AttemptRow) -> None:
    """A second complete list decides; the machine went without being asked to."""
    provider = ctx.clouds.provider(attempt.provider, attempt.account)
    await ctx.clock.sleep(provider.capabilities.absence_grace_s)
    uid = await accounts.confirm(ctx, provider)
    listings = [await provider.list(scope) for scope in await provider.scopes()]
    if not all(one.complete and one.account_uid == uid for one in listings):
        raise Trouble("the second list is not complete: nothing was closed")
    if not await _is_ghost(ctx, provider, attempt, listings):
        return
    try:
        work = Work(ctx, ctx.store.acquire(attempt.launch_id))
    except LeaseHeld:
        return  # whoever works on it sees the same
    ending.close(ctx, work, attempt, "lost")
    with work.writing() as write:
        write.launch(
            ended_at=ctx.at(),
            error="the machine is gone at the provider; gpubroker did not end it",
            error_code="lost",
        )
    ctx.store.release(work.lease)


def _stray(ctx: Context, instance: Instance, why: str) -> Stray:
    spent: Nanos | None = None
    if instance.price is not None and instance.created_at is not None:
        spent = cost(instance.price, (ctx.now() - instance.created_at).total_seconds())
    return Stray(
        provider=instance.ref.provider,
        account=instance.ref.account,
        ref=instance.ref,
        name=instance.name,
        owner=instance.owner,
        gpu=instance.gpu,
        state=instance.state,
        price=instance.price,
        since=instance.created_at,
        cost=spent,
        why=why,
    )
