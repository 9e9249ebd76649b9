"""Search of the book against SQLite and gpuhunt over the same rows, in the same run.

    python benchmarks/search.py [--rows N] [--gpuhunt PATH_TO_A_VENV]

All filter by GPU, market and price, sort by price and cut to 20; SQLite filters by country too,
gpuhunt cannot. Ours also prices the disk, builds the funnel and the median; SQLite gives ids only.
The venv must hold gpuhunt (0.1.34 was used) for the same Python version.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gpubroker.catalog.gpus import resolve, wanted
from gpubroker.catalog.places import locate
from gpubroker.market.search import search_offers
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.query import Query
from gpubroker.model.terms import Availability, Kind, Market, Source

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GPUS = ("RTX 4090", "RTX 3090", "H100 SXM", "A100 PCIE", "L40S", "RTX 5090", "RTX A6000", "B200")
REGIONS = ("Texas, US", "Ohio, US", "France, FR", "Taiwan, TW", "Quebec, CA", "Sweden, SE", ", US")
ROUNDS = 7
QUERY = Query(
    gpus=(wanted("RTX 4090"),),
    market=Market.ON_DEMAND,
    regions=("US",),
    max_price=nanos(2),
)
SQL = (
    "SELECT id FROM offers WHERE gpu = 'RTX 4090' AND market = 'on_demand' AND country = 'US'"
    " AND available != 'no' AND compute + disk_gb * 20 <= 2000000000"
    " ORDER BY compute + disk_gb * 20, id LIMIT 20"
)


def market_of(rows: int) -> tuple[Offer, ...]:
    chance = random.Random(1)  # noqa: S311 - the same market every time
    return tuple(an_offer(f"{number:06}", chance) for number in range(rows))


def an_offer(key: str, chance: random.Random) -> Offer:
    region = chance.choice(REGIONS)
    place = locate(region)
    return Offer(
        provider="vast_ai",
        account="default",
        key=key,
        gpu=resolve(chance.choice(GPUS)),
        gpu_count=chance.choice((1, 2, 4, 8)),
        kind=Kind.CONTAINER,
        market=chance.choice((Market.ON_DEMAND, Market.SPOT)),
        region=region,
        country=place.country,
        area=place.area,
        price=Price(compute=nanos(chance.uniform(0.1, 20)), disk_gb=nanos(0.0002)),
        availability=chance.choice(tuple(Availability)),
        source=Source.LIVE,
        fetched_at=NOW,
    )


def table_of(offers: tuple[Offer, ...]) -> sqlite3.Connection:
    table = sqlite3.connect(":memory:")
    table.execute("CREATE TABLE offers (id, gpu, market, country, available, compute, disk_gb)")
    table.executemany(
        "INSERT INTO offers VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                offer.key,
                offer.gpu.name,
                offer.market.value,
                offer.country,
                offer.availability.value,
                offer.price.compute,
                offer.price.disk_gb,
            )
            for offer in offers
        ],
    )
    return table


def best_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def gpuhunt_over(offers: tuple[Offer, ...], venv: Path) -> Callable[[], list[str]]:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    sys.path.append(str(venv / "lib" / version / "site-packages"))
    from gpuhunt import AcceleratorVendor, CatalogItem, QueryFilter  # type: ignore[import-not-found]  # of another venv
    from gpuhunt._internal.constraints import (  # type: ignore[import-not-found]  # likewise
        matches,
    )

    items = [
        CatalogItem(
            instance_name=offer.key,
            location=offer.region,
            price=(offer.price.compute + offer.price.disk_gb * 20) / 1e9,
            cpu=8,
            memory=64.0,
            gpu_count=offer.gpu_count,
            gpu_name=offer.gpu.name,
            gpu_vendor=AcceleratorVendor.NVIDIA,
            gpu_memory=offer.gpu.memory_gb,
            spot=offer.market is Market.SPOT,
            disk_size=None,
            provider=offer.provider,
        )
        for offer in offers
        if offer.availability is not Availability.NO
    ]
    query = QueryFilter(gpu_name=["RTX 4090"], spot=False, max_price=2.0)

    def search() -> list[str]:
        found = [item for item in items if matches(item, query)]
        found.sort(key=lambda item: (item.price, item.instance_name))
        return [item.instance_name for item in found[:20]]

    return search


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--gpuhunt", type=Path, default=os.environ.get("GPUBROKER_GPUHUNT_VENV"))
    options = parser.parse_args()
    offers = market_of(options.rows)
    table = table_of(offers)
    anywhere = msgspec.structs.replace(QUERY, regions=())

    def ours(query: Query) -> list[str]:
        found = search_offers(offers, query, now=NOW, sources={}, limit=20)
        return [offer.key for offer in found.offers]

    def sqlite() -> list[str]:
        return [key for (key,) in table.execute(SQL)]

    peers: list[tuple[str, Query, Callable[[], list[str]]]] = [("SQLite", QUERY, sqlite)]
    if options.gpuhunt:
        peers.append(("gpuhunt", anywhere, gpuhunt_over(offers, Path(options.gpuhunt))))
    for name, query, theirs in peers:
        assert ours(query) == theirs() != [], f"{name} must find the same offers"
        our_ms, their_ms = best_ms(functools.partial(ours, query)), best_ms(theirs)
        print(
            f"{options.rows} offers: search {our_ms:.2f} ms, {name} {their_ms:.2f} ms, "
            f"ratio {our_ms / their_ms:.2f}"
        )


if __name__ == "__main__":
    main()
