"""examples/acme-cloud builds, installs and passes the suite as a stranger's package would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "acme-cloud"
GPUBROKER = Path(sys.executable).with_name("gpubroker")
DEADLINE_S = 240


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the built package in it; nothing is fetched."""
    target = tmp_path / "installed"
    subprocess.run(
        [Path(sys.executable).with_name("uv"), "pip", "install", "--quiet", "--offline",
         "--python", sys.executable, "--no-deps", "--no-build-isolation",
         "--target", target, EXAMPLE],
        env={**os.environ, "UV_CACHE_DIR": str(tmp_path / "cache")},
        check=True,
        timeout=DEADLINE_S,
    )  # fmt: skip
    return target


@pytest.mark.slow
def test_a_provider_of_another_package_passes_the_suite(installed: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         "--basetemp", tmp_path / "runs", "."],
        cwd=EXAMPLE,
        env={**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout


def test_the_broker_takes_up_a_provider_that_the_configuration_names(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text("[providers.acme]\nenabled = true\n")
    environ = {
        "GPUBROKER_HOME": str(tmp_path),
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(installed),
        "ACME_API_KEY": "acme-test-key",
    }
    listed = subprocess.run(
        [GPUBROKER, "providers", "--json"],
        env=environ, capture_output=True, text=True, timeout=DEADLINE_S, check=True,
    )  # fmt: skip
    [acme] = [one for one in json.loads(listed.stdout)["providers"] if one["name"] == "acme"]
    assert (acme["is_configured"], acme["status"]) == (True, "external")
    assert acme["variables"] == ["ACME_API_KEY"]
    assert "acme-test-key" not in listed.stdout


def test_a_provider_that_no_package_brings_is_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[providers.acne]\nenabled = true\n")
    refused = subprocess.run(
        [GPUBROKER, "providers"],
        env={"GPUBROKER_HOME": str(tmp_path), "HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert refused.returncode != 0
    assert "line 1: providers.acne" in refused.stderr
