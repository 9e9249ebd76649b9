"""Paperspace's machines: how they are looked at."""

from __future__ import annotations

import hashlib
from typing import Any

from starlette.responses import Response

from gpubroker.model.money import Nanos, nanos, usd
from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.paperspace import addresses
from gpubroker.sandbox.emulators.paperspace.catalog import region_of
from gpubroker.sandbox.emulators.paperspace.words import (
    Nothing,
    Page,
    moment,
    not_found,
    paged,
    read_query,
)
from gpubroker.sandbox.money import Component
from gpubroker.sandbox.rented import Machine

GIB = 1024**3
SERVICEREADY_S = 1.0
"""So long the services of one that has booted are up, and its agent is not."""
STOPPING_S = 4.0
LISTED_S, REMEMBERED_S = 5.0, 60.0
"""So long a deleted one is listed, and found by its id, with the time of its end."""
MONTHLY_USD = {50: 5.0, 100: 7.0, 250: 10.0, 500: 20.0, 1000: 40.0, 2000: 80.0}
"""What a disk of so many GB costs, whether the machine runs or not."""


class MachinePage(Page):
    """Query of the list."""

    name: str = ""
    region: str = ""
    agent_type: str = ""
    machine_type: str = ""


def disk_rate(cloud: Cloud, gb: int) -> Nanos:
    """Per hour."""
    return Nanos(round(nanos(MONTHLY_USD[gb]) / cloud.facts.hours_per_month))


def charge_disk(cloud: Cloud, machine: Machine, gb: int) -> None:
    """From now on."""
    machine.disk_rate = machine.disk_rate_stopped = disk_rate(cloud, gb)
    now = cloud.clock.now()
    machine.ledger.close(now, "disk", "disk_stopped")
    part: Component = "disk" if machine.holds_slot else "disk_stopped"
    machine.ledger.open(part, machine.disk_rate, now)
    cloud.save(machine)


def state_of(machine: Machine, now: float) -> str:
    """In the vendor's words, which have none for a failure: such a machine is off."""
    boot: str = machine.wire["boot"]
    since = machine.running_since
    match machine.state:
        case State.PENDING:
            return "restarting" if machine.booting_again else boot
        case State.RUNNING if since is None:
            return boot
        case State.RUNNING:
            return "serviceready" if since and now - since < SERVICEREADY_S else "ready"
        case _:
            return _state_off(machine, now)


def _state_off(machine: Machine, now: float) -> str:
    """Of one that does not run: what it is on its way from, or to."""
    wire = machine.wire
    ways = {
        "stopping": max(wire["stopped_at"], machine.ended_at or 0.0) + STOPPING_S,
        wire["boot"]: wire["doomed_until"],
        "upgrading": wire["upgraded_at"],
    }
    return next((word for word, until in ways.items() if now < until), "off")


def machine_json(cloud: Cloud, machine: Machine, now: float) -> dict[str, Any]:
    """As it is told everywhere."""
    slot, wire = cloud.slot(machine), machine.wire
    gpu = cloud.gpu(machine.gpu)
    size = int(machine.order.disk_gb) * GIB
    digest = hashlib.sha256(machine.id.encode()).digest()
    return {
        "id": machine.id,
        "name": machine.label or "New machine",
        "state": state_of(machine, now),
        "os": wire["os"],
        "agentType": wire["agent"],
        "machineType": slot.facts["type"],
        "region": slot.place,
        "cpus": int(slot.vcpus),
        "ram": slot.ram_mb * 1024**2,
        "accelerators": [
            {
                "name": machine.gpu,
                "memory": round(gpu.memory_mib / 1024) * GIB if slot.facts["memory_told"] else None,
                "count": slot.gpu_count,
            }
        ],
        "networkId": wire["network"],
        "privateIp": f"10.64.{digest[0]}.{digest[1] or 1}" if machine.address else None,
        "publicIp": addresses.public_ip(cloud, machine),
        "publicIpType": wire["ip_type"],
        "storageTotal": size,
        "storageUsed": size // 10,
        "usageRate": round(usd(machine.gpu_rate), 4),
        "storageRate": round(usd(machine.disk_rate), 4),
        **wire["settings"],
        "restorePointSnapshotId": None,
        "updatesPending": False,
        "reservation": None,
        "dtCreated": moment(machine.created_at),
        "dtModified": moment(max(machine.created_at, wire["modified_at"])),
        "dtDeleted": None if machine.ended_at is None else moment(machine.ended_at),
    }


def _ended_within(machine: Machine, now: float, seconds: float) -> bool:
    """Or it has not ended."""
    return machine.ended_at is None or now - machine.ended_at < seconds


def found(cloud: Cloud, call: Call, id_: str) -> Machine:
    """The account's; a deleted one for a while. Raises the 404."""
    machine = cloud.machines.get(id_)
    known = machine is not None and machine.account == call.owner.name
    if machine is None or not known or not _ended_within(machine, call.now, REMEMBERED_S):
        raise not_found("Machine")
    return machine


async def list_all(api: Emulator, call: Call) -> Response:
    """GET machines."""
    query = read_query(call, MachinePage)
    cloud = api.cloud
    place = region_of(query.region) if query.region else ""
    lag = cloud.faults.take("list", "list_lag")
    rows = []
    for machine in cloud.owned(call.owner.name):
        unseen = machine.hidden_until > call.now or (
            lag is not None and call.now - machine.created_at < lag.delay_s
        )
        if unseen or not _ended_within(machine, call.now, LISTED_S):
            continue
        row = machine_json(cloud, machine, call.now)
        type_fits = query.machine_type.lower() in ("", row["machineType"].lower())
        place_fits = place in ("", row["region"])
        agent_fits = query.agent_type in ("", row["agentType"])
        if type_fits and place_fits and agent_fits and query.name in row["name"]:
            rows.append(row)
    return paged(api, call, query, rows)


async def show(api: Emulator, call: Call) -> Response:
    """GET machines/{id}."""
    read_query(call, Nothing)
    machine = found(api.cloud, call, call.ids[0])
    return answer(machine_json(api.cloud, machine, call.now))
