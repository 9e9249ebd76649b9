"""Northflank's regions: models, counts, prices in cents, and the plans that bundle CPU and RAM."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpubroker.model.errors import BadResponse
from gpubroker.model.offer import Offer
from gpubroker.providers.northflank_market import parse_offers

FIXTURES = Path(__file__).parent / "fixtures" / "northflank"
AT = datetime(2026, 11, 1, tzinfo=UTC)
NO_PLANS = b'{"data": {"plans": []}}'
DEVICES = {
    "l4-24": ("L4", 24, "PCIe"),
    "a100-40": ("A100", 40, "SXM"),
    "a100-80": ("A100", 80, "SXM"),
    "h100-80": ("H100", 80, "SXM"),
    "h200-141": ("H200", 141, "SXM"),
    "b200-180": ("B200", 180, "SXM"),
    "rtx_pro_6000-96": ("RTX PRO 6000", 96, ""),
}
"""All of the vendor's list, with what they are."""
PLACES = {
    "us-central": ("US", "US-West"),
    "us-east-ohio": ("US", "US-East"),
    "us-east1": ("US", "US-East"),
    "us-west": ("US", "US-West"),
    "asia-northeast": ("JP", "Asia"),
    "asia-southeast": ("SG", "Asia"),
    "europe-west": ("GB", "Europe"),
    "europe-west-frankfurt": ("DE", "Europe"),
    "europe-west-netherlands": ("NL", "Europe"),
}


def parsed(*devices: dict[str, Any], region: str = "us-central") -> tuple[Offer, ...]:
    body = {"data": {"regions": [{"id": region, "name": "x", "gpuDevices": devices}]}}
    told = json.dumps(body).encode()
    return parse_offers(told, NO_PLANS, account="default", fetched_at=AT)[0]


def device(id_: str, **more: Any) -> dict[str, Any]:
    row = {"id": id_, "memoryInfo": {"sizeInMiB": int(id_.rpartition("-")[2]) * 1024}}
    return row | {"pricing": {"onDemand": 274}, "countOptions": [1]} | more


@pytest.mark.parametrize("name", DEVICES)
def test_each_device_is_its_gpu(name: str) -> None:
    (offer,) = parsed(device(name))
    assert (offer.gpu.name, offer.gpu.memory_gb, offer.gpu.form) == DEVICES[name]
    assert offer.key == f"nf-gpu-{name}-1g:us-central"


@pytest.mark.parametrize("region", PLACES)
def test_each_region_is_a_place(region: str) -> None:
    (offer,) = parsed(device("l4-24"), region=region)
    assert (offer.region, (offer.country, offer.area)) == (region, PLACES[region])


def test_cents_of_one_gpu_become_dollars_of_the_machine() -> None:
    one, eight = parsed(device("h100-80", countOptions=[1, 8]))
    assert (one.price.compute, eight.price.compute) == (2_740_000_000, 21_920_000_000)
    assert (one.gpu_count, eight.gpu_count) == (1, 8)


def test_a_plan_that_is_told_gives_vcpus_and_ram() -> None:
    regions, plans = (FIXTURES / name for name in ("regions.json", "plans.json"))
    offers, rejected = parse_offers(
        regions.read_bytes(), plans.read_bytes(), account="default", fetched_at=AT
    )
    known = {offer.key: offer for offer in offers}
    one = known["nf-gpu-h100-80-1g:us-central"]
    eight = known["nf-gpu-h100-80-8g:us-central"]
    assert (one.vcpus, one.ram_gb) == (26, 234)
    # 2.74 for the GPU, on top of 2.38 for what the plan bundles.
    assert one.price.compute == 5_120_000_000
    assert (eight.vcpus, eight.ram_gb) == (None, None)
    assert len(rejected) == 1


@pytest.mark.parametrize(
    "damage",
    [
        {"amountPerHour": None},
        {"amountPerHour": "2.38"},
        {"amountPerHour": -1},
        {"cpuResource": "many"},
        {"id": None},
        {"id": "nf gpu"},
    ],
    ids=str,
)
def test_without_its_plans_price_a_machine_is_not_offered_for_less(damage: dict[str, Any]) -> None:
    told = json.loads((FIXTURES / "plans.json").read_text())
    told["data"]["plans"][1] |= damage
    regions = {"data": {"regions": [{"id": "us-central", "gpuDevices": [device("h100-80")]}]}}
    offers, rejected = parse_offers(
        json.dumps(regions).encode(), json.dumps(told).encode(), account="default", fetched_at=AT
    )
    assert offers == ()
    assert rejected


@pytest.mark.parametrize(
    "row",
    [
        device("h100-80", pricing={}),
        device("h100-80", pricing={"onDemand": 0}),
        device("h100-80", pricing={"onDemand": "274"}),
        device("h100-80", countOptions=[0]),
        device("h100-80", countOptions=[1_000_000]),
        device("h100-80", pricing={"onDemand": 1e14}),
        {name: told for name, told in device("h200-141").items() if name != "countOptions"},
        {"id": "h100-80"},
    ],
)
def test_a_device_without_price_or_count_is_rejected(row: dict[str, Any]) -> None:
    body = {"data": {"regions": [{"id": "us-central", "gpuDevices": [row]}]}}
    rows, rejected = parse_offers(
        json.dumps(body).encode(), NO_PLANS, account="default", fetched_at=AT
    )
    assert rows == ()
    assert len(rejected) == 1


def test_an_answer_without_regions_is_none() -> None:
    with pytest.raises(BadResponse):
        parse_offers(b'{"data": {}}', NO_PLANS, account="default", fetched_at=AT)
