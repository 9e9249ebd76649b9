"""Thunder Compute's configurations: what becomes an offer, what is left out, what is thrown out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpubroker.model.clock import SystemClock
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Availability
from gpubroker.providers.thunder_compute import parse_offers

FIXTURES = Path(__file__).parent / "fixtures" / "thunder_compute"
PRICES = json.loads((FIXTURES / "pricing.json").read_text())["pricing"]
SPECS = json.loads((FIXTURES / "specs.json").read_text())["specs"]
NAMES = [
    ("a6000_x1", "NVIDIA RTX A6000 (48GB)", 48, "A6000", "PCIe"),
    ("a100xl_x1", "NVIDIA A100 (80GB)", 80, "A100", ""),
    ("a100_x1", "NVIDIA A100 (80GB)", 80, "A100", ""),
    ("h100_x2", "NVIDIA H100 (80GB)", 80, "H100", "PCIe"),
    ("l40_x1", "NVIDIA L40 (48GB)", 48, "L40", "PCIe"),
    ("l40s_x1", "NVIDIA L40S (48GB)", 48, "L40S", "PCIe"),
    ("b200_x1", "NVIDIA B200 (180GB)", 180, "B200", "SXM"),
    ("t4_x1", "NVIDIA T4 (16GB)", 16, "T4", "PCIe"),
    ("novel_x1", "NVIDIA H200 (141GB)", 141, "H200", "SXM"),
]


def parse(
    specs: Any, prices: Any = PRICES, stock: Any = None
) -> tuple[tuple[Offer, ...], tuple[tuple[str, str], ...]]:
    now = SystemClock().now()
    return parse_offers(specs, prices, stock, account="default", fetched_at=now)


@pytest.mark.parametrize(("name", "words", "memory_gb", "model", "form"), NAMES)
def test_each_gpu_name_of_the_vendor_is_known(
    name: str, words: str, memory_gb: float, model: str, form: str
) -> None:
    spec = SPECS["a6000_x1"] | {"displayName": words, "vramGB": memory_gb}
    (first, *_), rejected = parse({name: spec}, PRICES | {name: 1.0})
    assert (first.gpu.name, first.gpu.memory_gb, first.gpu.form) == (model, memory_gb, form)
    assert rejected == ()


def test_each_number_of_vcpus_is_an_offer_whose_price_is_the_whole_configurations() -> None:
    rows, _ = parse({"a100xl_x1": SPECS["a100xl_x1"], "a100xl_x4": SPECS["a100xl_x4"]})
    assert [(row.key, row.vcpus, row.ram_gb, row.price.compute) for row in rows] == [
        ("a100xl_x1:8", 8, 56, 1_090_000_000),
        ("a100xl_x1:12", 12, 88, 1_250_000_000),
        ("a100xl_x1:16", 16, 120, 1_410_000_000),
        ("a100xl_x4:32", 32, 420, 5_960_000_000),
    ]
    assert rows[-1].gpu_count == 4


def test_the_first_disk_is_in_the_price_and_what_goes_beyond_is_not() -> None:
    rows, _ = parse({"a6000_x1": SPECS["a6000_x1"]})
    price = rows[0].price
    assert price.hourly(20) == price.hourly(100) == 350_000_000
    assert price.hourly(600) == 350_000_000 + 500 * 300_000
    assert (rows[0].disk_max_gb, price.increment_s) == (1000, 60)


@pytest.mark.parametrize(
    ("stock", "expected"),
    [
        (None, Availability.UNKNOWN),
        ({}, Availability.NO),
        ({"a6000_x1": "available"}, Availability.YES),
        ({"a6000_x1": "unavailable"}, Availability.NO),
        ({"a6000_x1": 17}, Availability.NO),
    ],
    ids=str,
)
def test_only_the_word_available_means_that_it_can_be_had(
    stock: Any, expected: Availability
) -> None:
    rows, _ = parse({"a6000_x1": SPECS["a6000_x1"]}, stock=stock)
    assert {row.availability for row in rows} == {expected}


@pytest.mark.parametrize(
    ("spec", "prices"),
    [
        (None, {}),
        ("a text", {}),
        (SPECS["a6000_x1"] | {"vcpuOptions": []}, {}),
        (SPECS["a6000_x1"] | {"vramGB": None}, {}),
        (SPECS["a6000_x1"] | {"gpuCount": 0}, {}),
        (SPECS["a6000_x1"], {"bad_x1": None}),
        (SPECS["a6000_x1"], {"bad_x1": 0}),
        (SPECS["a6000_x1"], {"bad_x1": "free"}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_configuration_that_is_none_is_put_aside_alone(spec: Any, prices: Any) -> None:
    told = PRICES | {"bad_x1": 1.0} | prices
    rows, rejected = parse({"bad_x1": spec, "a6000_x1": SPECS["a6000_x1"]}, told)
    assert [row.key for row in rows] == ["a6000_x1:4", "a6000_x1:8"]
    assert rejected


def test_without_the_price_of_more_vcpus_only_the_smallest_size_is_sold() -> None:
    prices = {name: usd for name, usd in PRICES.items() if name != "additional_vcpus"}
    rows, _ = parse({"a6000_x1": SPECS["a6000_x1"]}, prices)
    assert [row.key for row in rows] == ["a6000_x1:4"]


def test_a_name_of_another_form_is_no_key() -> None:
    assert parse({"a b_x1": SPECS["a6000_x1"]}, PRICES | {"a b_x1": 1.0})[0] == ()
