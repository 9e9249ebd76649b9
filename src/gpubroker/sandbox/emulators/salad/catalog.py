"""SaladCloud's GPU classes, what of them can be had, and what an organization may have."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from starlette.responses import Response

from gpubroker.model.money import Nanos, nanos, usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.salad.bodies import CpuWanted, GpuWanted, Priority
from gpubroker.sandbox.emulators.salad.groups import groups_of, organization
from gpubroker.sandbox.emulators.salad.words import (
    REPLICAS_QUOTA,
    invalid,
    moment,
    no_query,
    read_body,
)
from gpubroker.sandbox.stock import Slot

GIB = 1 << 30
LEAST_RAM_MB, LEAST_STORAGE = 1024, GIB
MIXED = "dec851b7-eba4-4457-a319-a01b611a810e"
_MIXED_NAME, _MIXED_OF = "Stable Diffusion Compatible", ("RTX 3090 (24 GB)", "RTX 4080 (16 GB)")
"""A class that means several models."""
_PER_MINUTE = 10
_AWAKE_SHARE = 2
"""So many sleep for each that is awake, where there are any."""


def slots_of(cloud: Cloud, classes: Iterable[str]) -> list[Slot]:
    """Everything of these classes, in the order of the stock."""
    wanted = set(classes)
    return [
        slot
        for slot in cloud.stock.slots.values()
        if slot.facts["id"] in wanted or (MIXED in wanted and slot.gpu in _MIXED_OF)
    ]


def class_ids(cloud: Cloud) -> set[str]:
    """Every class that there is."""
    return {slot.facts["id"] for slot in cloud.stock.slots.values()} | {MIXED}


def price(cloud: Cloud, slot: Slot, priority: Priority, now: float) -> Nanos | None:
    """Per hour of an instance; None where the class is not sold at this priority."""
    listed = slot.facts["prices"].get(priority)
    if listed is None:
        return None
    return Nanos(nanos(listed) * cloud.stock.price(slot, now) // slot.price)


def _prices_json(cloud: Cloud, slot: Slot, now: float) -> list[dict[str, str]]:
    """Text, not numbers."""
    told = {name: price(cloud, slot, name, now) for name in slot.facts["prices"]}
    return [{"priority": name, "price": f"{usd(nano):.3f}"} for name, nano in told.items() if nano]


def _class_json(cloud: Cloud, slot: Slot, now: float) -> dict[str, Any]:
    facts = slot.facts
    return {
        "id": facts["id"],
        "name": slot.gpu,
        "gpu_class_type": facts["kind"],
        "gpu_count": slot.gpu_count,
        "is_high_demand": facts["high_demand"],
        "min_vcpu": 1,
        "max_vcpu": int(slot.vcpus),
        "min_ram": LEAST_RAM_MB,
        "max_ram": slot.ram_mb,
        "min_storage": LEAST_STORAGE,
        "max_storage": int(slot.disk_max_gb) * GIB,
        "prices": _prices_json(cloud, slot, now),
    }


async def gpu_classes(api: Emulator, call: Call) -> Response:
    """GET gpu-classes: all, without pages."""
    no_query(call)
    organization(call)
    cloud = api.cloud
    firsts = {slot.facts["id"]: slot for slot in reversed(cloud.stock.slots.values())}
    rows = [_class_json(cloud, slot, call.now) for slot in reversed(firsts.values())]
    mixed = slots_of(cloud, (MIXED,))[0]
    # Only id, name and prices are certain.
    rows.append({"id": MIXED, "name": _MIXED_NAME, "prices": _prices_json(cloud, mixed, call.now)})
    if cloud.faults.take("offers", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    return answer({"items": rows})


def nodes_free(cloud: Cloud, slot: Slot) -> int:
    """How many computers of this kind nobody has."""
    if not cloud.stock.free(slot):
        return 0
    taken = sum(m.holds_slot for m in cloud.machines.values() if m.order.slot == slot.key)
    return max(0, slot.quantity - taken)


def large_enough(slot: Slot, cpu: int, ram_mb: int, storage: int) -> bool:
    """Whether it has that much."""
    return cpu <= slot.vcpus and ram_mb <= slot.ram_mb and storage <= int(slot.disk_max_gb) * GIB


def _fits(slot: Slot, wanted: CpuWanted, countries: Collection[str]) -> bool:
    size = wanted.cpu or 0, wanted.memory or 0, wanted.storage_amount or 0
    return large_enough(slot, *size) and (not countries or slot.place in countries)


async def gpu_availability(api: Emulator, call: Call) -> Response:
    """POST sce-gpu-availability: how many could be had at each priority now."""
    wanted = read_body(call, GpuWanted)
    organization(call)
    cloud = api.cloud
    classes = [str(one) for one in wanted.gpu_classes]
    if unknown := set(classes) - class_ids(cloud):
        raise invalid(f"The GPU class '{min(unknown)}' does not exist.")
    fitting = [s for s in slots_of(cloud, classes) if _fits(s, wanted, wanted.country_codes or ())]
    if cloud.faults.take("offers", "no_capacity"):
        fitting = []
    counts = {
        f"available_gpu_{priority}": sum(
            nodes_free(cloud, slot) for slot in fitting if priority in slot.facts["prices"]
        )
        for priority in ("high", "medium", "low", "batch")
    }
    asleep = sum(_AWAKE_SHARE * slot.quantity for slot in fitting)
    return answer(counts | {"on_call_gpu": asleep})


async def cpu_availability(_api: Emulator, call: Call) -> Response:
    """POST sce-cpu-availability: there are no computers without a GPU here."""
    read_body(call, CpuWanted)
    organization(call)
    return answer({"available_cpu_batch": 0, "on_call_cpu": 0})


def replicas_used(cloud: Cloud, account: str, name: str) -> int:
    """Of all of an organization's groups, stopped ones too."""
    groups = groups_of(cloud, account, name)
    return sum(group.wire["record"]["replicas"] for group in groups)


async def quotas(api: Emulator, call: Call) -> Response:
    """GET quotas."""
    no_query(call)
    name = organization(call)
    since = moment(call.owner.created_at)
    return answer(
        {
            "container_groups_quotas": {
                "container_replicas_quota": REPLICAS_QUOTA,
                "container_replicas_used": replicas_used(api.cloud, call.owner.name, name),
                "max_container_group_reallocations_per_minute": _PER_MINUTE,
                "max_container_group_recreates_per_minute": _PER_MINUTE,
                "max_container_group_restarts_per_minute": _PER_MINUTE,
            },
            "create_time": since,
            "update_time": since,
        }
    )
