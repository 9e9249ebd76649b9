"""A plan leaves out what cannot be had, and refuses what makes no sense."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import structs

from gpubroker.fleet.errors import BidTooHigh
from gpubroker.fleet.launching import _shares_cause
from gpubroker.fleet.planning import lacking, plan
from gpubroker.fleet.quotas import quotas_of
from gpubroker.fleet.requests import LaunchRequest, Plan
from gpubroker.model.errors import Invalid, QuotaExceeded, Unavailable
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer
from gpubroker.model.query import Query
from gpubroker.model.quota import Quota
from gpubroker.model.terms import Market
from gpubroker.providers.bounds import BEYOND_BOUNDS
from gpubroker.testing.fake_cloud import FakeCloud, FakeProvider, Switches

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
STOCK = FakeCloud().stock
SPOT, NORTH, SOUTH = (STOCK[f"4090-{where}"] for where in ("spot", "north", "south"))


def planned(*offers: Offer, bid: float | None = None, **more: Any) -> Plan:
    request = LaunchRequest(bid=None if bid is None else nanos(bid))
    return plan(offers, request, disk_gb=20, total=len(offers), now=NOW, cooldowns={}, **more)


class Clouds:
    """One account, whose answers can be made to fail."""

    def __init__(self, cloud: FakeCloud) -> None:
        self.only = FakeProvider(cloud)

    def provider(self, name: str, account: str) -> FakeProvider:
        return self.only

    def configured(self) -> tuple[tuple[str, str], ...]:
        return (("fake", "default"),)


def test_a_bid_at_the_on_demand_price_of_the_type_is_refused() -> None:
    assert planned(SPOT, bid=0.3, beside=(NORTH,)).ranked
    with pytest.raises(BidTooHigh, match=r"\$0.400/h is not below"):
        planned(SPOT, bid=0.4, beside=(NORTH,))
    # Another region's machine is another machine; so is a tier, a count, a cloud.
    assert planned(SPOT, bid=0.4, beside=(SOUTH,)).ranked
    for other in ({"tier": "secure"}, {"gpu_count": 2}, {"provider": "another"}):
        assert planned(SPOT, bid=0.4, beside=(structs.replace(NORTH, **other),)).ranked


def test_where_hosts_are_known_only_the_same_host_counts() -> None:
    spot, same = (structs.replace(one, host="h-1") for one in (SPOT, NORTH))
    with pytest.raises(BidTooHigh):
        planned(spot, bid=0.4, beside=(structs.replace(same, region="elsewhere"),))
    assert planned(spot, bid=0.4, beside=(structs.replace(same, host="h-2"), NORTH)).ranked


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, "quota: needs 1 gpus of p5, 4 of 4 used"),
        ({"unit": "machines"}, "quota: needs 1 machines of p5, 4 of 4 used"),
        ({"unit": "vcpus", "limit": 10.0}, "quota: needs 8 vcpus of p5, 4 of 10 used"),
        ({"limit": 5.0}, ""),
        ({"gpu": "RTX 4090", "region": "north"}, "quota: needs 1 gpus of p5, 4 of 4 used"),
        ({"gpu": "H100"}, ""),
        ({"region": "south"}, ""),
        ({"market": Market.SPOT}, ""),
    ],
)
def test_a_quota_leaves_out_what_counts_against_it(change: dict[str, Any], why: str) -> None:
    quota = structs.replace(Quota(bucket="p5", limit=4.0, used=4.0, unit="gpus"), **change)
    told = planned(NORTH, quotas={("fake", "default"): (quota,)})
    assert told.left_out == (((("fake_4090-north"), why),) if why else ())
    assert len(told.ranked) == (0 if why else 1)
    # Of another account it says nothing.
    assert planned(NORTH, quotas={("fake", "other"): (quota,)}).ranked


async def test_quotas_are_read_where_a_cloud_tells_them() -> None:
    cloud = FakeCloud(Switches(quota_gpus=8))
    cloud.plant()
    found = await quotas_of(Clouds(cloud), [NORTH, SPOT])
    [quota] = found["fake", "default"]
    assert (quota.limit, quota.used) == (8, 1)
    told = planned(STOCK["h100-north"], NORTH, quotas=found)
    assert told.left_out == (("fake_h100-north", "quota: needs 8 gpus of all GPUs, 1 of 8 used"),)
    assert cloud.count("quotas") == 1


async def test_one_that_does_not_answer_limits_nothing() -> None:
    cloud = FakeCloud(Switches(quota_gpus=8))
    cloud.script("quotas", "error", error=Unavailable)
    assert await quotas_of(Clouds(cloud), [NORTH]) == {("fake", "default"): ()}
    assert await quotas_of(Clouds(FakeCloud()), [NORTH]) == {("fake", "default"): ()}


async def test_the_imaginary_cloud_keeps_the_quota_that_it_tells(make_house: Any) -> None:
    house = make_house(quota_gpus=1)
    fleet = house.open()
    await house.launch(fleet)
    with pytest.raises(QuotaExceeded, match="1 of 1 used"):
        await house.launch(fleet, name="train-2")
    assert len(house.cloud.billed()) == 1


def test_a_cloud_where_gpubroker_does_not_log_in_is_rented_only_where_it_is_named() -> None:
    offers = tuple(
        structs.replace(NORTH, provider=name, key=f"k{at}")
        for at, name in enumerate(("salad", "salad", "vast_ai"))
    )

    def made(query: Query) -> Plan:
        request = LaunchRequest(query=query)
        return plan(offers, request, disk_gb=20, total=3, now=NOW, cooldowns={})

    usual = made(Query())
    assert [one.offer.provider for one in usual.ranked] == ["vast_ai"]
    ((which, why),) = usual.left_out
    assert which == "salad_k0"
    assert why.endswith("to take it all the same: --provider salad")
    for query in (Query(providers=("salad", "vast_ai")), Query(keys=("k0", "k1", "k2"))):
        assert len(made(query).ranked) == len(offers)


def test_a_price_in_another_currency_is_left_out_with_the_reason() -> None:
    rupees = structs.replace(NORTH, price=structs.replace(NORTH.price, quoted="INR"))
    made = planned(rupees, SOUTH)
    assert [one.offer.key for one in made.ranked] == [SOUTH.key]
    assert [why for _, why in made.left_out] == ["its price is in INR, which is not converted"]


@pytest.mark.parametrize(
    ("asked", "can", "why"),
    [
        ({"image": "a/b"}, {"image": "none"}, "runs no container images"),
        ({"ports": ((8080, "tcp"),)}, {"ports": "none"}, "opens no ports"),
        ({"registry_auth": "mine"}, {"registry_auth": False}, "takes no login"),
        ({}, {"image": "none", "ports": "none", "registry_auth": False}, ""),
    ],
)
def test_what_a_cloud_cannot_do_is_known_before_it_is_asked(
    asked: dict[str, Any], can: dict[str, Any], why: str
) -> None:
    capabilities = structs.replace(FakeProvider(FakeCloud()).capabilities, **can)
    assert lacking(LaunchRequest(**asked), capabilities).startswith(why)
    able = structs.replace(capabilities, image="container", ports="any_tcp", registry_auth=True)
    assert lacking(LaunchRequest(**asked), able) == ""


@pytest.mark.parametrize(("code", "kept"), [(BEYOND_BOUNDS, ["another"]), ("", [])])
def test_what_one_vendor_would_not_take_another_may(code: str, kept: list[str]) -> None:
    refusal = Invalid("too little disk", code=code)
    others = (structs.replace(SOUTH, provider="another"), SOUTH)
    left = [one.provider for one in others if not _shares_cause(one, NORTH, refusal)]
    assert left == kept
