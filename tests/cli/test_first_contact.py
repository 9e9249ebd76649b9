"""The real command line with no key, no configuration and a network that refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REFUSING = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
"""Nobody listens there: every connection is refused at once."""


def gpubroker(folder: Path, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gpubroker", *argv],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "GPUBROKER_HOME": str(folder / "state"),
            **REFUSING,
            **environ,
        },
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def document(ran: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert ran.returncode == code, ran.stderr
    return json.loads(ran.stdout)


def test_offers_answer_from_the_catalog_with_age_source_and_needs_key(tmp_path: Path) -> None:
    told = document(gpubroker(tmp_path, "offers", "--gpu", "H100", "--json"))
    assert told["offers"]
    for row in told["offers"]:
        assert row["source"] == "catalog"
        assert row["as_of"].endswith("Z")
        assert row["needs_key"] is True
    asked = {name: part for name, part in told["sources"].items() if part["status"] == "error"}
    assert "vast_ai" in asked
    assert all(part["needs_key"] for part in told["sources"].values())


def test_gpus_answer_without_a_network(tmp_path: Path) -> None:
    rows = document(gpubroker(tmp_path, "gpus", "--json"))["gpus"]
    assert any(row["cheapest_price_per_gpu_hour"] for row in rows)


def test_a_launch_exits_5_with_the_variable_and_the_page(tmp_path: Path) -> None:
    ran = gpubroker(tmp_path, "launch", "--gpu", "H100", "--provider", "vast", "--yes", "--json")
    assert ran.returncode == 5
    assert ran.stdout == ""
    error = json.loads(ran.stderr.splitlines()[-1])["error"]
    assert error["code"] == "credentials_missing"
    assert "VAST_AI_API_KEY" in error["message"]
    assert "https://cloud.vast.ai/manage-keys/" in error["message"]


def test_a_key_of_a_dotenv_file_is_found_and_never_said(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# keys\nVAST_API_KEY=open-sesame\n")
    ran = gpubroker(tmp_path, "providers", "vast", "--json")
    (vast,) = document(ran)["providers"]
    assert vast["is_configured"] is True
    assert vast["accounts"][0]["found"] == f"VAST_API_KEY, {tmp_path}/.env line 2"
    assert "sesame" not in ran.stdout + ran.stderr


def test_a_cloud_that_is_switched_off_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/config.toml").write_text("[providers.vast]\nenabled = false\n")
    told = document(gpubroker(tmp_path, "offers", "--json", "--all"), code=0)
    assert "vast_ai" not in told["sources"]
    assert {row["provider"] for row in told["offers"]}.isdisjoint({"vast_ai"})


def test_an_unknown_account_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/config.toml").write_text('[accounts."vast:lab"]\nkey_env = "LAB"\n')
    ran = gpubroker(tmp_path, "offers", "--account", "labb", "--json")
    assert ran.returncode == 2
    error = json.loads(ran.stderr.splitlines()[-1])["error"]
    assert error["code"] == "unknown_account"
    assert "lab" in error["nearest"]


def test_an_account_without_its_key_is_told_by_launch(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/config.toml").write_text('[accounts."vast:lab"]\nkey_env = "LAB"\n')
    ran = gpubroker(tmp_path, "launch", "--gpu", "H100", "--account", "vast:lab", "--yes")
    assert ran.returncode == 5
    assert "LAB is not set" in ran.stderr


@pytest.mark.parametrize("verb", [["offers"], ["gpus"], ["launch", "--gpu", "H100", "--yes"]])
def test_a_bad_configuration_is_a_usage_error_with_file_and_line(
    tmp_path: Path, verb: list[str]
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/config.toml").write_text("[provider.vast]\n")
    ran = gpubroker(tmp_path, *verb)
    assert ran.returncode == 2
    assert "config.toml, line 1: provider" in ran.stderr
    assert "did you mean providers" in ran.stderr


def test_ps_needs_no_configuration_that_makes_sense(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/config.toml").write_text("[provider.vast]\n")
    assert gpubroker(tmp_path, "ps").returncode == 0


def test_a_gpu_file_with_a_wrong_type_is_told_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/gpus.toml").write_text('[[gpu]]\nname = "X1"\nmemory_gb = "many"\n')
    ran = gpubroker(tmp_path, "gpus", "--json")
    assert document(ran)["gpus"]
    assert "gpus.toml" in ran.stderr
    assert "memory_gb" in ran.stderr


def test_the_doctor_tells_what_there_is_and_what_is_missing(tmp_path: Path) -> None:
    ran = gpubroker(tmp_path, "doctor", "--json")
    checks = document(ran, code=1)["checks"]
    (keys,) = [one for one in checks if one["what"] == "keys"]
    assert keys["ok"] is False
    assert "gpubroker login" in keys["fix"]
