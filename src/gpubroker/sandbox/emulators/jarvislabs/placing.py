"""On which of Jarvis Labs' servers an order goes, and at what price."""

from __future__ import annotations

from gpubroker.model.money import Nanos
from gpubroker.model.terms import Market
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Refusal
from gpubroker.sandbox.emulators.fastapi_words import unprocessable
from gpubroker.sandbox.emulators.jarvislabs.catalog import (
    VM,
    Server,
    cpu_slots,
    servers,
    spot_rate,
)
from gpubroker.sandbox.emulators.jarvislabs.words import refusal, refusal_detail, refusal_error
from gpubroker.sandbox.stock import Slot


async def place(
    cloud: Cloud, template: str, region: str, gpu_type: str, count: int, *, is_spot: bool
) -> Slot:
    """A part of one server with so many GPUs. Raises NoSlot, or the refusal of the impossible.

    For who pays the full price others are turned out.
    """
    workload = VM if template == VM else "container"
    here = [server for server in servers(cloud) if server.parts[0].place == region]
    fitting = [s for s in here if s.facts["workload"] in (workload, None)]
    same = [server for server in fitting if server.parts[0].gpu == gpu_type]
    if not same:
        types = sorted({server.parts[0].gpu for server in fitting})
        what = f"Choose a gpu_type for {workload} instances in {region}"
        raise refusal_detail(400, {"message": what, "gpu_types": types})
    if is_spot and all(server.facts["spot_price"] is None for server in same):
        raise refusal(400, f"Spot is not offered for {gpu_type} in {region}")
    parts = [(server, slot) for server in same if (slot := server.part(count))]
    if not parts:
        raise unprocessable(("body", "num_gpus"), f"{count} GPUs are not sold of {gpu_type}")
    for server, slot in parts:
        sold = not is_spot or server.facts["spot_price"] is not None
        if sold and cloud.stock.free(slot):
            return slot
    if not is_spot:
        for server, slot in parts:
            if await _made_free(cloud, server, slot):
                return slot
    raise NoSlot(gpu_type)


async def _made_free(cloud: Cloud, server: Server, slot: Slot) -> bool:
    if server.with_spots(cloud) < slot.gpu_count:
        return False
    for machine in server.spots(cloud):
        await cloud.preempt(machine)
        if cloud.stock.free(slot):
            return True
    return False


def terms(cloud: Cloud, slot: Slot, now: float, *, is_spot: bool) -> tuple[Market, Nanos | None]:
    """The market, and the fixed price that is paid in it; None = the list's."""
    if not is_spot:
        return Market.ON_DEMAND, None
    return Market.SPOT, spot_rate(cloud, slot, now)


def sold_out(template: str, gpu_type: str, region: str) -> Refusal:
    """A container is refused in another form than a VM."""
    if template == VM:
        return refusal_error(409, f"Insufficient capacity for {gpu_type} in {region}")
    return refusal(400, f"{gpu_type} is not available in {region} right now")


def cpu_slot(cloud: Cloud, region: str, vcpus: int, ram_gb: int) -> Slot:
    """A size in a region. Raises the refusal where it is not sold there."""
    for slot in cpu_slots(cloud):
        if (slot.place, int(slot.vcpus), slot.facts["ram_gb"]) == (region, vcpus, ram_gb):
            return slot
    raise refusal(400, f"Invalid CPU VM size: {vcpus} vCPU / {ram_gb}GB in {region}")
