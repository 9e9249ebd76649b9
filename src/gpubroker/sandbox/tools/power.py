"""shutdown, poweroff, halt and reboot of a machine: never of the computer that it runs on.

The word is left in the machine's folder, where the host of the machines finds it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from .facts import refuse, say
from .waiting import start_later

_WORDS = {"reboot": "reboot", "kexec": "reboot", "poweroff": "off", "halt": "off"}
_MINUTE_S = 60
_DAY_S = 86_400


def _wait_s(when: str) -> float:
    """Seconds until `now`, `+minutes` or `hh:mm` of today or tomorrow; ValueError otherwise."""
    if when == "now":
        return 0.0
    if when.startswith("+"):
        return float(when[1:]) * _MINUTE_S
    hours, minutes = (int(part) for part in when.split(":"))
    now = time.localtime()
    passed = (now.tm_hour * 60 + now.tm_min) * _MINUTE_S + now.tm_sec
    return float(((hours * 60 + minutes) * _MINUTE_S - passed) % _DAY_S)


def _cancel(pending: Path) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.killpg(int(pending.read_text()), signal.SIGTERM)
    pending.unlink(missing_ok=True)


def main(argv: list[str]) -> int:
    """`NAME ARGUMENTS…`, NAME being the command it is called as; the exit code."""
    name, *arguments = argv
    etc = Path(os.environ["GPUBROKER_ROOT"]) / "etc"
    pending = etc / "power.pending"
    flags = [word for word in arguments if word.startswith("-")]
    times = [word for word in arguments if not word.startswith("-")]
    _cancel(pending)
    if "-c" in flags:
        return 0
    word = "reboot" if {"-r", "--reboot"} & set(flags) else _WORDS.get(name, "off")
    try:
        wait_s = _wait_s(times[0] if times else "+1" if name == "shutdown" else "now")
    except ValueError:
        return refuse(f"Failed to parse time specification: {times[0]}", 1)
    if not wait_s:
        (etc / "power").write_text(word)
        return 0
    leave = ["/bin/sh", "-c", 'printf %s "$1" >"$2"', "sh", word, str(etc / "power")]
    pending.write_text(str(start_later(wait_s, leave)))
    return say(f"The machine will go down ({word}) in {wait_s:.0f} s; 'shutdown -c' cancels.")
