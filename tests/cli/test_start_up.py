"""What a command line imports: start-up is paid by every call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("rich", "httpx2", "asyncio", "cryptography", "asyncssh", "msgspec", "starlette", "stamina")

CLIENTS = ("rich", "httpx2", "cryptography", "asyncssh", "starlette", "stamina")


def imported(home: Path, *argv: str) -> set[str]:
    """Top-level packages that the call imported."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GPUBROKER")}
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "gpubroker", *argv],
        env=environ | {"GPUBROKER_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    rows = [line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if "|" in line]
    return {row.split(".")[0] for row in rows}


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["extend", "--help"]])
def test_help_imports_nothing_heavy(tmp_path: Path, argv: list[str]) -> None:
    found = imported(tmp_path, *argv)
    assert "click" in found
    assert found.isdisjoint(HEAVY)


def test_ps_reads_the_store_and_loads_no_client(tmp_path: Path) -> None:
    found = imported(tmp_path, "ps")
    assert "sqlite3" in found
    assert found.isdisjoint(CLIENTS)


@pytest.mark.parametrize("verb", ["offers", "launch", "ssh", "terminate"])
def test_the_help_of_a_verb_imports_no_network(tmp_path: Path, verb: str) -> None:
    assert imported(tmp_path, verb, "--help").isdisjoint(HEAVY)
