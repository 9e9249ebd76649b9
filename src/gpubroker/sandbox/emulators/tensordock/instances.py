"""TensorDock's instances: looked at, started, stopped, changed, deleted."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import replace
from starlette.responses import Response

from gpubroker.model.money import Nanos
from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.tensordock.catalog import (
    dollars,
    hostnodes,
    parts_rate,
    v0_name_of,
)
from gpubroker.sandbox.emulators.tensordock.words import (
    NO_HOST,
    SSH_PORT,
    acting,
    check_query,
    done,
    invalid,
    no_body,
    read_body,
    refusal,
)
from gpubroker.sandbox.rented import Machine

CREATING_S = 1.0
"""So long a new VM is told to be made; then it is said to run, though it has no address yet."""
DISK_STEP_GB = 50
RAM_STEPS_GB = frozenset({2, 4, 6, 8, 10, 16, *range(32, 257, 16), 512})


class ModelWanted(Struct, forbid_unknown_fields=True):
    """GPUs of a changed VM."""

    gpuV0Name: str  # noqa: N815 - the vendor's
    count: Annotated[int, Meta(ge=1)]


class Modify(Struct, forbid_unknown_fields=True):
    """Body of PUT instances/{id}/modify; what is left out stays."""

    cpuCores: Annotated[int, Meta(ge=2, multiple_of=2)] | None = None  # noqa: N815 - the vendor's
    ramGb: int | None = None  # noqa: N815 - the vendor's
    diskGb: Annotated[int, Meta(ge=100, multiple_of=DISK_STEP_GB)] | None = None  # noqa: N815 - the vendor's
    gpus: ModelWanted | None = None


def status_of(cloud: Cloud, machine: Machine, now: float) -> str:
    """In the vendor's words. That a VM powered itself off goes unnoticed, and it is paid for."""
    match machine.state:
        case State.PENDING if "stuck_pending" in machine.trouble:
            return "queued"
        case State.PENDING if machine.host_key:
            return "starting"
        case State.PENDING:
            return "creating" if now - machine.created_at < CREATING_S else "running"
        case State.FAILED if not machine.exited:
            return "error"
        case State.STOPPED:
            free = cloud.stock.free(cloud.slot(machine))
            return "Stopped" if free else "StoppedDisassociated"
        case _:
            return "running"


def _address(machine: Machine) -> str:
    """Where it answers; of one whose ports were not forwarded an address that leads nowhere."""
    if machine.state not in (State.RUNNING, State.FAILED) or not machine.address:
        return ""
    if machine.wire["dedicated_ip"] or not machine.wire["forwards"]:
        return machine.address
    return machine.ssh_host


def _forwards(machine: Machine) -> list[dict[str, int]]:
    """The ports as they really are, once they are."""
    inside = dict(machine.order.ports)
    names = {port: f"{port}/{inside[port]}" for port, _ in machine.wire["forwards"]}
    outside = {**machine.published, f"{SSH_PORT}/tcp": machine.ssh_port or 0}
    return [
        {
            "internal_port": port,
            "external_port": outside[name],
        }
        for port, name in names.items()
        if machine.host_key and name in outside
    ]


def instance_json(cloud: Cloud, machine: Machine, now: float) -> dict[str, Any]:
    """A VM, in nothing: the only answers that do not lie in `data`."""
    order, slot = machine.order, cloud.slot(machine)
    resources: dict[str, Any] = {
        "vcpu_count": order.vcpus,
        "ram_gb": (order.ram_mb or 0) // 1024,
        "storage_gb": int(order.disk_gb),
        "gpus": {},
    }
    if name := v0_name_of(cloud, machine.gpu):
        resources["gpus"] = {name: {"count": slot.gpu_count, "v0Name": name}}
    rate = machine.disk_rate_stopped if machine.state == State.STOPPED else machine.price
    return {
        "type": "virtualmachine",
        "id": machine.id,
        "name": order.name,
        "status": status_of(cloud, machine, now),
        "ipAddress": _address(machine),
        "portForwards": _forwards(machine),
        "resources": resources,
        "rateHourly": dollars(rate),
    }


