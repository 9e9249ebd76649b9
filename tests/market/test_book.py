"""What a refresh replaces, and what counts as fresh."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
import pytest

from gpubroker.market.book import Book, Segment
from gpubroker.market.coverage import COMPARED, JUDGED_APART, includes
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import GpuWanted, Query
from gpubroker.model.terms import Availability, Market, Source

Build = Callable[..., Offer]
H100 = Query(gpus=(GpuWanted("H100"),))
SPOT = Query(market=Market.SPOT)


def keys(segment: Segment) -> set[str]:
    return {offer.key for offer in segment.offers}


@pytest.fixture
def book(an_offer: Build) -> Book:
    rows = (
        an_offer("4090"),
        an_offer("h1", "H100", 2),
        an_offer("h2", "H100", 3, market=Market.SPOT),
        an_offer("gone", "H100", 1, availability=Availability.NO),
    )
    return Book([Segment("vast_ai", rows)])


def refreshed(book: Book, page: OfferPage, now: datetime, *, whole: bool = True) -> Segment:
    asked = page.covers or Query()
    return book.apply("vast_ai", [page], asked=asked, at=now, whole=whole)


def test_a_complete_page_replaces_exactly_what_it_covers(
    book: Book, an_offer: Build, now: datetime
) -> None:
    segment = refreshed(book, OfferPage(H100, True, (an_offer("h9", "H100", 2.5),)), now)
    assert keys(segment) == {"4090", "h9"}


def test_a_page_asked_by_the_vendors_spelling_covers_that_spelling(
    an_offer: Build, now: datetime
) -> None:
    rows = (an_offer("listed", "RTX A6000"), an_offer("unlisted", "NVIDIA RTX A6000"))
    book = Book([Segment("vast_ai", rows)])
    page = OfferPage(Query(gpus=(GpuWanted("RTX A6000"),)), True, ())
    assert keys(refreshed(book, page, now)) == {"unlisted"}


def test_a_page_of_one_market_leaves_the_other(book: Book, an_offer: Build, now: datetime) -> None:
    page = OfferPage(SPOT, True, (an_offer("s", market=Market.SPOT),))
    assert keys(refreshed(book, page, now)) == {"4090", "h1", "gone", "s"}


def test_covering_everything_replaces_everything(book: Book, now: datetime) -> None:
    assert keys(refreshed(book, OfferPage(None, True, ()), now)) == set()


def test_an_incomplete_page_only_adds_and_updates(
    book: Book, an_offer: Build, now: datetime
) -> None:
    page = OfferPage(H100, False, (an_offer("h1", "H100", 9), an_offer("h9", "H100", 2.5)))
    segment = refreshed(book, page, now)
    assert keys(segment) == {"4090", "h1", "h2", "gone", "h9"}
    assert [o.key for o in segment.offers][-1] == "h1", "the new price counts"


def test_an_offer_that_left_the_covered_range_is_gone(
    book: Book, an_offer: Build, now: datetime
) -> None:
    # h1 cost 2 and was covered by "at most 2.5"; the answer to that holds it no more.
    cheap = Query(gpus=(GpuWanted("H100"),), max_price=an_offer("x", usd=2.5).price.compute)
    assert keys(refreshed(book, OfferPage(cheap, True, ()), now)) == {"4090", "h2"}


def test_an_unknown_value_is_not_surely_covered(book: Book, now: datetime) -> None:
    page = OfferPage(Query(min_reliability=0.9), True, ())
    assert keys(refreshed(book, page, now)) == {"4090", "h1", "h2", "gone"}


def test_what_another_account_told_and_catalog_rows_give_way(
    an_offer: Build, now: datetime
) -> None:
    rows = (
        an_offer("other", account="work"),
        an_offer("old", account="", source=Source.CATALOG),
    )
    book = Book([Segment("vast_ai", rows)])
    assert keys(refreshed(book, OfferPage(None, True, ()), now)) == set()


def test_offers_of_two_days_ago_are_forgotten_even_by_incomplete_answers(
    an_offer: Build, now: datetime
) -> None:
    rows = (
        an_offer("old", fetched_at=now - timedelta(days=2)),
        an_offer("hour", fetched_at=now - timedelta(hours=1)),
        an_offer("list", source=Source.CATALOG, fetched_at=now - timedelta(days=300)),
    )
    book = Book([Segment("vast_ai", rows)])
    assert keys(refreshed(book, OfferPage(None, False, ()), now)) == {"hour", "list"}


def test_a_reader_keeps_the_segments_it_found(book: Book, now: datetime) -> None:
    before = book.segments
    refreshed(book, OfferPage(None, True, ()), now)
    assert len(before["vast_ai"].offers) == 4
    assert len(book.offers()) == 0


def test_freshness_is_of_the_query_asked(book: Book, now: datetime) -> None:
    minute = timedelta(seconds=60)
    segment = refreshed(book, OfferPage(H100, True, ()), now)
    narrower = Query(gpus=(GpuWanted("H100", "SXM", count=8),), min_ram_gb=64)
    later = now + timedelta(seconds=59)
    assert segment.is_fresh(H100, now=later, within=minute)
    assert segment.is_fresh(narrower, now=later, within=minute)
    assert not segment.is_fresh(Query(), now=later, within=minute)
    assert not segment.is_fresh(H100, now=now + minute, within=minute)
    assert not segment.is_fresh(H100, now=now - minute, within=minute), "another clock's answer"


def test_a_half_answer_counts_for_rows_but_not_for_freshness(
    book: Book, an_offer: Build, now: datetime
) -> None:
    segment = refreshed(book, OfferPage(SPOT, False, (an_offer("s"),)), now, whole=False)
    assert "s" in keys(segment)
    assert segment.freshest(SPOT) is None


def test_as_of_is_the_answers_time_else_the_oldest_rows(an_offer: Build, now: datetime) -> None:
    old = now - timedelta(hours=5)
    segment = Segment("vast_ai", (an_offer("a", fetched_at=old), an_offer("b")))
    assert segment.as_of(Query()) == old
    assert Segment("vast_ai").as_of(Query()) is None


def test_every_field_of_a_query_is_compared_or_left_out_on_purpose() -> None:
    fields = {field.name for field in msgspec.structs.fields(Query)}
    assert fields == set(COMPARED) | set(JUDGED_APART)


@pytest.mark.parametrize(
    ("wide", "narrow", "verdict"),
    [
        (None, Query(), True),
        (Query(), H100, True),
        (H100, Query(), False),
        (Query(min_ram_gb=32), Query(min_ram_gb=64), True),
        (Query(min_ram_gb=64), Query(min_ram_gb=32), False),
        (Query(max_count=8), Query(max_count=2), True),
        (Query(max_count=8), Query(), False),
        (Query(regions=("US", "Europe")), Query(regions=("US",)), True),
        (Query(regions=("US",)), Query(regions=("US", "Europe")), False),
        (SPOT, Query(), False),
        (Query(datacenter_only=True), Query(), False),
        (Query(), Query(datacenter_only=True), True),
        (Query(options=(("v", "a", "1"),)), Query(), False),
        (Query(), Query(include_unavailable=True), False),
        (Query(disk_gb=50, providers=("vast_ai",)), Query(strict=True), True),
    ],
)
def test_which_query_takes_in_which(wide: Query | None, narrow: Query, verdict: bool) -> None:
    assert includes(wide, narrow) is verdict
