"""What a command line imports: start-up is paid by every call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CLIENTS = ("rich", "httpx2", "asyncio", "cryptography", "asyncssh", "ssl", "starlette", "stamina")
"""What no answer from this machine alone needs."""
HEAVY = (*CLIENTS, "msgspec", "sqlite3", "pathlib")
"""What a help text does not need either."""


def imported(home: Path, *argv: str, **variables: str) -> set[str]:
    """Top-level packages that the call imported."""
    kept = {"PATH", "LANG"}
    environ = {key: value for key, value in os.environ.items() if key in kept} | variables
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "gpubroker", *argv],
        env=environ | {"HOME": str(home)},
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


@pytest.mark.parametrize("argv", [["ps"], ["ps", "--json"], ["ps", "--all"]])
def test_ps_reads_the_store_and_loads_no_client(tmp_path: Path, argv: list[str]) -> None:
    for _ in ("the store is made", "the store is read"):
        found = imported(tmp_path, *argv)
        assert "sqlite3" in found
        assert found.isdisjoint((*CLIENTS, "platformdirs", "hashlib", "tempfile"))


@pytest.mark.parametrize("argv", [["--cached"], ["--cached", "--json"], ["--cached", "--explain"]])
def test_offers_that_are_held_load_no_client(tmp_path: Path, argv: list[str]) -> None:
    found = imported(tmp_path, "offers", "--gpu", "4090", *argv)
    assert "msgspec" in found
    assert found.isdisjoint((*CLIENTS, "sqlite3", "platformdirs"))


def test_offers_of_a_fresh_snapshot_load_no_client(tmp_path: Path) -> None:
    held = Segment("vast_ai", answers=(Answer(None, datetime.now(UTC), complete=True),))
    Snapshots(Home.from_env({"HOME": str(tmp_path)}), "live").save(held)
    found = imported(tmp_path, "gpus", VAST_API_KEY="a-key")
    assert found.isdisjoint(CLIENTS)
    assert imported_failing(tmp_path, "offers", VAST_API_KEY="a-key").isdisjoint(CLIENTS)


@pytest.mark.parametrize("verb", ["offers", "launch", "ssh", "terminate"])
def test_the_help_of_a_verb_imports_no_network(tmp_path: Path, verb: str) -> None:
    assert imported(tmp_path, verb, "--help").isdisjoint(HEAVY)
