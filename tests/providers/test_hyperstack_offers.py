"""Hyperstack's flavors and pricebook: what becomes an offer, at which price, with which image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpubroker.model.clock import SystemClock
from gpubroker.model.errors import BadResponse
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Availability, Market
from gpubroker.providers.hyperstack_market import (
    Flavor,
    Image,
    Images,
    Label,
    images_of,
    parse_offers,
    prices_of,
)

FIXTURES = Path(__file__).parent / "fixtures" / "hyperstack"
PRICES = prices_of((FIXTURES / "pricebook.json").read_bytes())
FLAVORS = json.loads((FIXTURES / "flavors.json").read_text())["data"]
NOW = SystemClock().now()

KNOWN = [
    ("H100-80G-PCIe", "H100", 80, "PCIe"),
    ("H100-80G-PCIe-NVLink", "H100", 80, "PCIe"),
    ("H100-80G-SXM5", "H100", 80, "SXM"),
    ("A100-80G-PCIe", "A100", 80, "PCIe"),
    ("A100-80G-PCIe-NVLink", "A100", 80, "PCIe"),
    ("A100-80G-SXM4", "A100", 80, "SXM"),
    ("L40", "L40", 48, "PCIe"),
    ("RTX-A6000", "A6000", 48, "PCIe"),
    ("RTX-A4000", "RTX A4000", 16, "PCIe"),
    ("H200-141G-SXM5", "H200", 141, "SXM"),
    ("B200-192G-SXM6", "B200", 180, "SXM"),
    ("RTX-PRO6000-SE", "RTX PRO 6000", 96, "Server"),
    ("A100-80G-PCIe-spot", "A100", 80, "PCIe"),
    ("RTX-A6000-spot", "A6000", 48, "PCIe"),
]
PLACES = [("CANADA-1", "CA"), ("NORWAY-1", "NO"), ("US-1", "US")]


def parse(groups: Any, prices: Any = PRICES) -> tuple[tuple[Offer, ...], Any]:
    body = groups if isinstance(groups, bytes) else json.dumps({"data": groups}).encode()
    return parse_offers(body, account="default", fetched_at=NOW, prices=prices, images={})


def group(region: str = "CANADA-1", **changes: Any) -> list[dict[str, Any]]:
    """The first flavor alone, with changes."""
    return [{"region_name": region, "flavors": [FLAVORS[0]["flavors"][0] | changes]}]


def test_a_flavor_costs_its_gpus_by_the_pricebook() -> None:
    rows, _ = parse(FLAVORS)
    assert {row.key: row.price.compute for row in rows} == {
        "n3-H100x1:CANADA-1": 1_900_000_000,
        "n3-H100x8:CANADA-1": 15_200_000_000,
        "n3-A100x2-spot:CANADA-1": 1_900_000_000,
        "n3-RTX-A4000x1:NORWAY-1": 150_000_000,
    }
    one = rows[0]
    assert (one.vcpus, one.ram_gb, one.disk_gb) == (28, 180, 100)
    assert (one.price.extras, one.price.disk_gb_stopped) == (5_000_000, 100_000)
    # The address is kept, and costs on.
    assert one.price.hourly_stopped(100) == 5_000_000 + 100 * 100_000
    assert rows[1].availability is Availability.NO


def test_a_spot_flavor_without_a_price_of_its_own_is_rejected_and_never_takes_the_other() -> None:
    rows, rejected = parse(FLAVORS)
    assert "n3-L40x1-spot:CANADA-1" not in {row.key for row in rows}
    assert [reason for _, reason in rejected] == ["no price"]
    assert {row.key for row in rows if row.market is Market.SPOT} == {"n3-A100x2-spot:CANADA-1"}


@pytest.mark.parametrize(("raw", "name", "memory_gb", "form"), KNOWN)
def test_every_gpu_that_the_vendor_lists_is_known(
    raw: str, name: str, memory_gb: float, form: str
) -> None:
    (row,), _ = parse(group(gpu=raw), {raw.upper(): 1})
    assert (row.gpu.name, row.gpu.memory_gb, row.gpu.form) == (name, memory_gb, form)


@pytest.mark.parametrize(("region", "country"), PLACES)
def test_every_region_has_its_country(region: str, country: str) -> None:
    (row,), _ = parse(group(region))
    assert (row.region, row.country) == (region, country)


@pytest.mark.parametrize("change", [{"name": None}, {"gpu_count": -1}, {"name": "a b"}], ids=str)
def test_a_bad_flavor_costs_only_itself(change: Any) -> None:
    rows, rejected = parse([*group(**change), *FLAVORS[2:3]])
    assert [row.key for row in rows] == ["n3-RTX-A4000x1:NORWAY-1"]
    assert len(rejected) == 1


def test_what_is_no_answer_is_bad() -> None:
    with pytest.raises(BadResponse):
        parse(b'{"status": true}')


def test_prices_may_be_text_and_a_bad_one_costs_only_itself() -> None:
    told = [{"name": "L40", "value": "1.00"}, {"name": "A", "value": "free"}, {"name": "B"}]
    assert prices_of(json.dumps(told).encode()) == {"L40": 1_000_000_000}


def test_the_newest_ubuntu_with_docker_is_the_image() -> None:
    names = (
        "Ubuntu Server 22.04 LTS R535 CUDA 12.2 with Docker",
        "Ubuntu Server 22.04 LTS R570 CUDA 12.8 with Docker",
        "Ubuntu Server 24.04 LTS R570 CUDA 12.8",
        "Windows Server 2099 with Docker CUDA 99",
    )
    there = Images("CANADA-1", tuple(Image(name, is_public=True) for name in names))
    assert images_of([there]) == {"CANADA-1": names[1]}


def test_an_image_of_the_accounts_own_is_nobodys_default() -> None:
    mine = Image("Ubuntu Server 26.04 with Docker CUDA 99, all that I have", is_public=False)
    theirs = Image("Ubuntu Server 22.04 LTS R535 CUDA 12.2", is_public=True)
    assert images_of([Images("CANADA-1", (mine, theirs))]) == {"CANADA-1": theirs.name}
    assert images_of([Images("US-1", (mine, Image("Ubuntu of whoever")))]) == {}


@pytest.mark.parametrize(
    ("flavor", "region", "can"),
    [
        (Flavor("a", "L40"), "CANADA-1", True),
        (Flavor("a", "RTX-A4000"), "NORWAY-1", False),
        (Flavor("a", "H100-80G-SXM5"), "CANADA-1", True),
        (Flavor("a", "H100-80G-SXM5"), "US-1", False),
        (Flavor("a", "L40", labels=(Label("no-hibernation"),)), "CANADA-1", False),
        (Flavor("a", "L40", features={"no_hibernation": True}), "CANADA-1", False),
    ],
)
def test_which_flavors_hibernate(flavor: Flavor, region: str, can: bool) -> None:
    assert flavor.hibernates(region) is can
