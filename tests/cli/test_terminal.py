"""On a real terminal: columns give way, colour appears, and both can be declined."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest


def on_terminal(home: Path, columns: int, *argv: str, **environ: str) -> str:
    """What a terminal of that width gets to show."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    base = {"PATH": os.environ["PATH"], "HOME": str(home), "GPUBROKER_HOME": str(home)}
    process = subprocess.Popen(
        [sys.executable, "-m", "gpubroker", *argv],
        env=base | environ,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            more = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not more:
            break
        shown += more
    os.close(ours)
    assert process.wait(timeout=30) == 0
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [100, 80, 62])
def test_a_table_fits_the_terminal(tmp_path: Path, columns: int) -> None:
    shown = on_terminal(tmp_path, columns, "gpus", NO_COLOR="1")
    lines = shown.splitlines()
    assert lines[0].split()[0] == "GPU"
    assert max(map(len, lines)) <= columns
    assert ("ARCHITECTURE" in lines[0]) is (columns == 100)


def test_colour_is_for_terminals_that_did_not_decline_it(tmp_path: Path) -> None:
    assert "\x1b[" in on_terminal(tmp_path, 100, "gpus")
    assert "\x1b[" not in on_terminal(tmp_path, 100, "gpus", NO_COLOR="1")


def test_json_is_the_same_on_a_terminal(tmp_path: Path) -> None:
    shown = on_terminal(tmp_path, 40, "gpus", "--json")
    assert "\x1b" not in shown
    piped = subprocess.run(
        [sys.executable, "-m", "gpubroker", "gpus", "--json"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GPUBROKER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown == piped.stdout
