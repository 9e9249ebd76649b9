"""DigitalOcean's sizes: what becomes an offer, what is left out, what is thrown out."""

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
from gpubroker.providers.digitalocean_market import parse_offers

FIXTURES = Path(__file__).parent / "fixtures" / "digitalocean"
SIZES = json.loads((FIXTURES / "sizes.json").read_text())["sizes"]
NOW = SystemClock().now()

KNOWN = [
    ("gpu-h100x1-80gb", "nvidia_h100", 1, 80, "H100", 80, "SXM"),
    ("gpu-h100x8-640gb", "nvidia_h100", 8, 640, "H100", 80, "SXM"),
    ("gpu-h200x1-141gb", "nvidia_h200", 1, 141, "H200", 141, "SXM"),
    ("gpu-h200x8-1128gb", "nvidia_h200", 8, 1128, "H200", 141, "SXM"),
    ("gpu-b300x1-288gb-lc-spot", "nvidia_b300", 1, 288, "B300", 288, "SXM"),
    ("gpu-b300x8-2304gb-spot", "nvidia_b300", 8, 2304, "B300", 288, "SXM"),
    ("gpu-l40sx1-48gb", "nvidia_l40s", 1, 48, "L40S", 48, "PCIe"),
    ("gpu-6000adax1-48gb", "nvidia_rtx6000_ada", 1, 48, "RTX 6000 Ada", 48, "PCIe"),
    ("gpu-4000adax1-20gb", "nvidia_rtx4000_ada", 1, 20, "RTX 4000 Ada", 20, "PCIe"),
    ("gpu-mi300x1-192gb", "amd_mi300x", 1, 192, "MI300X", 192, "OAM"),
    ("gpu-mi300x8-1536gb", "amd_mi300x", 8, 1536, "MI300X", 192, "OAM"),
    ("gpu-mi325x1-256gb", "amd_mi325x", 1, 256, "MI325X", 256, "OAM"),
    ("gpu-mi325x8-2048gb", "amd_mi325x", 8, 2048, "MI325X", 256, "OAM"),
    ("gpu-mi350x1-288gb", "amd_mi350x", 1, 288, "MI350X", 288, "OAM"),
    ("gpu-mi350x8-2304gb-spot", "amd_mi350x", 8, 2304, "MI350X", 288, "OAM"),
    ("gpu-mi350x1-288gb-devcloud", "amd_mi350x", 1, 288, "MI350X", 288, "OAM"),
    ("gpu-mi355x8-2304gb-spot", "amd_mi355x", 8, 2304, "MI355X", 288, "OAM"),
]
PLACES = [
    ("nyc1", "US", "US-East"),
    ("nyc2", "US", "US-East"),
    ("atl1", "US", "US-East"),
    ("ric1", "US", "US-East"),
    ("mem1", "US", "US-East"),
    ("mkc1", "US", "US-West"),
    ("tor1", "CA", "Canada"),
    ("ams3", "NL", "Europe"),
    ("syd1", "AU", "Oceania"),
]


def parse(body: Any) -> tuple[tuple[Offer, ...], tuple[tuple[str, str], ...]]:
    sent = body if isinstance(body, bytes) else json.dumps({"sizes": body}).encode()
    return parse_offers(sent, account="default", fetched_at=NOW)


def size(**changes: Any) -> dict[str, Any]:
    """The single H100, with changes."""
    return {**SIZES[1], "regions": ["nyc2"], **changes}


def test_a_size_becomes_one_offer_in_each_region_that_has_it() -> None:
    rows, rejected = parse(SIZES)
    assert not rejected
    assert [row.key for row in rows] == [
        "gpu-h100x1-80gb:nyc2",
        "gpu-h100x1-80gb:tor1",
        "gpu-h100x8-640gb:nyc2",
        "gpu-mi300x1-192gb:atl1",
        "gpu-mi350x1-288gb-spot:ric1",
        "gpu-h200x1-141gb",
    ]
    eight = rows[2]
    assert (eight.kind, eight.market, eight.arch) == (Kind.VM, Market.ON_DEMAND, "x86_64")
    assert (eight.gpu.name, eight.gpu.memory_gb, eight.gpu_count) == ("H100", 80.0, 8)
    assert eight.price.compute == 23_920_000_000
    assert (eight.price.increment_s, eight.price.minimum_s) == (1, 60)
    assert (eight.vcpus, eight.ram_gb, eight.disk_gb) == (160, 1920, 2046)
    assert (eight.region, eight.country, eight.area) == ("nyc2", "US", "US-East")


