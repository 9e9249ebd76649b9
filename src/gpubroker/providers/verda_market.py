"""What Verda sells: types with their prices, and where each is free.

Three answers make an offer: a type's price in each market, where it is free in that market, and
the names of those places. Types and prices are told to anyone, the others to an account alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from gpubroker.catalog.gpus import resolve
from gpubroker.model.gpu import Gpu
from gpubroker.model.money import FREE, HOURS_PER_MONTH, Nanos, nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market
from gpubroker.providers.fields import Amount, Count, Usd, Word
from gpubroker.providers.newest import newest
from gpubroker.providers.offering import Gathered, live, placed
from gpubroker.providers.quarantine import Rejected, RowReader

NAME = "verda"
INCREMENT_S = 600
"""Told by users; the vendor's interface says nothing of it."""
DEFAULT_IMAGE = "ubuntu-24.04-cuda-12.8-open-docker"
"""Of the vendor's own examples (its SDKs)."""
DISK_TYPE = "NVMe"

_COUNTED = re.compile(r"^\d+x\s+")
_ARM = ("GB", "GH")
"""GPUs on one board with an arm64 CPU."""

Money = float | str
"""In words or as a number; per hour, of the whole machine."""


class Sized(Struct, frozen=True):
    """Of the whole machine: `gpu_memory` is the sum of all GPUs."""

    size_in_gigabytes: Amount | None = None


class Cpu(Struct, frozen=True):
    """Its virtual ones."""

    number_of_cores: Count | None = None


class Gpus(Struct, frozen=True):
    """`8x H100 SXM5 80GB`; none of a CPU type."""

    number_of_gpus: Count
    description: Word = ""

    @property
    def name(self) -> str:
        """Without their number."""
        return _COUNTED.sub("", self.description)


class InstanceType(Struct):
    """One type, which is sold at a fixed price in each market."""

    instance_type: Word
    gpu: Gpus
    price_per_hour: Money
    spot_price: Money | None = None
    gpu_memory: Sized = Sized()
    memory: Sized = Sized()
    cpu: Cpu = Cpu()
    currency: Word = "usd"
    supported_os: tuple[Word, ...] | None = None


class Stocked(Struct):
    """The types that are free in one location."""

    location_code: Word
    availabilities: tuple[Word, ...]


class Location(Struct):
    """By its code, and in words: `Finland 1`."""

    code: Word
    name: Word = ""
    country_code: Word | None = None


class DiskPrice(Struct):
    """Of one GB in a month."""

    price_per_month_per_gb: Usd
    currency: Word = "usd"


class VolumeType(Struct):
    """A kind of storage."""

    type: Word
    price: DiskPrice


class Stock(Struct, frozen=True):
    """What only an account is told: where each type is free, and what a disk costs."""

    free: Mapping[Market, Sequence[Stocked]]
    places: Mapping[str, Location]
    disk_gb: Nanos = FREE
    """An hour of one GB."""

    def regions(self, instance_type: str, market: Market) -> tuple[str, ...]:
        """Where one can be had now."""
        there = self.free.get(market, ())
        return tuple(row.location_code for row in there if instance_type in row.availabilities)


_types = RowReader(InstanceType, under="", provider=NAME)


def parse_offers(
    body: bytes, *, account: str, fetched_at: datetime, stock: Stock | None
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """One offer a type, market and location where it is free; rows that are none, and why.

    What is sold out everywhere is one offer without a region; so is everything where no `stock`
    is known. Types without GPU are left out. Raises BadResponse where it is no answer of this call.
    """
    types, rejected = _types.read(body)
    shared = live(NAME, account, Kind.VM, fetched_at)
    found = Gathered(rejected)
    for kind in types:
        count = kind.gpu.number_of_gpus
        if not count:
            continue
        gpu = gpu_of(kind)
        sold = _prices(kind) if gpu.memory_gb and kind.currency.lower() == "usd" else ()
        offers = (
            _offer(kind, gpu, market, price, region, stock, shared)
            for market, price in sold
            for region in (stock and stock.regions(kind.instance_type, market)) or ("",)
        )
        found.add_all(kind, offers, "no GPU with its memory, or another currency")
    return found.told()


def gpu_of(kind: InstanceType) -> Gpu:
    """One of its GPUs, with its share of their memory."""
    together = kind.gpu_memory.size_in_gigabytes
    each = together / kind.gpu.number_of_gpus if together else None
    return resolve(kind.gpu.name, memory_gb=each)


def _prices(kind: InstanceType) -> Iterator[tuple[Market, Nanos]]:
    yield Market.ON_DEMAND, _nanos(kind.price_per_hour)
    if spot := _nanos(kind.spot_price):
        yield Market.SPOT, spot


def _nanos(amount: Money | None) -> Nanos:
    """FREE where it is no price."""
    try:
        return nanos(amount or 0)
    except (ValueError, ArithmeticError):
        return FREE


def _offer(
    kind: InstanceType,
    gpu: Gpu,
    market: Market,
    price: Nanos,
    region: str,
    stock: Stock | None,
    shared: Mapping[str, Any],
) -> Offer:
    place = stock and stock.places.get(region)
    empty = Availability.NO if stock else Availability.UNKNOWN
    return Offer(
        **shared,
        **placed(
            region,
            place.name if place else "",
            place.country_code if place else None,
            provider=NAME,
        ),
        key=":".join(filter(None, (kind.instance_type, market.value, region))),
        gpu=gpu,
        gpu_count=kind.gpu.number_of_gpus,
        market=market,
        vcpus=kind.cpu.number_of_cores or None,
        ram_gb=kind.memory.size_in_gigabytes or None,
        arch="arm64" if (gpu.name or "").startswith(_ARM) else "x86_64",
        price=Price(
            compute=price,
            disk_gb=stock.disk_gb if stock else FREE,
            disk_gb_stopped=stock.disk_gb if stock else FREE,
            increment_s=INCREMENT_S,
        ),
        availability=Availability.YES if region else empty,
        datacenter=True,
        launch={"image": image_of(kind)},
    )


def image_of(kind: InstanceType) -> str:
    """An image with Docker that the type takes: older GPUs do not take the newest; "" for none."""
    if kind.supported_os is None or DEFAULT_IMAGE in kind.supported_os:
        return DEFAULT_IMAGE
    return newest(kind.supported_os, "docker")


def disk_price(types: Sequence[VolumeType]) -> Nanos:
    """An hour of one GB of the system's disk. FREE where it is not told in USD."""
    of_ours = [kind.price for kind in types if kind.type == DISK_TYPE]
    in_usd = [price for price in of_ours if price.currency.lower() == "usd"]
    return nanos(in_usd[0].price_per_month_per_gb / HOURS_PER_MONTH) if in_usd else FREE
