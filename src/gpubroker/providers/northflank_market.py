"""What Northflank sells: GPUs by region and count, each count a plan with its CPUs and RAM."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import asdict

from gpubroker.catalog.gpus import resolve
from gpubroker.model.money import Nanos, nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market
from gpubroker.providers.fields import Amount, Usd, Word, signed_nanos
from gpubroker.providers.offering import Gathered, live, placed
from gpubroker.providers.quarantine import Rejected, RowReader

NAME = "northflank"
MB_OF_GB = 1024
LONGEST_S = 604_800
"""Until the expiry: 7 days (Northflank API, create deployment service)."""


GpuCount = Annotated[int, Meta(ge=0, le=99)]


class MemoryInfo(Struct):
    """Of one GPU."""

    size: Amount = field(name="sizeInMiB")


class Pricing(Struct):
    """US cents an hour of one GPU."""

    on_demand: Usd = field(name="onDemand")


class GpuDevice(Struct):
    """One GPU model in one region."""

    id: Word
    pricing: Pricing
    memory: MemoryInfo = field(name="memoryInfo")
    counts: tuple[GpuCount, ...] = field(name="countOptions")


class Region(Struct):
    """One region; those without GPUs tell no devices."""

    id: Word
    name: Word = ""
    devices: tuple[Any, ...] | None = field(name="gpuDevices", default=None)


class Plan(Struct):
    """What a plan bundles, and what that costs an hour: dollars, where GPUs are told in cents.

    Only its name must be readable: an offer whose plan is damaged is none.
    """

    id: Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,200}$")]
    vcpus: Any = field(name="cpuResource", default=None)
    ram_mb: Any = field(name="ramResource", default=None)
    hour: Any = field(name="amountPerHour", default=None)


class Bundle(Struct, frozen=True):
    """What stands in a plan, once it is read."""

    vcpus: Amount
    ram_mb: Amount
    hour: Usd


_REGIONS = RowReader(Region, under="data.regions", provider=NAME)
_DEVICES = RowReader(GpuDevice, under="gpuDevices", provider=NAME)
_PLANS = RowReader(Plan, under="data.plans", provider=NAME)


def parse_offers(
    regions: bytes, plans: bytes, *, account: str, fetched_at: datetime
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """One offer a region, GPU model and count; vCPUs and RAM where the plan is told.

    "Pricing is per GPU per hour, on top of the bundled CPU/RAM" (Northflank's agent skills, plans):
    what a told plan costs is added. Where it is not told, nothing is known of it but that.
    """
    rows, rejected = _REGIONS.read(regions)
    bundles, broken = _PLANS.read(plans)
    rejected += broken
    known = {plan.id: plan for plan in bundles}
    shared, found = live(NAME, account, Kind.CONTAINER, fetched_at), Gathered(rejected)
    for region in rows:
        devices, damaged = _DEVICES.each(region.devices or ())
        rejected += damaged
        place = placed(region.id, provider=NAME)
        for device in devices:
            gpu = resolve(device.id, memory_mib=device.memory.size)
            for count in device.counts:
                name = f"nf-gpu-{device.id}-{count}g"
                if name not in known and broken:
                    found.reject(device, "its plan may be among those that cannot be read")
                    continue
                try:
                    bundle = _bundle(known.get(name))
                except msgspec.ValidationError as fault:
                    found.reject(device, f"{name}: {fault}")
                    continue
                gpus = in_dollars(device.pricing.on_demand * count)
                offer = Offer(
                    **shared,
                    **place,
                    key=f"{name}:{region.id}",
                    gpu=gpu,
                    gpu_count=count,
                    market=Market.ON_DEMAND,
                    vcpus=bundle.vcpus if bundle else None,
                    ram_gb=bundle.ram_mb / MB_OF_GB if bundle else None,
                    price=Price(compute=Nanos(gpus + nanos(bundle.hour)) if bundle else gpus),
                    availability=Availability.UNKNOWN,
                    max_hours=LONGEST_S / 3600,
                    datacenter=True,
                )
                found.add(device, offer)
    return found.told()


def _bundle(plan: Plan | None) -> Bundle | None:
    """None where the vendor lists no such plan; ValidationError where it cannot be read."""
    return msgspec.convert(asdict(plan), Bundle) if plan else None


def in_dollars(cents: float) -> Nanos:
    """Nano-dollars of US cents, parts of them too."""
    return signed_nanos(round(cents, 4) / 100)
