"""Why a search found what it found: the funnel, and the nearest miss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from gpubroker.catalog.clouds import offer_id
from gpubroker.market.filters import Filter
from gpubroker.market.pricing import price_of
from gpubroker.market.results import NearMiss, Removed
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer

_MOST_MISSES = 4


def funnel(
    offers: Iterable[Offer], filters: Sequence[Filter], *, strict: bool
) -> tuple[list[Offer], tuple[Removed, ...]]:
    """The offers that pass every filter, and what each filter left."""
    left = list(offers)
    steps: list[Removed] = []
    for entry in filters:
        test = entry.test
        if strict:
            left = [offer for offer in left if test(offer) is True]
        else:
            left = [offer for offer in left if test(offer) is not False]
        by_provider = Counter(offer.provider for offer in left)
        steps.append(Removed(entry.label, len(left), dict(by_provider)))
    return left, tuple(steps)


def near_misses(
    offers: Iterable[Offer], filters: Sequence[Filter], *, strict: bool, disk_gb: float
) -> tuple[NearMiss, ...]:
    """For each filter that alone keeps offers out, the smallest change that lets one in.

    Cheapest first. Empty where every offer fails two filters or more.
    """
    only: dict[int, list[Offer]] = {}
    for offer in offers:
        if (at := _only_failure(offer, filters, strict=strict)) is not None:
            only.setdefault(at, []).append(offer)
    found = [_miss(filters[at], kept_out, disk_gb) for at, kept_out in only.items()]
    found.sort(key=lambda miss: (miss.best is None, miss.best or 0, miss.change))
    return tuple(found[:_MOST_MISSES])


def _only_failure(offer: Offer, filters: Sequence[Filter], *, strict: bool) -> int | None:
    failed: int | None = None
    for at, entry in enumerate(filters):
        if not entry.passes(offer, strict=strict):
            if failed is not None:
                return None
            failed = at
    return failed


def _miss(entry: Filter, kept_out: Sequence[Offer], disk_gb: float) -> NearMiss:
    change, brought = entry.relaxed(kept_out)
    priced = [
        (price, offer_id(offer.provider, offer.key))
        for offer in brought
        if (price := price_of(offer, disk_gb)) is not None
    ]
    best: tuple[Nanos | None, str] = (
        min(priced) if priced else (None, offer_id(brought[0].provider, brought[0].key))
    )
    return NearMiss(change, len(brought), *best)
