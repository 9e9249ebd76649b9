"""What ends a machine while nobody looks, brought to agree with what is wished.

Two things can: its cloud, and the timer on the machine. Both are asked until they say the wished
end; whatever is known to come earlier is the truth meanwhile. Where only a running gpubroker ends
a machine there is nobody to ask, and the wish holds as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from gpubroker.fleet import budgets
from gpubroker.fleet.context import (
    Context,
    Work,
    identity_of,
    instance_of,
    offer_of,
    ref_of,
    spec_of,
)
from gpubroker.fleet.leases import held
from gpubroker.fleet.view import metered
from gpubroker.model.durations import LONGEST
from gpubroker.model.errors import (
    BrokerError,
    BudgetExceeded,
    Invalid,
    Unsupported,
    WrongState,
)
from gpubroker.model.instance import Instance
from gpubroker.model.money import cost, usd
from gpubroker.model.terms import Expiry, State
from gpubroker.providers.base import EndsByItself, Extendable, Provider
from gpubroker.store.errors import LeaseHeld, NoSecretKey
from gpubroker.store.expiries import SLACK_S
from gpubroker.store.rows import AttemptRow, LaunchRow, when

BY_TIMER = frozenset({Expiry.MACHINE_ENDS_BILLING, Expiry.MACHINE_FREES_GPU})
"""Where the timer on the machine is what ends it."""
AGAIN_S = 300.0
"""A machine whose end is not confirmed is asked again so often."""
CONFIRM_S = 60.0
"""So long `extend` waits for the confirmation; later rounds go on."""
LOOK_S = 5.0
SIDE_BY_SIDE = 16
"""So many machines are asked at once."""


async def extend(
    ctx: Context, launches: Sequence[LaunchRow], *, by: timedelta | None, until: datetime | None
) -> None:
    """Wish for another end of all, then ask for it until it is confirmed, CONFIRM_S at most.

    Raises WrongState, Invalid, Unsupported, BudgetExceeded: nothing was changed then.
    """
    wish(ctx, launches, by=by, until=until)
    await asyncio.gather(*(_confirm(ctx, launch) for launch in launches))


async def _confirm(ctx: Context, launch: LaunchRow) -> None:
    deadline = ctx.at() + CONFIRM_S
    async with held(ctx, launch.id) as work:
        while not await _tried(ctx, work) and ctx.at() < deadline:
            await ctx.clock.sleep(LOOK_S)
            work.renew()
            work.refresh()
        attempt, wished = _in_use(work.attempts), work.launch.expires_at
        if attempt is not None and wished and attempt.expiry == Expiry.CONTROLLER_ONLY:
            # Its timer ends nothing; it is only to warn at the right time.
            with contextlib.suppress(BrokerError):
                await _move_timer(ctx, work, attempt, wished)


def wish(
    ctx: Context, launches: Sequence[LaunchRow], *, by: timedelta | None, until: datetime | None
) -> None:
    """Write it down, within the launches' own caps and all budgets. Raises as `extend`."""
    wishes = {}
    for launch in launches:
        wished = wishes[launch.id] = _wished(ctx, launch, by=by, until=until)
        attempt = _in_use(ctx.store.attempts(launch.id))
        if attempt is not None:
            _refuse_what_cannot_be(ctx, launch, attempt, wished)
        _refuse_above_cap(ctx, launch, wished)
    undone = f"{launches[0].gang_name or launches[0].name} was not extended"
    ctx.boundary("extension next")
    ctx.store.expiries.move(wishes, ctx.at(), budgets.guard(wishes, ctx.now(), undone=undone))
    ctx.boundary("extension wished")


async def hold(ctx: Context) -> tuple[str, ...]:
    """One round over every machine whose end is not confirmed.

    Answer: what could not be asked, in words; it is tried again.
    """
    turns = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(attempt: AttemptRow) -> str:
        async with turns:
            if not ctx.store.claim(f"ends:{attempt.id}", ctx.at(), AGAIN_S):
                return ""
            try:
                async with held(ctx, attempt.launch_id, patience_s=0.0) as work:
                    await bring(ctx, work)
            except LeaseHeld:
                return ""  # whoever works on it asks, too
            except BrokerError as trouble:
                return f"the end of {attempt.id} at {attempt.provider}: {trouble}"
            return ""

    told = await asyncio.gather(*(one(attempt) for attempt in ctx.store.expiries.unconfirmed()))
    return tuple(problem for problem in told if problem)


