"""FluidStack's instances: looked at, renamed, stopped, started, terminated."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal, answer
from gpubroker.sandbox.emulators.fastapi_words import Nothing, read_body, read_query
from gpubroker.sandbox.emulators.fluidstack.catalog import (
    PROVISIONING_MINUTES,
    memory_gb,
    per_gpu,
)
from gpubroker.sandbox.emulators.fluidstack.words import (
    OK,
    configuration_id,
    moment,
    refusal,
)
from gpubroker.sandbox.rented import Machine
from gpubroker.sandbox.stock import Slot

USER = "ubuntu"
SSH_PORT = "22"
PENDING_S = 2.0
"""So long one that is to run is pending; what it does then has another word."""
ADDRESSLESS_S = 1.0
"""So long one that runs has no address yet."""
STOPPING_S = 2.0
LISTED_S, REMEMBERED_S = 60.0, 3600.0
"""So long a terminated one is listed, and found by its id."""
PAGE = 50
"""The vendor tells no size of its pages."""


class Page(Struct, forbid_unknown_fields=True):
    """Query of the list."""

    page: Annotated[int, Meta(ge=1)] = 1
    include_failed_instances: bool = False


class Rename(Struct, forbid_unknown_fields=True):
    """Body of the rename."""

    new_instance_name: Annotated[str, Meta(min_length=1)]


def status_of(machine: Machine, now: float) -> str:
    """In the vendor's words. There is none for the way to its end."""
    match machine.state:
        case State.PENDING:
            young = now - machine.wire["begun_at"] < PENDING_S
            return "pending" if young else machine.wire["boot"]
        case State.RUNNING:
            return "running" if machine.running_since is not None else machine.wire["boot"]
        case State.FAILED:
            # Of one that switched itself off nobody is told, and it is paid for all along.
            return "running" if machine.exited else "failed"
        case State.STOPPED:
            return "stopping" if now - machine.wire["stopped_at"] < STOPPING_S else "stopped"
        case _:
            return "terminated"


def _address(machine: Machine, now: float) -> str | None:
    since = machine.running_since
    young = since is not None and now - since < ADDRESSLESS_S
    return None if young or machine.ended else machine.address or None


def _current_cost(machine: Machine, slot: Slot, status: str) -> float:
    """Of one GPU, by what the instance does now."""
    match status:
        case "failed" | "terminated":
            return 0.0
        case "stopping" | "stopped":
            return per_gpu(machine.disk_rate_stopped, slot.gpu_count)
        case _:
            return per_gpu(machine.gpu_rate, slot.gpu_count)


def instance_json(
    cloud: Cloud, machine: Machine, now: float, *, zone: bool = True
) -> dict[str, Any]:
    """As everywhere; `zone` as `moment`."""
    slot, status = cloud.slot(machine), status_of(machine, now)
    return {
        "id": machine.id,
        "status": status,
        "username": USER,
        "ssh_port": SSH_PORT,
        "ssh_keys": [machine.wire["ssh_key"]],
        "ip_address": _address(machine, now),
        "name": machine.label or None,
        "current_gpu_hr_cost": _current_cost(machine, slot, status),
        "configuration": {
            "id": configuration_id(slot.key),
            "region": slot.place,
            "gpu_model": {"name": machine.gpu, "memory_size_gb": memory_gb(machine.gpu)},
            "cpu_model": "generic",
            "gpu_count": slot.gpu_count,
            "cpu_count": int(slot.vcpus),
            "nvme_storage_size_gb": int(slot.disk_max_gb),
            "memory_size_gb": slot.ram_mb / 1024,
            "estimated_provisioning_time_minutes": PROVISIONING_MINUTES,
        },
        "created_at": moment(machine.created_at, zone=zone),
        "volumes": [],
        "operating_system_label": machine.order.image,
        "user_email": None,
    }


def _ended_within(machine: Machine, now: float, seconds: float) -> bool:
    """Or it has not ended."""
    return machine.ended_at is None or now - machine.ended_at < seconds


