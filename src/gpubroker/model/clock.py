"""One clock, injected everywhere: time is aware UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What time it is for the broker. In a sandbox realm it is the sandbox's time."""

    def now(self) -> datetime:
        """Aware UTC."""
        ...

    def boot_s(self) -> float:
        """Seconds on a clock that goes on while the machine is suspended."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Waits that long on this clock."""
        ...


def boot_seconds() -> float:
    """CLOCK_BOOTTIME where there is one (Linux), else the monotonic clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


class SystemClock:
    """The real one."""

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)

    def boot_s(self) -> float:
        """Seconds since boot, suspend included."""
        return boot_seconds()

    async def sleep(self, seconds: float) -> None:
        """Real seconds."""
        import asyncio

        await asyncio.sleep(seconds)
