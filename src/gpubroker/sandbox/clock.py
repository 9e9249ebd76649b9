"""Sandbox time: wall time plus an offset, also while the sandbox is down."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime


class SandboxClock:
    """Never goes back. `speed` lets it run that many times as fast as the wall clock."""

    def __init__(
        self,
        *,
        offset_s: float = 0.0,
        speed: float = 1.0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be above 0, not {speed}")
        self.speed = speed
        self._wall = wall
        self._wall_then = wall()
        self._sandbox_then = self._wall_then + offset_s

    def now(self) -> float:
        """Sandbox time in epoch seconds."""
        return self._sandbox_then + (self._wall() - self._wall_then) * self.speed

    @property
    def offset_s(self) -> float:
        """How far sandbox time is ahead of wall time."""
        return self.now() - self._wall()

    def advance(self, seconds: float) -> None:
        """Moves time forward. Raises ValueError for a negative step."""
        if seconds < 0:
            raise ValueError("time only moves forward")
        self._sandbox_then += seconds

    def real_seconds(self, sandbox_seconds: float) -> float:
        """How long the wall clock takes for that much sandbox time."""
        return sandbox_seconds / self.speed


def iso(epoch_s: float) -> str:
    """RFC 3339 with microseconds and Z."""
    moment = datetime.fromtimestamp(epoch_s, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
