"""What Jarvis Labs offers: GPUs by server, sizes of CPU VMs, templates."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from starlette.responses import Response

from gpubroker.model.money import Nanos, usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.fastapi_words import Nothing, read_query
from gpubroker.sandbox.emulators.jarvislabs.words import REGIONS
from gpubroker.sandbox.rented import Machine
from gpubroker.sandbox.stock import Slot

CPU = "CPU"
"""What a VM without a GPU tells as its GPU."""
VM = "vm"
_TITLES = {
    "pytorch": ("PyTorch", "Deep learning", "2.8"),
    "tensorflow": ("TensorFlow", "Deep learning", "2.19"),
    "jax": ("JAX", "Deep learning", None),
    "axolotl": ("Axolotl", "Fine-tuning", None),
    VM: ("Virtual machine", "Ubuntu", "22.04"),
}
TEMPLATES = tuple(_TITLES)


class Server(Struct, frozen=True):
    """GPUs of one kind in one box, rented in parts; a count must fit into one of them."""

    parts: tuple[Slot, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """What its row tells."""
        return dict(self.parts[0].facts)

    def part(self, count: int) -> Slot | None:
        """So many of its GPUs."""
        return next((slot for slot in self.parts if slot.gpu_count == count), None)

    def free(self, cloud: Cloud) -> int:
        """GPUs that nobody has."""
        if not any(cloud.stock.free(slot) for slot in self.parts):
            return 0
        return cloud.stock.gpus_free(self.parts[0])

    def spots(self, cloud: Cloud) -> list[Machine]:
        """Who can be turned out for somebody who pays the full price, the newest first."""
        keys = {slot.key for slot in self.parts}
        machines = reversed(cloud.machines.values())
        return [m for m in machines if m.is_spot and m.holds_slot and m.order.slot in keys]

    def with_spots(self, cloud: Cloud) -> int:
        """GPUs that an order on demand can have."""
        pushed = cloud.stock.pushes.get(self.parts[0].gpu)
        if pushed is not None and pushed.available == 0:
            return 0
        held = sum(cloud.slot(machine).gpu_count for machine in self.spots(cloud))
        return cloud.stock.gpus_free(self.parts[0]) + held


def servers(cloud: Cloud) -> list[Server]:
    """Every one, sold out ones too."""
    by_home: dict[str, list[Slot]] = {}
    for slot in cloud.stock.slots.values():
        if slot.gpu != CPU:
            by_home.setdefault(slot.home, []).append(slot)
    return [Server(tuple(parts)) for parts in by_home.values()]


def cpu_slots(cloud: Cloud) -> list[Slot]:
    """The sizes of CPU VMs, one a region."""
    return [slot for slot in cloud.stock.slots.values() if slot.gpu == CPU]


def spot_rate(cloud: Cloud, slot: Slot, now: float) -> Nanos | None:
    """Of the part per hour, fixed as long as it is rented; None where spot is not sold."""
    spot = slot.facts["spot_price"]
    if spot is None:
        return None
    rate = cloud.stock.price(slot, now)
    return Nanos(round(rate * spot * slot.gpu_count / usd(slot.price)))


def _row(cloud: Cloud, server: Server, now: float, *, none_left: bool) -> dict[str, Any]:
    slot, facts = server.parts[0], server.facts
    free = 0 if none_left else server.free(cloud)
    spot = spot_rate(cloud, slot, now)
    row: dict[str, Any] = {
        "gpu_type": slot.gpu,
        "region": slot.place,
        "num_free_devices": free,
        "price_per_hour": round(usd(cloud.stock.price(slot, now)) / slot.gpu_count, 4),
        "spot_price": None if spot is None else round(usd(spot) / slot.gpu_count, 4),
        "vram": facts["vram"],
        "arc": facts["arc"],
        "cpus_per_gpu": facts["cpus_per_gpu"],
        "ram_per_gpu": facts["ram_per_gpu"],
        "workload_type": facts["workload"],
    }
    if facts["counts_spot"]:
        row["effective_num_free_devices"] = 0 if none_left else server.with_spots(cloud)
        row["spot_num_free_devices"] = 0 if spot is None else free
    if "num_gpus" in facts:
        row["num_gpus"] = facts["num_gpus"]
    return row


def _sizes(cloud: Cloud, now: float, *, none_left: bool) -> list[dict[str, Any]]:
    sizes: dict[tuple[int, int], dict[str, Any]] = {}
    for slot in cpu_slots(cloud):
        vcpus, ram_gb = int(slot.vcpus), slot.facts["ram_gb"]
        price = round(usd(cloud.stock.price(slot, now)), 4)
        row = sizes.setdefault(
            (vcpus, ram_gb),
            {
                "vcpus": vcpus,
                "ram_gb": ram_gb,
                "price": price,
                "available": False,
                "regions": dict.fromkeys(REGIONS, False),
            },
        )
        free = cloud.stock.free(slot) and not none_left
        row["regions"][slot.place] = free
        row["available"] |= free
    return list(sizes.values())


async def server_meta(api: Emulator, call: Call) -> Response:
    """GET misc/server_meta: of all regions, from whichever host."""
    read_query(call, Nothing)
    cloud = api.cloud
    none_left = cloud.faults.take("offers", "no_capacity") is not None
    rows = [_row(cloud, server, call.now, none_left=none_left) for server in servers(cloud)]
    if cloud.faults.take("offers", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    sizes = _sizes(cloud, call.now, none_left=none_left)
    cpu_meta = {"workload_type": VM, "combinations": sizes}
    return answer({"currency": "USD", "server_meta": rows, "cpu_meta": cpu_meta})


async def frameworks(_: Emulator, call: Call) -> Response:
    """GET misc/frameworks: the templates."""
    read_query(call, Nothing)
    rows = [
        {
            "id": id_,
            "title": title,
            "description": f"{title}, ready to use",
            "category": category,
            "versions": versions,
        }
        for id_, (title, category, versions) in _TITLES.items()
    ]
    return answer({"frameworks": rows})


async def pays_in_rupees(_: Emulator, call: Call) -> Response:
    """GET misc/: whether the account pays in Indian rupees; these accounts pay in dollars."""
    read_query(call, Nothing)
    return answer({"success": False})
