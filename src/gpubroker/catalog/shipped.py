"""The shipped price snapshot: what a machine cost when it was last written down.

A row is a price, not stock: availability is unknown, and it cannot be rented as it stands. It says
when it was written, and gives way to a provider's own answer.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct

from gpubroker.catalog.gpus import resolve
from gpubroker.catalog.places import locate
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market, Source

_FOLDER = Path(__file__).parent / "data" / "offers"


class _Row(Struct, frozen=True, array_like=True):
    gpu: str
    """As the vendor spells it."""
    count: int
    memory_mib: float
    """Of one GPU."""
    usd_per_hour: str
    """Of the whole machine."""
    region: str


class _Sheet(Struct, frozen=True):
    provider: str
    as_of: date
    """Not newer than this."""
    source: str
    kind: Kind
    rows: tuple[_Row, ...]


@cache
def shipped_providers() -> tuple[str, ...]:
    """Providers with a shipped snapshot."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


@cache
def shipped_offers(provider: str) -> tuple[Offer, ...]:
    """The catalog rows of a provider; () where none are shipped."""
    if provider not in shipped_providers():
        return ()
    sheet = msgspec.json.decode((_FOLDER / f"{provider}.json").read_bytes(), type=_Sheet)
    as_of = datetime.combine(sheet.as_of, time(), UTC)
    return tuple(_offer(sheet, row, as_of) for row in sheet.rows)


def _offer(sheet: _Sheet, row: _Row, as_of: datetime) -> Offer:
    gpu = resolve(row.gpu, memory_mib=row.memory_mib)
    place = locate(row.region)
    return Offer(
        provider=sheet.provider,
        account="",
        key=_key(row),
        gpu=gpu,
        gpu_count=row.count,
        kind=sheet.kind,
        market=Market.ON_DEMAND,
        region=row.region,
        country=place.country,
        area=place.area,
        price=Price(compute=nanos(row.usd_per_hour)),
        availability=Availability.UNKNOWN,
        source=Source.CATALOG,
        fetched_at=as_of,
    )


def _key(row: _Row) -> str:
    """URL-safe and the same at every start: catalog:8x:RTX-5090:32607:Texas--US."""
    region = "".join(c if c.isascii() and c.isalnum() else "-" for c in row.region).strip("-")
    gpu = row.gpu.replace(" ", "-")
    return f"catalog:{row.count}x:{gpu}:{row.memory_mib:.0f}:{region}"
