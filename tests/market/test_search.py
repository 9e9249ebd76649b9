"""Searching, ranking and explaining."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpubroker.catalog.gpus import model, wanted
from gpubroker.market.filters import compile_query
from gpubroker.market.pricing import price_of
from gpubroker.market.results import SearchResult
from gpubroker.market.search import search_offers
from gpubroker.model.gpu import Gpu
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer
from gpubroker.model.query import GpuWanted, Query, SortKey
from gpubroker.model.terms import Availability, Market

Build = Callable[..., Offer]
SORTS: tuple[SortKey, ...] = get_args(SortKey)


def find(offers: list[Offer], query: Query, **options: Any) -> SearchResult:
    return search_offers(
        tuple(offers), query, now=datetime(2026, 11, 21, 12, tzinfo=UTC), sources={}, **options
    )


def keys(result: SearchResult) -> list[str]:
    return [offer.key for offer in result.offers]


def test_the_cheapest_match_comes_first_and_the_limit_cuts(an_offer: Build) -> None:
    offers = [an_offer("c", usd=0.3), an_offer("a", usd=0.1), an_offer("b", "A40", 0.2)]
    result = find(offers, Query(gpus=(wanted("4090"),)), limit=1)
    assert keys(result) == ["a"]
    assert (result.total, result.scanned, result.median) == (2, 3, nanos(0.2))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A100", ["40sxm", "80sxm", "80pcie", "80"]),
        ("A100 80GB", ["80sxm", "80pcie", "80"]),
        ("A100 SXM", ["40sxm", "80sxm", "80"]),
        ("A100 40GB SXM", ["40sxm"]),
        ("A100 PCIe", ["80pcie", "80"]),
    ],
)
def test_a_gpu_is_narrowed_by_form_and_memory(
    an_offer: Build, text: str, expected: list[str]
) -> None:
    offers = [
        an_offer("40sxm", "A100 SXM4", 1, memory_mib=40960),
        an_offer("80sxm", "A100 SXM4", 2, memory_mib=81920),
        an_offer("80pcie", "A100 PCIE", 3, memory_mib=81920),
        an_offer("80", "A100", 4, memory_mib=81920),
        an_offer("h", "H100", 5),
    ]
    assert keys(find(offers, Query(gpus=(wanted(text),)))) == expected


def test_an_unknown_form_is_kept_and_marked_unless_strict(an_offer: Build) -> None:
    offers = [an_offer("told", "H100 SXM"), an_offer("untold", "H100")]
    query = Query(gpus=(wanted("h100 sxm"),))
    result = find(offers, query)
    assert keys(result) == ["told", "untold"]
    assert result.unknown == {"vast_untold": ("GPU H100 SXM",)}
    assert keys(find(offers, msgspec.structs.replace(query, strict=True))) == ["told"]


@pytest.mark.parametrize(
    ("query", "field", "good", "bad"),
    [
        (Query(min_vcpus=8), "vcpus", 8.0, 7.9),
        (Query(min_ram_gb=64), "ram_gb", 64.0, 63.0),
        (Query(max_ram_gb=64), "ram_gb", 64.0, 65.0),
        (Query(min_disk_gb=100), "disk_max_gb", 100.0, 99.0),
        (Query(min_reliability=0.95), "reliability", 0.95, 0.94),
        (Query(min_down_mbps=100), "down_mbps", 100.0, 99.0),
        (Query(min_up_mbps=100), "up_mbps", 100.0, 99.0),
        (Query(min_cuda="12.4"), "min_cuda", "12.10", "12.3"),
        (Query(interconnect="nvlink"), "interconnect", "NVLink 4", "PCIe"),
        (Query(datacenter_only=True), "datacenter", True, False),
        (Query(tier="Secure"), "tier", "secure", "community"),
    ],
)
def test_every_filter_knows_yes_no_and_unknown(
    an_offer: Build, query: Query, field: str, good: object, bad: object
) -> None:
    offers = [
        an_offer("good", usd=1, **{field: good}),
        an_offer("bad", usd=2, **{field: bad}),
        an_offer("unknown", usd=3),
    ]
    result = find(offers, query)
    assert keys(result) == ["good", "unknown"]
    assert list(result.unknown) == ["vast_unknown"]
    assert keys(find(offers, msgspec.structs.replace(query, strict=True))) == ["good"]


def test_models_answer_for_category_vendor_score_and_capability(an_offer: Build) -> None:
    offers = [an_offer("4090"), an_offer("h", "H100", 2), an_offer("mi", "MI300X", 3)]
    odd = an_offer("odd", "Frobnicator 9000", 4)
    assert keys(find([*offers, odd], Query(categories=("datacenter",)))) == ["h", "mi", "odd"]
    assert keys(find([*offers, odd], Query(vendors=("AMD",), strict=True))) == ["mi"]
    assert keys(find(offers, Query(min_performance=150))) == ["h", "mi"]
    assert keys(find(offers, Query(min_compute_capability=8.9))) == ["4090", "h"]


def test_a_gpu_the_catalog_does_not_know_is_found_by_its_raw_name(an_offer: Build) -> None:
    offers = [an_offer("odd", "Frobnicator 9000"), an_offer("4090")]
    assert keys(find(offers, Query(gpus=(GpuWanted("frobnicator_9000"),)))) == ["odd"]


def test_what_is_known_to_be_gone_is_dropped_unless_asked_for(an_offer: Build) -> None:
    offers = [
        an_offer("yes", usd=1),
        an_offer("maybe", usd=2, availability=Availability.UNKNOWN),
        an_offer("no", usd=0.5, availability=Availability.NO),
    ]
    assert keys(find(offers, Query())) == ["yes", "maybe"]
    assert keys(find(offers, Query(strict=True))) == ["yes", "maybe"]
    assert keys(find(offers, Query(include_unavailable=True))) == ["no", "yes", "maybe"]


def test_prices_are_for_the_wanted_disk(an_offer: Build) -> None:
    offers = [an_offer("flat", usd=0.50), an_offer("by-gb", usd=0.40, disk_usd=0.001)]
    assert keys(find(offers, Query(disk_gb=50))) == ["by-gb", "flat"]
    result = find(offers, Query(min_disk_gb=200, max_price=nanos(0.55)))
    assert (keys(result), result.disk_gb) == (["flat"], 200)
    assert find(offers, Query()).disk_gb == 20


def test_another_currency_is_never_ranked_by_its_number(an_offer: Build) -> None:
    offers = [an_offer("inr", usd=0.1, quoted="INR"), an_offer("usd", usd=0.5)]
    result = find(offers, Query(max_price=nanos(1)))
    assert keys(result) == ["usd", "inr"]
    assert result.unknown == {"vast_inr": ("price ≤ $1.00",)}
    assert result.median == nanos(0.5)


def test_an_offer_without_a_stated_end_lasts_long_enough(an_offer: Build) -> None:
    offers = [an_offer("open"), an_offer("short", usd=0.1, max_hours=2.0)]
    assert keys(find(offers, Query(min_hours=4, strict=True))) == ["open"]


def test_a_providers_option_concerns_that_provider_only(an_offer: Build) -> None:
    offers = [
        an_offer("v", usd=1, launch={"verified": True}),
        an_offer("u", usd=2, launch={"verified": False}),
        an_offer("r", usd=3, provider="runpod"),
    ]
    query = Query(options=(("vast", "verified", "true"),), strict=True)
    assert keys(find(offers, query)) == ["v", "r"]


def test_providers_may_be_named_by_short_form(an_offer: Build) -> None:
    offers = [an_offer("v"), an_offer("r", provider="runpod")]
    assert keys(find(offers, Query(providers=("vast",)))) == ["v"]


@pytest.mark.parametrize(
    ("sort", "descending", "expected"),
    [
        ("price", None, ["3090", "4090", "h100x8", "odd"]),
        ("price", True, ["odd", "h100x8", "4090", "3090"]),
        ("price-per-gpu", None, ["3090", "4090", "h100x8", "odd"]),
        ("performance", None, ["h100x8", "4090", "3090", "odd"]),
        ("performance", False, ["3090", "4090", "h100x8", "odd"]),
        ("performance-per-dollar", None, ["3090", "4090", "h100x8", "odd"]),
        ("reliability", None, ["4090", "3090", "h100x8", "odd"]),
        ("vram", None, ["h100x8", "3090", "4090", "odd"]),
    ],
)
def test_sorts_put_the_best_first_and_the_untold_last(
    an_offer: Build, sort: SortKey, descending: bool | None, expected: list[str]
) -> None:
    offers = [
        an_offer("h100x8", "H100 SXM", 16.0, count=8),
        an_offer("4090", usd=0.40, reliability=0.99),
        an_offer("3090", "RTX 3090", 0.20, reliability=0.9),
        an_offer("odd", "Frobnicator", 20.0),
    ]
    assert keys(find(offers, Query(), sort=sort, descending=descending)) == expected


def test_equal_scores_are_ordered_by_rate_then_bandwidth(an_offer: Build) -> None:
    offers = [an_offer("h100", "H100", 1), an_offer("b200", "B200", 9), an_offer("h200", "H200", 5)]
    assert keys(find(offers, Query(), sort="performance")) == ["b200", "h200", "h100"]


_OFFER = st.fixed_dictionaries(
    {
        "gpu": st.sampled_from(["RTX 4090", "H100 SXM", "H100", "MI300X", "Frobnicator 9000"]),
        "usd": st.sampled_from([0.0, 0.2, 0.4, 2.0, 16.0]),
        "count": st.sampled_from([1, 2, 8]),
        "region": st.sampled_from(["Texas, US", "Ohio, US", ", US", "France, FR, EU", ""]),
        "provider": st.sampled_from(["vast_ai", "runpod"]),
        "market": st.sampled_from([Market.ON_DEMAND, Market.SPOT]),
        "availability": st.sampled_from(list(Availability)),
        "ram_gb": st.sampled_from([None, 32.0, 128.0]),
        "reliability": st.sampled_from([None, 0.5, 0.99, float("nan")]),
        "disk_usd": st.sampled_from([0.0, 0.001]),
    }
)
_QUERY = st.builds(
    Query,
    gpus=st.sampled_from([(), (GpuWanted("H100"),), (GpuWanted("H100", "SXM", count=8),)]),
    min_count=st.sampled_from([None, 2]),
    max_price=st.sampled_from([None, nanos(0.4), nanos(5)]),
    market=st.sampled_from([None, Market.SPOT]),
    regions=st.sampled_from([(), ("US",), ("US-East", "Europe")]),
    providers=st.sampled_from([(), ("vast_ai",)]),
    min_ram_gb=st.sampled_from([None, 64.0]),
    min_reliability=st.sampled_from([None, 0.9]),
    disk_gb=st.sampled_from([None, 100.0]),
    include_unavailable=st.booleans(),
    strict=st.booleans(),
)
_US = {"Texas, US", "Ohio, US", ", US"}


def naive(offer: Offer, query: Query) -> bool:
    """The filters again, written down one by one without the code under test."""
    verdicts = [
        *_naive_gpu(offer, query),
        not query.market or offer.market == query.market,
        not query.providers or offer.provider == "vast_ai",
        query.include_unavailable or offer.availability != "no",
        _naive_region(offer, query),
        *_naive_numbers(offer, query),
    ]
    return all(verdict or (verdict is None and not query.strict) for verdict in verdicts)


def _naive_gpu(offer: Offer, query: Query) -> Iterator[bool | None]:
    if query.gpus:
        want = query.gpus[0]
        form = (offer.gpu.form == want.form if offer.gpu.form else None) if want.form else True
        yield form if offer.gpu.name == want.name else False
        yield want.count in (None, offer.gpu_count)


def _naive_region(offer: Offer, query: Query) -> bool | None:
    if not query.regions:
        return True
    if query.regions == ("US",):
        return True if offer.region in _US else None if not offer.region else False
    certain = offer.region in {"Ohio, US", "France, FR, EU"}
    return True if certain else None if offer.region in {", US", ""} else False


def _naive_numbers(offer: Offer, query: Query) -> Iterator[bool | None]:
    if query.min_count:
        yield offer.gpu_count >= query.min_count
    if query.max_price is not None:
        disk = query.disk_gb or 20
        yield offer.price.compute + offer.price.disk_gb * disk <= query.max_price
    if query.min_ram_gb:
        yield None if offer.ram_gb is None else offer.ram_gb >= 64
    if query.min_reliability:
        told = offer.reliability is not None and not math.isnan(offer.reliability)
        yield (offer.reliability or 0) >= 0.9 if told else None


@settings(deadline=None)
@given(rows=st.lists(_OFFER, max_size=12), query=_QUERY, sort=st.sampled_from(SORTS))
def test_a_search_finds_what_a_naive_one_finds(
    an_offer: Build, rows: list[dict[str, Any]], query: Query, sort: SortKey
) -> None:
    offers = [an_offer(f"k{number}", **row) for number, row in enumerate(rows)]
    result = find(offers, query, sort=sort)
    assert sorted(keys(result)) == sorted(o.key for o in offers if naive(o, query))
    assert result.total == len(result.offers)
    shuffled = random.Random(7).sample(offers, len(offers))  # noqa: S311 - an order, no secret
    assert keys(find(shuffled, query, sort=sort)) == keys(result), "the order is total"
    assert keys(find(offers, query, sort=sort, limit=2)) == keys(result)[:2]


@settings(deadline=None)
@given(rows=st.lists(_OFFER, max_size=12), query=_QUERY)
def test_the_funnel_sums_up(an_offer: Build, rows: list[dict[str, Any]], query: Query) -> None:
    offers = [an_offer(f"k{number}", **row) for number, row in enumerate(rows)]
    result = find(offers, query)
    lefts = [result.scanned, *(step.left for step in result.funnel)]
    assert lefts == sorted(lefts, reverse=True)
    assert lefts[-1] == result.total
    for step in result.funnel:
        assert sum(step.by_provider.values()) == step.left
    assert len(result.funnel) == len(compile_query(query))


@settings(deadline=None)
@given(rows=st.lists(_OFFER, min_size=1, max_size=12), query=_QUERY)
def test_a_near_miss_is_one_change_that_works(
    an_offer: Build, rows: list[dict[str, Any]], query: Query
) -> None:
    offers = [an_offer(f"k{number}", **row) for number, row in enumerate(rows)]
    result = find(offers, query)
    by_id = {f"{'vast' if o.provider == 'vast_ai' else o.provider}_{o.key}": o for o in offers}
    for miss in result.nearest:
        assert result.total == 0
        assert miss.offers >= 1
        example = by_id[miss.example]
        failed = [f for f in compile_query(query) if not f.passes(example, strict=query.strict)]
        assert len(failed) == 1, "the example fails exactly the filter that is to change"
        assert miss.best == price_of(example, result.disk_gb)


def test_the_nearest_miss_reads_like_advice(an_offer: Build) -> None:
    offers = [
        an_offer("dear", "H100", 14.317, count=8, region="Finland, FI"),
        an_offer("dearer", "H100", 14.32, count=8, region="Finland, FI"),
        an_offer("far", "H100", 11.6, count=8, region="Ohio, US"),
        an_offer("few", "H100", 5.0, count=4, region="Finland, FI"),
    ]
    query = Query(gpus=(wanted("H100:8"),), regions=("Europe",), max_price=nanos(12))
    result = find(offers, query)
    assert [(step.filter, step.left) for step in result.funnel] == [
        ("GPU H100", 4),
        ("8 of them", 3),
        ("not known to be gone", 3),
        ("Europe", 2),
        ("price ≤ $12.00", 0),
    ]
    assert [(miss.change, miss.offers, miss.example) for miss in result.nearest] == [
        ("ask for 4 of them", 1, "vast_few"),
        ("drop --region", 1, "vast_far"),
        ("raise --max-price to $14.32", 2, "vast_dear"),
    ]


def test_lowered_bounds_are_rounded_so_that_they_let_the_offer_in(an_offer: Build) -> None:
    result = find([an_offer("a", ram_gb=125.578125)], Query(min_ram_gb=128))
    assert result.nearest[0].change == "lower --min-ram to 125.57"


def test_odd_rows_do_not_raise(an_offer: Build) -> None:
    odd = msgspec.structs.replace(
        an_offer("odd", region=""),
        gpu=Gpu(name="no such model", raw="", memory_gb=0.0),
        min_cuda="none",
        reliability=float("nan"),
        interconnect="",
    )
    query = Query(
        min_vram_gb=1, min_cuda="12", min_reliability=0.1, interconnect="nvlink", categories=("x",)
    )
    for sort in SORTS:
        assert find([odd, an_offer("a")], query, sort=sort).scanned == 2
    assert model("no such model") is None
