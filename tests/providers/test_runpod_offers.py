"""RunPod's market: what is asked, what is read, what is thrown out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.providers.scripted import connected

from gpubroker.market.coverage import covered_by
from gpubroker.model.clock import SystemClock
from gpubroker.model.errors import AuthFailed, BadResponse, Unavailable
from gpubroker.model.offer import Offer
from gpubroker.model.query import GpuWanted, Query
from gpubroker.model.terms import Availability, Market
from gpubroker.providers.runpod import RunPod
from gpubroker.providers.runpod_market import (
    COMMUNITY,
    SECURE,
    Asked,
    document,
    offer_key,
    overview,
    parse_offers,
    read_market,
)

Row = Callable[..., dict[str, Any]]
NOW = SystemClock().now()
YES, UNKNOWN, NO = Availability.YES, Availability.UNKNOWN, Availability.NO
ASKED = tuple(Asked(cloud, count) for cloud in (SECURE, COMMUNITY) for count in (1, 2))
KANSAS = {"id": "US-KS-2", "name": "US Kansas 2", "location": "US", "listed": True}
ROMANIA = {"id": "EU-RO-1", "name": "EU Romania 1", "location": "RO", "listed": True}


def has(stock: str | None, gpu: str = "NVIDIA GeForce RTX 4090") -> dict[str, Any]:
    return {"gpuAvailability": [{"gpuTypeId": gpu, "displayName": "x", "stockStatus": stock}]}


def told(row: Any, one: Any) -> dict[str, Any]:
    """Everything in stock, at list prices."""
    secure = one.cloud == SECURE
    return {
        "minimumBidPrice": 0.3 if secure else 0.18,
        "uninterruptablePrice": row["securePrice" if secure else "communityPrice"],
        "minVcpu": 8 * one.count,
        "minMemory": 31 * one.count,
        "stockStatus": "High",
    }


def sold_out(row: Any, one: Any) -> dict[str, Any]:
    return told(row, one) | {"stockStatus": None}


def parse(answer: Any, asked: Any = ASKED) -> tuple[dict[str, Offer], Any]:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    offers, rejected = parse_offers(read_market(body, asked), account="default", fetched_at=NOW)
    return {offer.key: offer for offer in offers}, rejected


def test_a_type_is_an_offer_for_each_cloud_count_center_and_market(
    gpu_type: Row, market_of: Row
) -> None:
    centers = [KANSAS | has("High"), ROMANIA | has("Low")]
    offers, rejected = parse(market_of(ASKED, [gpu_type()], told, centers))
    assert not rejected
    of_4090 = "NVIDIA_GeForce_RTX_4090"
    assert set(offers) == {
        f"{of_4090}:{count}:{sold}"
        for count in (1, 2)
        # A bid is told for the whole cloud: it need not be enough in each data center.
        for sold in ("secure:US-KS-2", "secure:EU-RO-1", "secure:any:spot",
                     "community:any", "community:any:spot")
    }  # fmt: skip
    offer = offers[f"{of_4090}:2:secure:US-KS-2"]
    assert (offer.gpu.name, offer.gpu.raw) == ("RTX 4090", "NVIDIA GeForce RTX 4090")
    assert (offer.gpu_count, offer.tier, offer.market) == (2, "secure", Market.ON_DEMAND)
    assert offer.price.compute == 1_380_000_000  # the vendor's price is of one GPU
    assert offer.price.disk_gb == 136_986  # $0.10 a month of 730 h
    assert offer.price.disk_gb_stopped == 0  # the container's disk ends with a stop
    assert (offer.vcpus, offer.ram_gb, offer.datacenter) == (16, 62, True)
    assert (offer.region, offer.country, offer.area) == ("US-KS-2", "US", "US-West")
    spot = offers[f"{of_4090}:2:community:any:spot"]
    assert (spot.price.compute, spot.region, spot.datacenter) == (360_000_000, "", False)


def test_stock_is_said_only_where_there_is_evidence(gpu_type: Row, market_of: Row) -> None:
    centers = [KANSAS | has("High"), ROMANIA | has("Low")]
    offers, _ = parse(market_of(ASKED, [gpu_type()], told, centers))
    stock = {key.removeprefix("NVIDIA_GeForce_RTX_4090:"): o.availability
             for key, o in offers.items()}  # fmt: skip
    assert stock["1:secure:US-KS-2"] is stock["1:secure:EU-RO-1"] is YES
    assert stock["2:secure:US-KS-2"] is stock["2:secure:EU-RO-1"] is UNKNOWN
    assert stock["2:community:any"] is YES
    assert stock["1:secure:any:spot"] is UNKNOWN  # no word says that a bid wins


def test_the_only_center_that_has_a_type_has_what_the_cloud_has(
    gpu_type: Row, market_of: Row
) -> None:
    centers = [KANSAS | has("High"), ROMANIA | has(None)]
    offers, _ = parse(market_of(ASKED, [gpu_type()], told, centers))
    assert offers["NVIDIA_GeForce_RTX_4090:2:secure:US-KS-2"].availability is YES
    assert not [key for key in offers if "EU-RO-1" in key]


def test_no_stock_status_is_no_stock_and_names_no_place(gpu_type: Row, market_of: Row) -> None:
    offers, _ = parse(market_of(ASKED, [gpu_type()], sold_out, [KANSAS | has("High")]))
    assert {offer.availability for offer in offers.values()} == {NO}
    assert {offer.region for offer in offers.values()} == {""}
    assert offers["NVIDIA_GeForce_RTX_4090:1:secure:any"].price.compute == 690_000_000


def test_a_null_price_object_is_no_stock_at_the_list_price(gpu_type: Row, market_of: Row) -> None:
    offers, _ = parse(market_of(ASKED, [gpu_type()], lambda *_: None))
    offer = offers["NVIDIA_GeForce_RTX_4090:2:community:any"]
    assert (offer.availability, offer.price.compute) == (NO, 680_000_000)
    assert (offer.vcpus, offer.ram_gb) == (None, None)


def test_an_unlisted_center_cannot_be_asked_for(gpu_type: Row, market_of: Row) -> None:
    centers = [KANSAS | has("High") | {"listed": False}]
    offers, _ = parse(market_of(ASKED, [gpu_type()], told, centers))
    assert offers["NVIDIA_GeForce_RTX_4090:1:secure:any"].availability is YES


@pytest.mark.parametrize(
    ("word", "meant"),
    [("High", YES), ("LOW", YES), ("medium", YES), ("", NO), ("None", NO), ("Plenty", UNKNOWN)],
)
def test_the_words_of_stock(gpu_type: Row, market_of: Row, word: str, meant: Availability) -> None:
    answer = market_of(ASKED, [gpu_type()], lambda *of: told(*of) | {"stockStatus": word})
    offers, _ = parse(answer)
    assert offers["NVIDIA_GeForce_RTX_4090:1:community:any"].availability is meant


def test_no_machine_has_more_gpus_than_its_clouds_largest(gpu_type: Row, market_of: Row) -> None:
    row = gpu_type(maxGpuCountSecureCloud=1, maxGpuCountCommunityCloud=None, minPodGpuCount=1)
    offers, _ = parse(market_of(ASKED, [row], told))
    assert {offer.gpu_count for offer in offers.values()} == {1}
    offers, _ = parse(market_of(ASKED, [gpu_type(minPodGpuCount=2)], told))
    assert {offer.gpu_count for offer in offers.values()} == {2}


def test_a_cloud_that_does_not_sell_a_type_has_no_offer(gpu_type: Row, market_of: Row) -> None:
    offers, _ = parse(market_of(ASKED, [gpu_type(secureCloud=False)], told))
    assert {offer.tier for offer in offers.values()} == {"community"}
    none = gpu_type(id="NVIDIA A30", secureCloud=False, communityCloud=False)
    assert parse(market_of(ASKED, [none], told)) == ({}, ())


def test_a_type_without_a_price_is_rejected_never_free(gpu_type: Row, market_of: Row) -> None:
    row = gpu_type(
        securePrice=None, communityPrice=0, secureSpotPrice=None, communitySpotPrice=None
    )
    offers, rejected = parse(market_of(ASKED, [row], lambda *_: None))
    assert (offers, [reason for _, reason in rejected]) == ({}, ["no price"])


NAMES = [
    ("NVIDIA  RTX A4500", 20, "RTX A4500", 1.0),
    ("NVIDIA  A30", 24, "A30", 1.0),
    ("NVIDIA GeForce RTX 3080TI", 12, "RTX 3080 Ti", 1.0),
    ("NVIDIA H100 80GB HBM3", 80, "H100", 1.0),
    ("NVIDIA H200", 141, "H200", 1.0),
    ("NVIDIA B300 SXM6 AC", 288, "B300", 1.0),
    ("AMD Instinct MI300X OAM", 192, "MI300X", 1.0),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition MIG 1g.24gb", 24, "RTX PRO 6000", 0.25),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition MIG 2g.48gb", 48, "RTX PRO 6000", 0.5),
    ("Frobnicator 9000", 96, None, 1.0),
]


@pytest.mark.parametrize(("raw", "gb", "name", "fraction"), NAMES)
def test_the_vendors_names(
    gpu_type: Row, market_of: Row, raw: str, gb: int, name: str | None, fraction: float
) -> None:
    offers, _ = parse(market_of(ASKED, [gpu_type(id=raw, memoryInGb=gb)], told))
    offer = next(iter(offers.values()))
    assert (offer.gpu.name, offer.gpu.raw) == (name, raw)
    assert (offer.gpu.memory_gb, offer.gpu.fraction) == (gb, fraction)


def test_the_form_of_an_h100_is_told_apart(gpu_type: Row, market_of: Row) -> None:
    forms = {"NVIDIA H100 80GB HBM3": "SXM", "NVIDIA H100 PCIe": "PCIe", "NVIDIA H100 NVL": "NVL"}
    types = [gpu_type(id=name, memoryInGb=80) for name in forms]
    offers, _ = parse(market_of(ASKED, types, told))
    assert {offer.gpu.raw: offer.gpu.form for offer in offers.values()} == forms


def test_unknown_names_no_gpu(gpu_type: Row, market_of: Row) -> None:
    assert parse(market_of(ASKED, [gpu_type(id="unknown", memoryInGb=0)], told)) == ({}, ())


def test_a_center_spells_an_id_with_one_space_less(gpu_type: Row, market_of: Row) -> None:
    types = [gpu_type(id="NVIDIA  RTX A4500", memoryInGb=20)]
    offers, _ = parse(market_of(ASKED, types, told, [KANSAS | has("Low", "NVIDIA RTX A4500")]))
    assert offers["NVIDIA__RTX_A4500:1:secure:US-KS-2"].gpu.raw == "NVIDIA  RTX A4500"


@given(one=st.text(max_size=40), other=st.text(max_size=40))
def test_keys_are_safe_in_urls_and_differ_where_ids_do(one: str, other: str) -> None:
    keys = [offer_key(raw, 1, SECURE, "US-KS-2", Market.SPOT) for raw in (one, other)]
    assert all(re.fullmatch(r"[A-Za-z0-9._~:-]*", key) for key in keys)
    assert (keys[0] == keys[1]) == (one == other)


@pytest.mark.parametrize(
    "change",
    [
        {"id": None}, {"id": "x" * 300}, {"memoryInGb": -1}, {"memoryInGb": "24"},
        {"secureCloud": "yes"}, {"maxGpuCountSecureCloud": 2.5}, {"securePrice": -0.1},
        {"securePrice": "0.69"}, {"securePrice": float("nan")}, {"communityPrice": 2_000_000},
        {"p0": "High"}, {"p1": {"stockStatus": 3}}, {"p1": {"minVcpu": -1}},
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_row_is_rejected_with_a_reason_and_costs_only_itself(
    gpu_type: Row, market_of: Row, change: dict[str, Any]
) -> None:
    good = [gpu_type(id=name) for name in ("NVIDIA A40", "NVIDIA L4")]
    answer = market_of(ASKED, [good[0], gpu_type(), good[1]], told)
    answer["data"]["gpuTypes"][1] |= change
    offers, rejected = parse(answer)
    assert {offer.gpu.raw for offer in offers.values()} == {"NVIDIA A40", "NVIDIA L4"}
    ((raw, reason),) = rejected
    assert reason
    assert len(raw) <= 200


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"[]", b"{}", b'{"data": null}', b'{"data": {}}', b'{"data": [1]}',
        b'{"data": {"gpuTypes": null}}', b'{"data": {"gpuTypes": [], "dataCenters": 7}}', b"\xff",
    ],
)  # fmt: skip
def test_what_is_no_market_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(BadResponse):
        parse(body)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = (
    "id memoryInGb secureCloud maxGpuCountSecureCloud securePrice minPodGpuCount p0 p3".split()
)


@given(changes=st.dictionaries(st.sampled_from(_FIELDS), _json, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_of_any_field_raises_or_makes_an_impossible_offer(
    gpu_type: Row, market_of: Row, changes: dict[str, Any]
) -> None:
    answer = market_of(ASKED, [gpu_type()], told)
    answer["data"]["gpuTypes"][0] |= changes
    offers, _ = parse(answer)
    for offer in offers.values():
        assert offer.price.compute > 0
        assert offer.gpu_count >= 1


# What is asked


def test_one_request_asks_all_counts_of_both_clouds_with_real_variables() -> None:
    asked = overview(Query())
    body = document(asked)
    assert len(asked) == 16
    assert body["variables"]["p0"] == {"gpuCount": 1, "secureCloud": True}
    assert body["variables"]["p15"] == {
        "gpuCount": 8, "secureCloud": False, "supportPublicIp": True,
    }  # fmt: skip
    assert "p15: lowestPrice(input: $p15) {" in body["query"]
    assert "true" not in body["query"]
    assert '"' not in body["query"]


def test_more_gpus_than_usual_are_asked_about_only_where_wanted() -> None:
    assert max(one.count for one in overview(Query(gpus=(GpuWanted("H100", count=10),)))) == 10
    assert max(one.count for one in overview(Query(min_count=4000))) == 8


async def pages_of(runpod: Any, query: Query) -> list[Any]:
    return [page async for page in runpod.offers(query)]


async def test_a_search_is_one_request_without_a_key_and_covers_everything(
    scripted: Any, gpu_type: Row, market_of: Row
) -> None:

    runpod = connected(RunPod, scripted, {})
    scripted.says(
        "POST /graphql", market_of(overview(Query()), [gpu_type()], told, [KANSAS | has("High")])
    )
    (page,) = await pages_of(runpod, Query(gpus=(GpuWanted("RTX 4090"),), market=Market.SPOT))
    assert (page.complete, page.covers) == (True, None)
    assert {offer.market for offer in page.rows} == set(Market) - {Market.RESERVED}
    (request,) = scripted.requests
    assert (request.method, request.url.path) == ("POST", "/graphql")
    assert "authorization" not in request.headers
    with pytest.raises(AuthFailed):
        await runpod.whoami()
    assert len(scripted.requests) == 1


async def test_one_count_of_several_is_asked_again_center_by_center(
    runpod: Any, scripted: Any, gpu_type: Row, market_of: Row
) -> None:
    query = Query(min_count=4, max_count=4)
    centers = [KANSAS | has("High"), ROMANIA | has("Low")]
    near = (Asked(SECURE, 4, "EU-RO-1"), Asked(SECURE, 4, "US-KS-2"))
    scripted.says("POST /graphql", market_of(overview(query), [gpu_type()], told, centers))
    scripted.then(
        "POST /graphql", market_of(near, [gpu_type()], lambda row, one: told(row, one) | {
            "stockStatus": "Low" if one.center == "US-KS-2" else None, "minVcpu": 99
        })
    )  # fmt: skip
    whole, close = await pages_of(runpod, query)
    assert scripted.body()["variables"] == {
        "p0": {"gpuCount": 4, "secureCloud": True, "dataCenterId": "EU-RO-1"},
        "p1": {"gpuCount": 4, "secureCloud": True, "dataCenterId": "US-KS-2"},
    }
    key = "NVIDIA_GeForce_RTX_4090:4:secure:"
    first = {offer.key: offer for offer in whole.rows}
    then = {offer.key: offer for offer in close.rows}
    assert first[key + "US-KS-2"].availability is first[key + "EU-RO-1"].availability is UNKNOWN
    assert then[key + "US-KS-2"].availability is YES
    assert then[key + "EU-RO-1"].availability is NO
    assert then[key + "US-KS-2"].vcpus == 99
    sure = covered_by(close.covers)
    assert all(sure(offer) for offer in close.rows)
    assert not any(sure(offer) for offer in whole.rows if offer.gpu_count != 4)


@pytest.mark.parametrize(
    "query", [Query(min_count=2), Query(min_count=1, max_count=1), Query(max_count=4),
              Query(min_count=4, max_count=4, tier="community")]
)  # fmt: skip
async def test_a_second_request_is_made_for_nothing_else(
    runpod: Any, scripted: Any, gpu_type: Row, market_of: Row, query: Query
) -> None:
    centers = [KANSAS | has("High"), ROMANIA | has("Low")]
    scripted.says("POST /graphql", market_of(overview(query), [gpu_type()], told, centers))
    assert len(await pages_of(runpod, query)) == 1


async def test_what_the_first_request_told_stays_where_the_second_fails(
    runpod: Any, scripted: Any, gpu_type: Row, market_of: Row
) -> None:
    query = Query(min_count=4, max_count=4)
    scripted.says(
        "POST /graphql", market_of(overview(query), [gpu_type()], told, [KANSAS | has("High")])
    )
    scripted.then("POST /graphql", b"", status=503)
    pages = []
    with pytest.raises(Unavailable):
        async for page in runpod.offers(query):
            pages.append(page)  # noqa: PERF401 - those before the failure are looked at
    assert [page.complete for page in pages] == [True]


async def test_machines_with_more_gpus_than_asked_about_are_not_covered(
    runpod: Any, scripted: Any, gpu_type: Row, market_of: Row
) -> None:
    row = gpu_type(maxGpuCountCommunityCloud=10)
    scripted.says("POST /graphql", market_of(overview(Query()), [row], told))
    (page,) = await pages_of(runpod, Query())
    assert page.covers == Query(max_count=8, strict=True)
    wide = Query(min_count=10)
    scripted.says("POST /graphql", market_of(overview(wide), [row], told))
    (page,) = await pages_of(runpod, wide)
    assert page.covers is None
    assert max(offer.gpu_count for offer in page.rows) == 10


async def test_an_answer_with_failures_beside_its_data_is_not_complete(
    runpod: Any, scripted: Any, gpu_type: Row, market_of: Row
) -> None:
    answer = market_of(overview(Query()), [gpu_type()], told)
    scripted.says(
        "POST /graphql",
        answer | {"errors": [{"message": "Timeout", "path": ["gpuTypes", 0, "p3"]}]},
    )
    (page,) = await pages_of(runpod, Query())
    assert (bool(page.rows), page.complete) == (True, False)


async def test_an_answer_of_mostly_bad_rows_is_not_complete(
    runpod: Any, scripted: Any, gpu_type: Row, market_of: Row
) -> None:
    rows = [gpu_type(), gpu_type(id="NVIDIA L4", securePrice="dear")]
    scripted.says("POST /graphql", market_of(overview(Query()), rows, told))
    (page,) = await pages_of(runpod, Query())
    assert (bool(page.rows), len(page.rejected), page.complete) == (True, 1, False)


async def test_no_data_is_a_refusal_with_the_vendors_words(runpod: Any, scripted: Any) -> None:
    scripted.says("POST /graphql", {"errors": [{"message": "Too busy"}], "data": None})
    with pytest.raises(BadResponse, match="Too busy"):
        await pages_of(runpod, Query())
