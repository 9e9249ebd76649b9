"""Asks providers for their offers, side by side: a slow, wrong or dead one costs its own rows.

A provider that fails keeps its older rows, with their age, and its report says what happened.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime

from msgspec import Struct

from gpubroker.market.book import Book
from gpubroker.market.freshness import report
from gpubroker.market.results import SourceReport
from gpubroker.model.errors import BrokerError
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.providers.base import Provider

_LONGEST_ERROR = 200
_CANCEL_GRACE_S = 0.5
"""How long a cancelled provider may take to stop before it is left to itself."""


class _Asking(Struct):
    """What came so far; kept when the provider fails half-way."""

    pages: list[OfferPage] = []


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
    for name in providers:
        error = _failure(tasks[name], timeout_s)
        segment = book.apply(name, asking[name].pages, asked=query, at=now, whole=not error)
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
