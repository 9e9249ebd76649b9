"""Our lease on a launch, for as long as something is done to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gpubroker.fleet.context import Context, Work
from gpubroker.store.errors import LeaseHeld
from gpubroker.store.store import Lease

HELD_PATIENCE_S = 15.0
"""So long a second command on one machine waits for the first."""


@asynccontextmanager
async def held(
    ctx: Context, launch_id: str, *, patience_s: float = HELD_PATIENCE_S
) -> AsyncIterator[Work]:
    """The launch under our lease. A crash (no Exception) leaves it as a dead process would.

    Raises LeaseHeld where another living process has it for longer than `patience_s`.
    """
    async with ctx.locks[launch_id]:
        work = Work(ctx, await _acquire(ctx, launch_id, patience_s))
        try:
            yield work
        except (Exception, asyncio.CancelledError):
            ctx.store.release(work.lease)
            raise
        ctx.store.release(work.lease)


async def _acquire(ctx: Context, launch_id: str, patience_s: float) -> Lease:
    waited = 0.0
    while True:
        try:
            return ctx.store.acquire(launch_id)
        except LeaseHeld:
            if waited >= patience_s:
                raise
        await asyncio.sleep(0.2)
        waited += 0.2
