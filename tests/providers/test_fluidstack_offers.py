"""FluidStack's configurations: what becomes an offer, of which size and at which price."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpubroker.model.clock import SystemClock
from gpubroker.model.errors import BadResponse
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Availability
from gpubroker.providers.fluidstack import parse_offers

FIXTURES = Path(__file__).parent / "fixtures" / "fluidstack"
ROWS = json.loads((FIXTURES / "configurations.json").read_text())
NOW = SystemClock().now()

KNOWN = [
    ("RTX_A4000_16GB", "RTX A4000", 16, "PCIe"),
    ("RTX_A5000_24GB", "RTX A5000", 24, "PCIe"),
    ("RTX_A6000_48GB", "A6000", 48, "PCIe"),
    ("RTX_A6000_ADA_48GB", "RTX 6000 Ada", 48, "PCIe"),
    ("RTX_6000_24GB", "Quadro RTX 6000", 24, "PCIe"),
    ("RTX_4090_24GB", "RTX 4090", 24, "PCIe"),
    ("TESLA_V100_16GB", "V100", 16, ""),
    ("A10_24GB", "A10", 24, "PCIe"),
    ("A10_PCIE_24GB", "A10", 24, "PCIe"),
    ("A30_24GB", "A30", 24, "PCIe"),
    ("A40_48GB", "A40", 48, "PCIe"),
    ("A100_PCIE_40GB", "A100", 40, "PCIe"),
    ("A100_SXM4_40GB", "A100", 40, "SXM"),
    ("A100_NVLINK_40GB", "A100", 40, "PCIe"),
    ("A100_PCIE_80GB", "A100", 80, "PCIe"),
    ("A100_SXM4_80GB", "A100", 80, "SXM"),
    ("A100_NVLINK_80GB", "A100", 80, "PCIe"),
    ("H100_PCIE_80GB", "H100", 80, "PCIe"),
    ("H100_NVLINK_80GB", "H100", 80, "PCIe"),
    ("H100_SXM5_80GB", "H100", 80, "SXM"),
    ("H100_SXM4_80GB", "H100", 80, "SXM"),
    ("L4_24GB", "L4", 24, "PCIe"),
    ("L40_48GB", "L40", 48, "PCIe"),
    ("L40S_48GB", "L40S", 48, "PCIe"),
    ("T4_16GB", "T4", 16, "PCIe"),
    # Of older lists.
    ("Tesla_V100_SXM2_16GB", "V100", 16, "SXM"),
    ("Tesla_V100_PCIE_16GB", "V100", 16, "PCIe"),
    ("Quadro_RTX_4000_8GB", "Quadro RTX 4000", 8, "PCIe"),
    ("Quadro_RTX_5000_16GB", "Quadro RTX 5000", 16, "PCIe"),
    ("RTX_3080_10GB", "RTX 3080", 10, "PCIe"),
    ("RTX_3090_24GB", "RTX 3090", 24, "PCIe"),
]
PLACES = [
    ("NORWAY", "NO"), ("FINLAND", "FI"), ("CANADA", "CA"), ("SWEDEN", "SE"), ("NETHERLANDS", "NL"),
    ("TEXAS_USA", "US"), ("CALIFORNIA_USA", "US"), ("ARIZONA_USA", "US"), ("VIRGINIA_USA", "US"),
    ("ILLINOIS_USA", "US"), ("JAPAN", "JP"), ("UTAH_USA", "US"), ("WASHINGTON_USA", "US"),
    ("GERMANY", "DE"), ("INDIA", "IN"), ("ISRAEL", "IL"), ("LUXEMBOURG", "LU"), ("ICELAND", "IS"),
    ("NORTH_DAKOTA_USA", "US"),
]  # fmt: skip


def parse(rows: Any) -> tuple[tuple[Offer, ...], Any]:
    body = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
    return parse_offers(body, account="default", fetched_at=NOW)


def test_each_type_count_and_region_is_an_offer_at_the_price_of_all_its_gpus() -> None:
    rows, rejected = parse(ROWS)
    assert not rejected
    assert [(row.key, row.price.compute, row.price.stopped) for row in rows[:4]] == [
        ("RTX_A5000_24GB:1:NORWAY", 550_000_000, 100_000_000),
        ("RTX_A5000_24GB:1:CANADA", 550_000_000, 100_000_000),
        ("RTX_A5000_24GB:2:NORWAY", 1_100_000_000, 200_000_000),
        ("RTX_A5000_24GB:2:CANADA", 1_100_000_000, 200_000_000),
    ]
    assert {row.availability for row in rows} == {Availability.YES}
    assert rows[2].price.hourly_stopped(20) == 200_000_000


def test_a_size_is_told_only_where_it_is_known() -> None:
    sizes: dict[str, Any] = {
        row.key: (row.vcpus, row.ram_gb, row.disk_gb) for row in parse(ROWS)[0]
    }
    assert sizes["RTX_A5000_24GB:8:NORWAY"] == (64, 240, 1600)
    assert sizes["H100_SXM5_80GB:8:TEXAS_USA"] == (192, 1800, None)
    assert sizes["L40S_48GB:1:NORTH_DAKOTA_USA"] == (None, None, None)


def test_a_price_may_be_a_number() -> None:
    (row,), _ = parse([ROWS[1] | {"price_per_gpu_hr": 2.5, "stopped_price_per_hour": 0}])
    assert (row.price.compute, row.price.hourly_stopped(0)) == (20_000_000_000, 0)


def test_what_is_listed_nowhere_cannot_be_had() -> None:
    assert "RTX 6000 Ada" not in {row.gpu.name for row in parse(ROWS)[0]}


@pytest.mark.parametrize(("raw", "name", "memory_gb", "form"), KNOWN)
def test_every_gpu_that_the_vendor_lists_is_known(
    raw: str, name: str, memory_gb: float, form: str
) -> None:
    gpu = parse([ROWS[1] | {"gpu_type": raw}])[0][0].gpu
    assert (gpu.name, gpu.memory_gb, gpu.form) == (name, memory_gb, form)


def test_a_gpu_that_nobody_knows_is_kept() -> None:
    (row,), _ = parse([ROWS[1] | {"gpu_type": "X9000_96GB"}])
    assert (row.gpu.name, row.gpu.raw, row.gpu.memory_gb) == (None, "X9000_96GB", 96)


@pytest.mark.parametrize(("region", "country"), PLACES)
def test_every_region_has_its_country(region: str, country: str) -> None:
    (row,), _ = parse([ROWS[1] | {"regions": [region]}])
    assert (row.region, row.country) == (region, country)


@pytest.mark.parametrize(
    "change",
    [
        {"price_per_gpu_hr": "much"},
        {"price_per_gpu_hr": "0"},
        {"price_per_gpu_hr": "nan"},
        {"price_per_gpu_hr": None},
        {"stopped_price_per_hour": None},
        {"stopped_price_per_hour": "less"},
        {"gpu_counts": [0]},
        {"gpu_type": ""},
        {"regions": ["a b"]},
    ],
    ids=str,
)
def test_a_bad_row_is_rejected_and_costs_only_itself(change: Any) -> None:
    rows, rejected = parse([ROWS[1] | change, ROWS[2]])
    assert [row.key for row in rows] == ["A100_NVLINK_80GB:8:FINLAND"]
    assert rejected


def test_what_is_no_answer_is_bad() -> None:
    with pytest.raises(BadResponse):
        parse(b'{"message": "hello"}')
