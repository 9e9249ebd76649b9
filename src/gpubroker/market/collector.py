"""Asks providers for their offers, side by side: a slow, wrong or dead one costs its own rows.

A provider that fails keeps its older rows, with their age, and its report says what happened.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Collection, Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from gpubroker.market.book import Book, Segment
from gpubroker.market.results import SourceReport, SourceStatus
from gpubroker.model.errors import BrokerError
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.providers.base import Provider

MARKETPLACES = frozenset({"vast_ai", "runpod", "tensordock", "salad", "shadeform"})
"""Offers come and go by the minute; elsewhere a price list changes by the day."""
MARKETPLACE_CADENCE = timedelta(seconds=60)
CATALOG_CADENCE = timedelta(hours=1)

_LONGEST_ERROR = 200
_CANCEL_GRACE_S = 0.5
"""How long a cancelled provider may take to stop before it is left to itself."""


class _Asking(Struct):
    """What came so far; kept when the provider fails half-way."""

    pages: list[OfferPage] = []


def cadence(provider: str) -> timedelta:
    """How old an answer may be before `auto` asks again."""
    return MARKETPLACE_CADENCE if provider in MARKETPLACES else CATALOG_CADENCE


def stale(book: Book, providers: Collection[str], query: Query, *, now: datetime) -> frozenset[str]:
    """Those of `providers` whose last answer to such a query is older than their cadence."""
    return frozenset(
        name
        for name in providers
        if not book.segment(name).is_fresh(query, now=now, within=cadence(name))
    )


async def refresh(
    book: Book,
    providers: Mapping[str, Provider],
    query: Query,
    *,
    timeout_s: float,
    now: datetime,
) -> Mapping[str, SourceReport]:
    """Ask every provider once and take the answers into the book.

    One that has not answered within `timeout_s` is cancelled; pages that came before are kept.
    Never raises for a provider's sake.
    """
    asking = {name: _Asking() for name in providers}
    tasks = {
        name: asyncio.create_task(_collect(provider, query, asking[name]), name=f"offers {name}")
        for name, provider in providers.items()
    }
    try:
        if tasks:
            await asyncio.wait(tasks.values(), timeout=timeout_s)
    finally:
        await _stop([task for task in tasks.values() if not task.done()])
    reports = {}
    for name, provider in providers.items():
        error = _failure(tasks[name], timeout_s)
        segment = book.apply(
            name, asking[name].pages, account=provider.account, asked=query, at=now, whole=not error
        )
        reports[name] = report(segment, query, live=not error, error=error)
    return reports


async def _collect(provider: Provider, query: Query, into: _Asking) -> None:
    pages = provider.offers(query)
    try:
        async for page in pages:
            into.pages.append(_trusted(page, provider))
    finally:
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CANCEL_GRACE_S)
    for task in tasks:
        if not task.done():
            # It refuses to stop. Whatever it still says is nobody's business any more.
            task.add_done_callback(lambda late: late.cancelled() or late.exception())


def _failure(task: asyncio.Task[None], timeout_s: float) -> str:
    """What went wrong; empty where the provider answered to the end."""
    if not task.done() or task.cancelled():
        return f"no answer within {timeout_s:g} s"
    error = task.exception()
    if error is None:
        return ""
    if isinstance(error, BrokerError):
        return f"{error.word}: {error}"[:_LONGEST_ERROR]
    # A fault of ours or of a third party's provider; its text could hold anything.
    return f"unexpected {type(error).__name__}"


def _trusted(page: OfferPage, provider: Provider) -> OfferPage:
    """Without rows that are not this provider's own to tell, or that no search could compare."""
    judged = [(row, _fault(row, provider)) for row in page.rows]
    faults = tuple((repr(row)[:_LONGEST_ERROR], fault) for row, fault in judged if fault)
    if not faults:
        return page
    sound = tuple(row for row, fault in judged if not fault)
    return OfferPage(page.covers, page.complete, sound, (*page.rejected, *faults))


def _fault(row: Offer, provider: Provider) -> str:
    """Why a row is not taken; empty where it is sound. A provider's code may be anybody's."""
    try:
        if (row.provider, row.account) != (provider.name, provider.account):
            return "not of this provider and account"
        if not (row.key and row.gpu_count > 0 and row.price.hourly(1.0) >= 0):
            return "no key, no GPU or no price"
        if not (0 <= row.gpu.memory_gb < math.inf):
            return "no GPU memory"
        if row.fetched_at.utcoffset() is None:
            return "time without zone"
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        return type(error).__name__
    return ""


def report(
    segment: Segment, query: Query, *, live: bool = False, error: str = "", needs_key: bool = False
) -> SourceReport:
    """What a segment is worth for this query."""
    answer = segment.freshest(query)
    return SourceReport(
        status=_status(segment, live=live, error=error),
        as_of=segment.as_of(query),
        error=error,
        offers=len(segment.offers),
        complete=answer is not None and answer.complete,
        rejected=segment.rejected,
        needs_key=needs_key,
    )


def _status(segment: Segment, *, live: bool, error: str) -> SourceStatus:
    if error:
        return "error"
    if live:
        return "live"
    return "catalog" if segment.from_catalog else "cached"