def _found(cloud: Cloud, call: Call) -> Machine:
    machine = cloud.machines.get(call.ids[0])
    known = machine is not None and machine.account == call.owner.name
    if machine is None or not known or not _ended_within(machine, call.now, REMEMBERED_S):
        raise refusal(404, "Instance not found")
    return machine


def _in_status(cloud: Cloud, call: Call, status: str) -> Machine:
    """The instance, or the refusal where it is in another one; no status is documented for it."""
    machine = _found(cloud, call)
    now_in = status_of(machine, call.now)
    if now_in != status:
        raise refusal(409, f"Instance must be {status}, it is {now_in}")
    return machine


def out_of_stock(slot_words: str) -> Refusal:
    """The vendor documents no form of it."""
    return refusal(400, f"No capacity available: {slot_words} is out of stock")


def check_means(cloud: Cloud, call: Call, operation: str) -> None:
    """Limits and money; the vendor documents no form of either refusal."""
    if cloud.faults.take(operation, "quota"):
        raise refusal(403, "Instance limit reached: your account's quota is used up")
    if cloud.credit(call.owner.name) <= 0:
        raise refusal(402, "Insufficient balance. Please top up your account.")


async def list_all(api: Emulator, call: Call) -> Response:
    """GET instances: a bare array, by pages that say nothing of a next one."""
    query = read_query(call, Page)
    cloud, faults = api.cloud, api.cloud.faults
    lag = faults.take("list", "list_lag")
    rows = []
    for machine in cloud.owned(call.owner.name):
        failed = status_of(machine, call.now) == "failed"
        unseen = machine.hidden_until > call.now or (
            lag is not None and call.now - machine.created_at < lag.delay_s
        )
        listed = _ended_within(machine, call.now, LISTED_S) and not unseen
        if listed and (query.include_failed_instances or not failed):
            rows.append(instance_json(cloud, machine, call.now))
    rows = rows[(query.page - 1) * PAGE : query.page * PAGE]
    if faults.take("list", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    if faults.take("list", "list_partial"):
        rows = rows[: len(rows) // 2]
    return answer(rows)


async def show(api: Emulator, call: Call) -> Response:
    """GET instances/{id}: 202 while it is pending."""
    read_query(call, Nothing)
    row = instance_json(api.cloud, _found(api.cloud, call), call.now)
    return answer(row, 202 if row["status"] == "pending" else 200)


async def rename(api: Emulator, call: Call) -> Response:
    """PUT instances/{id}/rename: not in the document; others' clients use it."""
    body = read_body(call, Rename)
    machine = _found(api.cloud, call)
    machine.label = body.new_instance_name
    api.cloud.save(machine)
    return answer(instance_json(api.cloud, machine, call.now, zone=False))


async def stop(api: Emulator, call: Call) -> Response:
    """PUT instances/{id}/stop: gives the GPU back; from then on it has another price."""
    read_query(call, Nothing)
    machine = _in_status(api.cloud, call, "running")
    machine.wire["stopped_at"] = call.now
    await api.cloud.stop(machine)
    return answer(instance_json(api.cloud, machine, call.now, zone=False))


async def start(api: Emulator, call: Call) -> Response:
    """PUT instances/{id}/start: the GPU may be somebody else's by now."""
    read_query(call, Nothing)
    cloud = api.cloud
    machine = _in_status(cloud, call, "stopped")
    check_means(cloud, call, "start")
    slot = cloud.slot(machine)
    words = f"{slot.gpu_count}x {slot.gpu} in {slot.place}"
    if cloud.faults.take("start", "no_capacity"):
        raise out_of_stock(words)
    try:
        cloud.start(machine)
    except NoSlot:
        raise out_of_stock(words) from None
    machine.wire |= {"begun_at": call.now, "boot": "starting"}
    cloud.save(machine)
    return answer(instance_json(cloud, machine, call.now, zone=False))


async def terminate(api: Emulator, call: Call) -> Response:
    """DELETE instances/{id}: in whatever status, once."""
    read_query(call, Nothing)
    machine = _found(api.cloud, call)
    if machine.ended:
        raise refusal(400, "Machine is already terminated")
    await api.cloud.terminate(machine)
    return answer(OK)
