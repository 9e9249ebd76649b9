"""What Hyperstack offers: flavors by GPU and region, the price book, stock, regions, images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from gpubroker.model.money import usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.hyperstack.words import (
    REGIONS,
    check_query,
    check_region,
    done,
    flag,
    page_of,
    spoilt,
)
from gpubroker.sandbox.stock import Slot

VOLUME_TYPE = "Cloud-SSD"
USD_PER_HOUR: Mapping[str, float] = {
    "vCPU": 0.0086,
    "RAM": 0.0013,
    VOLUME_TYPE: 0.0000967741935484,
    "Public IP": 0.00672,
}
"""What the price book has beside the GPUs: per unit, or per GB."""
_MADE = "2025-03-05T16:13:05"
_MANY = 200
"""Stock beyond this is told as "200+"."""
_COUNTS = (1, 2, 4, 8, 10)


class Image(Struct, frozen=True):
    """One system in one region."""

    id: int
    name: str
    region: str
    version: str

    def json(self) -> dict[str, Any]:
        """As the list answers it."""
        return {
            "id": self.id,
            "name": self.name,
            "description": self.name,
            "region_name": self.region,
            "type": "Ubuntu",
            "version": self.version,
            "size": 2_361_393_152,
            "display_size": "2.2 GB",
            "is_public": True,
            "labels": [],
        }


_SYSTEMS = (
    ("Ubuntu Server 22.04 LTS R535 CUDA 12.2", "22.04"),
    ("Ubuntu Server 22.04 LTS R535 CUDA 12.2 with Docker", "22.04"),
    ("Ubuntu Server 24.04 LTS R570 CUDA 12.8 with Docker", "24.04"),
    ("Ubuntu Server 24.04 LTS (Noble Numbat)", "24.04"),
)
IMAGES = tuple(
    Image(number * 10 + place, name, region, version)
    for region, (place, _, _) in REGIONS.items()
    for number, (name, version) in enumerate(_SYSTEMS, 1)
)


def gpu_of(slot: Slot) -> str:
    """As flavors tell it: nothing where there is none."""
    return slot.gpu if slot.gpu_count else ""


def flavor_json(slot: Slot) -> dict[str, Any]:
    """What a flavor is, as instances tell it too. RAM and disks in GB."""
    facts = slot.facts
    return {
        "id": facts["id"],
        "name": facts["flavor"],
        "cpu": int(slot.vcpus),
        "ram": slot.ram_mb / 1024,
        "disk": int(slot.disk_max_gb),
        "ephemeral": facts["ephemeral"],
        "gpu": gpu_of(slot),
        "gpu_count": slot.gpu_count,
        "labels": [
            {"id": number, "label": label}
            for number, label in enumerate(("network-optimised", "no-hibernation"), 1)
            if label in facts["labels"]
        ],
        "features": {
            "network_optimised": "network-optimised" in facts["labels"],
            "no_hibernation": "no-hibernation" in facts["labels"],
            "no_snapshot": False,
            "local_storage_only": False,
        },
    }


def flavors_named(cloud: Cloud, name: str) -> dict[str, Slot]:
    """By region: a name is sold in several, and need not be the same machine there."""
    slots = cloud.stock.slots.values()
    return {slot.place: slot for slot in slots if slot.facts["flavor"] == name}


def free_count(cloud: Cloud, slot: Slot) -> int:
    """How many of a flavor can be had now."""
    if not cloud.stock.free(slot):
        return 0
    held = sum(m.holds_slot for m in cloud.machines.values() if m.order.slot == slot.key)
    return slot.quantity - held


async def flavors(api: Emulator, call: Call) -> Response:
    """GET core/flavors: grouped by GPU and region; of one region only, where it is named."""
    query = check_query(call, ("region",))
    cloud, faults = api.cloud, api.cloud.faults
    only = check_region(query["region"]) if "region" in query else None
    if only and faults.take("offers", "ignored_field"):
        only = None
    none_left = faults.take("offers", "no_capacity")
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for slot in cloud.stock.slots.values():
        if only not in (None, slot.place):
            continue
        gpu = gpu_of(slot)
        group = {"gpu": gpu, "region_name": slot.place, "flavors": []}
        row = {
            **flavor_json(slot),
            "display_name": slot.facts["flavor"],
            "region_name": slot.place,
            "stock_available": free_count(cloud, slot) > 0 and not none_left,
            "created_at": _MADE,
        }
        groups.setdefault((gpu, slot.place), group)["flavors"].append(row)
    return done("Getting flavors successful", data=spoilt(api, call, list(groups.values())))


async def pricebook(api: Emulator, call: Call) -> Response:
    """GET pricebook: a bare array; a GPU's price is for one, the same in all regions."""
    check_query(call)
    stock = api.cloud.stock
    prices: dict[str, float] = {}
    for slot in stock.slots.values():
        if slot.gpu_count:
            prices.setdefault(slot.gpu, usd(stock.price(slot, call.now)) / slot.gpu_count)
    rows = [
        {
            "id": number,
            "name": name,
            "value": round(price, 13),
            "original_value": round(price, 13),
            "discount_applied": False,
            "start_time": None,
            "end_time": None,
        }
        for number, (name, price) in enumerate({**prices, **USD_PER_HOUR}.items(), 1)
    ]
    return answer(spoilt(api, call, rows))


