"""Lambda's types: what becomes an offer, what is left out, what is thrown out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubroker.model.clock import SystemClock
from gpubroker.model.errors import BadResponse
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Availability, Kind, Market
from gpubroker.providers.lambda_labs_market import parse_offers

FIXTURES = Path(__file__).parent / "fixtures" / "lambda_labs"
TYPES = json.loads((FIXTURES / "types.json").read_text())["data"]
NOW = SystemClock().now()

KNOWN = [
    ("gpu_1x_rtx6000", "RTX 6000 (24 GB)", "Quadro RTX 6000", 24, "PCIe"),
    ("gpu_1x_a10", "A10 (24 GB PCIe)", "A10", 24, "PCIe"),
    ("gpu_4x_a6000", "RTX A6000 (48 GB)", "A6000", 48, "PCIe"),
    ("gpu_1x_a100", "A100 (40 GB PCIe)", "A100", 40, "PCIe"),
    ("gpu_1x_a100_sxm4", "A100 (40 GB SXM4)", "A100", 40, "SXM"),
    ("gpu_8x_a100_80gb_sxm4", "A100 (80 GB SXM4)", "A100", 80, "SXM"),
    ("gpu_1x_gh200", "GH200 (96 GB)", "GH200", 96, "onboard"),
    ("gpu_1x_h100_pcie", "H100 (80 GB PCIe)", "H100", 80, "PCIe"),
    ("gpu_8x_h100_sxm5", "H100 (80 GB SXM5)", "H100", 80, "SXM"),
    ("gpu_8x_b200_sxm6", "B200 (180 GB SXM6)", "B200", 180, "SXM"),
    ("gpu_8x_v100_n", "Tesla V100 (16 GB)", "V100", 16, ""),
]
PLACES = [
    ("us-east-1", "Virginia, USA", "US", "US-East"),
    ("us-east-3", "Washington DC, USA", "US", "US-East"),
    ("us-west-1", "California, USA", "US", "US-West"),
    ("us-west-2", "Arizona, USA", "US", "US-West"),
    ("us-west-3", "Utah, USA", "US", "US-West"),
    ("us-south-1", "Texas, USA", "US", "US-West"),
    ("us-south-2", "North Texas, USA", "US", "US-West"),
    ("us-midwest-1", "Illinois, USA", "US", "US-East"),
    ("europe-central-1", "Germany", "DE", "Europe"),
    ("asia-south-1", "India", "IN", "Asia"),
    ("asia-northeast-1", "Osaka, Japan", "JP", "Asia"),
    ("me-west-1", "Israel", "IL", "Middle East"),
    ("australia-east-1", "Australia", "AU", "Oceania"),
    ("us-east-3", "", "US", "US-East"),
]


def parse(body: Any) -> tuple[tuple[Offer, ...], tuple[tuple[str, str], ...]]:
    sent = body if isinstance(body, bytes) else json.dumps({"data": body}).encode()
    return parse_offers(sent, account="default", fetched_at=NOW)


def sold(regions: Any = None, **changes: Any) -> dict[str, Any]:
    """The GH200, with changes of its type."""
    one = TYPES["gpu_1x_gh200"]
    there = one["regions_with_capacity_available"] if regions is None else regions
    return {
        "instance_type": one["instance_type"] | changes,
        "regions_with_capacity_available": there,
    }


def test_a_type_becomes_one_offer_in_each_region_that_has_it() -> None:
    rows, rejected = parse(TYPES)
    assert not rejected
    assert [row.key for row in rows] == [
        "gpu_1x_gh200:us-east-3",
        "gpu_1x_a10:us-west-1",
        "gpu_1x_a10:us-south-1",
        "gpu_8x_h100_sxm5",
        "gpu_8x_v100_n:us-south-1",
    ]
    gh200 = rows[0]
    assert (gh200.kind, gh200.market, gh200.arch) == (Kind.VM, Market.ON_DEMAND, "arm64")
    assert (gh200.gpu.name, gh200.gpu.memory_gb, gh200.gpu_count) == ("GH200", 96.0, 1)
    assert (gh200.price.compute, gh200.price.increment_s) == (2_290_000_000, 60)
    assert (gh200.vcpus, gh200.ram_gb, gh200.disk_gb) == (64, 432, 4096)
    assert (gh200.region, gh200.country, gh200.area) == ("us-east-3", "US", "US-East")
    assert {row.arch for row in rows[1:]} == {"x86_64"}


def test_a_sold_out_type_is_told_with_its_price_and_no_region() -> None:
    (row,) = (row for row in parse(TYPES)[0] if row.availability is Availability.NO)
    assert (row.key, row.region, row.country, row.area) == ("gpu_8x_h100_sxm5", "", None, "Global")
    assert (row.gpu_count, row.price.compute) == (8, 31_920_000_000)


def test_a_type_without_gpu_is_neither_offered_nor_counted_as_bad() -> None:
    assert "cpu_4x_general" in TYPES
    rows, rejected = parse({"cpu_4x_general": TYPES["cpu_4x_general"]})
    assert (rows, rejected) == ((), ())


@pytest.mark.parametrize(("name", "described", "gpu", "memory_gb", "form"), KNOWN)
def test_every_gpu_that_the_vendor_lists_is_known(
    name: str, described: str, gpu: str, memory_gb: float, form: str
) -> None:
    (row,), _ = parse({name: sold(name=name, gpu_description=described)})
    assert (row.gpu.name, row.gpu.memory_gb, row.gpu.form) == (gpu, memory_gb, form)
    assert row.arch == ("arm64" if gpu == "GH200" else "x86_64")


@pytest.mark.parametrize(("name", "described", "country", "area"), PLACES)
def test_every_region_that_the_vendor_lists_has_its_place(
    name: str, described: str, country: str | None, area: str
) -> None:
    (row,), _ = parse({"one": sold([{"name": name, "description": described}])})
    assert (row.region, row.country, row.area) == (name, country, area)


def test_a_gpu_that_the_catalog_does_not_know_is_kept_by_its_raw_name() -> None:
    (row,), _ = parse({"one": sold(gpu_description="Frobnicator 9000 (512 GB)")})
    assert (row.gpu.name, row.gpu.raw) == (None, "Frobnicator 9000 (512 GB)")
    assert row.gpu.memory_gb == 512


def test_the_architecture_that_newer_answers_tell_counts() -> None:
    (row,), _ = parse({"one": sold(gpu_description="A10 (24 GB)", architecture="arm64")})
    assert row.arch == "arm64"


@pytest.mark.parametrize(
    "change",
    [
        {"price_cents_per_hour": 0},
        {"price_cents_per_hour": -1},
        {"price_cents_per_hour": 2.29},
        {"price_cents_per_hour": "229"},
        {"price_cents_per_hour": None},
        {"price_cents_per_hour": 10**9},
        {"name": ""},
        {"name": "../launch"},
        {"name": "a b"},
        {"name": "x" * 5000},
        {"description": "", "gpu_description": ""},
        {"description": "Frob", "gpu_description": "Frob"},
        {"specs": None},
        {"specs": {"vcpus": 1}},
        {"specs": {"gpus": "1"}},
    ],
    ids=str,
)
def test_a_bad_type_is_rejected_with_a_reason_and_costs_only_itself(change: Any) -> None:
    rows, rejected = parse({"a": sold(name="a"), "bad": sold(**change), "b": sold(name="b")})
    assert [row.key for row in rows] == ["a:us-east-3", "b:us-east-3"]
    ((raw, reason),) = rejected
    assert reason
    assert len(raw) <= 200


def test_a_bad_region_costs_no_other_region_of_its_type() -> None:
    places = [{"name": "us-east-1"}, {"name": "us east 2"}, {"name": "us-east-1"}]
    rows, rejected = parse({"one": sold(places)})
    assert [row.region for row in rows] == ["us-east-1"]
    assert [reason for _, reason in rejected] == [
        "a type or region of another form",
        "told twice",
    ]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"data": []}', b"[" * 100_000])
def test_what_is_no_answer_of_this_call_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(BadResponse):
        parse(body)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = "name description gpu_description price_cents_per_hour specs architecture".split()


@given(changes=st.dictionaries(st.sampled_from(_FIELDS), _json, max_size=4), places=_json)
def test_no_value_of_any_field_raises_or_makes_an_impossible_offer(
    changes: Any, places: Any
) -> None:
    rows, _ = parse({"one": sold(places, **changes)})
    for row in rows:
        assert row.price.compute > 0
        assert row.gpu_count >= 1
        assert row.gpu.memory_gb > 0
        msgspec.json.encode(row)
