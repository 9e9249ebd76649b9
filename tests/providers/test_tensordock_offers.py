"""TensorDock's places: what becomes an offer, what is left out, what is thrown out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpubroker.model.clock import SystemClock
from gpubroker.model.errors import BadResponse
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Availability
from gpubroker.providers.tensordock import MOST_GPUS, parse_offers

FIXTURES = Path(__file__).parent / "fixtures" / "tensordock"
NAMES = [
    ("h100-sxm5-80gb", "H100", 80, "SXM"),
    ("a100-sxm4-80gb", "A100", 80, "SXM"),
    ("a100-pcie-80gb", "A100", 80, "PCIe"),
    ("rtxa100-pcie-80gb", "A100", 80, "PCIe"),
    ("l40s-pcie-48gb", "L40S", 48, "PCIe"),
    ("l40-pcie-48gb", "L40", 48, "PCIe"),
    ("l4-pcie-24gb", "L4", 24, "PCIe"),
    ("a40-pcie-48gb", "A40", 48, "PCIe"),
    ("rtx6000ada-pcie-48gb", "RTX 6000 Ada", 48, "PCIe"),
    ("rtxa6000-pcie-48gb", "A6000", 48, "PCIe"),
    ("a6000-pcie-48gb", "A6000", 48, "PCIe"),
    ("rtxa5000-pcie-24gb", "RTX A5000", 24, "PCIe"),
    ("rtxa4000-pcie-16gb", "RTX A4000", 16, "PCIe"),
    ("geforcertx5090-pcie-32gb", "RTX 5090", 32, "PCIe"),
    ("geforcertx4090-pcie-24gb", "RTX 4090", 24, "PCIe"),
    ("geforcertx4080-pcie-16gb", "RTX 4080", 16, "PCIe"),
    ("geforcertx3090-pcie-24gb", "RTX 3090", 24, "PCIe"),
    ("geforcertx3080-pcie-12gb", "RTX 3080", 12, "PCIe"),
    ("geforcertx3080-pcie-10gb", "RTX 3080", 10, "PCIe"),
    ("v100-sxm2-16gb", "V100", 16, "SXM"),
    ("v100-pcie-16gb", "V100", 16, "PCIe"),
    ("teslav100-pcie-16gb", "V100", 16, "PCIe"),
    ("v100-sxm3-32gb", "V100", 32, "SXM"),
]
PLACES = [
    (("Chubbuck", "Idaho", "United States"), "US", "US-West"),
    (("Ashburn", "VA", "USA"), "US", "US-East"),
    (("Manassas", "Virginia", "United States"), "US", "US-East"),
    (("Joplin", "Quebec", "Canada"), "CA", "Canada"),
    (("Warsaw", "Mazovia", "Poland"), "PL", "Europe"),
    (("Mumbai", "", "India"), "IN", "Asia"),
]


def gpu(**changes: Any) -> dict[str, Any]:
    told = json.loads((FIXTURES / "locations.json").read_text())
    first: dict[str, Any] = told["data"]["locations"][0]["gpus"][0]
    return first | changes


def parse(*gpus: Any, **place: Any) -> tuple[tuple[Offer, ...], tuple[tuple[str, str], ...]]:
    location = {"id": "loc-1", "city": "Chicago", "gpus": list(gpus), "tier": 3} | place
    body = json.dumps({"data": {"locations": [location]}}).encode()
    return parse_offers(body, account="default", fetched_at=SystemClock().now())


@pytest.mark.parametrize(("name", "model", "memory_gb", "form"), NAMES)
def test_each_gpu_name_of_the_vendor_is_known(
    name: str, model: str, memory_gb: float, form: str
) -> None:
    (first, *_), rejected = parse(gpu(v0Name=name))
    assert (first.gpu.name, first.gpu.memory_gb, first.gpu.form) == (model, memory_gb, form)
    assert rejected == ()


@pytest.mark.parametrize(("words", "country", "area"), PLACES, ids=str)
def test_a_place_is_told_by_city_state_and_country(
    words: tuple[str, str, str], country: str, area: str
) -> None:
    named = dict(zip(("city", "stateprovince", "country"), words, strict=True))
    (first, *_), _ = parse(gpu(), **named)
    assert (first.region, first.country, first.area) == (
        ", ".join(word for word in words if word), country, area
    )  # fmt: skip


def test_each_count_is_sold_in_sizes_whose_price_is_the_sum_of_their_parts() -> None:
    rows, _ = parse(gpu())
    assert [(row.key, row.price.compute) for row in rows] == [
        ("loc-1:geforcertx4090-pcie-24gb:1x8c32g", 503_000_000),
        ("loc-1:geforcertx4090-pcie-24gb:1x16c64g", 599_000_000),
        ("loc-1:geforcertx4090-pcie-24gb:1x32c128g", 791_000_000),
        ("loc-1:geforcertx4090-pcie-24gb:2x16c64g", 999_000_000),
        ("loc-1:geforcertx4090-pcie-24gb:2x32c128g", 1_191_000_000),
    ]
    assert {(row.price.disk_gb, row.price.disk_gb_stopped) for row in rows} == {(70_000, 70_000)}
    assert {row.disk_max_gb for row in rows} == {30_200}
    assert {row.availability for row in rows} == {Availability.UNKNOWN}


def test_the_least_disk_is_always_bought_and_only_more_costs_more() -> None:
    price = parse(gpu())[0][0].price
    assert price.hourly(20) == price.hourly(100) == 496_000_000 + 100 * 70_000
    assert price.hourly(150) == price.hourly(100) + 50 * 70_000


def test_what_is_sold_out_is_told_with_its_price() -> None:
    rows, _ = parse(gpu(max_count=0))
    assert {(row.gpu_count, row.availability) for row in rows} == {(1, Availability.NO)}


def test_an_absurd_count_makes_no_million_offers() -> None:
    limits = {"max_vcpus": 10_000, "max_ram_gb": 100_000}
    rows, _ = parse(gpu(max_count=1_000_000, resources=limits))
    assert max(row.gpu_count for row in rows) == MOST_GPUS


@pytest.mark.parametrize(
    "changes",
    [
        {"price_per_hr": None},
        {"price_per_hr": 0},
        {"pricing": {"per_vcpu_hr": 0.004, "per_gb_ram_hr": 0.002}},
        {"pricing": {"per_vcpu_hr": "free", "per_gb_ram_hr": 0.002, "per_gb_storage_hr": 0.1}},
        {"pricing": None},
        {"v0Name": "mystery"},
        {"v0Name": "a b-pcie-24gb"},
        {"max_count": -1},
        {"resources": {"max_vcpus": 1, "max_ram_gb": 331}},
        {"resources": {"max_vcpus": 56, "max_ram_gb": 331, "max_storage_gb": 99}},
        {"network_features": {"port_forwarding_available": False}},
    ],
    ids=str,
)
def test_a_gpu_without_a_price_a_size_or_a_way_in_is_put_aside_alone(changes: Any) -> None:
    rows, rejected = parse(gpu(**changes), gpu())
    assert {row.gpu.name for row in rows} == {"RTX 4090"}
    assert len(rows) == 5
    assert rejected


@pytest.mark.parametrize(("tier", "expected"), [(0, False), (2, False), (3, True), (None, None)])
def test_only_high_tiers_are_data_centers(tier: int | None, expected: bool | None) -> None:
    (first, *_), _ = parse(gpu(), tier=tier)
    assert first.datacenter is expected


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": {"locations": {}}}', b"<html>"])
def test_what_is_no_answer_of_this_call_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(BadResponse):
        parse_offers(body, account="default", fetched_at=SystemClock().now())
