"""Lyceum's variants and prices: what becomes an offer, what is left out, what is thrown out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpubroker.model.clock import SystemClock
from gpubroker.model.errors import BadResponse
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Availability, Market
from gpubroker.providers.lyceum import parse_offers, parse_prices

FIXTURES = Path(__file__).parent / "fixtures" / "lyceum"
A100, H100, CPU = json.loads((FIXTURES / "availability.json").read_text())[
    "available_instance_variants"
]
KNOWN = [
    ("a100", "A100", 80),
    ("a100.40gb", "A100", 40),
    ("a100.80gb", "A100", 80),
    ("h100", "H100", 80),
    ("h200", "H200", 141),
    ("b200", "B200", 180),
    ("l40s", "L40S", 48),
    ("rtx6000pro", "RTX PRO 6000", 96),
    ("t4", "T4", 16),
    ("gpu.a100", "A100", 80),
    ("gpu.a100.40gb", "A100", 40),
    ("gpu.h100", "H100", 80),
    ("gpu.h200", "H200", 141),
    ("gpu.b200", "B200", 180),
    ("gpu.l40s", "L40S", 48),
    ("gpu.rtx6000pro", "RTX PRO 6000", 96),
    ("gpu.t4", "T4", 16),
    ("gpu.t4.64gb", "T4", 16),
]


def parse(*rows: Any, prices: Any = None) -> tuple[tuple[Offer, ...], tuple[Any, ...]]:
    body = json.dumps({"available_instance_variants": rows}).encode()
    return parse_offers(body, prices or {}, account="default", fetched_at=SystemClock().now())


def test_the_price_list_is_of_whole_machines_and_counts_first() -> None:
    prices, rejected = parse_prices((FIXTURES / "pricing.json").read_bytes())
    assert not rejected
    assert prices["on-demand", "a100", 2] == 2.5
    rows, _ = parse(A100, prices=prices)
    told = {row.key: (row.price.compute, row.availability) for row in rows}
    assert told == {
        "on-demand:a100:1x": (1_390_000_000, Availability.YES),
        "on-demand:a100:2x": (2_500_000_000, Availability.YES),
        "on-demand:h200:8x": (24_000_000_000, Availability.NO),
    }


def test_without_a_price_list_a_machine_costs_its_gpus() -> None:
    rows, _ = parse(A100, H100)
    assert [(row.gpu_count, row.price.compute, row.market) for row in rows] == [
        (1, 1_390_000_000, Market.ON_DEMAND),
        (2, 2_780_000_000, Market.ON_DEMAND),
        (4, 6_600_000_000, Market.SPOT),
    ]
    assert rows[0].launch == {"hardware_profile": "a100", "instance_type": "on-demand"}


@pytest.mark.parametrize(
    "damage",
    [
        {"unit_price_per_hour": None},
        {"unit_price_per_hour": "2.5"},
        {"group_by": None},
        {"group_by": {"hardware_profile": "a100"}},
        {"meter_slug": None},
    ],
    ids=str,
)
def test_a_price_that_cannot_be_read_is_not_made_up(damage: dict[str, Any]) -> None:
    told = json.loads((FIXTURES / "pricing.json").read_text())
    told["prices"][1] |= damage
    prices, unread = parse_prices(json.dumps(told).encode())
    assert len(unread) == 1
    body = (FIXTURES / "availability.json").read_bytes()
    at = SystemClock().now()
    rows, rejected = parse_offers(body, prices, account="default", fetched_at=at, unread=unread)
    # Of an A100 alone its price is told, of the H100s no longer what a machine of four costs.
    assert {row.key for row in rows} == {"on-demand:a100:1x", "on-demand:h200:8x"}
    assert len(rejected) == 3


def test_rates_of_other_things_are_no_damage() -> None:
    told = [{"meter_slug": "serverless_inference_tokens", "group_by": {"model": "m"}}]
    assert parse_prices(json.dumps({"prices": told}).encode()) == ({}, [])


def test_a_variant_that_cannot_be_read_is_not_sold_out() -> None:
    without = {name: told for name, told in A100.items() if name != "available_gpus_per_instance"}
    rows, rejected = parse(without, prices={("on-demand", "a100", 1): 1.39})
    assert [row.availability for row in rows] == [Availability.UNKNOWN]
    assert len(rejected) == 1
    absurd = A100 | {"available_gpus_per_instance": [1_000_000]}
    assert parse(absurd | {"price_per_hour": 10})[0] == ()


def test_all_of_it_stands_in_europe_and_has_its_disk() -> None:
    (row,) = parse(H100)[0]
    assert (row.region, row.country, row.area, row.disk_gb) == ("eu", None, "Europe", 100)


def test_a_machine_without_gpu_is_neither_offered_nor_bad() -> None:
    assert parse(CPU, prices={("on-demand", "cpu", 1): 0.05}) == ((), ())


@pytest.mark.parametrize(("profile", "gpu", "memory_gb"), KNOWN)
def test_every_gpu_that_the_vendor_lists_is_known(profile: str, gpu: str, memory_gb: float) -> None:
    (row,) = parse(H100 | {"hardware_profile": profile})[0]
    assert (row.gpu.name, row.gpu.memory_gb, row.gpu.raw) == (gpu, memory_gb, profile)


@pytest.mark.parametrize(
    "change",
    [
        {"hardware_profile": ""},
        {"hardware_profile": None},
        {"hardware_profile": "a 100"},
        {"instance_type": "reserved"},
        {"price_per_hour": 0},
        {"price_per_hour": -1},
        {"price_per_hour": "1.39"},
        {"available_gpus_per_instance": [0]},
        {"available_gpus_per_instance": ["1"]},
    ],
    ids=str,
)
def test_a_bad_variant_is_rejected_with_a_reason_and_costs_only_itself(change: Any) -> None:
    rows, rejected = parse(A100 | change, H100)
    assert [row.key for row in rows] == ["spot:h100:4x"]
    assert rejected
    assert all(reason for _, reason in rejected)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"detail": "Not Found"}'])
def test_what_is_no_answer_of_these_calls_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(BadResponse):
        parse_offers(body, {}, account="default", fetched_at=SystemClock().now())
    with pytest.raises(BadResponse):
        parse_prices(body)
