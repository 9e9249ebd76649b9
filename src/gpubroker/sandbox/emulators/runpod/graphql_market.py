"""RunPod's market as GraphQL tells it, without a key: types, prices, places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphql import GraphQLResolveInfo

from gpubroker.model.money import Nanos, usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.runpod.placing import (
    Wish,
    fitting,
    floor_price,
    free,
    largest,
    level,
    list_price,
    of_type,
)
from gpubroker.sandbox.emulators.runpod.sheet import TIERS, Model, Tier, sheet
from gpubroker.sandbox.stock import Slot

Input = dict[str, Any]


def _shown(amount: Nanos | None) -> float | None:
    return None if amount is None else usd(amount)


def stock_status(word: str) -> str | None:
    """High, Medium or Low; null where there is none."""
    return None if word == "NONE" else word.capitalize()


def gpu_types(cloud: Cloud, now: float, wanted: Input) -> list[dict[str, Any]]:
    """Every type, or those of the filter."""
    ids = {wanted["id"]} if wanted.get("id") else set(wanted.get("ids") or ())
    if cloud.faults.take("offers", "ignored_field"):
        ids = set()
    stocked = not cloud.faults.take("offers", "no_capacity")
    rows = [
        _gpu_type(cloud, now, model, stocked=stocked)
        for model in sheet().models
        if not ids or model.id in ids
    ]
    doubled = cloud.faults.take("offers", "duplicate_list")
    return [row for row in rows for _ in range(2)] if doubled else rows


def _gpu_type(cloud: Cloud, now: float, model: Model, *, stocked: bool) -> dict[str, Any]:
    counts = {tier: largest(cloud, model.id, tier) for tier in TIERS}
    prices = {tier: list_price(cloud, model.id, tier, now) for tier in TIERS}
    floors = {
        tier: floor_price(cloud, (s for s in of_type(cloud, model.id) if _is(s, tier)), now)
        for tier in TIERS
    }
    return {
        "id": model.id,
        "displayName": model.name,
        "manufacturer": model.manufacturer.capitalize() if model.memory else "unknown",
        "memoryInGb": model.memory,
        "cudaCores": model.cuda_cores,
        "secureCloud": bool(counts["SECURE"]),
        "communityCloud": bool(counts["COMMUNITY"]),
        "maxGpuCount": max(counts.values()),
        "maxGpuCountSecureCloud": counts["SECURE"],
        "maxGpuCountCommunityCloud": counts["COMMUNITY"],
        "minPodGpuCount": 1,
        "securePrice": _shown(prices["SECURE"]),
        "communityPrice": _shown(prices["COMMUNITY"]),
        "secureSpotPrice": _shown(floors["SECURE"]),
        "communitySpotPrice": _shown(floors["COMMUNITY"]),
        "lowestPrice": _lowest_price(cloud, now, model, stocked=stocked),
    }


def _is(slot: Slot, tier: Tier) -> bool:
    return bool(slot.facts["cloud"] == tier)


def _lowest_price(
    cloud: Cloud, now: float, model: Model, *, stocked: bool
) -> Callable[..., dict[str, Any]]:
    def answered(_: GraphQLResolveInfo, input: Input | None = None) -> dict[str, Any]:
        return lowest_price(cloud, now, model, input or {"gpuCount": 1}, stocked=stocked)

    return answered


def _wish(model: Model, wanted: Input) -> Wish:
    secure = wanted.get("secureCloud")
    tiers: dict[bool | None, Tier | None] = {True: "SECURE", False: "COMMUNITY", None: None}
    place, country = wanted.get("dataCenterId"), wanted.get("countryCode")
    return Wish(
        gpu=model.id,
        count=wanted["gpuCount"],
        tier=tiers[secure],
        data_centers=(place,) if place else (),
        countries=(country,) if country else (),
        cuda_versions=tuple(wanted.get("allowedCudaVersions") or ()),
        min_cuda=wanted.get("minCudaVersion"),
        min_vcpus=wanted.get("minVcpuCount") or 0,
        min_ram_gb=wanted.get("minMemoryInGb") or 0,
        min_mbps=max(wanted.get("minDownload") or 0, wanted.get("minUpload") or 0),
        disk_gb=wanted.get("minDisk") or 0,
        public_ip=bool(wanted.get("supportPublicIp")),
    )


def lowest_price(
    cloud: Cloud, now: float, model: Model, wanted: Input, *, stocked: bool
) -> dict[str, Any]:
    """The cheapest that can be had for that many GPUs; its prices are null where there is none."""
    wish = _wish(model, wanted)
    there, had = fitting(cloud, wish), free(cloud, wish) if stocked else []
    gpus = max(wish.count, 1)
    price = min((Nanos(cloud.stock.price(slot, now) // gpus) for slot in had), default=None)
    hosts = {slot.home: slot for slot in there}.values()
    unused = {slot.home: cloud.stock.gpus_free(slot) for slot in there}
    total = sum(slot.host_gpus for slot in hosts)
    most = max(unused.values(), default=0) if had else 0
    return {
        "gpuTypeId": model.id,
        "gpuName": model.name,
        "minimumBidPrice": _shown(floor_price(cloud, had, now)),
        "uninterruptablePrice": _shown(price),
        "minVcpu": int(min((slot.vcpus for slot in had), default=0)) or None,
        "minMemory": min((slot.ram_mb // 1000 for slot in had), default=None),
        "minDisk": wanted.get("minDisk"),
        "stockStatus": stock_status(level(cloud, wish)) if had else None,
        "totalCount": total,
        "rentedCount": total - sum(unused.values()),
        "maxUnreservedGpuCount": most,
        "availableGpuCounts": list(range(1, most + 1)),
        "countryCode": wanted.get("countryCode"),
        "compliance": None,
    }


def data_centers(cloud: Cloud) -> list[dict[str, Any]]:
    """Every data centre, unlisted ones too, with the stock of each type that it has."""
    rows = []
    for place in sheet().data_centers:
        stock = []
        for model in sheet().models:
            wish = Wish(gpu=model.id, data_centers=(place.id,))
            if fitting(cloud, wish):
                word = level(cloud, wish)
                stock.append(
                    {
                        "available": word != "NONE",
                        "gpuTypeId": model.id,
                        "gpuTypeDisplayName": model.name,
                        "displayName": model.name,
                        "stockStatus": stock_status(word),
                    }
                )
        rows.append(
            {
                "id": place.id,
                "name": place.id,
                "location": place.name,
                "listed": place.listed,
                "gpuAvailability": stock,
            }
        )
    return rows


def country_codes(cloud: Cloud) -> list[str]:
    """Where hosts are."""
    return sorted({str(slot.facts["country"]) for slot in cloud.stock.slots.values()})


def cpu_flavors(wanted: Input) -> list[dict[str, Any]]:
    """Every flavour, or the one of the filter."""
    return [
        {
            "id": flavor.id,
            "displayName": flavor.name,
            "groupName": flavor.group,
            "minVcpu": flavor.vcpu_min,
            "maxVcpu": flavor.vcpu_max,
            "ramMultiplier": flavor.ram_gb_per_vcpu,
        }
        for flavor in sheet().flavors
        if wanted.get("id") in (None, flavor.id)
    ]
