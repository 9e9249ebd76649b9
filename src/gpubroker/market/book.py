"""What is known of the market, held in memory: one immutable segment a provider.

A refresh builds a new segment and swaps it in by reference; a search reads whatever reference it
finds, without a lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from gpubroker.market.coverage import Answer, covered_by, includes
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.terms import Source

_MOST_ANSWERS = 64
_FORGOTTEN_AFTER = timedelta(days=1)
_CLOCK_SLACK = timedelta(seconds=5)
"""An answer further in the future than this is from another clock: not fresh."""


class Segment(Struct, frozen=True):
    """What one provider sells, as far as it has told."""

    provider: str
    offers: tuple[Offer, ...] = ()
    """Cheapest first, by compute."""
    answers: tuple[Answer, ...] = ()
    """Newest first."""
    rejected: int = 0
    """Rows of the last refresh that made no sense."""

    def freshest(self, query: Query) -> Answer | None:
        """The newest answer that takes the query in."""
        return next((answer for answer in self.answers if includes(answer.asked, query)), None)

    def is_fresh(self, query: Query, *, now: datetime, within: timedelta) -> bool:
        """Whether the provider answered this lately enough."""
        answer = self.freshest(query)
        return answer is not None and -_CLOCK_SLACK <= now - answer.at < within

    def as_of(self, query: Query) -> datetime | None:
        """When the provider answered such a query, else how old its oldest row is."""
        if answer := self.freshest(query):
            return answer.at
        return min((offer.fetched_at for offer in self.offers), default=None)

    @property
    def from_catalog(self) -> bool:
        """Whether nothing of it comes from the provider itself."""
        return not self.answers and all(row.source is Source.CATALOG for row in self.offers)

    def refreshed(
        self, pages: Iterable[OfferPage], *, asked: Query, at: datetime, whole: bool
    ) -> Segment:
        """The segment after these pages. A cloud has one list, whichever account asked for it.

        A complete page replaces exactly what it covers, catalog rows included; an incomplete one
        adds and updates. `whole`: the provider answered to the end.
        """
        pages = tuple(pages)
        told = {offer.key: offer for page in pages for offer in page.rows}
        covers = [covered_by(page.covers) for page in pages if page.complete]
        kept = [
            offer
            for offer in self.offers
            if offer.key not in told
            and not _is_forgotten(offer, at)
            and not any(covered(offer) for covered in covers)
        ]
        answers = self.answers
        if whole:
            answer = Answer(asked, at, bool(pages) and all(page.complete for page in pages))
            older = tuple(
                old for old in answers if not includes(answer.asked, old.asked or Query())
            )
            answers = (answer, *older)[:_MOST_ANSWERS]
        return Segment(
            provider=self.provider,
            offers=cheapest_first([*kept, *told.values()]),
            answers=answers,
            rejected=sum(len(page.rejected) for page in pages),
        )


def _is_forgotten(offer: Offer, at: datetime) -> bool:
    """Incomplete answers only add: without an end to it, offers long gone would pile up."""
    return offer.source is not Source.CATALOG and at - offer.fetched_at > _FORGOTTEN_AFTER


def cheapest_first(offers: Iterable[Offer]) -> tuple[Offer, ...]:
    """By the compute price, then by key."""
    return tuple(sorted(offers, key=lambda offer: (offer.price.compute, offer.account, offer.key)))


class Book:
    """All segments. Readers see whole segments only."""

    def __init__(self, segments: Iterable[Segment] = ()) -> None:
        self._segments: Mapping[str, Segment] = {entry.provider: entry for entry in segments}
        self._writing = threading.Lock()

    @property
    def segments(self) -> Mapping[str, Segment]:
        """Provider -> what it sells; the mapping never changes, the next one replaces it."""
        return self._segments

    def segment(self, provider: str) -> Segment:
        """A provider's segment, empty where nothing is known."""
        return self._segments.get(provider) or Segment(provider)

    def put(self, segment: Segment) -> None:
        """Swap a segment in."""
        with self._writing:
            self._segments = {**self._segments, segment.provider: segment}

    def apply(
        self,
        provider: str,
        pages: Sequence[OfferPage],
        *,
        asked: Query,
        at: datetime,
        whole: bool,
    ) -> Segment:
        """Take in one refresh; what `Segment.refreshed` says, under the writers' lock."""
        with self._writing:
            segment = self.segment(provider).refreshed(pages, asked=asked, at=at, whole=whole)
            self._segments = {**self._segments, provider: segment}
        return segment

    def offers(self) -> tuple[Offer, ...]:
        """Every offer of every provider."""
        segments = self._segments
        return tuple(offer for entry in segments.values() for offer in entry.offers)
