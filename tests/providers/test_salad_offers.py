"""SaladCloud's classes: names, memory, priorities as prices, and what is free of each."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpubroker.model.errors import BadResponse
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Availability, Market
from gpubroker.providers.salad_market import Free, parse_offers

CLASSES = (Path(__file__).parent / "fixtures" / "salad" / "classes.json").read_bytes()
AT = datetime(2026, 11, 1, tzinfo=UTC)
NAMES = (
    "RTX 5090 (32 GB)", "RTX 5090 Laptop (24 GB)", "RTX 5080 (16 GB)", "RTX 5070 Ti (16 GB)",
    "RTX 5070 (12 GB)", "RTX 5060 Ti (16 GB)", "RTX 4090 (24 GB)", "RTX 4080 (16 GB)",
    "RTX 4070 Ti Super (16 GB)", "RTX 4070 Ti (12 GB)", "RTX 4070 (12 GB)", "RTX 4060 Ti (16 GB)",
    "RTX 3090 Ti (24 GB)", "RTX 3090 (24 GB)", "RTX 3080 Ti (12 GB)", "RTX 3080 (10 GB)",
    "RTX 3070 Ti (8 GB)", "RTX 3070 (8 GB)", "RTX 3060 Ti (8 GB)", "RTX 3060 (12 GB)",
    "RTX 3050 (8 GB)", "RTX 2080 Ti (11 GB)", "RTX 2080 (8 GB)", "RTX 2070 (8 GB)",
    "RTX 2060 (6 GB)", "RTX A5000 (24 GB)", "GTX 1660 Super (6 GB)", "GTX 1660 (6 GB)",
    "GTX 1070 (8 GB)", "GTX 1060 (6 GB)", "GTX 1650 (4 GB)", "GTX 1050 Ti (4 GB)",
)  # fmt: skip
"""All that were seen in public (SaladCloud docs and clients)."""


def a_class(name: str, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": "ed563892-aacd-40f5-80b7-90c9be6c759b",
        "name": name,
        "prices": [{"priority": "high", "price": "0.30"}],
    }
    return row | more


def parsed(*rows: dict[str, Any], free: dict[str, Free] | None = None) -> tuple[Offer, ...]:
    body = json.dumps({"items": rows}).encode()
    return parse_offers(body, account="default", fetched_at=AT, free=free or {})[0]


@pytest.mark.parametrize("name", NAMES)
def test_each_class_is_its_gpu_with_the_memory_of_its_name(name: str) -> None:
    (offer,) = parsed(a_class(name))
    model, _, size = name.removesuffix(" GB)").rpartition(" (")
    assert offer.gpu.name is not None
    assert offer.gpu.name.casefold() == model.casefold()
    assert offer.gpu.memory_gb == float(size)


def test_high_is_on_demand_and_the_other_priorities_are_spot() -> None:
    offers, _ = parse_offers(CLASSES, account="default", fetched_at=AT, free={})
    first = {offer.tier: offer for offer in offers[:4]}
    assert {tier: offer.market for tier, offer in first.items()} == {
        "high": Market.ON_DEMAND,
        "medium": Market.SPOT,
        "low": Market.SPOT,
        "batch": Market.SPOT,
    }
    assert [offer.price.compute for offer in first.values()] == [
        300_000_000, 250_000_000, 200_000_000, 160_000_000,
    ]  # fmt: skip


def test_a_class_of_many_gpus_costs_what_it_costs_and_is_shaped_by_its_gpus() -> None:
    offers, _ = parse_offers(CLASSES, account="default", fetched_at=AT, free={})
    last = offers[-1]
    assert (last.gpu.name, last.gpu_count, last.price.compute) == ("H100", 8, 18_400_000_000)
    assert (last.vcpus, last.ram_gb, last.disk_max_gb) == (32, 128, 1024)
    assert last.datacenter is True


def test_stock_is_told_by_priority_with_those_that_can_be_woken() -> None:
    row = a_class("RTX 4090 (24 GB)")
    for free, availability, stock in (
        (Free(available_gpu_high=3, available_gpu_low=9, on_call_gpu=4), Availability.YES, 7),
        (Free(available_gpu_low=9), Availability.NO, 0),
    ):
        (offer,) = parsed(row, free={row["id"]: free})
        assert (offer.availability, offer.stock) == (availability, stock)
    (unasked,) = parsed(row)
    assert (unasked.availability, unasked.stock) == (Availability.UNKNOWN, None)


@pytest.mark.parametrize(
    "row",
    [
        a_class("RTX 4090 (24 GB)", prices=[{"priority": "high", "price": "free"}]),
        a_class("RTX 4090 (24 GB)", prices=[{"priority": "high", "price": 0.3}]),
        a_class("RTX 4090 (24 GB)", prices=[{"priority": "high", "price": "0"}]),
        a_class("RTX 4090 (24 GB)", prices=[{"priority": "highest", "price": "0.3"}]),
        a_class("Something"),
        a_class("RTX 4090 (24 GB)", id="../quotas"),
    ],
)
def test_a_class_without_price_gpu_or_id_is_rejected(row: dict[str, Any]) -> None:
    body = json.dumps({"items": [row]}).encode()
    rows, rejected = parse_offers(body, account="default", fetched_at=AT, free={})
    assert rows == ()
    assert len(rejected) == 1


def test_the_class_of_mixed_cards_is_passed_over() -> None:
    assert parsed(a_class("Stable Diffusion Compatible")) == ()


def test_a_web_page_is_no_answer() -> None:
    with pytest.raises(BadResponse):
        parse_offers(b"<html>", account="default", fetched_at=AT, free={})
