"""The shipped price snapshot: what a machine cost when it was last written down.

A row is a price, not stock: availability is unknown, and it cannot be rented as it stands. It says
when it was written, and gives way to a provider's own answer. One file a provider in `data/offers`,
facts of public price lists (each names its source); GPUs and places are told there as the rest of
the catalog reads them, so that showing them takes no reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from gpubroker.model.gpu import Gpu, Vendor
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market, Source

FOLDER = Path(__file__).parent / "data" / "offers"


class Site(Struct, frozen=True, array_like=True):
    """A place where a provider sells."""

    region: str
    """The vendor's own words, "" where a price is told without a place."""
    country: str
    area: str


class Row(Struct, frozen=True, array_like=True):
    """One price of one machine, at every place that has it."""

    id: str
    """Unique in the sheet, URL-safe, the same at every start."""
    raw: str
    """The GPU as the vendor spells it."""
    gpu: str
    memory_gb: float
    """Of one GPU."""
    form: str
    vendor: Vendor
    count: int
    usd_per_hour: str
    """Of the whole machine."""
    places: tuple[int, ...]
    """Of the sheet."""
    market: Market = Market.ON_DEMAND
    vcpus: float | None = None
    ram_gb: float | None = None
    arch: Literal["x86_64", "arm64"] = "x86_64"
    upstream: str = ""


class Sheet(Struct, frozen=True):
    """What one provider asked."""

    provider: str
    as_of: date
    """Not newer than this."""
    source: str
    kind: Kind
    places: tuple[Site, ...]
    rows: tuple[Row, ...]


@cache
def shipped_providers() -> tuple[str, ...]:
    """Providers with a shipped snapshot."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


@cache
def shipped_offers(provider: str) -> tuple[Offer, ...]:
    """The catalog rows of a provider; () where none are shipped."""
    if provider not in shipped_providers():
        return ()
    sheet = msgspec.json.decode((FOLDER / f"{provider}.json").read_bytes(), type=Sheet)
    as_of = datetime.combine(sheet.as_of, time(), UTC)
    return tuple(offer for row in sheet.rows for offer in _offers(sheet, row, as_of))


def _offers(sheet: Sheet, row: Row, as_of: datetime) -> Iterator[Offer]:
    gpu = Gpu(row.gpu, row.raw, row.memory_gb, row.form, row.vendor)
    price = Price(compute=nanos(row.usd_per_hour))
    for at in row.places:
        site = sheet.places[at]
        yield Offer(
            provider=sheet.provider,
            account="",
            key=f"catalog:{row.id}:{url_safe(site.region)}",
            gpu=gpu,
            gpu_count=row.count,
            kind=sheet.kind,
            market=row.market,
            vcpus=row.vcpus,
            ram_gb=row.ram_gb,
            arch=row.arch,
            region=site.region,
            country=site.country or None,
            area=site.area,
            price=price,
            availability=Availability.UNKNOWN,
            upstream=row.upstream or None,
            source=Source.CATALOG,
            fetched_at=as_of,
        )


def url_safe(text: str) -> str:
    """Letters and digits of ASCII, a hyphen for all else."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text).strip("-")
