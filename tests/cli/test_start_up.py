"""What a command line imports: start-up is paid by every call."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import platformdirs
import pytest

from gpubroker.catalog.shipped import shipped_offers
from gpubroker.credentials.vault import Vault
from gpubroker.market.book import Segment
from gpubroker.market.coverage import Answer
from gpubroker.market.snapshots import Snapshots
from gpubroker.model.home import Home
from gpubroker.providers.registry import PUBLIC_PRICES

CLIENTS = ("rich", "httpx2", "asyncio", "cryptography", "asyncssh", "ssl", "starlette", "stamina")
"""What no answer from this machine alone needs."""
HEAVY = (*CLIENTS, "msgspec", "sqlite3")
"""What a help text does not need either."""


def imported(home: Path, *argv: str, **variables: str) -> set[str]:
    """Top-level packages that the call imported."""
    kept = {"PATH", "LANG"}
    environ = {key: value for key, value in os.environ.items() if key in kept} | variables
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "gpubroker", *argv],
        env={"GPUBROKER_HOME": str(home)} | environ,
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
    assert imported(tmp_path, *argv).isdisjoint(CLIENTS)
    found = imported(tmp_path, *argv)  # this time there is a store
    assert "sqlite3" in found
    assert found.isdisjoint((*CLIENTS, "hashlib", "secrets", "shutil", "tempfile"))


@pytest.mark.parametrize("argv", [["--cached"], ["--cached", "--json"], ["--cached", "--explain"]])
def test_offers_that_are_held_load_no_client(tmp_path: Path, argv: list[str]) -> None:
    found = imported(tmp_path, "offers", "--gpu", "4090", *argv)
    assert "msgspec" in found
    assert found.isdisjoint((*CLIENTS, "sqlite3"))


def test_offers_of_a_fresh_snapshot_load_no_client(tmp_path: Path) -> None:
    answer = Answer(None, datetime.now(UTC), complete=True)
    for name in PUBLIC_PRICES:
        held = Segment(name, shipped_offers("vast_ai") if name == "vast_ai" else (), (answer,))
        Snapshots(Home(tmp_path), "live").save(held)
    found = imported(tmp_path, "offers", "--gpu", "4090", VAST_API_KEY="not-sent-anywhere")
    assert found.isdisjoint((*CLIENTS, "sqlite3"))


def test_a_stored_key_opens_no_seal_before_it_is_used(tmp_path: Path) -> None:
    Vault(Home(tmp_path), {}).keep("vast_ai:default", {"VAST_AI_API_KEY": "not-sent-anywhere"})
    assert imported(tmp_path, "offers", "--cached").isdisjoint((*CLIENTS, "sqlite3", "keyring"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere platformdirs knows the folder")
def test_the_usual_home_is_found_without_platformdirs(tmp_path: Path) -> None:
    for _ in ("the store is made", "the store is read"):
        found = imported(tmp_path, "ps", HOME=str(tmp_path), GPUBROKER_HOME="")
    assert (tmp_path / ".local/share/gpubroker/state.db").is_file()
    assert found.isdisjoint((*CLIENTS, "platformdirs", "tempfile"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere platformdirs is asked")
@pytest.mark.parametrize("shared", ["", "shared"])
def test_the_usual_home_is_where_platformdirs_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: str
) -> None:
    environ = {"HOME": str(tmp_path), "XDG_DATA_HOME": shared and str(tmp_path / shared)}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    told = platformdirs.user_data_path("gpubroker", appauthor=False)
    assert Home.from_env(environ).root == told


@pytest.mark.parametrize("verb", ["offers", "launch", "ssh", "terminate"])
def test_the_help_of_a_verb_imports_no_network(tmp_path: Path, verb: str) -> None:
    assert imported(tmp_path, verb, "--help").isdisjoint(HEAVY)
