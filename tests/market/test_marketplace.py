"""Refreshing side by side, and the whole way of a search."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from gpubroker.catalog.shipped import shipped_offers, shipped_providers
from gpubroker.market.marketplace import Marketplace
from gpubroker.market.results import SearchResult
from gpubroker.market.snapshots import Snapshots
from gpubroker.model.errors import RateLimited
from gpubroker.model.home import Home
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.terms import Source
from gpubroker.providers.base import Provider

Build = Callable[..., Offer]
Step = OfferPage | BaseException | asyncio.Event


class Scripted:
    """Answers `offers` by a script: pages, errors to raise, events to wait for."""

    account = "default"

    def __init__(self, name: str, *steps: Any) -> None:
        self.name = name
        self.steps: tuple[Any, ...] = steps
        self.asked = 0
        self.cancelled = False

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        self.asked += 1
        try:
            for step in self.steps:
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    yield step
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class Stubborn(Scripted):
    """Swallows its cancellation and goes on."""

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        release: asyncio.Event = self.steps[0]
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                self.cancelled = True
        yield OfferPage(None, True, ())


class Desk:
    """A marketplace with scripted providers."""

    def __init__(self, folder: Path, now: datetime, *, shipped: bool = False) -> None:
        self.market = Marketplace(Snapshots(Home(folder), "live"), shipped=shipped)
        self.now = now

    async def search(self, *providers: Scripted, **options: Any) -> SearchResult:
        asked = cast("Mapping[str, Provider]", {entry.name: entry for entry in providers})
        query = options.pop("query", Query())
        return await self.market.search(query, asked, now=self.now, **options)


@pytest.fixture
def desk(tmp_path: Path, now: datetime) -> Desk:
    return Desk(tmp_path, now)


def page(
    *rows: Any, complete: bool = True, rejected: tuple[tuple[str, str], ...] = ()
) -> OfferPage:
    return OfferPage(None, complete, rows, rejected)


def keys(result: SearchResult) -> list[str]:
    return [offer.key for offer in result.offers]


async def test_a_failing_provider_costs_its_own_rows_only(desk: Desk, an_offer: Build) -> None:
    good = Scripted("vast_ai", page(an_offer("v"), rejected=(("{}", "no price"),)))
    limited = Scripted("runpod", RateLimited("too many requests"))
    broken = Scripted("modal", KeyError("sk-secret"))
    result = await desk.search(good, limited, broken)
    assert keys(result) == ["v"]
    sources = result.sources
    assert (sources["vast_ai"].status, sources["vast_ai"].rejected) == ("live", 1)
    assert sources["vast_ai"].as_of == desk.now
    assert sources["runpod"].status == "error"
    assert sources["runpod"].error == "rate_limited: too many requests"
    assert sources["modal"].error == "unexpected KeyError", "a foreign text may hold a secret"


async def test_a_failing_provider_keeps_its_older_rows_with_their_age(
    desk: Desk, an_offer: Build
) -> None:
    then = desk.now
    await desk.search(Scripted("runpod", page(an_offer("r", provider="runpod"))))
    desk.now += timedelta(hours=2)
    result = await desk.search(Scripted("runpod", RateLimited("busy")))
    assert keys(result) == ["r"]
    report = result.sources["runpod"]
    assert (report.status, report.as_of, report.offers) == ("error", then, 1)


async def test_a_slow_provider_is_cancelled_and_its_first_pages_are_kept(
    desk: Desk, an_offer: Build
) -> None:
    slow = Scripted("vast_ai", page(an_offer("first"), complete=False), asyncio.Event())
    fast = Scripted("runpod", page(an_offer("r", usd=0.1, provider="runpod")))
    result = await desk.search(slow, fast, refresh_timeout_s=0.05)
    assert keys(result) == ["r", "first"]
    assert slow.cancelled
    assert result.sources["vast_ai"].error == "no answer within 0.05 s"
    assert not result.sources["vast_ai"].complete


async def test_a_provider_that_refuses_to_stop_does_not_hold_the_others(
    desk: Desk, an_offer: Build
) -> None:
    release = asyncio.Event()
    stubborn = Stubborn("modal", release)
    result = await desk.search(
        stubborn, Scripted("vast_ai", page(an_offer("v"))), refresh_timeout_s=0.05
    )
    assert keys(result) == ["v"]
    assert stubborn.cancelled
    assert result.sources["modal"].status == "error"
    release.set()
    await asyncio.sleep(0)


async def test_cancelling_a_search_cancels_the_asking(desk: Desk) -> None:
    waiting = Scripted("vast_ai", asyncio.Event())
    search = asyncio.create_task(desk.search(waiting, refresh_timeout_s=60))
    while not waiting.asked:
        await asyncio.sleep(0)
    search.cancel()
    with pytest.raises(asyncio.CancelledError):
        await search
    assert waiting.cancelled


async def test_hostile_rows_are_counted_and_left_out(desk: Desk, an_offer: Build) -> None:
    rows = (
        an_offer("good"),
        an_offer("alien", provider="runpod"),
        an_offer("foreign", account="work"),
        an_offer("none", count=0),
        an_offer("naive", fetched_at=datetime(2026, 1, 1)),  # noqa: DTZ001 - the fault under test
        an_offer(""),
        "not an offer",
        None,
    )
    result = await desk.search(Scripted("vast_ai", page(*rows)))
    assert keys(result) == ["good"]
    assert result.sources["vast_ai"].rejected == 7


async def test_what_is_no_page_is_a_failure_of_that_provider(desk: Desk, an_offer: Build) -> None:
    result = await desk.search(
        Scripted("vast_ai", page(an_offer("v"))), Scripted("runpod", "not a page")
    )
    assert keys(result) == ["v"]
    assert result.sources["runpod"].error == "unexpected AttributeError"


@pytest.mark.parametrize(("name", "seconds"), [("vast_ai", 60), ("lambda_labs", 3600)])
async def test_auto_asks_when_the_answer_is_older_than_the_cadence(
    desk: Desk, an_offer: Build, name: str, seconds: int
) -> None:
    provider = Scripted(name, page(an_offer("a", provider=name)))
    assert (await desk.search(provider)).sources[name].status == "live"
    desk.now += timedelta(seconds=seconds - 1)
    result = await desk.search(provider)
    assert (result.sources[name].status, provider.asked) == ("cached", 1)
    desk.now += timedelta(seconds=1)
    await desk.search(provider)
    assert provider.asked == 2


async def test_live_always_asks_and_cached_never(desk: Desk, an_offer: Build) -> None:
    provider = Scripted("vast_ai", page(an_offer("a")))
    result = await desk.search(provider, mode="cached")
    assert (provider.asked, result.total) == (0, 0)
    await desk.search(provider, mode="live")
    await desk.search(provider, mode="live")
    assert provider.asked == 2


async def test_only_the_providers_in_question_are_asked(desk: Desk, an_offer: Build) -> None:
    vast, runpod = Scripted("vast_ai", page(an_offer("v"))), Scripted("runpod", page())
    result = await desk.search(vast, runpod, query=Query(providers=("vast",)))
    assert (vast.asked, runpod.asked) == (1, 0)
    assert set(result.sources) == {"vast_ai"}


async def test_the_next_process_finds_what_this_one_learnt(
    desk: Desk, tmp_path: Path, an_offer: Build
) -> None:
    await desk.search(Scripted("vast_ai", page(an_offer("a"))))
    later = Desk(tmp_path, desk.now + timedelta(seconds=30))
    provider = Scripted("vast_ai", page())
    result = await later.search(provider)
    assert (keys(result), provider.asked) == (["a"], 0)
    assert result.offers[0].source is Source.CACHED
    assert result.sources["vast_ai"].as_of == desk.now


async def test_without_any_provider_the_shipped_snapshot_answers(
    tmp_path: Path, now: datetime, an_offer: Build
) -> None:
    desk = Desk(tmp_path, now, shipped=True)
    result = await desk.search(keyless=("vast_ai",))
    report = result.sources["vast_ai"]
    assert result.total == sum(len(shipped_offers(name)) for name in shipped_providers())
    assert (report.status, report.needs_key) == ("catalog", True)
    assert report.as_of is not None
    assert report.as_of < now
    vast = Query(providers=("vast_ai",))
    live = await desk.search(Scripted("vast_ai", page(an_offer("a"))), query=vast)
    assert keys(live) == ["a"], "the provider's own complete answer replaces the snapshot"


async def test_a_home_that_cannot_be_written_costs_only_the_cache(
    tmp_path: Path, now: datetime, an_offer: Build
) -> None:
    (tmp_path / "market").write_text("a file where the folder should be")
    desk = Desk(tmp_path, now)
    assert keys(await desk.search(Scripted("vast_ai", page(an_offer("a"))))) == ["a"]
