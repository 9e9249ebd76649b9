"""What Verda offers: instance types, where there are some, locations, images, and the balance."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from gpubroker.model.money import Nanos, usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.verda.words import (
    LOCATIONS,
    check_location,
    check_query,
    flag,
    invalid,
    not_found,
)
from gpubroker.sandbox.stock import Slot

EUR_PER_USD = 0.86
_CURRENCIES = ("usd", "eur")
_MONTH = timedelta(days=30)
_MOST_MONTHS = 12
_MEMORY = re.compile(r"(\d+)GB$")


class Image(Struct, frozen=True):
    """A system that an instance can be made from."""

    image_type: str
    name: str
    details: tuple[str, ...]
    is_cluster: bool = False

    @property
    def id(self) -> str:
        """Stable."""
        return stable_id("image", self.image_type)


DEFAULT_IMAGE = "ubuntu-24.04-cuda-12.8-open-docker"
IMAGES = (
    Image(DEFAULT_IMAGE, "Ubuntu 24.04 + CUDA 12.8 Open + Docker", ("CUDA 12.8", "Docker")),
    Image("ubuntu-24.04-cuda-12.8-open", "Ubuntu 24.04 + CUDA 12.8 Open", ("CUDA 12.8",)),
    Image("ubuntu-22.04-cuda-12.4-docker", "Ubuntu 22.04 + CUDA 12.4 + Docker", ("CUDA 12.4",)),
    Image("ubuntu-24.04", "Ubuntu 24.04", ("Minimal",)),
    Image("ubuntu-22.04", "Ubuntu 22.04", ("Minimal",)),
    Image("ubuntu-24.04-cuda-12.8-cluster", "Ubuntu 24.04 cluster", ("CUDA 12.8",), True),
)


def stable_id(*words: str) -> str:
    """A UUID of the catalogue's own things."""
    return str(uuid.UUID(hashlib.sha256("/".join(words).encode()).hexdigest()[:32], version=4))


def dollars(rate: Nanos, currency: str = "usd") -> float:
    """As a number, to the hundredth of a cent."""
    factor = EUR_PER_USD if currency == "eur" else 1.0
    return round(usd(rate) * factor, 4)


def sold(cloud: Cloud, type_name: str, *, spot: bool | None = None) -> dict[str, Slot]:
    """By location, where the type is sold at all; in either market where none is named."""
    return {
        slot.place: slot
        for slot in cloud.stock.slots.values()
        if slot.facts["type"] == type_name and spot in (None, slot.facts["spot"])
    }


def parts_json(slot: Slot, gpu: str) -> dict[str, Any]:
    """What it is made of, as types and instances tell it; GPU memory is that of all GPUs."""
    count, cores, ram_gb = slot.gpu_count, int(slot.vcpus), slot.ram_mb // 1024
    told = _MEMORY.search(gpu)
    memory_gb = int(told[1]) * count if told else 0
    return {
        "cpu": {"description": f"{cores} CPU", "number_of_cores": cores},
        "gpu": {
            "description": f"{count}x {gpu}" if count else "",
            "number_of_gpus": count,
        },
        "gpu_memory": {
            "description": f"{memory_gb}GB GPU RAM" if count else "",
            "size_in_gigabytes": memory_gb,
        },
        "memory": {"description": f"{ram_gb}GB RAM", "size_in_gigabytes": ram_gb},
    }


def type_json(cloud: Cloud, slots: Mapping[bool, Slot], now: float, currency: str) -> Any:
    """A type with its prices in both markets; `slots` by whether it is spot."""
    slot = slots[False]
    facts = slot.facts
    fixed, spot = (dollars(cloud.stock.price(slots[m], now), currency) for m in (False, True))
    return {
        "id": stable_id("type", facts["type"]),
        "instance_type": facts["type"],
        "model": facts["model"],
        "name": slot.gpu if slot.gpu_count else "CPU Node",
        "display_name": None,
        "description": "Dedicated Hardware Instance",
        "manufacturer": "NVIDIA" if slot.gpu_count else "AMD",
        **parts_json(slot, slot.gpu),
        "storage": {"description": "dynamic"},
        "p2p": "100 Gbit/s" if slot.gpu_count > 1 else None,
        "best_for": ["Training", "Inference"] if slot.gpu_count else ["Development"],
        "price_per_hour": f"{fixed:g}",
        "spot_price": f"{spot:g}",
        "dynamic_price": f"{fixed:g}",
        "max_dynamic_price": f"{round(fixed * 1.5, 4):g}",
        "serverless_price": f"{round(fixed * 1.1, 4):g}" if slot.gpu_count else None,
        "serverless_spot_price": f"{round(spot * 1.1, 4):g}" if slot.gpu_count else None,
        "currency": currency,
        "deploy_warning": None,
        "supported_os": list(facts["images"]),
    }


def _types(cloud: Cloud) -> dict[str, dict[bool, Slot]]:
    found: dict[str, dict[bool, Slot]] = {}
    for slot in cloud.stock.slots.values():
        found.setdefault(slot.facts["type"], {}).setdefault(slot.facts["spot"], slot)
    return found


