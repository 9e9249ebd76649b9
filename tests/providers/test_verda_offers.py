"""Verda's types: what becomes an offer, where it is free, what is left or thrown out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpubroker.model.clock import SystemClock
from gpubroker.model.errors import BadResponse
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Availability, Kind, Market
from gpubroker.providers.verda_market import (
    DEFAULT_IMAGE,
    DiskPrice,
    Location,
    Stock,
    Stocked,
    VolumeType,
    disk_price,
    parse_offers,
)

FIXTURES = Path(__file__).parent / "fixtures" / "verda"
TYPES = json.loads((FIXTURES / "types.json").read_text())
H100 = TYPES[0]
NOW = SystemClock().now()
DISK = nanos(0.2 / 730)

KNOWN = [
    ("B200 SXM6 180GB", 180, "B200", 180, "SXM"),
    ("B300 SXM6 268GB", 268, "B300", 288, "SXM"),
    ("GB300 SXM6 288GB", 288, "GB300", 288, "onboard"),
    ("H200 SXM5 141GB", 141, "H200", 141, "SXM"),
    ("H100 SXM5 80GB", 80, "H100", 80, "SXM"),
    ("A100 SXM4 80GB", 80, "A100", 80, "SXM"),
    ("A100 SXM4 40GB", 40, "A100", 40, "SXM"),
    ("RTX6000 Ada 48GB", 48, "RTX 6000 Ada", 48, "PCIe"),
    ("RTX 6000 Ada 48GB", 48, "RTX 6000 Ada", 48, "PCIe"),
    ("RTX PRO 6000 96GB", 96, "RTX PRO 6000", 96, ""),
    ("RTX A6000 48GB", 48, "A6000", 48, "PCIe"),
    ("Tesla V100 16GB", 16, "V100", 16, ""),
    ("L40S 48GB", 48, "L40S", 48, "PCIe"),
    ("AMD 7900XTX", 24, "RX 7900 XTX", 24, "PCIe"),
]
PLACES = [
    ("FIN-01", "Finland 1", "FI", "FI", "Europe"),
    ("ICE-01", "Iceland 1", "IS", "IS", "Europe"),
    ("FIN-03", "", None, "FI", "Europe"),
    ("ICL-01", "", None, "IS", "Europe"),
]


def stock(spot: Any = (), on_demand: Any = (("FIN-03", ("1H100.80S.30V",)),)) -> Stock:
    free = {
        Market.ON_DEMAND: [Stocked(*row) for row in on_demand],
        Market.SPOT: [Stocked(*row) for row in spot],
    }
    return Stock(free, {"FIN-03": Location("FIN-03", "Finland 3", "FI")}, DISK)


def parse(
    body: Any, told: Stock | None = None
) -> tuple[tuple[Offer, ...], tuple[tuple[str, str], ...]]:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_offers(sent, account="default", fetched_at=NOW, stock=told)


def gpus(**changes: Any) -> dict[str, Any]:
    return {"gpu": H100["gpu"] | changes}


def test_a_type_is_one_offer_for_each_market_and_place() -> None:
    told = stock(
        spot=(("ICE-01", ("1H100.80S.30V",)),),
        on_demand=(("FIN-01", ("CPU.4V.16G",)), ("FIN-03", ("1H100.80S.30V", "1V100.6V"))),
    )
    (offer, spot), rejected = parse([H100], told)
    assert rejected == ()
    assert (offer.key, offer.region) == ("1H100.80S.30V:on_demand:FIN-03", "FIN-03")
    assert (offer.kind, offer.market) == (Kind.VM, Market.ON_DEMAND)
    assert offer.availability is Availability.YES
    assert (offer.price.compute, offer.price.disk_gb) == (nanos("1.99"), DISK)
    assert (offer.vcpus, offer.ram_gb, offer.disk_gb) == (30, 120, None)
    assert (offer.country, offer.area, offer.arch) == ("FI", "Europe", "x86_64")
    assert (spot.key, spot.market) == ("1H100.80S.30V:spot:ICE-01", Market.SPOT)
    assert (spot.price.compute, spot.country) == (nanos("0.98"), "IS")


def test_what_is_sold_out_is_told_once_and_without_a_place() -> None:
    (offer, spot), _ = parse([H100], stock(on_demand=()))
    assert (offer.key, offer.region) == ("1H100.80S.30V:on_demand", "")
    assert offer.availability is spot.availability is Availability.NO


def test_without_a_key_prices_are_told_and_not_what_is_free() -> None:
    offers, rejected = parse(TYPES)
    assert rejected == ()
    assert {offer.availability for offer in offers} == {Availability.UNKNOWN}
    assert {offer.region for offer in offers} == {""}


def test_prices_are_of_the_whole_machine_and_memory_is_of_one_gpu() -> None:
    eight = next(offer for offer in parse(TYPES)[0] if offer.gpu_count == 8)
    assert (eight.gpu.memory_gb, eight.price.compute) == (80, nanos("15.92"))


def test_a_type_without_a_spot_price_is_sold_on_demand_only() -> None:
    for none in (None, 0, "0.00"):
        offers, rejected = parse([H100 | {"spot_price": none}])
        assert [offer.market for offer in offers] == [Market.ON_DEMAND]
        assert rejected == ()


def test_types_without_gpu_are_left_out() -> None:
    assert parse([TYPES[-1]]) == ((), ())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"price_per_hour": "free"}, "no price"),
        ({"price_per_hour": "NaN"}, "no price"),
        ({"price_per_hour": -1}, "no price"),
        ({"price_per_hour": 0}, "no price"),
        ({"price_per_hour": None}, "float | str"),
        ({"currency": "eur"}, "another currency"),
        ({"gpu": None}, "gpu"),
        ({"gpu": {"description": "1x H100"}}, "number_of_gpus"),
        ({"instance_type": "a b"}, "another form"),
        ({"instance_type": None}, "instance_type"),
    ],
)
def test_a_row_that_is_none_is_put_aside_and_costs_no_other(
    changes: dict[str, Any], reason: str
) -> None:
    offers, rejected = parse([H100 | changes | {"spot_price": None}, TYPES[1]])
    assert {offer.gpu_count for offer in offers} == {8}
    assert len(rejected) == 1
    assert reason in rejected[0][1]


def test_a_gpu_that_nobody_knows_keeps_its_name() -> None:
    (offer, *_), _ = parse([H100 | gpus(description="1x Q900 SXM9 500GB")])
    assert (offer.gpu.name, offer.gpu.raw) == (None, "Q900 SXM9 500GB")


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"17", b"<html>", b'{"code": "x"}'])
def test_what_is_no_list_is_no_answer(body: bytes) -> None:
    with pytest.raises(BadResponse):
        parse(body)


@pytest.mark.parametrize(("raw", "memory", "name", "gb", "form"), KNOWN)
def test_every_gpu_of_the_vendors_list_is_known(
    raw: str, memory: int, name: str, gb: float, form: str
) -> None:
    row = H100 | {
        "gpu": {"description": f"2x {raw}", "number_of_gpus": 2},
        "gpu_memory": {"size_in_gigabytes": 2 * memory},
    }
    gpu = parse([row])[0][0].gpu
    assert (gpu.raw, gpu.name, gpu.memory_gb, gpu.form) == (raw, name, gb, form)


@pytest.mark.parametrize(("code", "name", "country", "found", "area"), PLACES)
def test_every_place_is_known_with_and_without_its_words(
    code: str, name: str, country: str | None, found: str, area: str
) -> None:
    free = {Market.ON_DEMAND: [Stocked(code, ("1H100.80S.30V",))]}
    places = {code: Location(code, name, country)} if name else {}
    offer = parse([H100], Stock(free, places))[0][0]
    assert (offer.region, offer.country, offer.area) == (code, found, area)


def test_boards_with_a_cpu_of_their_own_are_arm64() -> None:
    arch = {offer.gpu.name: offer.arch for offer in parse(TYPES)[0]}
    assert arch == {"H100": "x86_64", "V100": "x86_64", "GB300": "arm64"}


@pytest.mark.parametrize(
    ("told", "image"),
    [
        (None, DEFAULT_IMAGE),
        (["ubuntu-26.04-cuda-14.0-open-docker", DEFAULT_IMAGE], DEFAULT_IMAGE),
        (
            ["ubuntu-22.04-cuda-12.0-docker", "ubuntu-22.04-cuda-11.8-docker", "ubuntu-24.04"],
            "ubuntu-22.04-cuda-12.0-docker",
        ),
        (["ubuntu-24.04-cuda-12.8-open"], ""),
    ],
)
def test_the_usual_image_has_docker_and_fits_the_type(told: Any, image: str) -> None:
    offer = parse([H100 | {"supported_os": told}])[0][0]
    assert offer.launch == {"image": image}


def test_a_disk_is_priced_by_the_month_and_in_usd_alone() -> None:
    nvme = VolumeType("NVMe", DiskPrice(0.2))
    assert disk_price([VolumeType("HDD", DiskPrice(0.05)), nvme]) == DISK
    assert disk_price([VolumeType("NVMe", DiskPrice(0.2, "eur"))]) == 0
    assert disk_price([]) == 0


def test_offers_survive_their_own_json() -> None:
    for offer in parse(TYPES, stock())[0]:
        assert msgspec.json.decode(msgspec.json.encode(offer), type=Offer) == offer
