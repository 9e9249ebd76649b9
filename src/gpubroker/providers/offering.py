"""The offers of one answer: what all of them share, and what no offer may be without."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from gpubroker.catalog.places import locate
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.terms import Kind, Source
from gpubroker.providers.quarantine import Rejected, mostly_sound, shortened

_PART = "[A-Za-z0-9._~-]{1,90}"
_KEY = re.compile(f"{_PART}(:{_PART})*")


def live(provider: str, account: str, kind: Kind, fetched_at: datetime) -> dict[str, Any]:
    """Fields that all offers of an answer share."""
    return {
        "provider": provider,
        "account": account,
        "kind": kind,
        "source": Source.LIVE,
        "fetched_at": fetched_at,
    }


def placed(
    region: str, described: str = "", country: str | None = None, *, provider: str = ""
) -> dict[str, Any]:
    """Fields that say where a machine stands, by the richest text that the vendor has for it."""
    place = locate(described or region, country, provider=provider)
    return {"region": region, "country": place.country, "area": place.area}


def page_of(
    rows: tuple[Offer, ...], rejected: tuple[Rejected, ...], *, whole: bool = True
) -> OfferPage:
    """All that a cloud sells. `whole`: whether all of its answer was read.

    Sold-out offers are told too: an answer without any is no evidence that all are gone.
    """
    complete = whole and bool(rows) and mostly_sound(len(rows), len(rejected))
    return OfferPage(None, complete, rows, rejected)


class Gathered:
    """The offers that the rows of an answer make, each key once; rows that make none, and why."""

    def __init__(self, rejected: list[Rejected]) -> None:
        self._offers: dict[str, Offer] = {}
        self._rejected = rejected

    def add(self, row: Any, offer: Offer) -> None:
        """Keeps an offer that has a GPU, a price and a key; else its row is put aside."""
        if fault := self._fault(offer):
            self.reject(row, fault)
        else:
            self._offers[offer.key] = offer

    def add_all(self, row: Any, offers: Iterable[Offer], otherwise: str) -> None:
        """The offers that one row makes; where it makes none, it is put aside for that reason."""
        told = tuple(offers)
        for offer in told:
            self.add(row, offer)
        if not told:
            self.reject(row, otherwise)

    def reject(self, row: Any, reason: str) -> None:
        """Puts a row aside."""
        self._rejected.append((shortened(row), reason))

    def told(self) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
        """All of it."""
        return tuple(self._offers.values()), tuple(self._rejected)

    def _fault(self, offer: Offer) -> str:
        if not offer.gpu.raw or offer.gpu_count < 1:
            return "no GPU"
        if offer.price.compute <= 0:
            return "no price"
        if not _KEY.fullmatch(offer.key):
            return "a type or region of another form"
        return "told twice" if offer.key in self._offers else ""
