"""Machines that end when nothing is done on them for as long as their launch said.

Only what was seen at every look of that time ends a machine: busy, "cannot tell" and a gap between
the looks all begin the wait anew.
"""

from __future__ import annotations

import asyncio

from gpubroker.fleet.context import Context, Work, identity_of, instance_of
from gpubroker.fleet.leases import held
from gpubroker.model.errors import BrokerError
from gpubroker.store.errors import LeaseHeld
from gpubroker.store.rows import AttemptRow, LaunchRow

EVERY_S = 60.0
LONGEST_GAP_S = 600.0
"""Nobody knows what was done on a machine that was not looked at for longer."""
WARN_BEFORE_S = 300.0
SIDE_BY_SIDE = 16
IDLE, CANNOT_TELL = "idle", "cannot tell"


async def look(ctx: Context) -> tuple[str, ...]:
    """One look at each machine that ends when idle, EVERY_S after the last one.

    Answer: what could not be looked at, in words.
    """
    if ctx.idle_at is None:
        return ()
    turns = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(launch: LaunchRow) -> str:
        async with turns:
            try:
                async with held(ctx, launch.id, patience_s=0.0) as work:
                    await _look(ctx, work)
            except LeaseHeld:
                return ""
            except BrokerError as trouble:
                return f"{launch.name}: whether it is idle: {trouble}"
            return ""

    due = ctx.store.expiries.idle_due(ctx.at() - EVERY_S)
    told = await asyncio.gather(*(one(launch) for launch in due))
    return tuple(problem for problem in told if problem)


async def _look(ctx: Context, work: Work) -> None:
    launch = work.launch
    attempt = next((a for a in reversed(work.attempts) if a.open and a.ready_at), None)
    looked_at = launch.looked_idle_at or 0.0
    if attempt is None or launch.idle_s is None or looked_at > ctx.at() - EVERY_S:
        return  # ended, or another process was faster
    word = await _word(ctx, attempt)
    at = ctx.at()
    since: float | None = None
    if word == IDLE:
        seen_throughout = launch.idle_since is not None and at - looked_at <= LONGEST_GAP_S
        since = launch.idle_since if seen_throughout else at
    with work.writing() as write:
        write.launch(idle_word=word, idle_since=since, looked_idle_at=at)
    ctx.boundary("idle looked")
    if since is not None:
        _judge(ctx, work, launch.idle_s, since)


async def _word(ctx: Context, attempt: AttemptRow) -> str:
    instance = instance_of(attempt)
    if ctx.idle_at is None or instance is None or instance.ssh is None:
        return CANNOT_TELL
    try:
        return await ctx.idle_at(instance.ssh, identity_of(ctx, attempt).name)
    except BrokerError:
        return CANNOT_TELL


def _judge(ctx: Context, work: Work, idle_s: float, since: float) -> None:
    launch, at = work.launch, ctx.at()
    left = since + idle_s - at
    if left <= 0:
        ctx.store.want(launch.id, "gone", at, "idle")
        with work.writing() as write:
            write.event("idle_ended", seconds=round(at - since))
        return
    if left <= min(WARN_BEFORE_S, idle_s / 2):
        ctx.store.notices.once(
            f"idle:{launch.id}:{since:.0f}",
            at,
            "idle",
            launch.id,
            idle=round(at - since),
            seconds=round(left),
        )
