"""Which open store of which process holds a lease, and whether it still lives."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from msgspec import Struct


@functools.cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return ""


def _start_ticks(pid: int) -> str:
    """Start time of a process in clock ticks since boot; "" where it does not exist."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The command name is in parentheses and may hold spaces: fields are counted behind it.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


@functools.cache
def _host() -> str:
    return os.uname().nodename.replace("/", "_")


class Holder(Struct, frozen=True):
    """One open store: the same five words never name another one."""

    host: str
    boot: str
    pid: int
    started: str
    serial: str

    def __str__(self) -> str:
        return f"{self.host}/{self.boot}/{self.pid}/{self.started}/{self.serial}"

    @property
    def described(self) -> str:
        """For a person."""
        return f"process {self.pid} on {self.host}"

    def surely_dead(self) -> bool:
        """Only what is of this host, and seen not to exist, is surely dead."""
        if self.host != _host() or not self.boot:
            return False
        if self.boot != _boot_id():
            return True  # the host was booted since: no process of that boot is left
        if self.pid == os.getpid() and self.started == _start_ticks(self.pid):
            return self.serial not in _open_here
        return _start_ticks(self.pid) != self.started


_open_here: set[str] = set()


def open_holder() -> Holder:
    """For a store that was opened now in this process."""
    pid = os.getpid()
    holder = Holder(_host(), _boot_id(), pid, _start_ticks(pid), os.urandom(4).hex())
    _open_here.add(holder.serial)
    return holder


def close_holder(holder: Holder) -> None:
    """The store was closed: its leases are free."""
    _open_here.discard(holder.serial)


def parse_holder(text: str) -> Holder:
    """A stored holder."""
    host, boot, pid, started, serial = text.split("/")
    return Holder(host, boot, int(pid), started, serial)
