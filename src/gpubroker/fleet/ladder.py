"""What a budget does once so much of it is spent: warn, stop, terminate.

Level-triggered: as long as a rung is reached, each round stops or ends what runs. The event of a
rung is recorded once in a period.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from gpubroker.fleet import budgets
from gpubroker.fleet.context import Context, Work, instance_of, ref_of
from gpubroker.fleet.leases import held
from gpubroker.model.budget import BudgetReport, Rung
from gpubroker.model.errors import BrokerError, WrongState
from gpubroker.model.terms import State
from gpubroker.providers.base import Stoppable
from gpubroker.store.errors import LeaseHeld

STOP_AGAIN_S = 60.0
"""A stop that shows no effect is asked for again after this long."""


async def climb(ctx: Context) -> tuple[str, ...]:
    """Every budget's rungs. Answer: what could not be done, in words; it is tried again."""
    problems: list[str] = []
    for report in budgets.reports(ctx.store, ctx.now()):
        reached = [rung for rung in report.budget.ladder if _is_reached(rung, report)]
        for rung in reached:
            _record(ctx, report, rung)
        deeds = {rung.do for rung in reached} if report.budget.hard else set()
        if "terminate" in deeds:
            _terminate(ctx, report)
        elif "stop" in deeds:
            problems += await _stop(ctx, report)
    return tuple(problems)


def _is_reached(rung: Rung, report: BudgetReport) -> bool:
    return report.spent >= rung.at * report.budget.amount


def _record(ctx: Context, report: BudgetReport, rung: Rung) -> None:
    budget = report.budget
    # Another amount, or another ladder, is another promise: its rungs are told anew.
    key = f"budget:{budget.name}:{budget.amount}:{report.since.timestamp():.0f}:{rung.at}:{rung.do}"
    ctx.store.notices.once(
        key,
        ctx.at(),
        f"budget_{rung.do}",
        budget=budget.name,
        spent=report.spent,
        amount=budget.amount,
        share=report.spent / budget.amount,
        rung=rung.at,
    )
    ctx.boundary(f"budget {rung.do} recorded")


def _terminate(ctx: Context, report: BudgetReport) -> None:
    """The wish is written; the round goes on to converge to it."""
    for share in report.shares:
        if share.to_come != 0 or share.burn:
            ctx.store.want(share.launch_id, "gone", ctx.at(), f"budget {report.budget.name}")
    ctx.boundary("budget end wanted")


async def _stop(ctx: Context, report: BudgetReport) -> Iterable[str]:
    running = [share for share in report.shares if share.burn]
    asked = await asyncio.gather(
        *(_stop_one(ctx, share.launch_id, report.budget.name) for share in running),
        return_exceptions=True,
    )
    problems = []
    for share, answer in zip(running, asked, strict=True):
        if isinstance(answer, BrokerError):
            problems.append(f"{share.name}: {answer}")
        elif isinstance(answer, BaseException):
            raise answer
    return problems


async def _stop_one(ctx: Context, launch_id: str, budget: str) -> None:
    """Ask once, where the cloud can stop; the next look at the machine tells how it went."""
    try:
        async with held(ctx, launch_id, patience_s=0.0) as work:
            await _ask(ctx, work, budget)
    except (LeaseHeld, WrongState):
        return  # it is worked on, or on its way already


async def _ask(ctx: Context, work: Work, budget: str) -> None:
    in_use = [a for a in work.attempts if a.status == "made" and a.wanted == "running"]
    if work.launch.wanted == "gone" or not in_use or in_use[-1].ready_at is None:
        return
    attempt = in_use[-1]
    instance = instance_of(attempt)
    if instance is not None and instance.state in {State.STOPPING, State.STOPPED}:
        return
    provider = ctx.clouds.provider(attempt.provider, attempt.account)
    if provider.capabilities.stop == "none" or not isinstance(provider, Stoppable):
        return
    if not ctx.store.claim(f"stop:{attempt.id}", ctx.at(), STOP_AGAIN_S):
        return
    # Should the rung be gone before it is stopped, others go on with it from then.
    later = ctx.at() + STOP_AGAIN_S
    ctx.store.want(work.launch.id, "stopped", ctx.at(), f"budget {budget}", power_at=later)
    ctx.boundary("budget stop wanted")
    await provider.stop(ref_of(attempt))
    ctx.boundary("budget stop sent")
