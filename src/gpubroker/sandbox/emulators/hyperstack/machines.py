"""Hyperstack's VMs: how they are looked at."""

from __future__ import annotations

import hashlib
from typing import Any

from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.hyperstack.catalog import flavor_json
from gpubroker.sandbox.emulators.hyperstack.environments import environments_of
from gpubroker.sandbox.emulators.hyperstack.network import (
    address_of,
    floating_json,
    rule_json,
    rules_of,
)
from gpubroker.sandbox.emulators.hyperstack.volumes import attached, attachment_json
from gpubroker.sandbox.emulators.hyperstack.words import (
    PAGED,
    check_query,
    counted,
    done,
    flag,
    moment,
    not_found,
    paged,
)
from gpubroker.sandbox.rented import Account, Machine

CREATING_S = 1.0
"""So long it cannot be deleted."""
GOING_S = 2.0
"""So long a VM that was switched off, hibernated or deleted is on its way."""
_VM_STATES = {
    "ACTIVE": "active",
    "SHUTOFF": "stopped",
    "HIBERNATED": "shelved_offloaded",
    "ERROR": "error",
}
_POWER = {"ACTIVE": "RUNNING", "SHUTOFF": "SHUTDOWN", "HIBERNATED": "SHUTDOWN"}


def status_of(machine: Machine, now: float) -> str:
    """In the vendor's words; what was taken away is an error, which is free as well."""
    if machine.ended:
        return "DELETING"
    if machine.state == State.STOPPED:
        return _stopped(machine, now - machine.wire["stopped_at"])
    if machine.state == State.PENDING or (machine.state == State.RUNNING and not machine.address):
        return _booting(machine, now - machine.created_at)
    if machine.state == State.RUNNING:
        return "ACTIVE"
    return "SHUTOFF" if machine.exited else "ERROR"


def _booting(machine: Machine, ago_s: float) -> str:
    why: str = machine.wire["boot"]
    return "BUILD" if why == "CREATING" and ago_s >= CREATING_S else why


def _stopped(machine: Machine, ago_s: float) -> str:
    if machine.order.keeps_gpu:
        return "STOPPING" if ago_s < GOING_S else "SHUTOFF"
    return "HIBERNATING" if ago_s < GOING_S else "HIBERNATED"


def _is_gone(machine: Machine, now: float) -> bool:
    return machine.ended_at is not None and now - machine.ended_at >= GOING_S


def instance_json(cloud: Cloud, account: Account, machine: Machine, now: float) -> dict[str, Any]:
    """An instance; what is known only after its boot is null before."""
    wire, slot = machine.wire, cloud.slot(machine)
    status = status_of(machine, now)
    places = environments_of(cloud, account)
    environment = next((one for one in places if one.name == wire["environment"]), None)
    digest = hashlib.sha256(machine.id.encode()).digest()
    flavor = flavor_json(slot)
    if machine.gpu != slot.gpu:
        flavor["gpu"] = machine.gpu
    return {
        "id": int(machine.id),
        "name": machine.order.name,
        "status": status,
        "vm_state": _VM_STATES.get(status),
        "power_state": _POWER.get(status),
        "fixed_ip": f"10.0.{digest[0]}.{digest[1] or 1}" if machine.address else None,
        **floating_json(cloud, machine),
        "requires_public_ip": address_of(cloud, machine) is not None,
        "environment": {
            "id": environment.id if environment else 0,
            "name": wire["environment"],
            "org_id": account.number,
            "region": slot.place,
            "features": {},
        },
        "image": {"name": machine.order.image},
        "keypair": {"name": wire["key_name"]},
        "os": "linux",
        "flavor": flavor,
        "features": {},
        "labels": wire["labels"],
        "locked": False,
        "callback_url": wire["callback_url"],
        "security_rules": [rule_json(rule) for rule in rules_of(cloud, machine)],
        "volume_attachments": [attachment_json(one) for one in attached(cloud, machine)],
        "port_randomization": wire["randomised"],
        "port_randomization_status": "ENABLED" if wire["randomised"] else None,
        "contract_id": None,
        "created_at": moment(machine.created_at),
    }


def found(cloud: Cloud, call: Call) -> Machine:
    """By the path's id, or the refusal."""
    machine = cloud.machines.get(call.ids[0])
    if machine is None or machine.account != call.owner.name or _is_gone(machine, call.now):
        raise not_found(f"Virtual machine with id {call.ids[0]} not found")
    return machine


async def list_all(api: Emulator, call: Call) -> Response:
    """GET core/virtual-machines: oldest first, by pages."""
    allowed = (*PAGED, "search", "environment", "exact_environment_match")
    query = check_query(call, allowed)
    cloud = api.cloud
    lag = cloud.faults.take("list", "list_lag")
    place = query.get("environment", "")
    exact = flag(query, "exact_environment_match", otherwise=False)
    rows = [
        instance_json(cloud, call.owner, machine, call.now)
        for machine in cloud.owned(call.owner.name)
        if not _is_gone(machine, call.now)
        and machine.hidden_until <= call.now
        and not (lag and call.now - machine.created_at < lag.delay_s)
        and query.get("search", "").lower() in machine.order.name.lower()
        and (
            machine.wire["environment"] == place if exact else place in machine.wire["environment"]
        )
    ]
    return paged(api, call, "instances", rows)


async def show(api: Emulator, call: Call) -> Response:
    """GET core/virtual-machines/{id}."""
    check_query(call)
    row = instance_json(api.cloud, call.owner, found(api.cloud, call), call.now)
    return done("Getting instance successful", instance=row)


def names_of(name: str, count: int) -> list[str]:
    """Several of one call get a number each."""
    return [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]


def taken(cloud: Cloud, account: str, names: list[str]) -> bool:
    """Whether a VM that has not ended has one of them."""
    return any(not m.ended and m.order.name in names for m in cloud.owned(account))


async def name_availability(api: Emulator, call: Call) -> Response:
    """GET core/virtual-machines/name-availability/{name}: without `status`."""
    count = counted(check_query(call, ("count",)), "count", 1)
    name = call.ids[0]
    free = not taken(api.cloud, call.owner.name, names_of(name, count))
    message = "Name is available" if free else "Name is already in use"
    return answer({"available": free, "message": message, "name": name})
