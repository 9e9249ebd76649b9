"""`sandbox`, and the first minute: from nothing to a machine and its bill, by the real program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

Call = Any


@pytest.fixture
def call(tmp_path: Path) -> Iterator[Call]:
    """Runs the installed program as a script would; ends its sandbox behind the test."""
    environ = {
        "GPUBROKER_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        # A real key that must not be used, nor shown.
        "VAST_AI_API_KEY": "hunter2",
    }

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gpubroker", *argv],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    yield run
    assert run("sandbox", "stop").returncode == 0


def test_status_does_not_start_a_sandbox_and_start_does(call: Call) -> None:
    assert json.loads(call("sandbox", "status", "--json").stdout) == {"running": False}
    started = json.loads(call("sandbox", "start", "--json").stdout)
    assert started["running"] is True
    assert json.loads(call("sandbox", "status", "--json").stdout) == started
    assert started["base_url"] in call("sandbox", "status").stdout
    assert call("sandbox", "stop").stdout == "The sandbox is stopped.\n"
    assert call("sandbox", "stop").stdout == "No sandbox was running.\n"


def test_env_points_programs_at_the_sandbox_in_three_shells(call: Call) -> None:
    told = json.loads(call("sandbox", "env", "--json").stdout)["env"]
    address = told["GPUBROKER_SANDBOX"]
    assert address.startswith("http://127.0.0.1:")
    assert told["VAST_URL"] == f"{address}/vast_ai"
    assert told["VAST_API_KEY"]
    assert "hunter2" not in told.values()
    assert f"export GPUBROKER_SANDBOX={address}" in call("sandbox", "env").stdout
    assert "set -gx GPUBROKER_SANDBOX" in call("sandbox", "env", "--shell", "fish").stdout
    assert "$env:GPUBROKER_SANDBOX" in call("sandbox", "env", "--shell", "powershell").stdout
    assert "HTTPS_PROXY" not in told
    assert "HTTPS_PROXY=" in call("sandbox", "env", "--proxy").stdout


def test_the_first_minute_works_from_nothing(call: Call) -> None:
    found = call("offers", "--sandbox", "--gpu", "RTX 4090", "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["total"] > 0
    launched = call(
        *("launch", "--sandbox", "--gpu", "RTX 4090", "--max-price", "1", "--name", "first"),
        "--json",
    )
    assert launched.returncode == 0, launched.stderr
    machine = json.loads(launched.stdout)
    assert machine["status"] == "running"
    assert machine["realm"].startswith("sandbox:")
    assert "first (sandbox)" in call("ps").stdout
    smi = call("ssh", "first", "--", "nvidia-smi", "-L")
    assert smi.returncode == 0, smi.stderr
    assert "RTX 4090" in smi.stdout
    assert call("ssh", "first", "--", "exit 7").returncode == 7
    ended = call("terminate", "first", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["instances"][0]["ended_at"]
    assert json.loads(call("ps", "--json").stdout)["instances"] == []
    assert "hunter2" not in found.stdout + launched.stderr + ended.stderr
