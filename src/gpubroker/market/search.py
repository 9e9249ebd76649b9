"""Filter, price and rank the offers of a book. Pure: no clock, no network."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from gpubroker.catalog.clouds import offer_id
from gpubroker.catalog.gpus import model
from gpubroker.market.explain import funnel, near_misses
from gpubroker.market.filters import Filter, compile_query
from gpubroker.market.pricing import price_of, wanted_disk_gb
from gpubroker.market.results import SearchResult, SourceReport
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer
from gpubroker.model.query import Query, SortKey

_Measure = Callable[[Offer, Nanos | None], tuple[float | None, ...]]
"""Numbers to rank by, first one first; None where the offer does not tell."""

_LOW_FIRST = frozenset({"price", "price-per-gpu"})
"""What is best when low; everything else is best when high."""


def search_offers(
    offers: Sequence[Offer],
    query: Query,
    *,
    now: datetime,
    sources: Mapping[str, SourceReport],
    sort: SortKey = "price",
    descending: bool | None = None,
    limit: int | None = None,
) -> SearchResult:
    """What matches, best first.

    `descending=None` puts the best first, whatever the sort; True the greatest value, False the
    least. An offer without the value comes last either way. The order is total: equal offers stand
    by price, then by id.
    """
    filters = compile_query(query)
    disk_gb = wanted_disk_gb(query)
    matches, steps = funnel(offers, filters, strict=query.strict)
    priced = [(offer, price_of(offer, disk_gb)) for offer in matches]
    if descending is None:
        descending = sort not in _LOW_FIRST
    key = _order(sort, descending=descending)
    if limit is not None and limit * 4 < len(priced):
        ranked = heapq.nsmallest(limit, priced, key=key)
    else:
        ranked = sorted(priced, key=key)[:limit]
    shown = tuple(offer for offer, _ in ranked)
    prices = [price for _, price in priced if price is not None]
    misses = () if matches else near_misses(offers, filters, strict=query.strict, disk_gb=disk_gb)
    return SearchResult(
        offers=shown,
        total=len(matches),
        scanned=len(offers),
        sources=sources,
        funnel=steps,
        nearest=misses,
        median=_median(prices),
        now=now,
        disk_gb=disk_gb,
        unknown={} if query.strict else _marks(shown, filters),
    )


def _median(prices: Sequence[Nanos]) -> Nanos | None:
    """The middle price, half-even between two. The statistics module costs a command 10 ms."""
    if not prices:
        return None
    ordered = sorted(prices)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return Nanos(round((ordered[middle - 1] + ordered[middle]) / 2))


def _marks(offers: Sequence[Offer], filters: Sequence[Filter]) -> dict[str, tuple[str, ...]]:
    marks = {}
    for offer in offers:
        untold = tuple(entry.label for entry in filters if entry.test(offer) is None)
        if untold:
            marks[offer_id(offer.provider, offer.key)] = untold
    return marks


def _performance(offer: Offer, _price: Nanos | None) -> tuple[float | None, ...]:
    known = model(offer.gpu.name)
    if known is None:
        return (None, None, None)
    return (known.performance_score, known.fp16_tflops, known.memory_bandwidth_gbs)


def _per_dollar(offer: Offer, price: Nanos | None) -> tuple[float | None, ...]:
    """Score of all the machine's GPUs together, per nano-dollar."""
    known = model(offer.gpu.name)
    if known is None or not price:
        return (None,)
    return (known.performance_score * offer.gpu_count * offer.gpu.fraction / price,)


_MEASURES: Mapping[SortKey, _Measure] = {
    "price": lambda _, price: (price,),
    "price-per-gpu": lambda offer, price: (
        None if price is None else price / max(offer.gpu_count, 1),
    ),
    "performance": _performance,
    "performance-per-dollar": _per_dollar,
    "reliability": lambda offer, _: (offer.reliability,),
    "vram": lambda offer, _: (offer.gpu.memory_gb or None,),
}


def _order(
    sort: SortKey, *, descending: bool
) -> Callable[[tuple[Offer, Nanos | None]], tuple[object, ...]]:
    measure = _MEASURES[sort]
    sign = -1 if descending else 1

    def key(row: tuple[Offer, Nanos | None]) -> tuple[object, ...]:
        offer, price = row
        ranks = [
            part
            for value in measure(offer, price)
            for part in ((True, 0) if value is None or math.isnan(value) else (False, sign * value))
        ]
        return (
            *ranks,
            price is None,
            price or 0,
            offer.provider,
            offer.account,
            offer.key,
        )

    return key
