"""What every tool knows of its machine. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

UTILISATION = "utilisation"
"""A file beside the facts with a percentage: what the tools report as load (0 without it)."""


@dataclass(frozen=True)
class Facts:
    """The accelerators of one machine."""

    machine: str
    name: str
    count: int
    memory_mib: int
    driver_version: str
    cuda_version: str
    utilisation: int = 0

    def uuid(self, index: int) -> str:
        """Stable for the machine's whole life, as a board's serial is."""
        text = hashlib.sha256(f"{self.machine}/{index}".encode()).hexdigest()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"

    def bus_id(self, index: int) -> str:
        """PCI address of the board."""
        return f"{index + 1:08X}:00:00.0"


def load() -> Facts:
    """The facts of the machine that the tool runs in."""
    file = Path(os.environ["GPUBROKER_ACCELERATORS"])
    load_file = file.with_name(UTILISATION)
    percent = load_file.read_text().strip() if load_file.exists() else "0"
    return Facts(
        **json.loads(file.read_text()), utilisation=int(percent) if percent.isdecimal() else 0
    )


def variable(name: str) -> str:
    """One of the variables that every process of a machine has."""
    return os.environ[name]


def alive(pid: int) -> bool:
    """Whether the process is there and has not ended: who has may wait to be buried for long."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return _state_and_group(Path(f"/proc/{pid}/stat"))[0] not in "ZX"


def alive_in_group(leader: int) -> bool:
    """Whether a process of the group is."""
    try:
        os.killpg(leader, 0)
    except OSError:
        return False
    known = [_state_and_group(file) for file in Path("/proc").glob("[0-9]*/stat")]
    return not known or any(group == leader and state not in "ZX" for state, group in known)


def _state_and_group(stat: Path) -> tuple[str, int]:
    """By /proc; running, and of no group, where there is none."""
    try:
        words = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return "R", 0
    return words[0], int(words[2])


def become(argv: list[str], env: Mapping[str, str] | None = None) -> NoReturn:
    """Another command takes this process's place. Raises OSError where it cannot be run."""
    sys.stdout.flush()
    os.execvpe(argv[0], argv, os.environ if env is None else env)  # noqa: S606  (its own purpose)


def refuse(words: str, code: int = 2) -> int:
    """Prints to stderr what the tool cannot do; the exit code."""
    print(words, file=sys.stderr)  # noqa: T201  (a command-line tool)
    return code


def say(*lines: str) -> int:
    """Prints lines; exit code 0."""
    print(*lines, sep="\n")  # noqa: T201  (a command-line tool)
    return 0