def _currency(query: Mapping[str, str]) -> str:
    currency = query.get("currency", "usd")
    if currency not in _CURRENCIES:
        raise invalid("currency must be one of: usd, eur")
    return currency


async def instance_types(api: Emulator, call: Call) -> Response:
    """GET instance-types, without a token too; all of them, sold out or not."""
    currency = _currency(check_query(call, ("currency",)))
    cloud = api.cloud
    rows = [type_json(cloud, slots, call.now, currency) for slots in _types(cloud).values()]
    if cloud.faults.take("offers", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    return answer(rows)


async def one_type(api: Emulator, call: Call) -> Response:
    """GET instance-types/{type}."""
    query = check_query(call, ("currency", "is_spot", "location_code"))
    flag(query.get("is_spot"), "is_spot")
    slots = _types(api.cloud).get(call.ids[0])
    if slots is None:
        raise not_found("Instance type not found")
    return answer(type_json(api.cloud, slots, call.now, _currency(query)))


async def price_history(api: Emulator, call: Call) -> Response:
    """GET instance-types/price-history: list prices, which did not move."""
    text = check_query(call, ("num_of_months",)).get("num_of_months", "1")
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_MONTHS:
        raise invalid(f"num_of_months must be between 1 and {_MOST_MONTHS}")
    today = datetime.fromtimestamp(call.now, UTC)
    days = [(today - _MONTH * back).date().isoformat() for back in range(int(text))]

    def history(slot: Slot) -> list[dict[str, Any]]:
        price = dollars(api.cloud.stock.price(slot, call.now))
        row = {"fixed_price_per_hour": price, "dynamic_price_per_hour": price, "currency": "usd"}
        return [{"date": day, **row} for day in days]

    return answer({name: history(slots[False]) for name, slots in _types(api.cloud).items()})


def _market(query: Mapping[str, str]) -> bool:
    """Whether spot is asked for: the vendor's own clients spell it in two ways."""
    spelt = [flag(query.get(name), name) for name in ("is_spot", "isSpot")]
    return any(spelt)


_MARKET = ("is_spot", "isSpot", "location_code")


async def availability(api: Emulator, call: Call) -> Response:
    """GET instance-availability: by location, the types in stock."""
    query = check_query(call, _MARKET)
    stock, faults = api.cloud.stock, api.cloud.faults
    if faults.take("offers", "ignored_field"):
        query = {}
    spot, here = _market(query), query.get("location_code")
    codes = tuple(LOCATIONS) if here is None else (check_location(here),)
    none_left = faults.take("offers", "no_capacity")
    found: dict[str, list[str]] = {code: [] for code in codes}
    for slot in stock.slots.values():
        wanted = slot.place in found and slot.facts["spot"] == spot
        if wanted and not none_left and stock.free(slot):
            found[slot.place].append(slot.facts["type"])
    return answer([{"location_code": c, "availabilities": names} for c, names in found.items()])


async def is_available(api: Emulator, call: Call) -> Response:
    """GET instance-availability/{type}: true or false."""
    query = check_query(call, _MARKET)
    slots = sold(api.cloud, call.ids[0], spot=_market(query))
    here = query.get("location_code")
    if here is not None:
        slots = {check_location(here): slots[here]} if here in slots else {}
    elif not sold(api.cloud, call.ids[0]):
        raise not_found("Instance type not found")
    free = any(api.cloud.stock.free(slot) for slot in slots.values())
    return answer(free and not api.cloud.faults.take("offers", "no_capacity"))


async def locations(_: Emulator, call: Call) -> Response:
    """GET locations."""
    check_query(call)
    return answer(
        [
            {"code": code, "name": name, "country_code": country}
            for code, (name, country) in LOCATIONS.items()
        ]
    )


def _image_json(image: Image) -> dict[str, Any]:
    return {
        "id": image.id,
        "image_type": image.image_type,
        "name": image.name,
        "is_default": image.image_type == DEFAULT_IMAGE,
        "is_cluster": image.is_cluster,
        "details": list(image.details),
        "category": "ubuntu",
    }


async def images(api: Emulator, call: Call) -> Response:
    """GET images: those that run on a type, or all, those of clusters too."""
    wanted = check_query(call, ("instance_type",)).get("instance_type")
    if wanted is None:
        return answer([_image_json(image) for image in IMAGES])
    slots = _types(api.cloud).get(wanted)
    if slots is None:
        raise invalid("Invalid instance type")
    fit = slots[False].facts["images"]
    return answer([_image_json(image) for image in IMAGES if image.image_type in fit])


async def cluster_images(_: Emulator, call: Call) -> Response:
    """GET images/cluster."""
    check_query(call)
    return answer([_image_json(image) for image in IMAGES if image.is_cluster])


async def balance(api: Emulator, call: Call) -> Response:
    """GET balance."""
    currency = _currency(check_query(call, ("currency",)))
    amount = dollars(api.cloud.credit(call.owner.name), currency)
    return answer({"amount": round(amount, 2), "currency": currency})
