"""docs/interface.md covers every cloud in each of its tables, and every switch of the fake one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpubroker.testing.fake_cloud import FAULTS, SWITCHES

PAGE = (Path(__file__).parents[2] / "docs" / "interface.md").read_text()
CLOUDS = {
    "aws",
    "azure",
    "coreweave",
    "digitalocean",
    "fluidstack",
    "gcp",
    "hyperstack",
    "jarvislabs",
    "kubernetes",
    "lambda_labs",
    "lyceum",
    "modal",
    "nebius",
    "northflank",
    "oci",
    "paperspace",
    "runpod",
    "salad",
    "shadeform",
    "slurm",
    "tensordock",
    "thunder_compute",
    "vast_ai",
    "verda",
}


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_each_table_has_every_cloud_once_and_full_rows(number: int) -> None:
    section = PAGE.split(f"\n## {number}. ")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len({row.count(" | ") for row in rows if not row.startswith("|---")}) == 1
    names = [row.split("|")[1].strip() for row in rows[2:]]
    assert sorted(names) == sorted(CLOUDS)


def test_the_last_table_names_switches_and_faults_that_exist() -> None:
    section = PAGE.split("\n## 8. ")[1]
    cells = [row.split("|")[2] for row in section.splitlines() if row.startswith("| ")][1:]
    words = {word for cell in cells for word in re.findall(r"`([a-z_]+)", cell)}
    known = set(SWITCHES) | set(FAULTS) | {"answer_as"}
    assert words - known == set()
    assert set(SWITCHES) - words == set()
