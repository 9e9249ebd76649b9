"""Vast.ai's search: what is asked, what is read, what is thrown out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubroker.market.book import Segment
from gpubroker.model.clock import SystemClock
from gpubroker.model.errors import BadResponse, Invalid
from gpubroker.model.offer import Offer
from gpubroker.model.query import GpuWanted, Query
from gpubroker.model.terms import Availability, Market
from gpubroker.providers.vast_ai_market import parse_offers, search

Ask = Callable[..., dict[str, Any]]
NOW = SystemClock().now()


def parse(
    rows: Any, market: Market = Market.ON_DEMAND, **required: Any
) -> tuple[tuple[Offer, ...], tuple[tuple[str, str], ...]]:
    body = rows if isinstance(rows, bytes) else json.dumps({"offers": rows}).encode()
    return parse_offers(body, account="default", market=market, fetched_at=NOW, required=required)


def test_a_row_becomes_an_offer_by_component(ask: Ask) -> None:
    (offer,), rejected = parse([ask()])
    assert not rejected
    assert (offer.key, offer.market, offer.gpu_count) == ("4711", Market.ON_DEMAND, 2)
    assert (offer.gpu.name, offer.gpu.memory_gb) == ("RTX 4090", 24.0)
    assert offer.price.compute == 720_000_000
    assert offer.price.disk_gb == offer.price.disk_gb_stopped == 200_000  # 0.144 / 720 h
    assert (offer.price.egress_gb, offer.price.ingress_gb) == (2_000_000, 1_000_000)
    assert (offer.vcpus, offer.ram_gb) == (32.0, 130.0)  # its share of the machine's 256 GB
    assert (offer.disk_gb, offer.disk_max_gb) == (None, 900.0)
    assert (offer.region, offer.country, offer.area) == ("Texas, US", "US", "US-West")
    assert (offer.host, offer.max_hours, offer.min_cuda) == ("55", 100.0, "12.8")
    assert (offer.availability, offer.tier) == (Availability.YES, "verified")


def test_spot_is_priced_by_its_lowest_bid(ask: Ask) -> None:
    (offer,), _ = parse([ask()], Market.SPOT)
    assert (offer.key, offer.market, offer.price.compute) == ("4711:spot", Market.SPOT, 310_000_000)


def test_a_gpu_that_the_catalog_does_not_know_is_kept_by_its_raw_name(ask: Ask) -> None:
    (offer,), _ = parse([ask(gpu_name="Frobnicator 9000", gpu_ram=98304)])
    assert (offer.gpu.name, offer.gpu.raw) == (None, "Frobnicator 9000")


def test_missing_figures_are_unknown_not_zero(ask: Ask) -> None:
    row = ask()
    paid = ("dph_base", "storage_cost", "inet_up_cost", "inet_down_cost")
    kept = ("id", "gpu_name", "num_gpus", "gpu_ram", *paid)
    (offer,), rejected = parse([{name: row[name] for name in kept}])
    assert not rejected
    assert offer.availability is Availability.UNKNOWN
    assert (offer.vcpus, offer.ram_gb, offer.reliability, offer.country) == (None,) * 4
    assert offer.area == "Global"


@pytest.mark.parametrize(
    "change",
    [
        {"id": "4711"},
        {"id": -1},
        {"id": True},
        {"num_gpus": 0},
        {"num_gpus": 2.5},
        {"num_gpus": -2},
        {"dph_base": -0.1},
        {"inet_up_cost": None},
        {"dph_base": None},
        {"dph_base": "0.72"},
        {"dph_base": float("nan")},
        {"dph_base": float("inf")},
        {"dph_base": 0},
        {"dph_base": 2_000_000},
        {"storage_cost": -1},
        {"storage_cost": float("nan")},
        {"gpu_name": None},
        {"gpu_name": ""},
        {"gpu_name": "x" * 10_000_000},
        {"geolocation": ["Texas"]},
        {"geolocation": "x" * 10_000_000},
        {"verification": "blessed"},
        {"gpu_arch": "quantum"},
        {"reliability2": 1.5},
        {"cpu_cores_effective": float("-inf")},
        {"rentable": "yes"},
        {"duration": -5},
    ],
    ids=lambda change: ",".join(f"{k}={str(v)[:8]}" for k, v in change.items()),
)
def test_a_bad_row_is_rejected_with_a_reason_and_costs_only_itself(
    ask: Ask, change: dict[str, Any]
) -> None:
    rows, rejected = parse([ask(id=1), ask() | change, ask(id=3)])
    assert [offer.key for offer in rows] == ["1", "3"]
    ((raw, reason),) = rejected
    assert reason
    assert len(raw) <= 200


def test_a_row_that_is_no_object_is_rejected(ask: Ask) -> None:
    rows, rejected = parse([ask(), None, 7, "x" * 10_000, [1]])
    assert (len(rows), len(rejected)) == (1, 4)


def test_a_row_with_a_very_deep_field_costs_no_more_than_a_bad_response(ask: Ask) -> None:
    deep = "[" * 50_000 + "]" * 50_000
    body = json.dumps({"offers": [ask(deep=0)]}).replace('"deep": 0', f'"deep": {deep}').encode()
    with pytest.raises(BadResponse):
        parse(body)


def test_a_number_too_long_to_be_one_rejects_its_row(ask: Ask) -> None:
    body = json.dumps({"offers": [ask(id=1), ask(id=0)]}).replace('"id": 0', f'"id": {"9" * 400}')
    rows, rejected = parse(body.encode())
    assert ([offer.key for offer in rows], len(rejected)) == (["1"], 1)


def test_the_second_of_two_equal_ids_is_rejected(ask: Ask) -> None:
    rows, rejected = parse([ask(), ask(dph_base=0.1)])
    assert [offer.price.compute for offer in rows] == [720_000_000]
    assert rejected[0][1] == "duplicate id"


def test_rows_outside_what_was_asked_are_thrown_out_again(ask: Ask) -> None:
    rows, rejected = parse(
        [ask(id=1), ask(id=2, rentable=False), ask(id=3, verification="deverified")],
        rentable=True,
        verification="verified",
    )
    assert [offer.key for offer in rows] == ["1"]
    assert {reason for _, reason in rejected} == {
        "outside the query: rentable",
        "outside the query: verification",
    }


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"offers": 7}', b"[" * 100_000, b'{"offers": [{', b"\xff"],
)
def test_what_is_no_search_answer_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(BadResponse):
        parse(body)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = (
    "id gpu_name num_gpus gpu_ram dph_base storage_cost cpu_ram cpu_cores cpu_cores_effective"
    " duration geolocation cuda_max_good"
).split()


@given(changes=st.dictionaries(st.sampled_from(_FIELDS), _json, max_size=4))
def test_no_value_of_any_field_raises_or_makes_an_impossible_offer(changes: dict[str, Any]) -> None:
    good = {"id": 1, "gpu_name": "H100 SXM", "num_gpus": 1, "gpu_ram": 81559.0, "dph_base": 2.0,
            "storage_cost": 0.1, "cpu_ram": 64000, "cpu_cores": 8, "cpu_cores_effective": 8.0,
            "duration": 10.0, "geolocation": "SE", "cuda_max_good": 12.4}  # fmt: skip
    rows, rejected = parse([good | changes])
    assert len(rows) + len(rejected) == 1
    for offer in rows:
        assert offer.price.compute > 0
        assert offer.price.disk_gb >= 0
        assert offer.gpu_count >= 1
        msgspec.json.encode(offer)


@given(body=st.binary(max_size=200))
def test_any_bytes_are_parsed_or_a_bad_response(body: bytes) -> None:
    try:
        parse(body)
    except BadResponse:
        return


# What is asked


def test_the_search_states_the_vendors_own_defaults() -> None:
    asked = search(Query(), Market.ON_DEMAND)
    assert asked.body == {
        "verified": {"eq": True},
        "external": {"eq": False},
        "rentable": {"eq": True},
        "type": "on-demand",
        "order": [["dph_total", "asc"]],
        "allocated_storage": 5.0,
        "limit": 3000,
    }
    assert asked.covers == Query(market=Market.ON_DEMAND, strict=True)


def test_filters_are_pushed_down_in_the_vendors_units() -> None:
    query = Query(
        min_count=2, max_count=8, min_vram_gb=24, min_reliability=0.9, min_hours=4,
        min_compute_capability=8.9, disk_gb=100, min_down_mbps=500, vendors=("nvidia",),
    )  # fmt: skip
    asked = search(query, Market.SPOT)
    assert asked.body["type"] == "bid"
    assert asked.body["num_gpus"] == {"gte": 2, "lte": 8}
    assert asked.body["gpu_ram"]["gte"] <= 24564  # what a 24 GB card reports
    assert asked.body["reliability"] == {"gte": 0.9}
    assert asked.body["duration"] == {"gte": 14400}
    assert asked.body["compute_cap"] == {"gte": 890}
    assert asked.body["allocated_storage"] == 100
    assert asked.covers.vendors == ()  # not pushed down, so not claimed


def test_a_search_by_names_covers_exactly_the_spellings_it_asked_for() -> None:
    asked = search(Query(gpus=(GpuWanted("RTX 4070 SUPER"),)), Market.ON_DEMAND)
    assert asked.body["gpu_name"] == {"in": ["RTX 4070S"]}
    assert asked.covers.gpus == (GpuWanted("RTX 4070S"),)


async def test_a_page_by_names_is_complete_so_that_a_sold_offer_leaves_the_book(
    vast: Any, scripted: Any, clock: Any, ask: Ask
) -> None:
    a100 = {"gpu_name": "A100 SXM4", "gpu_ram": 81920}
    rows = [ask(id=1), ask(id=2, **a100), ask(id=3, gpu_name="RTX 4090D")]
    everything, named = (
        Query(market=Market.ON_DEMAND),
        Query(market=Market.ON_DEMAND, gpus=(GpuWanted("RTX 4090"),)),
    )
    segment = Segment("vast_ai")
    for query, answer in ((everything, rows), (named, [])):
        scripted.says("POST /api/v0/bundles/", {"offers": answer})
        pages = [page async for page in vast.offers(query)]
        assert all(page.complete for page in pages)
        at = clock.now()
        segment = segment.refreshed(pages, asked=query, at=at, whole=True)
    assert [offer.key for offer in segment.offers] == ["2", "3"]


def test_a_name_that_their_list_lacks_is_not_pushed_down() -> None:
    query = Query(gpus=(GpuWanted("RTX 4090"), GpuWanted("Frobnicator 9000")))
    assert "gpu_name" not in search(query, Market.ON_DEMAND).body


def test_keys_ask_for_exactly_these_offers() -> None:
    asked = search(Query(keys=("12", "13:spot")), Market.SPOT)
    assert asked.body["id"] == {"in": [12, 13]}


def test_options_are_typed_and_override_the_defaults() -> None:
    options = (("vast_ai", "verified", "any"), ("vast_ai", "min_direct_ports", "3"),
               ("runpod", "cloud", "secure"))  # fmt: skip
    asked = search(Query(options=options), Market.ON_DEMAND)
    assert "verified" not in asked.body
    assert asked.body["direct_port_count"] == {"gte": 3}
    assert asked.required == {"external": False, "rentable": True}


@pytest.mark.parametrize(("name", "value"), [("verfied", "true"), ("verified", "perhaps"),
                                             ("min_direct_ports", "many")])  # fmt: skip
def test_an_option_that_is_none_names_itself(name: str, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        search(Query(options=(("vast_ai", name, value),)), Market.ON_DEMAND)
    assert caught.value.field == f"vast_ai.{name}"


async def test_both_markets_are_asked_one_page_each(vast: Any, scripted: Any, ask: Ask) -> None:
    scripted.says("POST /api/v0/bundles/", {"offers": [ask()]})
    pages = [page async for page in vast.offers(Query())]
    assert [r.url.path for r in scripted.requests] == ["/api/v0/bundles/"] * 2
    assert [scripted.body(at)["type"] for at in (0, 1)] == ["on-demand", "bid"]
    assert [page.rows[0].key for page in pages] == ["4711", "4711:spot"]
    assert all(page.complete for page in pages)


async def test_an_answer_as_long_as_the_limit_is_not_complete(
    vast: Any, scripted: Any, ask: Ask
) -> None:
    scripted.says("POST /api/v0/bundles/", {"offers": [ask(id=at + 1) for at in range(3000)]})
    (page,) = [page async for page in vast.offers(Query(market=Market.SPOT))]
    assert not page.complete


async def test_an_answer_of_mostly_bad_rows_is_not_complete(
    vast: Any, scripted: Any, ask: Ask
) -> None:
    scripted.says("POST /api/v0/bundles/", {"offers": [ask(id=1), ask(id=2, dph_base="dear")]})
    (page,) = [page async for page in vast.offers(Query(market=Market.ON_DEMAND))]
    assert (len(page.rows), len(page.rejected), page.complete) == (1, 1, False)
