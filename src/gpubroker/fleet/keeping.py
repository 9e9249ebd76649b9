"""The loop for ever: rounds over everything that is wanted, shared by any number of processes.

A round is what one `gpubroker ps` does, and a look at the machines in use. Each step is taken
under a lease and read from the store, so that a round which dies is gone on with by the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
from collections.abc import Callable

from msgspec import Struct

from gpubroker.fleet import strays
from gpubroker.fleet.context import Context
from gpubroker.fleet.fleet import Fleet
from gpubroker.fleet.leaving import left
from gpubroker.fleet.observing import CADENCE_S, observe
from gpubroker.fleet.outbox import deliver
from gpubroker.fleet.tending import tend
from gpubroker.store.errors import StoreError

BUSY_S = 2.0
"""Between rounds while something is due."""
STORE_GONE_S = 5.0
ENDS_S = 5.0
"""Real seconds that a keeper which was told to stop gives to what it has begun."""
BEAT_S = 60.0
"""Between two signs of life; one that runs once each minute gives one each time."""


class Round(Struct, frozen=True, kw_only=True):
    """What one round found."""

    due: int
    """Launches that something was to be done for."""
    problems: tuple[str, ...]
    """What could not be done, in words; it is tried again."""


class Keeper:
    """Keeps the fleet of one store until it is told to stop."""

    def __init__(
        self,
        ctx: Context,
        fleet: Fleet,
        *,
        on_round: Callable[[Round], None] = lambda _: None,
        host: str = "",
    ) -> None:
        """`host`: who keeps watch, as others are told."""
        self._ctx = ctx
        self._fleet = fleet
        self._on_round = on_round
        self._host = host or platform.node()
        self._stopping = asyncio.Event()
        self._at_work: dict[str, asyncio.Task[str]] = {}
        """By launch: one that takes long delays no other."""

    def stop(self) -> None:
        """The round in progress ends its steps; none begins after it."""
        self._stopping.set()

    async def run(self, *, cadence_s: float = CADENCE_S, rounds: int | None = None) -> None:
        """Rounds until `stop`, or so many. A store that does not answer is waited for."""
        beating = asyncio.ensure_future(self._beat(rounds))
        try:
            await self._run(cadence_s, rounds)
        finally:
            await self._end_work()
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            if rounds is None:
                with contextlib.suppress(StoreError):
                    self._ctx.store.expiries.leave(self._host, self._ctx.at())

    async def _run(self, cadence_s: float, rounds: int | None) -> None:
        while not self._stopping.is_set() and rounds != 0:
            rounds = None if rounds is None else rounds - 1
            try:
                done = await self.round(cadence_s=cadence_s, to_the_end=rounds is not None)
            except StoreError as error:
                done = Round(due=0, problems=(str(error),))
                self._on_round(done)
                await self._pause(STORE_GONE_S)
                continue
            self._on_round(done)
            if rounds != 0:
                await self._pause(BUSY_S if done.due else self._until_next(cadence_s))

    async def _beat(self, rounds: int | None) -> None:
        """While a long round lasts, too, others are told that somebody keeps watch."""
        while True:
            with contextlib.suppress(StoreError):
                self._ctx.store.expiries.beat(self._host, self._ctx.at())
            if rounds is not None:
                return
            await self._ctx.clock.sleep(BEAT_S)

    async def _end_work(self) -> None:
        """What is on its way has a moment to end; the next process goes on with the rest."""
        if not self._at_work:
            return
        _, late = await asyncio.wait(self._at_work.values(), timeout=ENDS_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*self._at_work.values(), return_exceptions=True)
        self._at_work.clear()

    async def round(self, *, cadence_s: float = CADENCE_S, to_the_end: bool = True) -> Round:
        """Everything once. Not `to_the_end`: beside the work that this and earlier rounds began."""
        tended = await tend(self._ctx)
        due = self._begin_what_is_due()
        seen = await observe(self._ctx, cadence_s=cadence_s)
        stray = await strays.look(self._ctx)
        self._begin_what_is_due()
        if to_the_end and self._at_work:
            await asyncio.wait(self._at_work.values())
        problems = await self._fleet.look_after()
        done = [launch_id for launch_id, task in self._at_work.items() if task.done()]
        told = [self._at_work.pop(launch_id).result() for launch_id in done]
        unsent = await deliver(self._ctx)
        stuck = tuple(words for words in told if words)
        return Round(due=due, problems=(*tended, *seen, *stray, *stuck, *problems, *unsent))

    def _begin_what_is_due(self) -> int:
        """Work on each launch that nobody here works on yet. Answer: how many are due."""
        due = [one for one in self._ctx.store.due(self._ctx.at()) if not left(self._ctx, one)]
        for launch in due:
            if launch.id not in self._at_work:
                self._at_work[launch.id] = asyncio.create_task(self._fleet.settle_one(launch))
        return len(due)

    def _until_next(self, cadence_s: float) -> float:
        """Until the next look, or the next expiry or plan where that is sooner."""
        expires = self._ctx.store.next_due()
        if expires is None:
            return cadence_s
        return max(BUSY_S, min(cadence_s, expires - self._ctx.at()))

    async def _pause(self, seconds: float) -> None:
        """On the realm's clock, and cut short by `stop`."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        sleeping = asyncio.ensure_future(self._ctx.clock.sleep(seconds))
        try:
            await asyncio.wait({stopping, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            sleeping.cancel()
            await asyncio.gather(stopping, sleeping, return_exceptions=True)