async def bring(ctx: Context, work: Work) -> bool:
    """Ask whoever ends the machine to do it as wished. True once that is confirmed.

    True also where nobody is to be asked. Raises what the provider or the machine raises.
    """
    attempt, wished = _in_use(work.attempts), work.launch.expires_at
    if attempt is None or wished is None:
        return True
    provider = ctx.clouds.provider(attempt.provider, attempt.account)
    if attempt.cloud_ends_at is None and isinstance(provider, EndsByItself):
        attempt = _note_own_end(ctx, work, attempt, provider)
    if isinstance(provider, Extendable) and not _near(attempt.cloud_ends_at, wished):
        attempt = await _move_cloud(ctx, work, attempt, provider, provider, wished)
    if attempt.expiry in BY_TIMER:
        attempt = await _move_timer(ctx, work, attempt, wished)
    if not _holds(attempt, wished, movable=isinstance(provider, Extendable)):
        return attempt.expiry == Expiry.CONTROLLER_ONLY
    known = [at for at in (attempt.cloud_ends_at, attempt.timer_ends_at) if at is not None]
    if attempt.expires_at != min(known):
        with work.writing() as write:
            write.attempt(attempt.id, expires_at=min(known))
            write.event("expiry_confirmed", attempt.id, expires_at=min(known), by=attempt.expiry)
        ctx.boundary("expiry confirmed")
    return True


async def bring_if_it_can(ctx: Context, work: Work) -> None:
    """As `bring`; trouble is told, and a later round goes on."""
    await _tried(ctx, work)


def told(attempt: AttemptRow, instance: Instance) -> dict[str, Any]:
    """Columns that follow from what the provider told of a machine."""
    columns: dict[str, Any] = {}
    end = instance.expires_at
    if end is not None and not _near(attempt.cloud_ends_at, end.timestamp()):
        columns |= {"cloud_ends_at": end.timestamp(), "expires_at": None}
    before = instance_of(attempt)
    came_back = before is not None and before.state is not State.RUNNING
    if attempt.ready_at is not None and instance.state is State.RUNNING and came_back:
        # Its timer stood still with it.
        columns |= {"timer_ends_at": None, "expires_at": None}
    return columns


async def _tried(ctx: Context, work: Work) -> bool:
    try:
        return await bring(ctx, work)
    except BrokerError as trouble:
        work.tell("waiting", what=f"whoever ends the machine ({trouble})", seconds=None)
        return False


def _note_own_end(ctx: Context, work: Work, attempt: AttemptRow, it: EndsByItself) -> AttemptRow:
    with contextlib.suppress(NoSecretKey):
        end = it.ends_by_itself(spec_of(ctx, work.launch), offer_of(attempt))
        if end is not None:
            with work.writing() as write:
                write.attempt(attempt.id, cloud_ends_at=end.timestamp())
    return work.fresh(attempt)


async def _move_cloud(
    ctx: Context, work: Work, attempt: AttemptRow, provider: Provider, it: Extendable, to: float
) -> AttemptRow:
    ctx.boundary("extension sent next")
    await it.extend(ref_of(attempt), when(to))
    ctx.boundary("extension sent")
    # What holds is what the machine's record says, not that it was accepted.
    instance = await provider.get(ref_of(attempt))
    if instance.expires_at is not None:
        with work.writing() as write:
            write.attempt(attempt.id, cloud_ends_at=instance.expires_at.timestamp())
    return work.fresh(attempt)


