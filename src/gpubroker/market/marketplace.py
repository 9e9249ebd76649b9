"""The market of one realm: stored and shipped offers, refreshed where too old, and searched."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from msgspec import structs

from gpubroker.catalog.clouds import UnknownCloud, cloud
from gpubroker.catalog.shipped import shipped_offers, shipped_providers
from gpubroker.market.book import Book, Segment, cheapest_first
from gpubroker.market.freshness import report, stale
from gpubroker.market.results import SearchResult, SourceReport
from gpubroker.market.search import search_offers
from gpubroker.market.snapshots import Ignored, Snapshots
from gpubroker.model.query import Query, SortKey

if TYPE_CHECKING:
    from gpubroker.providers.base import Provider

Mode = Literal["auto", "live", "cached"]


class Marketplace:
    """Opens with what is stored and shipped; nothing is asked before a search."""

    def __init__(self, snapshots: Snapshots, *, shipped: bool = True) -> None:
        self._snapshots = snapshots
        segments, self.ignored = snapshots.load_all()
        self.book = Book(segments)
        if shipped:
            for provider in shipped_providers():
                if provider not in self.book.segments:
                    rows = cheapest_first(shipped_offers(provider))
                    self.book.put(Segment(provider, rows))

    ignored: tuple[Ignored, ...]
    """Stored files that could not be used."""

    def due(
        self, providers: Collection[str], query: Query, *, now: datetime, mode: Mode
    ) -> frozenset[str]:
        """Those of `providers` that this search has to ask first.

        `auto` asks the ones whose answer is older than their cadence, `live` all, `cached` none.
        """
        chosen = _names(query)
        asked = frozenset(name for name in providers if not chosen or name in chosen)
        if mode == "cached":
            return frozenset()
        return stale(self.book, asked, query, now=now) if mode == "auto" else asked

    def known(
        self,
        query: Query,
        providers: Collection[str],
        *,
        now: datetime,
        sort: SortKey = "price",
        descending: bool | None = None,
        limit: int | None = 20,
        keyless: Collection[str] = (),
        switched_off: Collection[str] = (),
        fresh: Mapping[str, SourceReport] = MappingProxyType({}),
    ) -> SearchResult:
        """Ranked offers by what is held; nobody is asked. `fresh`: reports of those just asked.

        Of clouds that are `switched_off` nothing is told.
        """
        offers = self.book.offers()
        if switched_off:
            offers = tuple(offer for offer in offers if offer.provider not in switched_off)
        sources = self._sources(query, fresh, providers, keyless)
        return search_offers(
            offers,
            query,
            now=now,
            sources={name: part for name, part in sources.items() if name not in switched_off},
            sort=sort,
            descending=descending,
            limit=limit,
        )

    async def search(
        self,
        query: Query,
        providers: Mapping[str, Provider],
        *,
        now: datetime,
        sort: SortKey = "price",
        descending: bool | None = None,
        limit: int | None = 20,
        mode: Mode = "auto",
        refresh_timeout_s: float = 3.0,
        keyless: Collection[str] = (),
        switched_off: Collection[str] = (),
    ) -> SearchResult:
        """Ranked offers with the part of every provider, those that are `due` asked before.

        `providers` are those that can be asked; `keyless` need credentials before they can rent.
        """
        due = self.due(providers, query, now=now, mode=mode)
        fresh: Mapping[str, SourceReport] = {}
        if due:
            from gpubroker.market.collector import refresh

            asked = {name: providers[name] for name in providers if name in due}
            fresh = await refresh(self.book, asked, query, timeout_s=refresh_timeout_s, now=now)
        for name, part in fresh.items():
            if not part.error:
                # The next process asks again where this one could not write.
                with contextlib.suppress(OSError):
                    self._snapshots.save(self.book.segment(name))
        return self.known(
            query,
            providers,
            now=now,
            sort=sort,
            descending=descending,
            limit=limit,
            keyless=keyless,
            switched_off=switched_off,
            fresh=fresh,
        )

    def _sources(
        self,
        query: Query,
        fresh: Mapping[str, SourceReport],
        providers: Collection[str],
        keyless: Collection[str],
    ) -> dict[str, SourceReport]:
        names = sorted({*self.book.segments, *providers})
        chosen = _names(query)
        reports = {
            name: fresh.get(name) or report(self.book.segment(name), query)
            for name in names
            if not chosen or name in chosen
        }
        return {
            name: structs.replace(part, needs_key=True) if name in keyless else part
            for name, part in reports.items()
        }


def _names(query: Query) -> frozenset[str]:
    names = set()
    for name in query.providers:
        try:
            names.add(cloud(name).name)
        except UnknownCloud:
            names.add(name)
    return frozenset(names)
