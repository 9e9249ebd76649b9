"""What Lambda offers: instance types with the regions that have some, and images."""

from __future__ import annotations

import hashlib
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from gpubroker.model.money import Nanos
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.lambda_labs.words import (
    REGIONS,
    check_query,
    region_json,
    success,
)
from gpubroker.sandbox.stock import Slot

_NANOS_PER_CENT = 10_000_000
_MADE, _RENEWED = "2026-02-10T09:00:00.000000Z", "2026-08-04T09:00:00.000000Z"


class Image(Struct, frozen=True):
    """One system in one region."""

    id: str
    family: str
    name: str
    version: str
    architecture: str
    region: str

    def json(self) -> dict[str, Any]:
        """As the list answers it."""
        return {
            "id": self.id,
            "created_time": _MADE,
            "updated_time": _RENEWED,
            "name": self.name,
            "description": f"{self.name} for {self.architecture}",
            "family": self.family,
            "version": self.version,
            "architecture": self.architecture,
            "region": region_json(self.region),
        }


_SYSTEMS = (
    ("lambda-stack-22-04", "Lambda Stack 22.04", "22.4.5"),
    ("lambda-stack-24-04", "Lambda Stack 24.04", "24.4.5"),
    ("ubuntu-22-04", "Ubuntu Server 22.04", "22.4.5"),
    ("ubuntu-24-04", "Ubuntu Server 24.04", "24.4.5"),
)
NEWEST = "lambda-stack-24-04"
IMAGES = tuple(
    Image(
        id=hashlib.sha256(f"{family}/{arch}/{region}".encode()).hexdigest()[:32],
        family=family,
        name=name,
        version=version,
        architecture=arch,
        region=region,
    )
    for region in REGIONS
    for family, name, version in _SYSTEMS
    for arch in ("x86_64", "arm64")
)


def cents(rate: Nanos) -> int:
    """US cents an hour, as all prices are told."""
    return round(rate / _NANOS_PER_CENT)


def type_json(slot: Slot, rate: Nanos) -> dict[str, Any]:
    """An instance type at that price."""
    return {
        "name": slot.facts["type"],
        "description": slot.facts["description"],
        "gpu_description": slot.facts["gpu_description"],
        "price_cents_per_hour": cents(rate),
        "specs": {
            "vcpus": int(slot.vcpus),
            "memory_gib": slot.facts["memory_gib"],
            "storage_gib": int(slot.disk_max_gb),
            "gpus": slot.gpu_count,
        },
    }


def slots_of(cloud: Cloud, type_name: str) -> dict[str, Slot]:
    """By region, where the type is sold at all."""
    slots = cloud.stock.slots.values()
    return {slot.place: slot for slot in slots if slot.facts["type"] == type_name}


async def instance_types(api: Emulator, call: Call) -> Response:
    """GET instance-types: by name, sold out ones too."""
    check_query(call)
    stock, faults = api.cloud.stock, api.cloud.faults
    none_left = faults.take("offers", "no_capacity")
    times = 2 if faults.take("offers", "duplicate_list") else 1
    rows: dict[str, Any] = {}
    for slot in stock.slots.values():
        row = rows.setdefault(
            slot.facts["type"],
            {
                "instance_type": type_json(slot, stock.price(slot, call.now)),
                "regions_with_capacity_available": [],
            },
        )
        if stock.free(slot) and not none_left:
            row["regions_with_capacity_available"] += [region_json(slot.place)] * times
    return success(rows)


async def images(_: Emulator, call: Call) -> Response:
    """GET images: one row a region."""
    check_query(call)
    return success([image.json() for image in IMAGES])
