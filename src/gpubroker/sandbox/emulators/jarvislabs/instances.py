"""Jarvis Labs' instances: looked at and renamed."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from starlette.responses import Response

from gpubroker.model.money import usd
from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.fastapi_words import Nothing, number_in_path, read_query
from gpubroker.sandbox.emulators.jarvislabs.catalog import VM
from gpubroker.sandbox.emulators.jarvislabs.words import (
    LEGACY,
    Name,
    check_host,
    declined,
    done,
    host_region,
    no_instance,
    refusal_detail,
)
from gpubroker.sandbox.rented import Account, Machine

UNSEEN_S = 2.0
"""So long a new instance is in no list and has no progress; by its id it is found at once."""
CONNECTING_S = 1.0
"""So long a running instance has no address yet."""
DESTROYING_S = 5.0
"""So long one that was ended is still told of."""
IDE_PORT = 6006
"""The first of a container's web addresses."""


class OneInstance(Struct, forbid_unknown_fields=True):
    """Query of what concerns one."""

    machine_id: int


class Rename(Struct, forbid_unknown_fields=True):
    """Query of the rename."""

    machine_id: int
    machine_name: Name


def status_of(machine: Machine, now: float) -> str | None:
    """In the vendor's words; None once it is gone."""
    if machine.ended_at is not None:
        return "Destroying" if now - machine.ended_at < DESTROYING_S else None
    match machine.state:
        case State.PENDING:
            return "Resuming" if machine.wire["resumed"] else "Creating"
        case State.RUNNING:
            return "Running"
        case State.FAILED:
            # Of a VM that switched itself off nobody is told, and it is paid for all along.
            return "Running" if machine.exited and machine.order.is_vm else "Failed"
        case _:
            return "Pausing" if now < machine.wire["pausing_until"] else "Paused"


def user_id(account: Account) -> str:
    """Whose an instance or a key is."""
    return f"user-{account.number:08d}"


def http_ports(machine: Machine) -> tuple[int, ...]:
    """Those that have web addresses, in their order."""
    named: str = machine.wire["http_ports"]
    return (IDE_PORT, *(int(port) for port in named.split(",") if port))


def _addresses(machine: Machine, now: float) -> dict[str, Any]:
    """Where it answers. Of one that does not run any more: where it did."""
    row: dict[str, Any] = dict.fromkeys(("ssh_str", "public_ip", "url", "vs_url", "endpoints"))
    since = machine.running_since
    if machine.ssh_port is None or (since is not None and now - since < CONNECTING_S):
        return row
    if machine.order.is_vm:
        return row | {
            "ssh_str": f"ssh {machine.order.user}@{machine.address}",
            "public_ip": machine.address,
        }
    shown = [machine.published.get(f"{port}/http") for port in http_ports(machine)]
    return row | {
        "ssh_str": "ssh -o StrictHostKeyChecking=no "
        f"-p {machine.ssh_port} {machine.order.user}@{machine.ssh_host}",
        "url": f"https://{machine.id}.notebooks.jarvislabs.net/lab",
        "vs_url": f"https://{machine.id}vs.notebooks.jarvislabs.net/",
        "endpoints": [f"https://{machine.ssh_host}:{port}" for port in shown if port],
    }


def instance_json(cloud: Cloud, call: Call, machine: Machine, status: str) -> dict[str, Any]:
    """An instance as everywhere."""
    slot, wire = cloud.slot(machine), machine.wire
    return {
        "machine_id": int(machine.id),
        "instance_name": machine.label,
        "framework": wire["template"],
        "status": status,
        "region": slot.place,
        "gpu_type": machine.gpu,
        "num_gpus": slot.gpu_count,
        "cores": str(int(slot.vcpus)),
        "ram": f"{slot.ram_mb // 1024}GB",
        "hdd": int(machine.order.disk_gb),
        "cost": round(usd(machine.ledger.cost(call.now)), 6),
        "runtime": "hour",
        "frequency": "hour",
        **_addresses(machine, call.now),
        "private_ip": None,
        "http_ports": wire["http_ports"],
        "is_spot": machine.is_spot,
        "is_reserved": not machine.is_spot,
        "fs_id": wire["fs_id"],
        "disk_type": "ssd",
        "version": None if wire["template"] == VM else "1",
        "user_id": user_id(call.owner),
        "v_size": None,
    }


def find(cloud: Cloud, call: Call, id_: int) -> tuple[Machine, str] | None:
    """The account's instance and its status, while it is told of."""
    machine = cloud.machines.get(str(id_))
    if machine is None or machine.account != call.owner.name:
        return None
    status = status_of(machine, call.now)
    return None if status is None else (machine, status)


def acted_on(api: Emulator, call: Call, id_: int) -> tuple[Machine, str]:
    """What an action is about: at its region's host, and not on its way out."""
    found = find(api.cloud, call, id_)
    if found is None or found[1] == "Destroying":
        raise no_instance()
    check_host(call, api.cloud.slot(found[0]).place)
    return found


async def list_all(api: Emulator, call: Call) -> Response:
    """GET users/fetch: all at once, paused ones too."""
    read_query(call, Nothing)
    cloud, faults = api.cloud, api.cloud.faults
    lag = faults.take("list", "list_lag")
    unseen_s = max(UNSEEN_S, lag.delay_s if lag else 0.0)
    rows = []
    for machine in cloud.owned(call.owner.name):
        status = status_of(machine, call.now)
        hidden = machine.hidden_until > call.now or call.now - machine.created_at < unseen_s
        if status is not None and not hidden:
            rows.append(instance_json(cloud, call, machine, status))
    if faults.take("list", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    if faults.take("list", "list_partial"):
        rows = rows[: len(rows) // 2]
    return answer({"success": True, "instances": rows})


async def show(api: Emulator, call: Call) -> Response:
    """GET users/fetch/{id}; the oldest host does not know the path."""
    read_query(call, Nothing)
    if host_region(call) == LEGACY:
        raise refusal_detail(404, "Not Found")
    found = find(api.cloud, call, number_in_path(call.ids[0], "machine_id"))
    if found is None:
        raise declined("Instance not found")
    return answer({"success": True, "instance": instance_json(api.cloud, call, *found)})


async def progress(api: Emulator, call: Call) -> Response:
    """GET misc/status: 404 while nothing is known of it yet, too."""
    id_ = read_query(call, OneInstance).machine_id
    found = find(api.cloud, call, id_)
    if found is None or call.now - found[0].created_at < UNSEEN_S:
        raise refusal_detail(404, "Machine status not found")
    machine, status = found
    check_host(call, api.cloud.slot(machine).place)
    failed = status == "Failed"
    error = machine.reason if failed else "None"
    return answer({"status": status, "error": error, "code": 1001 if failed else None})


async def rename(api: Emulator, call: Call) -> Response:
    """PUT machines/machine_name."""
    query = read_query(call, Rename)
    found = find(api.cloud, call, query.machine_id)
    if found is None:
        raise declined("Instance not found")
    machine, _ = found
    machine.label = query.machine_name
    machine.order = replace(machine.order, name=query.machine_name)
    api.cloud.save(machine)
    return done()