def _found(cloud: Cloud, call: Call) -> Machine:
    machine = cloud.machines.get(call.ids[0])
    if machine is None or machine.account != call.owner.name or machine.ended:
        raise refusal(404, "Instance not found")
    return machine


async def list_all(api: Emulator, call: Call) -> Response:
    """GET instances: flat rows right in `data`, as it was seen; the vendor's pages differ."""
    check_query(call)
    cloud, faults = api.cloud, api.cloud.faults
    lag = faults.take("list", "list_lag")
    rows = [
        instance_json(cloud, machine, call.now)
        for machine in cloud.owned(call.owner.name)
        if not machine.ended
        and machine.hidden_until <= call.now
        and not (lag and call.now - machine.created_at < lag.delay_s)
    ]
    if faults.take("list", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    if faults.take("list", "list_partial"):
        rows = rows[: len(rows) // 2]
    return answer({"data": rows})


async def show(api: Emulator, call: Call) -> Response:
    """GET instances/{id}."""
    check_query(call)
    return answer(instance_json(api.cloud, _found(api.cloud, call), call.now))


async def start(api: Emulator, call: Call) -> Response:
    """POST instances/{id}/start: refused where somebody else has its GPU by now."""
    no_body(call)
    cloud, machine = api.cloud, _found(api.cloud, call)
    if machine.state != State.STOPPED:
        raise refusal(409, "Instance is already running")
    if cloud.faults.take("start", "no_capacity", "quota"):
        raise refusal(400, NO_HOST)
    try:
        cloud.start(machine)
    except NoSlot:
        raise refusal(400, NO_HOST) from None
    return acting(machine.id, "starting")


async def stop(api: Emulator, call: Call) -> Response:
    """POST instances/{id}/stop: the disk is kept and paid, the GPU is anybody's."""
    no_body(call)
    machine = _found(api.cloud, call)
    if machine.state == State.STOPPED:
        raise refusal(409, "Instance must be running")
    await api.cloud.stop(machine)
    return acting(machine.id, "stopping")


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE instances/{id}: nothing is left to be asked for."""
    no_body(call)
    await api.cloud.terminate(_found(api.cloud, call))
    return done("Instance deleted successfully")


async def modify(api: Emulator, call: Call) -> Response:
    """PUT instances/{id}/modify: on the same host, and while it is stopped."""
    wanted = read_body(call, Modify)
    cloud, machine = api.cloud, _found(api.cloud, call)
    if machine.state != State.STOPPED:
        raise refusal(400, "Instance must be stopped before it can be modified")
    order = machine.order
    if wanted.ramGb is not None and wanted.ramGb not in RAM_STEPS_GB:
        raise invalid("Invalid RAM size", "ramGb")
    if wanted.diskGb is not None and wanted.diskGb < order.disk_gb:
        raise invalid("Disk size cannot be decreased", "diskGb")
    host = next(host for host in hostnodes(cloud) if host.id == machine.wire["hostnode"])
    slot = cloud.slot(machine)
    if wanted.gpus is not None:
        part = host.part(wanted.gpus.count)
        if wanted.gpus.gpuV0Name != host.v0_name or part is None:
            raise refusal(400, NO_HOST)
        slot = part
    vcpus = wanted.cpuCores or order.vcpus or 0
    ram_gb = wanted.ramGb or (order.ram_mb or 0) // 1024
    disk_gb = wanted.diskGb or int(order.disk_gb)
    if not host.fits(vcpus, ram_gb, disk_gb):
        raise refusal(400, NO_HOST)
    machine.order = replace(order, slot=slot.key, vcpus=vcpus, ram_mb=ram_gb * 1024)
    gpu_rate = cloud.stock.price(slot, call.now) if slot.gpu_count else 0
    machine.gpu_rate = Nanos(gpu_rate + parts_rate(slot, vcpus, ram_gb))
    cloud.resize_disk(machine, gb=disk_gb, kept_gb=disk_gb)
    return done("Instance modified successfully")
