"""What forked processes do, and in which ways a broker can be broken on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from gpubroker.fleet.keeping import Keeper
from gpubroker.model.errors import WrongState
from gpubroker.store.errors import LeaseHeld, LeaseLost
from gpubroker.testing.chaos import times
from gpubroker.testing.chaos.tenants import HORIZON_S, Tenant, at_rest, ended, life, standing, wrong
from gpubroker.testing.chaos.worlds import truth
from gpubroker.testing.faults import Crashed

if TYPE_CHECKING:
    from gpubroker.testing.chaos.forks import Job

KEEPER_CADENCE_S = 60.0
REAL_HORIZON_S = 60.0
"""Where time is not to be had for nothing: a little more than the imaginary cloud's lags."""


def leases_by(clock: times.SharedClock, database: str) -> None:
    """Leases of this process age with the shared clock."""
    times.leases_by(clock)
    if database:
        times.leases_of_server_by(clock)


async def _life(one: Tenant, job: Job) -> list[str]:
    """Answer: what had to be imported for it; [] where another process took over."""
    try:
        await life(one, job.name)
    except (LeaseHeld, LeaseLost, WrongState):
        return []
    return sorted(sys.modules)


async def _intend(one: Tenant, job: Job) -> None:
    """Many launches, written down and left to others."""
    one.fleet.context.boundary = _dies_of_intents
    for number in range(job.count):
        with contextlib.suppress(Crashed):
            await one.launch(f"{job.name}-{number}", wait=False)


def _dies_of_intents(boundary: str) -> None:
    if boundary == "intent committed":
        raise Crashed(boundary)


async def _unwant(one: Tenant, job: Job) -> None:
    """Every other launch is to end; others see to it."""
    rows = [row for row in one.store.launches() if row.name.startswith(job.name)]
    for row in rows[::2]:
        one.store.want(row.id, "gone", one.clock.now().timestamp(), "asked")


async def _rest(one: Tenant, job: Job) -> list[str]:
    """Go on with what is due. Answer: what is wrong then."""
    await at_rest(one, HORIZON_S if job.world.time else REAL_HORIZON_S)
    there = truth(job.world)
    return wrong(standing(one, there), there)


async def _recover(one: Tenant, job: Job) -> Mapping[str, Any]:
    """What the next process makes of it, and that all can be ended then."""
    unknown = await at_rest(one)
    there = truth(job.world)
    stands = standing(one, there, unknown)
    problems = wrong(stands, there)
    await ended(one)
    await at_rest(one)
    there = truth(job.world)
    problems += wrong(standing(one, there), there)
    return {"stands": msgspec.to_builtins(stands), "problems": problems}


async def _keep(one: Tenant, job: Job) -> int:
    """The loop for ever, until SIGTERM."""
    del job
    keeper = Keeper(one.fleet.context, one.fleet)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, keeper.stop)
    await keeper.run(cadence_s=KEEPER_CADENCE_S)
    return 0


ACTS: Mapping[str, Callable[[Tenant, Job], Awaitable[Any]]] = {
    "life": _life,
    "intend": _intend,
    "unwant": _unwant,
    "rest": _rest,
    "recover": _recover,
    "keep": _keep,
}


def mutate(mutant: str) -> None:
    """Breaks this process's broker as named; "" leaves it whole."""
    if mutant == "without the look-up":
        _without_the_look_up()
    elif mutant:
        raise ValueError(f"no mutant is called {mutant}")


def _without_the_look_up() -> None:
    """An unknown create is taken for a refused one."""
    from gpubroker.fleet import fleet

    async def give_up(ctx: Any, work: Any, attempt: Any) -> float:
        with work.writing() as write:
            write.attempt(attempt.id, status="absent", closed_at=ctx.at())
        return 0.0

    for table in ("_WANTED", "_UNWANTED"):
        blind = dict.fromkeys(("sending", "unknown"), give_up)
        vars(fleet)[table] = {**vars(fleet)[table], **blind}