async def _move_timer(ctx: Context, work: Work, attempt: AttemptRow, wished: float) -> AttemptRow:
    instance = instance_of(attempt)
    if ctx.timer_at is None or instance is None or instance.ssh is None:
        return attempt
    alias = identity_of(ctx, attempt).name
    asked: list[float | None] = [wished - ctx.at()]
    if attempt.timer_ends_at is None:
        asked.insert(0, None)  # armed at its start, as a rule: no need to set it
    end: float | None = None
    for seconds in asked:
        ctx.boundary("timer asked next")
        left = await ctx.timer_at(instance.ssh, alias, seconds)
        end = None if left is None else ctx.at() + left
        if end is None or _near(end, wished):
            break
    ctx.boundary("timer asked")
    if not _same(end, attempt.timer_ends_at):
        with work.writing() as write:
            write.attempt(attempt.id, timer_ends_at=end)
            if end is None and attempt.expiry != Expiry.CONTROLLER_ONLY:
                write.event("no_timer", attempt.id)
    return work.fresh(attempt)


def _holds(attempt: AttemptRow, wished: float, *, movable: bool) -> bool:
    """Whether what is to end the machine was seen to do it as wished."""
    cloud, timer = attempt.cloud_ends_at, attempt.timer_ends_at
    by_cloud = cloud is not None and (not movable or _near(cloud, wished))
    if attempt.expiry == Expiry.PROVIDER:
        return by_cloud
    return attempt.expiry in BY_TIMER and _near(timer, wished) and (cloud is None or by_cloud)


def _near(known: float | None, wished: float) -> bool:
    return known is not None and abs(known - wished) <= SLACK_S


def _same(one: float | None, other: float | None) -> bool:
    return one == other if one is None or other is None else abs(one - other) < 1


def _in_use(attempts: list[AttemptRow]) -> AttemptRow | None:
    for attempt in reversed(attempts):
        if attempt.status == "made" and attempt.wanted == "running" and attempt.ready_at:
            return attempt
    return None


# What is refused


def _wished(
    ctx: Context, launch: LaunchRow, *, by: timedelta | None, until: datetime | None
) -> float:
    if launch.ended_at is not None or launch.wanted == "gone":
        raise WrongState(f"{launch.name} is over, or being ended: its end cannot be moved")
    if (by is None) == (until is None):
        raise Invalid("say by how much, or until when: one of both")
    if by is not None:
        if by <= timedelta(0):
            raise Invalid(f"to end {launch.name} earlier: gpubroker extend {launch.name} --until")
        if launch.expires_at is None:
            raise WrongState(
                f"{launch.name} has no expiry that could be moved. To give it one: "
                f"gpubroker extend {launch.name} --until TIME"
            )
        wished = launch.expires_at + by.total_seconds()
    elif until is not None:
        wished = until.timestamp()
    if wished <= ctx.at():
        raise Invalid(f"that is over. To end it now: gpubroker terminate {launch.name}")
    if wished > ctx.at() + LONGEST.total_seconds():
        raise Invalid(f"at most {LONGEST.days} days from now")
    return wished


def _refuse_what_cannot_be(
    ctx: Context, launch: LaunchRow, attempt: AttemptRow, wished: float
) -> None:
    end = attempt.cloud_ends_at
    if end is None or wished <= end + SLACK_S:
        return
    provider = ctx.clouds.provider(attempt.provider, attempt.account)
    if isinstance(provider, Extendable):
        return
    raise Unsupported(
        f"{provider.display_name} ends {launch.name} by itself at {when(end):%Y-%m-%d %H:%M} UTC, "
        "and that cannot be moved. Nothing was changed",
        provider=attempt.provider,
    )


def _refuse_above_cap(ctx: Context, launch: LaunchRow, wished: float) -> None:
    if launch.max_cost is None:
        return
    spent, rate = 0, 0
    for attempt in ctx.store.attempts(launch.id):
        usage = ctx.store.usage(attempt.id)
        spent += metered(usage, offer_of(attempt), ctx.now())
        if attempt.open:
            rate = max([attempt.price, *(row.rate for row in usage if row.until is None)])
    most = spent + cost(rate, wished - ctx.at())
    if most > launch.max_cost:
        raise BudgetExceeded(
            f"{launch.name} could cost ${usd(most):.2f} by then, more than the --max-cost "
            f"${usd(launch.max_cost):.2f} that it was launched with. It was not extended"
        )
