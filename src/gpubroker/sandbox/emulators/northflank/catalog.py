"""Northflank's regions with their GPUs, and its plans: told to anybody, without a key."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import msgspec
from msgspec import Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.northflank.words import check_query, data
from gpubroker.sandbox.stock import Slot

NANOS_PER_CENT = 10_000_000


class Region(Struct, frozen=True):
    """A place, with or without GPUs. `gcp`: what Google calls it."""

    id: str
    name: str
    group: str
    gcp: str


class Plan(Struct, frozen=True):
    """A size without GPU; dollars."""

    id: str
    vcpu: float
    ram_mb: int
    month: float
    hour: float


class Sheet(Struct, frozen=True):
    """The rest of data/northflank.json."""

    regions: tuple[Region, ...]
    plans: tuple[Plan, ...]
    volume_gb_month: float


@cache
def sheet() -> Sheet:
    """Read when first asked for."""
    file = resources.files("gpubroker.sandbox.data") / "northflank.json"
    return msgspec.json.decode(file.read_bytes(), type=Sheet)


def sold(cloud: Cloud, region: str, device: str) -> dict[int, Slot]:
    """Number of GPUs -> what is sold of a device in a region."""
    slots = cloud.stock.by_gpu.get(device, ())
    return {slot.gpu_count: slot for slot in slots if slot.place == region}


def plan_of(slot: Slot) -> str:
    """A GPU's plan goes with its device and count."""
    return f"nf-gpu-{slot.gpu}-{slot.gpu_count}g"


def _device_json(cloud: Cloud, slots: dict[int, Slot], now: float) -> dict[str, Any]:
    count, slot = max(slots.items())
    cents = cloud.stock.price(slot, now) / count / NANOS_PER_CENT
    return {
        "id": slot.gpu,
        "name": slot.facts["device"],
        "manufacturer": "NVIDIA",
        "memoryInfo": {"sizeInMiB": cloud.gpu(slot.gpu).memory_mib},
        "countOptions": sorted(slots),
        # Cents for each GPU, where plans are told in dollars.
        "pricing": {"onDemand": round(cents, 4)},
    }


async def regions(api: Emulator, call: Call) -> Response:
    """GET regions: whether a device can be had at the moment is not told."""
    check_query(call)
    cloud = api.cloud
    devices = [gpu.name for gpu in cloud.facts.gpus]
    rows: list[dict[str, Any]] = []
    for region in sheet().regions:
        found = [slots for device in devices if (slots := sold(cloud, region.id, device))]
        told = [_device_json(cloud, slots, call.now) for slots in found]
        rows.append(
            {
                "id": region.id,
                "name": region.name,
                "regionName": region.group,
                "provider": {"id": "gcp", "region": region.gcp},
                "gpuDevices": told,
            }
        )
    if cloud.faults.take("offers", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    return data({"regions": rows})


async def plans(_api: Emulator, call: Call) -> Response:
    """GET plans: those of GPUs are not listed."""
    check_query(call)
    rows = [
        {
            "id": plan.id,
            "name": plan.id,
            "currency": "usd",
            "amountPerMonth": plan.month,
            "amountPerHour": plan.hour,
            "cpuResource": plan.vcpu,
            "ramResource": plan.ram_mb,
        }
        for plan in sheet().plans
    ]
    return data({"plans": rows})
