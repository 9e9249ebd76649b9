"""Jarvis Labs' servers: what becomes an offer, what is left out, what is thrown out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpubroker.model.clock import SystemClock
from gpubroker.model.errors import BadResponse
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Availability, Kind, Market
from gpubroker.providers.jarvislabs_market import HOSTS, STORAGE, amount, parse_offers

FIXTURES = Path(__file__).parent / "fixtures" / "jarvislabs"
L4, SECOND, VM, EUROPE = json.loads((FIXTURES / "servers.json").read_text())["server_meta"]
KNOWN = [
    ("L4", "24", "L4", 24, "PCIe"),
    ("A100", "40", "A100", 40, ""),
    ("A100", None, "A100", 40, ""),
    ("A100-80GB", "80", "A100", 80, ""),
    ("H100", "80", "H100", 80, "SXM"),
    ("H100", None, "H100", 80, "SXM"),
    ("H200", "141", "H200", 141, "SXM"),
    ("RTX-PRO6000", "96", "RTX PRO 6000", 96, ""),
    ("RTX PRO 6000", "96", "RTX PRO 6000", 96, ""),
    ("RTXPRO6000", None, "RTX PRO 6000", 96, ""),
    ("A6000", "48", "A6000", 48, "PCIe"),
    ("RTX6000Ada", "48", "RTX 6000 Ada", 48, "PCIe"),
    ("A5000", "24", "RTX A5000", 24, "PCIe"),
    ("RTX5000", "16", "Quadro RTX 5000", 16, "PCIe"),
]


def parse(*rows: Any, currency: str = "USD") -> tuple[tuple[Offer, ...], tuple[Any, ...]]:
    body = json.dumps({"server_meta": rows}).encode()
    return parse_offers(
        body, account="default", fetched_at=SystemClock().now(), currency=currency
    )  # fmt: skip


def test_a_machine_is_of_one_server_and_priced_by_its_gpus() -> None:
    rows, rejected = parse(L4, SECOND)
    assert rejected == ()
    on_demand = [row for row in rows if row.market is Market.ON_DEMAND]
    # The free GPUs of two servers are never one machine.
    assert [(row.gpu_count, row.availability) for row in on_demand] == [
        (1, Availability.YES),
        (2, Availability.YES),
        (3, Availability.YES),
        (4, Availability.NO),
    ]
    assert on_demand[2].price.compute == 1_320_000_000
    assert (on_demand[2].vcpus, on_demand[2].ram_gb) == (84, 372)
    assert on_demand[0].kind is Kind.CONTAINER
    assert on_demand[0].price.disk_gb == on_demand[0].price.disk_gb_stopped == STORAGE
    assert on_demand[0].launch == {"gpu_type": "L4"}


def test_spot_is_sold_of_containers_with_a_price_and_has_a_count_of_its_own() -> None:
    rows, _ = parse(L4, SECOND, VM | {"spot_price": 0.5})
    spot = [row for row in rows if row.market is Market.SPOT]
    assert [(row.key, row.price.compute, row.availability) for row in spot] == [
        ("L4:india-noida-01:container:1:spot", 290_000_000, Availability.YES),
        ("L4:india-noida-01:container:2:spot", 580_000_000, Availability.YES),
        ("L4:india-noida-01:container:3:spot", 870_000_000, Availability.NO),
        ("L4:india-noida-01:container:4:spot", 1_160_000_000, Availability.NO),
    ]
    assert {row.market for row in parse(L4 | {"spot_only_server": True})[0]} == {Market.SPOT}


def test_what_may_be_taken_from_spot_machines_counts_on_demand() -> None:
    rows, _ = parse(VM, VM | {"region": "europe-01", "effective_num_free_devices": None})
    assert [(row.kind, row.region, row.gpu_count, row.availability) for row in rows] == [
        (Kind.VM, "india-chennai-01", 1, Availability.YES),
        (Kind.VM, "india-chennai-01", 2, Availability.YES),
        (Kind.VM, "europe-01", 1, Availability.NO),
    ]


def test_where_no_workload_is_told_it_is_a_container_and_europe_rents_one_gpu() -> None:
    (row,), _ = parse(EUROPE)
    assert (row.key, row.kind) == ("H100:europe-01:container:1", Kind.CONTAINER)
    assert (row.country, row.area) == (None, "Europe")


@pytest.mark.parametrize("region", [name for name in HOSTS if name != "europe-01"])
def test_every_other_region_is_in_india(region: str) -> None:
    row = parse(L4 | {"region": region})[0][0]
    assert (row.country, row.area) == ("IN", "Asia")


@pytest.mark.parametrize(("raw", "vram", "gpu", "memory_gb", "form"), KNOWN)
def test_every_gpu_that_the_vendor_lists_is_known(
    raw: str, vram: Any, gpu: str, memory_gb: float, form: str
) -> None:
    row = parse(L4 | {"gpu_type": raw, "vram": vram})[0][0]
    assert (row.gpu.name, row.gpu.memory_gb, row.gpu.form) == (gpu, memory_gb, form)
    assert row.launch["gpu_type"] == raw


def test_rupees_are_not_dollars() -> None:
    row = parse(L4 | {"price_per_hour": 38.0}, currency="INR")[0][0]
    assert (row.price.quoted, row.price.disk_gb) == ("INR", 0)


@pytest.mark.parametrize(
    "change",
    [
        {"region": "moon-01"},
        {"workload_type": "bare_metal"},
        {"price_per_hour": None, "spot_price": None},
        {"price_per_hour": 0, "spot_price": 0},
        {"price_per_hour": -1},
        {"price_per_hour": "0.44"},
        {"gpu_type": None},
        {"gpu_type": ""},
        {"gpu_type": "../x"},
        {"num_gpus": {}},
    ],
    ids=str,
)
def test_a_bad_server_is_rejected_with_a_reason_and_costs_only_itself(change: Any) -> None:
    rows, rejected = parse(EUROPE, L4 | change, VM)
    assert {row.gpu.raw for row in rows} == {"H100", "A100-80GB"}
    assert rejected
    assert all(reason for _, reason in rejected)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"server_meta": {}}'])
def test_what_is_no_answer_of_this_call_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(BadResponse):
        parse_offers(body, account="default", fetched_at=SystemClock().now())


@pytest.mark.parametrize(
    ("told", "read"),
    [(3, 3), ("8", 8), ("112GB", 112), (" 0.5 ", 0.5), ("", 1), ("many", 1), (None, 1)],
)
def test_the_vendor_writes_numbers_in_many_ways(told: Any, read: float) -> None:
    assert amount(told, 1) == read
