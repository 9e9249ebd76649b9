"""Lyceum's block storage: made with a VM, outlives it, and is paid for until it is deleted."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from starlette.responses import Response

from gpubroker.model.money import Nanos, nanos
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.fastapi_words import Nothing, read_query
from gpubroker.sandbox.emulators.lyceum.words import owned_thing, refusal
from gpubroker.sandbox.rented import Machine, Thing

KIND = "volume"
GB_MONTH_USD = 0.1
"""The vendor tells no figure."""
AVAILABLE, ATTACHED = "available", "attached"


def new_volume(cloud: Cloud, machine: Machine, size_gb: int) -> Thing:
    """Where the VM is, and attached to it."""
    thing = cloud.add_thing(
        machine.account,
        KIND,
        named=lambda _: f"vol-{uuid4().hex[:12]}",
        size_gb=size_gb,
        location=cloud.slot(machine).place,
        vm="",
    )
    thing.name = f"data-{thing.id[-4:]}"
    rate = Nanos(round(nanos(GB_MONTH_USD) * size_gb / cloud.facts.hours_per_month))
    thing.ledger.open("volume", rate, cloud.clock.now())
    attach(cloud, thing, machine)
    return thing


def attach(cloud: Cloud, thing: Thing, machine: Machine) -> None:
    """For the VM's whole life."""
    thing.wire["vm"], thing.state = machine.id, ATTACHED
    cloud.save(thing)


def holder(cloud: Cloud, thing: Thing) -> Machine | None:
    """The VM that has it, whose end by whatever cause sets it free."""
    machine = cloud.machines.get(thing.wire["vm"])
    gone = machine is None or machine.ended or not machine.holds_slot
    return None if gone else machine


def settle(cloud: Cloud, account: str) -> None:
    """Sets free what ended VMs had."""
    for thing in cloud.live_things(account, KIND):
        if thing.state == ATTACHED and holder(cloud, thing) is None:
            thing.wire["vm"], thing.state = "", AVAILABLE
            cloud.save(thing)


def attached_json(cloud: Cloud, machine: Machine) -> list[dict[str, Any]]:
    """The volumes of a VM."""
    return [
        {"volume_id": t.id, "size_gb": t.wire["size_gb"], "mount_path": f"/mnt/{t.name}"}
        for t in cloud.live_things(machine.account, KIND)
        if t.wire["vm"] == machine.id
    ]


async def list_all(api: Emulator, call: Call) -> Response:
    """GET storage/block."""
    read_query(call, Nothing)
    settle(api.cloud, call.owner.name)
    rows = [
        {
            "volume_id": thing.id,
            "name": thing.name,
            "size_gb": thing.wire["size_gb"],
            "status": thing.state,
            "location": thing.wire["location"],
            "attached_vm_id": thing.wire["vm"] or None,
            "mount_path": f"/mnt/{thing.name}",
        }
        for thing in api.cloud.live_things(call.owner.name, KIND)
    ]
    return answer({"volumes": rows})


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE storage/block/{id}: only what no VM has."""
    read_query(call, Nothing)
    settle(api.cloud, call.owner.name)
    thing = owned_thing(api.cloud, call, KIND, call.ids[0])
    if thing is None:
        raise refusal(404, "Volume not found")
    if thing.state == ATTACHED:
        raise refusal(409, "Volume is attached to a VM. Terminate the VM first.")
    api.cloud.end_thing(thing)
    return answer({"message": "Volume deleted"})
