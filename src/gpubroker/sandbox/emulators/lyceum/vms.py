"""Lyceum's VMs: looked at, renamed, terminated."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from starlette.responses import Response

from gpubroker.model.money import usd
from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.fastapi_words import Nothing, read_body, read_query
from gpubroker.sandbox.emulators.lyceum import volumes
from gpubroker.sandbox.emulators.lyceum.market import kind_of
from gpubroker.sandbox.emulators.lyceum.words import moment, no_vm, org_id, owned_vm, user_id
from gpubroker.sandbox.rented import Machine

PENDING_S = 2.0
"""So long a new VM is pending; what it does then has another word."""
ADDRESSLESS_S, STARTING_S = 1.0, 2.0
"""So long a VM that runs has no address, and is not ready."""
SSH_PORT = 22
_GONE = ("terminated",)
_GROUPS = {
    "pending": "include_provisioning",
    "provisioning": "include_provisioning",
    "running": "include_provisioning",
    "ready": "include_ready",
    "failed": "include_failed",
    "terminated": "include_terminated",
}


class Wanted(Struct, forbid_unknown_fields=True):
    """Query of the list."""

    include_provisioning: bool = True
    include_ready: bool = True
    include_failed: bool = True
    include_terminated: bool = True


class Rename(Struct, forbid_unknown_fields=True):
    """Body of the rename; "" clears the name."""

    display_name: str


def status_of(machine: Machine, now: float) -> str:
    """In the vendor's words, which have none for what was taken away."""
    match machine.state:
        case State.PENDING:
            return "pending" if now - machine.created_at < PENDING_S else "provisioning"
        case State.RUNNING:
            since = machine.running_since
            young = since is None or now - since < STARTING_S
            return "running" if young else "ready"
        case State.FAILED:
            # Of a VM that switched itself off nobody is told, and it is paid for all along.
            return "ready" if machine.exited else "failed"
        case _:
            return "terminated"


def _address(cloud: Cloud, machine: Machine, now: float) -> str | None:
    """Behind a translated address the port stands with it."""
    since = machine.running_since
    known = machine.exited or (since is not None and now - since >= ADDRESSLESS_S)
    if machine.ssh_port is None or not known:
        return None
    if cloud.slot(machine).facts["nat"] or machine.ssh_port != SSH_PORT:
        return f"{machine.ssh_host}:{machine.ssh_port}"
    return machine.ssh_host


def vm_json(cloud: Cloud, call: Call, machine: Machine) -> dict[str, Any]:
    """A VM as everywhere."""
    slot = cloud.slot(machine)
    status = status_of(machine, call.now)
    charged = machine.ledger.cost(call.now)
    return {
        "vm_id": machine.id,
        "status": status,
        "created_at": moment(machine.created_at),
        "instance_specs": {"gpu_count": slot.gpu_count},
        "ip_address": _address(cloud, machine, call.now),
        "hardware_profile": machine.gpu,
        "gpu_count": slot.gpu_count,
        "instance_type": kind_of(slot),
        "name": f"lyceum-{machine.id[-4:]}",
        "display_name": machine.label or None,
        "billed": None,
        "croesus_billed": round(usd(charged), 6) if charged else None,
        "status_check_url": f"/api/v2/external/vms/{machine.id}/status",
        "polling_message": "Poll the status until the VM is ready",
        "user_id": user_id(call.owner),
        "org_id": org_id(call.owner),
    }


def whole_json(cloud: Cloud, call: Call, machine: Machine) -> dict[str, Any]:
    """A VM where it is asked for alone."""
    since = machine.running_since
    return vm_json(cloud, call, machine) | {
        "uptime_seconds": None if since is None else int(call.now - since),
        "volumes": volumes.attached_json(cloud, machine),
    }


async def list_all(api: Emulator, call: Call) -> Response:
    """GET vms/list: all at once, terminated ones for ever."""
    wanted = read_query(call, Wanted)
    cloud, faults = api.cloud, api.cloud.faults
    lag = faults.take("list", "list_lag")
    rows = [
        vm_json(cloud, call, machine)
        for machine in cloud.owned(call.owner.name)
        if getattr(wanted, _GROUPS[status_of(machine, call.now)])
        and machine.hidden_until <= call.now
        and not (lag and call.now - machine.created_at < lag.delay_s)
    ]
    if faults.take("list", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    if faults.take("list", "list_partial"):
        rows = rows[: len(rows) // 2]
    return answer({"vms": rows, "total": len(rows)})


async def show(api: Emulator, call: Call) -> Response:
    """GET vms/{id}/status."""
    read_query(call, Nothing)
    volumes.settle(api.cloud, call.owner.name)
    machine = owned_vm(api.cloud, call, call.ids[0])
    return answer(whole_json(api.cloud, call, machine))


async def rename(api: Emulator, call: Call) -> Response:
    """PATCH vms/{id}."""
    body = read_body(call, Rename)
    machine = owned_vm(api.cloud, call, call.ids[0])
    machine.label = body.display_name
    api.cloud.save(machine)
    return answer(whole_json(api.cloud, call, machine))


async def terminate(api: Emulator, call: Call) -> Response:
    """DELETE vms/{id}: its disk is wiped, its volumes stay and go on to be paid for."""
    read_query(call, Nothing)
    volumes.settle(api.cloud, call.owner.name)
    machine = owned_vm(api.cloud, call, call.ids[0])
    if status_of(machine, call.now) in _GONE:
        raise no_vm()
    left = volumes.attached_json(api.cloud, machine)
    await api.cloud.terminate(machine)
    volumes.settle(api.cloud, call.owner.name)
    return answer({"message": f"VM {machine.id} terminated", "detached_volumes": left})
