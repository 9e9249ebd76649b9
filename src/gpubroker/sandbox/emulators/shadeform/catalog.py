"""What Shadeform offers: types of many clouds with their regions, and volumes.

One price for a machine, in whole US cents an hour; a spot machine's stands with its region, in
dollars, as text. A region is listed once for each of the two ways to rent.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from gpubroker.model.money import Nanos, usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.shadeform.words import check_query, invalid
from gpubroker.sandbox.stock import Slot

_NANOS_PER_CENT = 10_000_000
_FILTERS = ("cloud", "region", "num_gpus", "gpu_type", "shade_instance_type", "available", "sort")
_LEGACY = (
    "memory_in_gb", "storage_in_gb", "vcpus", "num_gpus", "gpu_type", "interconnect", "nvlink",
)  # fmt: skip
"""Fields of the configuration that older clients read beside it."""

ON_DEMAND, SPOT = "on_demand", "spot"


class VolumeType(Struct, frozen=True):
    """A kind of volume, in one region of one cloud. USD per GB and hour."""

    cloud: str
    region: str
    price: float
    fixed_size: bool = True
    supports_multi_mount: bool = False

    def json(self) -> dict[str, Any]:
        """As the list answers it."""
        return {
            "cloud": self.cloud,
            "region": self.region,
            "supports_multi_mount": self.supports_multi_mount,
            "fixed_size": self.fixed_size,
            "price_per_gb_per_hour": f"{self.price:.5f}",
        }


VOLUME_TYPES = (
    VolumeType("datacrunch", "FIN-01", 0.00028),
    VolumeType("nebius", "eu-north1", 0.0001, fixed_size=False, supports_multi_mount=True),
    VolumeType("digitalocean", "toronto-canada-1", 0.00015),
)


def cents(rate: Nanos) -> int:
    """US cents an hour."""
    return round(rate / _NANOS_PER_CENT)


def dollars(rate: Nanos) -> str:
    """Dollars an hour, as text."""
    return f"{usd(rate):.2f}"


def rental_type(slot: Slot) -> str:
    """In which of the two ways it is rented."""
    return SPOT if slot.facts["spot"] else ON_DEMAND


def configuration(slot: Slot) -> dict[str, Any]:
    """What types and instances have in common; of a type the systems come to it."""
    facts = slot.facts
    return {
        "memory_in_gb": slot.ram_mb // 1024,
        "storage_in_gb": int(slot.disk_max_gb),
        "vcpus": int(slot.vcpus),
        "num_gpus": slot.gpu_count,
        "gpu_type": facts["gpu_type"],
        "interconnect": facts["interconnect"],
        "nvlink": facts["interconnect"].startswith("sxm"),
        "vram_per_gpu_in_gb": facts["vram"],
        "gpu_manufacturer": facts["manufacturer"],
    }


def sold(cloud: Cloud, provider: str, type_: str, region: str) -> dict[str, Slot]:
    """By rental type, where the type is sold there at all."""
    return {
        rental_type(slot): slot
        for slot in cloud.stock.slots.values()
        if (slot.facts["cloud"], slot.facts["type"], slot.place) == (provider, type_, region)
    }


def _type_json(slot: Slot, rate: Nanos) -> dict[str, Any]:
    facts, common = slot.facts, configuration(slot)
    return {
        "cloud": facts["cloud"],
        "shade_instance_type": facts["type"],
        "cloud_instance_type": facts["cloud_type"],
        "configuration": {**common, "os_options": list(facts["systems"])},
        **{name: common[name] for name in _LEGACY},
        "hourly_price": cents(rate),
        "deployment_type": facts["deployment"],
        "boot_time": boot_time(slot),
        "availability": [],
    }


def boot_time(slot: Slot) -> dict[str, int]:
    """The vendor's estimate, in seconds."""
    least, most = slot.facts["boot"]
    return {"min_boot_in_sec": least, "max_boot_in_sec": most}


def _availability_json(cloud: Cloud, slot: Slot, now: float, *, none_left: bool) -> dict[str, Any]:
    row = {
        "region": slot.place,
        "available": cloud.stock.free(slot) and not none_left,
        "display_name": slot.facts["place_name"],
        "rental_type": rental_type(slot),
    }
    if slot.facts["spot"]:
        row["hourly_price"] = dollars(cloud.stock.price(slot, now))
    return row


def _wanted(row: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    places = row["availability"]
    return all(
        (
            query.get("cloud") in (None, row["cloud"]),
            query.get("gpu_type") in (None, row["gpu_type"]),
            query.get("num_gpus") in (None, str(row["num_gpus"])),
            query.get("shade_instance_type") in (None, row["shade_instance_type"]),
            "region" not in query or any(one["region"] == query["region"] for one in places),
            query.get("available") != "true" or any(one["available"] for one in places),
            query.get("available") != "false" or not any(one["available"] for one in places),
        )
    )


async def instance_types(api: Emulator, call: Call) -> Response:
    """GET instances/types: filters choose types, and leave each with all of its regions.

    In no order, unless it is asked for.
    """
    query = dict(check_query(call, _FILTERS))
    if query.get("available") not in (None, "true", "false"):
        raise invalid("available must be a boolean")
    if query.get("sort") not in (None, "price"):
        raise invalid("sort must be price")
    cloud, faults = api.cloud, api.cloud.faults
    if query and faults.take("offers", "ignored_field"):
        query = {}
    none_left = faults.take("offers", "no_capacity") is not None
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for slot in sorted(cloud.stock.slots.values(), key=lambda one: bool(one.facts["spot"])):
        key = (slot.facts["cloud"], slot.facts["type"])
        row = found.setdefault(key, _type_json(slot, cloud.stock.price(slot, call.now)))
        row["availability"].append(_availability_json(cloud, slot, call.now, none_left=none_left))
    rows = [row for row in found.values() if _wanted(row, query)]
    random.Random(int(call.now)).shuffle(rows)  # noqa: S311 - no order, the same in a test
    if "sort" in query:
        rows.sort(key=lambda row: int(row["hourly_price"]))
    if faults.take("offers", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    return answer({"instance_types": rows})


async def volume_types(_: Emulator, call: Call) -> Response:
    """GET volumes/types."""
    check_query(call)
    return answer({"volume_types": [one.json() for one in VOLUME_TYPES]})