def test_spot_is_a_size_of_its_own() -> None:
    rows, _ = parse([size(), size(slug="gpu-h100x1-80gb-spot", price_hourly=1.2)])
    assert [row.market for row in rows] == [Market.ON_DEMAND, Market.SPOT]


def test_a_size_without_a_region_is_told_with_its_price_and_cannot_be_had() -> None:
    (row,), _ = parse([size(regions=[])])
    assert (row.key, row.region, row.area) == ("gpu-h100x1-80gb", "", "Global")
    assert (row.availability, row.price.compute) == (Availability.NO, 3_390_000_000)


def test_a_size_that_is_said_not_to_be_available_cannot_be_had_anywhere() -> None:
    (row,), _ = parse([size(available=False)])
    assert (row.region, row.availability) == ("nyc2", Availability.NO)


def test_a_size_without_gpu_is_neither_offered_nor_counted_as_bad() -> None:
    assert SIZES[0]["slug"] == "s-1vcpu-1gb"
    assert parse(SIZES[:1]) == ((), ())


@pytest.mark.parametrize(("slug", "model", "count", "vram", "gpu", "memory_gb", "form"), KNOWN)
def test_every_gpu_that_the_vendor_lists_is_known(
    slug: str, model: str, count: int, vram: int, gpu: str, memory_gb: float, form: str
) -> None:
    info = {"count": count, "vram": {"amount": vram, "unit": "gib"}, "model": model}
    for row in (size(slug=slug, gpu_info=info), size(slug=slug, gpu_info=None)):
        (offer,), _ = parse([row])
        assert (offer.gpu.name, offer.gpu.form) == (gpu, form)
        assert (offer.gpu.memory_gb, offer.gpu_count) == (memory_gb, count)
        assert offer.gpu.vendor == model.partition("_")[0]


@pytest.mark.parametrize(("region", "country", "area"), PLACES)
def test_every_region_that_has_gpus_has_its_place(region: str, country: str, area: str) -> None:
    (row,), _ = parse([size(regions=[region])])
    assert (row.region, row.country, row.area) == (region, country, area)


def test_a_slug_that_tells_nothing_is_read_by_the_model_and_else_kept_by_its_own_name() -> None:
    info = {"count": 2, "vram": {"amount": 160, "unit": "gib"}, "model": "nvidia_h100"}
    rows, _ = parse([
        size(slug="gpu-new-a", gpu_info=info),
        size(slug="gpu-new-b", gpu_info=info | {"model": "nvidia_frob9"}),
    ])  # fmt: skip
    assert [(row.gpu.name, row.gpu.raw, row.gpu.memory_gb) for row in rows] == [
        ("H100", "nvidia_h100", 80),
        (None, "nvidia_frob9", 80),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"price_hourly": 0},
        {"price_hourly": -1},
        {"price_hourly": "3.39"},
        {"price_hourly": None},
        {"price_hourly": 1e9},
        {"slug": ""},
        {"slug": "../x"},
        {"slug": "gpu h100"},
        {"slug": "x" * 5000},
        {"regions": None},
        {"regions": ["new york"]},
        {"gpu_info": {"vram": {"amount": 80}}},
        {"gpu_info": {"count": "1"}},
    ],
    ids=str,
)
def test_a_bad_size_is_rejected_with_a_reason_and_costs_only_itself(change: Any) -> None:
    rows, rejected = parse([size(slug="a"), size(**change), size(slug="b")])
    assert [row.key for row in rows] == ["a:nyc2", "b:nyc2"]
    ((raw, reason),) = rejected
    assert reason
    assert len(raw) <= 200


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"sizes": {}}', b"[" * 100_000])
def test_what_is_no_answer_of_this_call_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(BadResponse):
        parse(body)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = "slug price_hourly regions memory vcpus disk available gpu_info".split()


@given(changes=st.dictionaries(st.sampled_from(_FIELDS), _json, max_size=4))
def test_no_value_of_any_field_raises_or_makes_an_impossible_offer(changes: Any) -> None:
    rows, _ = parse([size(**changes)])
    for row in rows:
        assert row.price.compute > 0
        assert row.gpu_count >= 1
        msgspec.json.encode(row)