async def stocks(api: Emulator, call: Call) -> Response:
    """GET core/stocks: without the envelope. Free GPUs, and how many machines they make."""
    check_query(call)
    cloud = api.cloud
    none_left = cloud.faults.take("offers", "no_capacity")
    regions: dict[str, dict[str, dict[str, int]]] = {}
    for slot in cloud.stock.slots.values():
        if not slot.gpu_count:
            continue
        models = regions.setdefault(slot.place, {})
        sizes = models.setdefault(slot.gpu, {f"{count}x": 0 for count in _COUNTS})
        sizes[f"{slot.gpu_count}x"] += 0 if none_left else free_count(cloud, slot)
    rows = [
        {
            "region": region,
            "stock-type": "GPU",
            "models": [_stock_json(model, sizes) for model, sizes in models.items()],
        }
        for region, models in regions.items()
    ]
    return answer({"stocks": rows})


def _stock_json(model: str, sizes: Mapping[str, int]) -> dict[str, Any]:
    free = sum(int(size.rstrip("x")) * count for size, count in sizes.items())
    return {
        "model": model,
        "available": f"{_MANY}+" if free > _MANY else str(free),
        "planned_7_days": None,
        "planned_30_days": None,
        "planned_100_days": None,
        "configurations": sizes,
    }


async def regions(_: Emulator, call: Call) -> Response:
    """GET core/regions."""
    check_query(call)
    rows = [
        {
            "id": id_,
            "name": name,
            "description": name.replace("-", " ").title(),
            "country": country,
            "green_status": green,
            "features": {},
        }
        for name, (id_, country, green) in REGIONS.items()
    ]
    return done("Getting regions successful", regions=rows)


async def images(_: Emulator, call: Call) -> Response:
    """GET core/images: grouped by region; those of the customer's own there are none."""
    query = check_query(call, ("region", "include_public", "search", "page", "per_page"))
    only = check_region(query["region"]) if "region" in query else None
    words = query.get("search", "").lower()
    found = [
        image
        for image in IMAGES
        if flag(query, "include_public", otherwise=True)
        and only in (None, image.region)
        and words in image.name.lower()
    ]
    if "page" in query or "per_page" in query:
        found = page_of(query, found, "per_page")[0]
    groups: dict[str, list[Any]] = {}
    for image in found:
        groups.setdefault(image.region, []).append(image.json())
    rows = [
        {"region_name": region, "type": "Ubuntu", "logo": "ubuntu.png", "images": shown}
        for region, shown in groups.items()
    ]
    return done("Getting images successful", images=rows)
