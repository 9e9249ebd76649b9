"""The project's own files: scripts, pins and documents that must agree."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from gpubroker import __version__

ROOT = Path(__file__).parents[1]
SCRIPTS = ("scripts/check", "scripts/test", "scripts/demo", "scripts/pins", ".ci/run")
PINS = (ROOT / "requirements" / "dev.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_can_be_run_and_is_strict(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    text = path.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_scripts_run_on_the_bash_of_macos() -> None:
    newer = re.compile(r"mapfile|readarray|declare -A|\$\{\w+(,,|\^\^)|&>>|wait -n|coproc")
    for script in (*SCRIPTS, "scripts/lib.sh"):
        assert not newer.search((ROOT / script).read_text()), script


def test_pins_are_names_and_versions_only() -> None:
    rows = [line for line in PINS.splitlines() if line and not line.startswith("#")]
    assert rows
    for row in rows:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+( ; .+)?", row), row
    assert "://" not in PINS


def test_every_dependency_is_pinned() -> None:
    pinned = {line.partition("==")[0].lower() for line in PINS.splitlines()}
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    for extra in PROJECT["project"]["optional-dependencies"].values():
        wanted += [one for one in extra if not one.startswith("gpubroker[")]
    for requirement in wanted:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert name is not None
        assert re.sub(r"[-_.]+", "-", name[0]).lower() in pinned, requirement


def test_no_lock_file_with_addresses_is_kept() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert "uv.lock" not in listed


def test_tasks_are_few_and_name_scripts_that_exist() -> None:
    tasks = PROJECT["tool"]["poe"]["tasks"]
    assert len(tasks) <= 12
    for task in tasks.values():
        words = task.get("cmd", "").split()
        if words[:1] == ["bash"]:
            assert (ROOT / words[1]).is_file()


def test_hooks_fetch_nothing() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    assert all(hook["language"] == "system" for repo in config["repos"] for hook in repo["hooks"])


def test_the_changelog_names_this_version_or_what_comes_next() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text or f"## [{__version__}]" in text


def test_the_version_is_told_once() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "src/gpubroker/__init__.py"


def test_the_ci_script_ends_with_the_tests_and_their_code() -> None:
    lines = (ROOT / ".ci" / "run").read_text().strip().splitlines()
    assert lines[-1] == 'exit "$status"'
    assert lines[-2].startswith("bash scripts/test")
