"""Which open store of which process holds a lease, and whether it still lives."""

from __future__ import annotations

import functools
import os
import platform
import sys
from pathlib import Path

from msgspec import Struct


@functools.cache
def _process_table() -> str:
    """The running kernel and the namespace that numbers our processes; "" where neither is told.

    Two hosts or two containers may have one name, but never one process table.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
        return f"{boot}.{Path('/proc/self/ns/pid').readlink().name.strip('pid:[]')}"
    except OSError:
        return ""


def _start_ticks(pid: int) -> str:
    """Start time of a process in clock ticks since boot; "" for one that ended.

    "?" where it may not be looked at: it exists then.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "?" if _exists(pid) else ""
    # The command name is in parentheses and may hold spaces: fields are counted behind it.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


def _exists(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # there the question would be a signal
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@functools.cache
def _host() -> str:
    return platform.node().replace("/", "_")


class Holder(Struct, frozen=True):
    """One open store: the same five words never name another one."""

    host: str
    table: str
    pid: int
    started: str
    serial: str

    def __str__(self) -> str:
        return f"{self.host}/{self.table}/{self.pid}/{self.started}/{self.serial}"

    @property
    def described(self) -> str:
        """For a person."""
        return f"process {self.pid} on {self.host}"

    def surely_dead(self) -> bool:
        """Only what our own process table would show, and does not, is surely dead.

        Of another one nothing is known, be it of this host before it was booted anew: what its
        processes held ends with the lease.
        """
        if not self.table or self.table != _process_table():
            return False
        if self.pid == os.getpid() and self.started == _start_ticks(self.pid):
            return self.serial not in _open_here
        return _start_ticks(self.pid) not in {self.started, "?"}


_open_here: set[str] = set()


def open_holder() -> Holder:
    """For a store that was opened now in this process."""
    pid = os.getpid()
    holder = Holder(_host(), _process_table(), pid, _start_ticks(pid), os.urandom(4).hex())
    _open_here.add(holder.serial)
    return holder


def close_holder(holder: Holder) -> None:
    """The store was closed: its leases are free."""
    _open_here.discard(holder.serial)


def parse_holder(text: str) -> Holder:
    """A stored holder."""
    host, table, pid, started, serial = text.split("/")
    return Holder(host, table, int(pid), started, serial)
