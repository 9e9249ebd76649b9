"""What a search answers: offers, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from msgspec import Struct

from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer

SourceStatus = Literal["live", "cached", "catalog", "error"]


class SourceReport(Struct, frozen=True, kw_only=True):
    """One provider's part in an answer."""

    status: SourceStatus
    """`live`: answered during this search. `error`: did not; its older rows stand."""
    as_of: datetime | None
    """When the provider answered; None where there is nothing of it."""
    error: str = ""
    offers: int
    """Rows held of it."""
    complete: bool
    """Whether the last answer held everything that was asked for."""
    rejected: int = 0
    """Rows of the last answer that made no sense."""
    needs_key: bool = False
    """Renting there needs credentials that are not set."""


class Removed(Struct, frozen=True):
    """One step of the funnel."""

    filter: str
    left: int
    by_provider: Mapping[str, int]
    """What is left, by provider; without those that have nothing left."""


class NearMiss(Struct, frozen=True):
    """One change of the query that would bring offers."""

    change: str
    """In the words of the command line: "raise --max-price to $14.32"."""
    offers: int
    best: Nanos | None
    """Cheapest of them."""
    example: str
    """Id of the cheapest."""


class SearchResult(Struct, frozen=True, kw_only=True):
    """Ranked offers, cut to the limit; the rest is about all matches."""

    offers: tuple[Offer, ...]
    total: int
    scanned: int
    sources: Mapping[str, SourceReport]
    funnel: tuple[Removed, ...]
    nearest: tuple[NearMiss, ...]
    """Only where nothing matches."""
    median: Nanos | None
    now: datetime
    disk_gb: float
    """What prices were computed for."""
    unknown: Mapping[str, tuple[str, ...]] = {}
    """Offer id -> filters whose value that offer does not tell: kept, not proven to fit."""
