"""Time that moves only when told to, or when somebody sleeps."""

from __future__ import annotations

import asyncio
import heapq
from datetime import UTC, datetime, timedelta

_TURNS = 5
"""Turns of the loop that other tasks get before time moves on."""


class ManualClock:
    """Implements gpubroker.model.clock.Clock.

    `sleep` moves time to its own end once no other sleeper ends earlier: tasks that sleep side by
    side see the same order as with real time, in no real time at all.
    """

    def __init__(self, start: datetime | None = None, *, boot_s: float = 1000.0) -> None:
        self._start = start or datetime(2026, 1, 1, 12, tzinfo=UTC)
        self._boot_start_s = boot_s
        self._elapsed_s = 0.0
        self._wall_step_s = 0.0
        self._sleepers: list[tuple[float, int]] = []
        self._number = 0

    def now(self) -> datetime:
        """Aware UTC."""
        return self._start + timedelta(seconds=self._elapsed_s + self._wall_step_s)

    def boot_s(self) -> float:
        """Seconds since boot; `step_wall` does not move it."""
        return self._boot_start_s + self._elapsed_s

    def advance(self, seconds: float) -> None:
        """Lets time pass, for sleepers too."""
        if seconds < 0:
            raise ValueError("time does not run backwards; step_wall moves the wall clock alone")
        self._elapsed_s += seconds

    def step_wall(self, seconds: float) -> None:
        """Sets the wall clock forward or back, as a time server does."""
        self._wall_step_s += seconds

    async def sleep(self, seconds: float) -> None:
        """Returns when that much time has passed, moving it on where nobody else does."""
        self._number += 1
        mine = (self._elapsed_s + max(seconds, 0.0), self._number)
        heapq.heappush(self._sleepers, mine)
        try:
            while True:
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                if self._elapsed_s >= mine[0]:
                    return
                if self._sleepers[0] == mine:
                    self._elapsed_s = mine[0]
        finally:
            self._sleepers.remove(mine)
            heapq.heapify(self._sleepers)
