"""Paperspace's templates and our table: what becomes an offer, where, and on which template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpubroker.model.clock import SystemClock
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Availability
from gpubroker.providers.paperspace_market import parse_offers

FIXTURES = Path(__file__).parent / "fixtures" / "paperspace"
TEMPLATES = json.loads((FIXTURES / "templates.json").read_text())["items"]
NOW = SystemClock().now()

KNOWN = [
    ("H100", "H100", 80, "", 1, 5.95),
    ("H100x8", "H100", 80, "SXM", 8, 47.60),
    ("A100-80G", "A100", 80, "", 1, 3.18),
    ("A100-80Gx8", "A100", 80, "", 8, 25.44),
    ("A100", "A100", 40, "", 1, 3.09),
    ("A6000", "A6000", 48, "PCIe", 1, 1.89),
    ("A6000x2", "A6000", 48, "PCIe", 2, 3.78),
    ("A6000x4", "A6000", 48, "PCIe", 4, 7.56),
    ("A5000", "RTX A5000", 24, "PCIe", 1, 1.38),
    ("A5000x2", "RTX A5000", 24, "PCIe", 2, 2.76),
    ("A5000x4", "RTX A5000", 24, "PCIe", 4, 5.52),
    ("A4000", "RTX A4000", 16, "PCIe", 1, 0.76),
    ("A4000x2", "RTX A4000", 16, "PCIe", 2, 1.52),
    ("A4000x4", "RTX A4000", 16, "PCIe", 4, 3.04),
    ("V100", "V100", 16, "", 1, 2.30),
    ("V100-32G", "V100", 32, "", 1, 2.30),
    ("V100-32Gx2", "V100", 32, "", 2, 4.60),
    ("V100-32Gx4", "V100", 32, "", 4, 9.20),
    ("P6000", "Quadro P6000", 24, "PCIe", 1, 1.10),
    ("P5000", "Quadro P5000", 16, "PCIe", 1, 0.78),
    ("P4000", "Quadro P4000", 8, "PCIe", 1, 0.51),
    ("P4000x2", "Quadro P4000", 8, "PCIe", 2, 1.02),
    ("RTX4000", "Quadro RTX 4000", 8, "PCIe", 1, 0.56),
    ("RTX5000", "Quadro RTX 5000", 16, "PCIe", 1, 0.82),
    ("GPU+", "Quadro M4000", 8, "PCIe", 1, 0.45),
]
PLACES = {
    "A4000:NY2": ("East Coast (NY2)", "US", "US-East"),
    "A4000:CA1": ("West Coast (CA1)", "US", "US-West"),
    "A4000:AMS1": ("Europe (AMS1)", "NL", "Europe"),
}


def parse(templates: Any) -> tuple[tuple[Offer, ...], Any]:
    return parse_offers(templates, account="default", fetched_at=NOW)


def on(*types: str, **changes: Any) -> dict[str, Any]:
    """The first template, on these types."""
    fits = [{"machineTypeLabel": one, "isAvailable": True} for one in types]
    first: dict[str, Any] = TEMPLATES[0]
    return first | {"availableMachineTypes": fits} | changes


@pytest.mark.parametrize(("raw", "name", "memory_gb", "form", "count", "usd"), KNOWN)
def test_every_type_of_the_vendor_has_its_gpus_and_its_price(
    raw: str, name: str, memory_gb: float, form: str, count: int, usd: float
) -> None:
    rows, rejected = parse([on(raw)])
    assert not rejected
    row = rows[0]
    assert (row.gpu.name, row.gpu.memory_gb, row.gpu.form) == (name, memory_gb, form)
    assert (row.gpu_count, row.price.compute) == (count, round(usd * 1e9))
    assert row.launch["type"] == raw


def test_each_type_is_an_offer_in_each_of_its_regions() -> None:
    rows, _ = parse([on("A4000", "A5000", "H100", "GPU+")])
    assert [row.key for row in rows] == [
        "A4000:NY2",
        "A4000:CA1",
        "A4000:AMS1",
        "A5000:NY2",
        "A5000:CA1",
        "H100:NY2",
        "GPU-plus:NY2",
        "GPU-plus:AMS1",
    ]
    told = {row.key: (row.region, row.country, row.area) for row in rows}
    assert told | PLACES == told


def test_ml_in_a_box_is_taken_where_there_is_one_else_the_newest_ubuntu() -> None:
    launch = {row.key: row.launch for row in parse(TEMPLATES)[0]}
    assert launch["A4000:NY2"] == {
        "type": "A4000",
        "template": "tmlbox22",
        "smallest_gb": 100,
        "docker": True,
    }
    assert launch["A4000x2:NY2"]["template"] == "tubu2204"
    assert not launch["A4000x2:NY2"]["docker"]
    assert launch["P4000:NY2"]["template"] == "tubu2004"
    older = on("A4000", name="ML in a Box", operatingSystemLabel="Ubuntu 18.04", id="told")
    (row, *_), _ = parse([on("A4000"), older])
    assert (row.launch["template"], row.launch["docker"]) == ("told", True)
    debian = on("A4000", name="Debian 12", operatingSystemLabel="Debian", id="tdeb12")
    assert parse([debian])[0][0].launch["template"] == "tdeb12"


def test_that_a_template_fits_is_no_word_on_stock_and_that_none_fits_is() -> None:
    told = {row.key: row.availability for row in parse(TEMPLATES)[0]}
    assert told["H100:NY2"] is told["A4000:NY2"] is Availability.UNKNOWN
    none = on("H100") | {
        "availableMachineTypes": [{"machineTypeLabel": "H100", "isAvailable": False}]
    }
    assert [row.availability for row in parse([none])[0]] == [Availability.NO]
    # On Windows alone.
    assert told["P6000:NY2"] is Availability.NO


def test_plain_computers_and_virtual_gpus_are_left_out_and_types_without_a_price_rejected() -> None:
    rows, rejected = parse([on("C5", "Air", "Standard", "Pro", "Advanced", "H200", "A4000")])
    assert {row.gpu.name for row in rows} == {"RTX A4000"}
    assert [reason for _, reason in rejected] == ["no price"]


def test_a_disk_costs_running_and_stopped_by_the_rate_of_the_smallest() -> None:
    price = parse([on("A4000")])[0][0].price
    month = 730
    assert price.hourly_stopped(50) * month == pytest.approx(5_000_000_000, rel=1e-4)
    assert price.hourly(50) - price.compute == price.hourly_stopped(50)


@pytest.mark.parametrize(
    "change",
    [{"id": ""}, {"id": None}, {"availableMachineTypes": None}, {"name": 7}, {"agentType": None}],
    ids=str,
)
def test_a_bad_template_is_rejected_and_costs_only_itself(change: Any) -> None:
    rows, rejected = parse([on("H100", **change), on("RTX5000")])
    assert [row.key for row in rows] == ["RTX5000:NY2"]
    assert len(rejected) == 1
