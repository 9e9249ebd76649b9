"""What DigitalOcean sells: sizes of Droplets, each in the regions that have it now."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from gpubroker.catalog.gpus import resolve
from gpubroker.catalog.shapes import shape
from gpubroker.model.gpu import Gpu
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market
from gpubroker.providers.fields import Amount, Count, Usd, Word
from gpubroker.providers.offering import Gathered, live, placed
from gpubroker.providers.quarantine import Rejected, RowReader

NAME = "digitalocean"
MINIMUM_S = 60
""""Per second, with a minimum charge of 60 seconds" (DigitalOcean changelog, January 2026)."""

_SPOT = re.compile(r"-spot\b")


class Memory(Struct):
    """Of all GPUs together, in GiB."""

    amount: Amount | None = None


class Gpus(Struct):
    """What a size or a Droplet has of them."""

    count: Count
    model: Word = ""
    vram: Memory | None = None


class Size(Struct):
    """A Droplet as it is sold."""

    slug: Word
    price_hourly: Usd
    regions: tuple[Word, ...]
    memory: Amount | None = None
    """MiB."""
    vcpus: Count | None = None
    disk: Amount | None = None
    """GB that outlive a reboot; the scratch disk does not."""
    available: bool = True
    gpu_info: Gpus | None = None


_sizes = RowReader(Size, under="sizes", provider=NAME)


def parse_offers(
    body: bytes, *, account: str, fetched_at: datetime
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """One offer a size and region, and the sizes that are none with the reason.

    A size without a region is sold out, or not open to this account: one offer without a region.
    Sizes without GPU are left out. Raises BadResponse where it is no answer of this call.
    """
    sizes, rejected = _sizes.read(body)
    shared = live(NAME, account, Kind.VM, fetched_at)
    found = Gathered(rejected)
    for size in sizes:
        gpu, count = gpus_of(size.slug, size.gpu_info)
        if gpu is None:
            continue
        for region in size.regions or ("",):
            found.add(size, _offer(size, gpu, count, region, shared))
    return found.told()


def gpus_of(slug: str, told: Gpus | None) -> tuple[Gpu | None, int]:
    """One of a size's GPUs, and how many there are; (None, 0) where it has none."""
    by_name = shape(NAME, slug)
    count = told.count if told else by_name.count if by_name else 0
    if not count:
        return None, 0
    memory = told.vram.amount if told and told.vram else None
    each = memory / count if memory else None
    gpu = resolve(slug, memory_gb=each)
    if gpu.name is None and told and told.model:
        gpu = resolve(told.model, memory_gb=each)
    return gpu, count


def _offer(size: Size, gpu: Gpu, count: int, region: str, shared: Mapping[str, Any]) -> Offer:
    there = bool(region) and size.available
    return Offer(
        **shared,
        **placed(region, provider=NAME),
        key=f"{size.slug}:{region}" if region else size.slug,
        gpu=gpu,
        gpu_count=count,
        market=Market.SPOT if _SPOT.search(size.slug) else Market.ON_DEMAND,
        vcpus=size.vcpus or None,
        ram_gb=size.memory / 1024 if size.memory else None,
        disk_gb=size.disk or None,
        price=Price(compute=nanos(size.price_hourly), minimum_s=MINIMUM_S),
        # "Region slugs where this size is available for Droplet creates" (API, sizes).
        availability=Availability.YES if there else Availability.NO,
        datacenter=True,
    )
