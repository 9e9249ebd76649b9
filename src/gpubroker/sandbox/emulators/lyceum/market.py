"""What Lyceum offers: variants of VMs that can be had now, the price list, machines of runs."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from gpubroker.model.money import usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.fastapi_words import Nothing, read_query
from gpubroker.sandbox.stock import Slot

SPOT, ON_DEMAND = "spot", "on-demand"
_SECONDS = 3600
_RUNS: dict[str, float] = {"cpu": 0.1, "gpu.l40s": 0.99, "gpu.a100": 1.59, "gpu.h100": 2.49}
"""Hourly prices of machines for runs, whose names are others than those of VMs."""
_TOKENS = {
    "meter_slug": "serverless_inference_prompt_tokens",
    "group_by": {"model": "example-8b"},
    "applies_to": {},
    "unit_price": "0.0000001",
    "unit_price_per_hour": None,
}


def kind_of(slot: Slot) -> str:
    """On demand or spot."""
    return str(slot.facts["kind"])


def variants(cloud: Cloud) -> dict[tuple[str, str], list[Slot]]:
    """The slots by profile and kind, sold out ones too."""
    found: dict[tuple[str, str], list[Slot]] = {}
    for slot in cloud.stock.slots.values():
        found.setdefault((slot.gpu, kind_of(slot)), []).append(slot)
    return found


def _counts(slots: list[Slot]) -> list[int]:
    return sorted({slot.gpu_count for slot in slots})


def _variant(
    cloud: Cloud, profile: str, kind: str, slots: list[Slot], now: float
) -> dict[str, Any] | None:
    free = [slot for slot in slots if cloud.stock.free(slot)]
    if not free:
        return None
    first = min(slots, key=lambda slot: slot.gpu_count)
    row: dict[str, Any] = {
        "hardware_profile": profile,
        "instance_type": kind,
        "price_per_hour": round(usd(cloud.stock.price(first, now)) / first.gpu_count, 4),
        "available_gpus_per_instance": _counts(free),
    }
    if kind == ON_DEMAND:
        row["block_storage_gpu_counts"] = _counts([s for s in free if s.facts["storage"]])
    return row


async def availability(api: Emulator, call: Call) -> Response:
    """GET vms/availability: what is sold out is not among it; prices are for one GPU."""
    read_query(call, Nothing)
    cloud = api.cloud
    rows = [
        row
        for (profile, kind), slots in variants(cloud).items()
        if (row := _variant(cloud, profile, kind, slots, call.now))
    ]
    if cloud.faults.take("offers", "no_capacity"):
        rows = []
    if cloud.faults.take("offers", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    return answer({"available_instance_variants": rows})


async def pricing(api: Emulator, call: Call) -> Response:
    """GET pricing: by the second, of whole VMs; not every variant is listed."""
    read_query(call, Nothing)
    rows: dict[str, dict[str, Any]] = {}
    for slot in api.cloud.stock.slots.values():
        if not slot.facts["listed"]:
            continue
        hourly = round(usd(api.cloud.stock.price(slot, call.now)), 4)
        by_second: float | str = round(hourly / _SECONDS, 9)
        if kind_of(slot) == SPOT:
            by_second = f"{by_second:.9f}"
        meter = f"{kind_of(slot)}.{slot.gpu}.{slot.gpu_count}x"
        rows[meter] = {
            "meter_slug": "vm_running",
            "group_by": {"hardware_profile": meter},
            "applies_to": {},
            "unit_price": by_second,
            "unit_price_per_hour": hourly,
        }
    return answer({"prices": [*rows.values(), _TOKENS]})


async def machine_types(_: Emulator, call: Call) -> Response:
    """GET machine-types: of runs."""
    read_query(call, Nothing)
    rows = [{"hardware_profile": name, "price_per_hour": price} for name, price in _RUNS.items()]
    return answer({"machine_types": rows})


async def run_hardware(_: Emulator, call: Call) -> Response:
    """GET user/quotas/available-hardware: of runs."""
    read_query(call, Nothing)
    return answer({"available_hardware_profiles": list(_RUNS)})


async def no_runs(_: Emulator, call: Call) -> Response:
    """GET of a list that has nothing: no run is ever made here."""
    read_query(call, Nothing)
    return answer([])
