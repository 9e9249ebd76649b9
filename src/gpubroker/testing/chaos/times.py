"""Time that several processes share: it moves when one of them sleeps, or runs fast for all."""

from __future__ import annotations

import asyncio
import mmap
import struct
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gpubroker.model.clock import boot_seconds
from gpubroker.testing.clock import ManualClock

_ELAPSED, _AGED = 0, 8
START = datetime(2026, 1, 1, 12, tzinfo=UTC)


class SharedClock(ManualClock):
    """A ManualClock in a file: every process that opens the file has the same time."""

    def __init__(self, file: Path) -> None:
        if not file.exists():
            file.write_bytes(bytes(16))
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), 16)
        super().__init__(START)

    @property
    def _elapsed_s(self) -> float:
        return float(struct.unpack_from("d", self._map, _ELAPSED)[0])

    @_elapsed_s.setter
    def _elapsed_s(self, value: float) -> None:
        struct.pack_into("d", self._map, _ELAPSED, max(value, self._elapsed_s))

    @property
    def aged_s(self) -> float:
        """How much older leases are than the computer's clock says."""
        return float(struct.unpack_from("d", self._map, _AGED)[0])

    def age(self, seconds: float) -> None:
        """Lets that much time pass for leases too, as while a process is stopped."""
        struct.pack_into("d", self._map, _AGED, self.aged_s + seconds)
        self.advance(seconds)


class FastClock:
    """Real time since `zero` (of the monotonic clock), `speed` times as fast, in any process."""

    def __init__(self, zero: float, speed: float) -> None:
        self._zero, self._speed = zero, speed

    def now(self) -> datetime:
        """Aware UTC."""
        return START + timedelta(seconds=(time.monotonic() - self._zero) * self._speed)

    def boot_s(self) -> float:
        """Leases are real."""
        return boot_seconds()

    async def sleep(self, seconds: float) -> None:
        """So long on this clock."""
        await asyncio.sleep(seconds / self._speed)


def leases_by(clock: SharedClock) -> None:
    """From now on this process reckons its leases by the computer's clocks and `clock.aged_s`."""
    from gpubroker.store import sqlite, store

    class Older:
        """In place of the module `time`."""

        @staticmethod
        def time() -> float:
            return time.time() + clock.aged_s

    older = Older()
    # A process that is stopped for six minutes costs a test none.
    vars(store)["time"] = vars(sqlite)["time"] = older
    vars(store)["boot_seconds"] = lambda: boot_seconds() + clock.aged_s


def leases_of_server_by(clock: SharedClock) -> None:
    """The same for leases by the clock of a PostgreSQL server."""
    from gpubroker.store.postgres import PostgresDatabase

    servers = PostgresDatabase.now

    def now(self: PostgresDatabase) -> float:
        return servers(self) + clock.aged_s

    type.__setattr__(PostgresDatabase, "now", now)
