"""What Lambda sells: types of machines, each in the regions that have some now."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct, field

from gpubroker.catalog.gpus import resolve
from gpubroker.model.gpu import Gpu
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market
from gpubroker.providers.fields import Amount, Count, Word, cents
from gpubroker.providers.offering import Gathered, live, placed
from gpubroker.providers.quarantine import Rejected, RowReader

NAME = "lambda_labs"
INCREMENT_S = 60
""""Bills in one-minute increments" (Lambda docs, billing)."""

_MEMORY = re.compile(r"\((\d{1,4}) GB")
_ARM = re.compile(r"\bG[BH]\d00\b")
"""GPUs on one board with an arm64 CPU."""


class Specs(Struct):
    """Of the whole machine."""

    gpus: Count
    vcpus: Count | None = None
    memory_gib: Amount | None = None
    storage_gib: Amount | None = None


class InstanceType(Struct):
    """What a machine is, the same in offers and on its record."""

    name: Word
    price_cents_per_hour: Count
    specs: Specs
    description: Word = ""
    gpu_description: Word = ""
    """`A100 (40 GB SXM4)`."""
    architecture: Word | None = None
    """Told by APIs newer than 1.8.3."""

    @property
    def price(self) -> Nanos:
        """An hour of the whole machine."""
        return cents(self.price_cents_per_hour)


class Region(Struct):
    """By its code, and in words: `Washington DC, USA`."""

    name: Word
    description: Word = ""


class Sold(Struct):
    """One type, and where it can be had now."""

    instance_type: InstanceType
    regions: tuple[Region, ...] = field(name="regions_with_capacity_available")


_types = RowReader(Sold, under="data", provider=NAME, keyed=True)
_NOWHERE = (Region(""),)


def parse_offers(
    body: bytes, *, account: str, fetched_at: datetime
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """One offer a type and region with capacity, and the types that are none with the reason.

    A type that is sold out everywhere is one offer without a region. Types without GPU are left
    out. Raises BadResponse where it is no answer of this call.
    """
    types, rejected = _types.read(body)
    shared = live(NAME, account, Kind.VM, fetched_at)
    found = Gathered(rejected)
    for sold in types:
        kind = sold.instance_type
        if not kind.specs.gpus:
            continue
        gpu = gpu_of(kind)
        places = sold.regions or _NOWHERE if gpu.memory_gb else ()
        offers = (_offer(kind, gpu, region, shared) for region in places)
        found.add_all(kind, offers, "no GPU with its memory")
    return found.told()


def gpu_of(kind: InstanceType) -> Gpu:
    """One of its GPUs; the memory is told in words alone."""
    raw = kind.gpu_description or kind.description
    told = _MEMORY.search(raw) or _MEMORY.search(kind.description)
    return resolve(raw, memory_gb=float(told[1]) if told else None)


def _offer(kind: InstanceType, gpu: Gpu, region: Region, shared: Mapping[str, Any]) -> Offer:
    arm = kind.architecture == "arm64" or bool(_ARM.search(kind.gpu_description.upper()))
    return Offer(
        **shared,
        **placed(region.name, region.description, provider=NAME),
        key=f"{kind.name}:{region.name}" if region.name else kind.name,
        gpu=gpu,
        gpu_count=kind.specs.gpus,
        market=Market.ON_DEMAND,
        vcpus=kind.specs.vcpus or None,
        ram_gb=kind.specs.memory_gib or None,
        disk_gb=kind.specs.storage_gib or None,
        arch="arm64" if arm else "x86_64",
        price=Price(compute=kind.price, increment_s=INCREMENT_S),
        availability=Availability.YES if region.name else Availability.NO,
        datacenter=True,
    )
