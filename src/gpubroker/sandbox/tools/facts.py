"""What every tool knows of its machine. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

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


def refuse(words: str, code: int = 2) -> int:
    """Prints to stderr what the tool cannot do; the exit code."""
    print(words, file=sys.stderr)  # noqa: T201  (a command-line tool)
    return code


def say(*lines: str) -> int:
    """Prints lines; exit code 0."""
    print(*lines, sep="\n")  # noqa: T201  (a command-line tool)
    return 0
