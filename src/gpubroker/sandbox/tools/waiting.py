"""sleep of a machine, and whatever else waits in it: by the machine's uptime, in sandbox time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from .facts import become, refuse

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_LOOK_S = 0.25
_LATER = (
    "import sys; sys.path.append(sys.argv[1]); from tools.waiting import later; "
    "later(float(sys.argv[2]), sys.argv[3:])"
)


def uptime() -> float:
    """Seconds since the machine's boot."""
    text = (Path(os.environ["GPUBROKER_ROOT"]) / "proc/uptime").read_text()
    return float(text.split()[0])


def wait(seconds: float) -> None:
    """Until so much sandbox time has gone by."""
    wait_until(uptime() + seconds)


def wait_until(end: float) -> None:
    """Until the machine is up so long."""
    while (rest := end - uptime()) > 0:
        time.sleep(min(rest, _LOOK_S))


def later(end: float, argv: list[str]) -> None:
    """Waits until the machine is up so long, then becomes the command."""
    wait_until(end)
    become(argv)


def start_later(seconds: float, argv: list[str]) -> int:
    """Starts a process of its own that waits and then becomes the command; its id."""
    package = str(Path(__file__).parents[1])
    silent = subprocess.DEVNULL
    waiting = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _LATER, package, str(uptime() + seconds), *argv],
        start_new_session=True,
        stdin=silent,
        stdout=silent,
        stderr=silent,
    )
    return waiting.pid


def seconds_of(text: str) -> float:
    """`90`, `1.5h`, `2min`: of sleep and of systemd. Raises ValueError."""
    number, unit = text.rstrip("abcdefghijklmnopqrstuvwxyz"), text.lstrip("0123456789.")
    factors = _UNITS | {"": 1.0, "min": 60.0, "sec": 1.0, "hr": 3600.0}
    if unit not in factors:
        raise ValueError(text)
    return float(number) * factors[unit]


def main(argv: list[str]) -> int:
    """`sleep`: the exit code."""
    try:
        seconds = sum(seconds_of(word) for word in argv)
    except ValueError:
        return refuse(f"sleep: invalid time interval '{' '.join(argv)}'", 1)
    if not argv:
        return refuse("sleep: missing operand", 1)
    wait(seconds)
    return 0
