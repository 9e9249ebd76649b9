"""What follows while a launch has no machine in the making: the next offer, a new plan, or none.

A launch that may go on trying stands in the store without an attempt, with the time of its next
plan. Whichever process looks then makes that plan from a fresh search, at a decaying pace.
"""

from __future__ import annotations

import msgspec
from msgspec import structs

from gpubroker.fleet import budgets, launching, preempting
from gpubroker.fleet.context import Context, Work, encoded, offer_of, request_of, spec_of
from gpubroker.fleet.requests import LaunchRequest, PlannedOffer
from gpubroker.fleet.view import metered
from gpubroker.model.errors import BrokerError, BudgetExceeded, Invalid
from gpubroker.model.money import Nanos
from gpubroker.model.query import GpuWanted
from gpubroker.model.terms import Market
from gpubroker.store.errors import NoSecretKey
from gpubroker.store.rows import when

SOONEST_S = 30.0
LATEST_S = 600.0
"""Between two plans: half of the time waited so far, within these bounds."""
LOOK_S = 5.0
"""A process that waits sees this soon that the launch is not wanted any more."""


async def succeed(ctx: Context, work: Work) -> float | None:
    """One step of a launch that nothing is wanted of now. None: it is over.

    Answer: seconds until the next step.
    """
    if (gone := preempting.vanished(work)) is not None:
        preempting.follow(ctx, work, gone, "it is gone at its cloud")
        return 0.0
    used = [one for one in work.attempts if one.ready_at is not None]
    if any(one.error_code != preempting.TAKEN for one in used):
        return None
    if _next_offer(ctx, work):
        return 0.0
    launch = work.launch
    if not _goes_on(ctx, work):
        return None
    if launch.next_plan_at is None:
        last = work.attempts[-1].reason if work.attempts else ""
        return _wait(ctx, work, last or "nothing that matches can be rented now")
    left_s = launch.next_plan_at - ctx.at()
    return min(left_s, LOOK_S) if left_s > 0 else await _plan_anew(ctx, work)


def waits(work: Work) -> bool:
    """Whether it stands without a machine until its next plan."""
    planned = work.launch.wanted == "running" and work.launch.next_plan_at is not None
    return planned and not any(one.open for one in work.attempts)


def _next_offer(ctx: Context, work: Work) -> bool:
    """Begin the next candidate's attempt; False where there is none."""
    candidates = msgspec.json.decode(work.launch.candidates, type=list[PlannedOffer])
    if not candidates:
        return False
    columns = launching.attempt_columns(
        candidates[0], len(work.attempts) + 1, work.launch.disk_gb or 0.0, ctx.at()
    )
    with work.writing() as write:
        write.add_attempt(**columns)
        write.launch(candidates=encoded(candidates[1:]))
    ctx.boundary("next attempt committed")
    return True


def _goes_on(ctx: Context, work: Work) -> bool:
    if preempting.replaced(work):
        return True  # until its expiry
    if work.attempts and work.attempts[-1].error_code == Invalid.word:
        return False  # the request itself is wrong, and will be
    return work.launch.retry_until is not None and ctx.at() < work.launch.retry_until


def _wait(ctx: Context, work: Work, why: str) -> float:
    """Stand without an attempt until the next plan."""
    launch, at = work.launch, ctx.at()
    taken = [one.closed_at or at for one in work.attempts if one.ready_at is not None]
    pause = min(max((at - max([launch.created_at, *taken])) / 2, SOONEST_S), LATEST_S)
    until = None if preempting.replaced(work) else launch.retry_until
    next_at = at + pause if until is None else min(at + pause, until)
    with work.writing() as write:
        write.launch(next_plan_at=next_at)
        write.counted_end(_latest_end(ctx, work))
        write.event("waiting_for_stock", next_at=next_at, until=until, why=why)
    ctx.boundary("waiting for stock")
    return min(pause, LOOK_S)


def _latest_end(ctx: Context, work: Work) -> float | None:
    """Its time counts from the plan that gets it a machine: so far it may end as late as this."""
    launch = work.launch
    if launch.expires_at is None or launch.retry_until is None or not _counts_anew(work):
        return launch.expires_at
    try:
        ttl = request_of(ctx, launch).ttl
    except NoSecretKey:
        return launch.expires_at
    return launch.expires_at if ttl is None else launch.retry_until + ttl.total_seconds()


def _counts_anew(work: Work) -> bool:
    """Not where a machine was in use before, nor in a gang, nor where the end was moved by hand."""
    launch = work.launch
    return not launch.gang and not launch.end_wished and not preempting.replaced(work)


async def _plan_anew(ctx: Context, work: Work) -> float | None:
    launch = work.launch
    try:
        request = _as_of_now(ctx, work, request_of(ctx, launch))
        spec = spec_of(ctx, launch)
    except NoSecretKey:
        return LATEST_S  # only a process with the key can go on with it
    if ctx.planner is None:
        return LATEST_S
    ranked: tuple[PlannedOffer, ...] = ()
    why, expires_at = "nothing that matches can be rented now", launch.expires_at
    try:
        plan = await ctx.planner(request)
    except BrokerError as error:
        # Nothing matches, a cloud in trouble, a budget that is used up: it may be otherwise later.
        why = str(error)
    else:
        ranked = plan.ranked
        if _counts_anew(work):
            expires_at = None if plan.expires_at is None else plan.expires_at.timestamp()
    ctx.boundary("planned")
    if not ranked:
        return None if launch.gang_until is not None else _wait(ctx, work, why)
    ends = None if expires_at is None else when(expires_at)
    spec = structs.replace(spec, bid=request.bid, expires_at=ends)
    try:
        with work.writing() as write:
            write.launch(
                candidates=encoded(ranked),
                next_plan_at=None,
                spec=ctx.seal.close(encoded(spec).encode()),
            )
            write.counted_end(expires_at)
            write.guarded(budgets.guard([launch.id], ctx.now()))
            write.event("planned_anew", offers=len(ranked))
    except BudgetExceeded as error:
        return _wait(ctx, work, str(error))
    ctx.boundary("planned anew")
    return 0.0


def _as_of_now(ctx: Context, work: Work, request: LaunchRequest) -> LaunchRequest:
    """The same request, with what is left of its time and money, and what its policy says."""
    launch = work.launch
    if not _counts_anew(work) and launch.expires_at is not None:
        request = structs.replace(request, ttl=when(launch.expires_at) - ctx.now())
    if request.max_cost is not None:
        spent = sum(
            metered(ctx.store.usage(one.id), offer_of(one), ctx.now()) for one in work.attempts
        )
        request = structs.replace(request, max_cost=Nanos(request.max_cost - spent))
    if not preempting.replaced(work):
        return request
    query = request.query
    if query.keys:
        # One offer was named, and is gone: the same machine elsewhere.
        gpu = offer_of(work.attempts[0]).gpu
        count = offer_of(work.attempts[0]).gpu_count
        same = GpuWanted(gpu.label, gpu.form, gpu.memory_gb, count)
        query = structs.replace(query, keys=(), gpus=(same,))
    if preempting.policy(launch.on_preempt).on_demand(launch.preempted):
        query = structs.replace(query, market=Market.ON_DEMAND)
        request = structs.replace(request, bid=None)
    return structs.replace(request, query=query)
