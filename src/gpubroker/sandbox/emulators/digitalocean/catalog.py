"""What DigitalOcean offers: sizes with the regions that have some, and regions."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from gpubroker.model.money import Nanos, usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.digitalocean.words import PAGED, REGIONS, check_query, paged
from gpubroker.sandbox.stock import Slot

_HOURS_PER_MONTH = 744
_FEATURES = ("backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer")
_MBPS = {"gpu": 10_000, "cpu": 2_000}


def gpu_json(cloud: Cloud, gpu: str, count: int) -> dict[str, Any]:
    """`vram` is of all GPUs together."""
    each = next(s.facts["vram_gib"] for s in cloud.stock.slots.values() if s.gpu == gpu)
    return {"count": count, "vram": {"amount": each * count, "unit": "gib"}, "model": gpu}


def disks_json(slot: Slot) -> list[dict[str, Any]]:
    """The disk that stays, and the one that does not outlive a power-off."""
    disks = [{"type": "local", "size": {"amount": int(slot.disk_max_gb), "unit": "gib"}}]
    if scratch := slot.facts.get("scratch_gib"):
        disks.append({"type": "scratch", "size": {"amount": scratch, "unit": "gib"}})
    return disks


def size_json(cloud: Cloud, slot: Slot, rate: Nanos, regions: list[str]) -> dict[str, Any]:
    """A size at that price."""
    row = {
        "slug": slot.facts["size"],
        "memory": slot.ram_mb,
        "vcpus": int(slot.vcpus),
        "disk": int(slot.disk_max_gb),
        "transfer": float(slot.facts["transfer"]),
        "price_monthly": round(usd(rate) * _HOURS_PER_MONTH, 2),
        "price_hourly": usd(rate),
        "regions": regions,
        "available": True,
        "description": slot.facts["description"],
        "networking_throughput": _MBPS["gpu" if slot.gpu_count else "cpu"],
        "disk_info": disks_json(slot),
    }
    if slot.gpu_count:
        row["gpu_info"] = gpu_json(cloud, slot.gpu, slot.gpu_count)
    return row


def slots_of(cloud: Cloud, size: str) -> dict[str, Slot]:
    """By region, where the size is sold at all."""
    return {s.place: s for s in cloud.stock.slots.values() if s.facts["size"] == size}


def regions_of(cloud: Cloud, size: str) -> list[str]:
    """Those that have some of it now."""
    return [place for place, slot in slots_of(cloud, size).items() if cloud.stock.free(slot)]


async def sizes(api: Emulator, call: Call) -> Response:
    """GET sizes: one that is sold out has no regions, and is `available` all the same."""
    check_query(call, PAGED)
    cloud = api.cloud
    none_left = cloud.faults.take("offers", "no_capacity")
    first = {slot.facts["size"]: slot for slot in reversed(cloud.stock.slots.values())}
    rows = [
        size_json(
            cloud,
            first[name],
            cloud.stock.price(first[name], call.now),
            [] if none_left else regions_of(cloud, name),
        )
        for name in dict.fromkeys(slot.facts["size"] for slot in cloud.stock.slots.values())
    ]
    return paged(api, call, "sizes", rows)


def region_json(cloud: Cloud, slug: str) -> dict[str, Any]:
    """As it is told everywhere."""
    slots = cloud.stock.slots.values()
    sold = dict.fromkeys(slot.facts["size"] for slot in slots if slot.place == slug)
    return {
        "name": REGIONS[slug],
        "slug": slug,
        "features": list(_FEATURES),
        "available": True,
        "sizes": list(sold),
    }


async def regions(api: Emulator, call: Call) -> Response:
    """GET regions."""
    check_query(call, PAGED)
    return paged(api, call, "regions", [region_json(api.cloud, slug) for slug in REGIONS])
