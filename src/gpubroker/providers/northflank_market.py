"""What Northflank sells: GPUs by region and count, each count a plan with its CPUs and RAM."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct, field

from gpubroker.catalog.gpus import resolve
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market
from gpubroker.providers.fields import Amount, Count, Word, signed_nanos
from gpubroker.providers.offering import Gathered, live, placed
from gpubroker.providers.quarantine import Rejected, RowReader

NAME = "northflank"
MB_OF_GB = 1024
LONGEST_S = 604_800
"""Until the expiry: 7 days (Northflank API, create deployment service)."""


class MemoryInfo(Struct):
    """Of one GPU."""

    size: Amount = field(name="sizeInMiB")


class Pricing(Struct):
    """US cents an hour of one GPU."""

    on_demand: Amount = field(name="onDemand")


class GpuDevice(Struct):
    """One GPU model in one region."""

    id: Word
    pricing: Pricing
    memory: MemoryInfo = field(name="memoryInfo")
    counts: tuple[Count, ...] = field(name="countOptions", default=(1,))


class Region(Struct):
    """One region; those without GPUs tell no devices."""

    id: Word
    name: Word = ""
    devices: tuple[Any, ...] | None = field(name="gpuDevices", default=None)


class Plan(Struct):
    """What a plan bundles."""

    id: Word
    vcpus: Amount = field(name="cpuResource")
    ram_mb: Amount = field(name="ramResource")


_REGIONS = RowReader(Region, under="data.regions", provider=NAME)
_DEVICES = RowReader(GpuDevice, under="gpuDevices", provider=NAME)
_PLANS = RowReader(Plan, under="data.plans", provider=NAME)


def parse_offers(
    regions: bytes, plans: bytes, *, account: str, fetched_at: datetime
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """One offer a region, GPU model and count; vCPUs and RAM where the plan is told."""
    rows, rejected = _REGIONS.read(regions)
    bundles, broken = _PLANS.read(plans)
    rejected += broken
    known = {plan.id: plan for plan in bundles}
    shared, found = live(NAME, account, Kind.CONTAINER, fetched_at), Gathered(rejected)
    for region in rows:
        devices, broken = _DEVICES.each(region.devices or ())
        rejected += broken
        place = placed(region.id, provider=NAME)
        for device in devices:
            gpu = resolve(device.id, memory_mib=device.memory.size)
            for count in device.counts:
                name = f"nf-gpu-{device.id}-{count}g"
                plan = known.get(name)
                offer = Offer(
                    **shared,
                    **place,
                    key=f"{name}:{region.id}",
                    gpu=gpu,
                    gpu_count=count,
                    market=Market.ON_DEMAND,
                    vcpus=plan.vcpus if plan else None,
                    ram_gb=plan.ram_mb / MB_OF_GB if plan else None,
                    price=Price(compute=in_dollars(device.pricing.on_demand * count)),
                    availability=Availability.UNKNOWN,
                    max_hours=LONGEST_S / 3600,
                    datacenter=True,
                )
                found.add(device, offer)
    return found.told()


def in_dollars(cents: float) -> Nanos:
    """Nano-dollars of US cents, parts of them too."""
    return signed_nanos(round(cents, 4) / 100)
