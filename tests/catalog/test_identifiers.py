"""Every GPU and instance type name that clouds use, against a table written by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from gpubroker.catalog.gpus import resolve
from gpubroker.catalog.shapes import shape

TABLE = Path(__file__).parent / "data" / "identifiers.csv"
with TABLE.open(newline="") as _file:
    ROWS = list(csv.DictReader(_file))
NAMES = [row for row in ROWS if not row["cloud"]]
TYPES = [row for row in ROWS if row["cloud"]]
BY_THE_CLOUD_ONLY = {"gpu-rtx6000"}
"""Nebius means the RTX PRO 6000, all others the Quadro."""


def _expected(row: dict[str, str]) -> tuple[str | None, float, str, float]:
    fraction = float(row["fraction"] or 1)
    return row["gpu"] or None, float(row["memory_gb"] or 0), row["form"], fraction


def _id(row: dict[str, str]) -> str:
    return f"{row['cloud']}:{row['identifier']}".lstrip(":")


@pytest.mark.parametrize("row", NAMES, ids=_id)
def test_a_name_means_this_gpu(row: dict[str, str]) -> None:
    gpu = resolve(row["identifier"])
    assert gpu.raw == row["identifier"]
    if not row["gpu"]:
        assert gpu.name is None, row["why"]
        return
    assert (gpu.name, gpu.memory_gb, gpu.form, gpu.fraction) == _expected(row)


@pytest.mark.parametrize("row", TYPES, ids=_id)
def test_an_instance_type_has_these_gpus(row: dict[str, str]) -> None:
    found = shape(row["cloud"], row["identifier"])
    if not row["gpu"]:
        assert found is None, row["why"]
        return
    assert found is not None
    gpu = found.gpu
    assert gpu.raw == row["identifier"]
    assert (gpu.name, found.memory_gb, found.form, gpu.fraction) == _expected(row)
    assert found.count == int(row["count"])
    assert found.arch == (row["arch"] or "x86_64")


def test_resolve_knows_the_gpu_of_every_instance_type_too() -> None:
    """Without the cloud's name the model is the same; size and form may be the cloud's own."""
    for row in TYPES:
        if row["gpu"] and row["identifier"] not in BY_THE_CLOUD_ONLY:
            assert resolve(row["identifier"]).name == row["gpu"], row["identifier"]


def test_the_table_covers_every_cloud_that_names_instance_types() -> None:
    assert len(ROWS) == len({(row["cloud"], row["identifier"]) for row in ROWS}) > 1000
    assert len({row["cloud"] for row in TYPES}) >= 20
    assert all(row["gpu"] or row["why"] for row in ROWS)
