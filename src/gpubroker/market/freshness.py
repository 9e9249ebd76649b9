"""How far what is held can be trusted: who is to be asked again, and what each source is worth.

Pure, and without an event loop: `offers` by a fresh snapshot must not pay for one.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from gpubroker.market.book import Book, Segment
from gpubroker.market.results import SourceReport, SourceStatus
from gpubroker.model.query import Query

MARKETPLACES = frozenset({"vast_ai", "runpod", "tensordock", "salad", "shadeform"})
"""Offers come and go by the minute; elsewhere a price list changes by the day."""
MARKETPLACE_CADENCE = timedelta(seconds=60)
CATALOG_CADENCE = timedelta(hours=1)


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
