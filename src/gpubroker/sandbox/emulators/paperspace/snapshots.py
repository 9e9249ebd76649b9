"""Snapshots of Paperspace's machines: paid for, and deleted with their machine."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from starlette.responses import Response

from gpubroker.model.money import Nanos, nanos
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.paperspace.events import Name as EventName
from gpubroker.sandbox.emulators.paperspace.events import event_json, record
from gpubroker.sandbox.emulators.paperspace.machines import found, state_of
from gpubroker.sandbox.emulators.paperspace.words import (
    Name,
    NamedPage,
    Nothing,
    new_id,
    owned_thing,
    paged,
    read_body,
    read_query,
    refusal,
)
from gpubroker.sandbox.rented import Machine, Thing

KIND = "snapshot"
GB_MONTH_USD = 0.05
"""The vendor's pages tell no figure."""
WORK_S = 3.0


class SnapshotPage(NamedPage):
    """Query of the list."""

    machine_id: str = ""


class NewSnapshot(Struct, forbid_unknown_fields=True, rename="camel"):
    """Body of the call that makes one."""

    machine_id: str
    name: Name


class Restore(Struct, forbid_unknown_fields=True, rename="camel"):
    """Body of the call that puts a machine back."""

    create_snapshot_before_restore: bool = False


def _json(thing: Thing) -> dict[str, Any]:
    return {
        "id": thing.id,
        "name": thing.name,
        "machineId": thing.wire["machine"],
        "isAutoSnapshot": False,
    }


def take(cloud: Cloud, machine: Machine, name: str) -> Thing:
    """Of the machine's disk as it is."""
    thing = cloud.add_thing(
        machine.account, KIND, named=new_id("ss"), name=name, machine=machine.id
    )
    thing.ends_with = machine.id
    share = nanos(GB_MONTH_USD) * machine.order.disk_gb / cloud.facts.hours_per_month
    thing.ledger.open("volume", Nanos(round(share)), cloud.clock.now())
    cloud.save(thing)
    return thing


def _done(api: Emulator, call: Call, thing: Thing, name: EventName) -> Response:
    machine = api.cloud.machines[thing.wire["machine"]]
    event = record(api.cloud, machine, name, lasts_s=WORK_S)
    told = event_json(api.cloud, event, call.now)
    return answer({"data": _json(thing), "event": told})


async def list_all(api: Emulator, call: Call) -> Response:
    """GET snapshots."""
    query = read_query(call, SnapshotPage)
    rows = [
        _json(thing)
        for thing in api.cloud.live_things(call.owner.name, KIND)
        if query.machine_id in ("", thing.wire["machine"])
    ]
    return paged(api, call, query, rows)


async def show(api: Emulator, call: Call) -> Response:
    """GET snapshots/{id}."""
    read_query(call, Nothing)
    return answer(_json(owned_thing(api.cloud, call, KIND, call.ids[0], "Snapshot")))


async def create(api: Emulator, call: Call) -> Response:
    """POST snapshots."""
    body = read_body(call, NewSnapshot)
    machine = found(api.cloud, call, body.machine_id)
    return _done(api, call, take(api.cloud, machine, body.name), "snapshot-create")


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE snapshots/{id}."""
    read_query(call, Nothing)
    thing = owned_thing(api.cloud, call, KIND, call.ids[0], "Snapshot")
    api.cloud.end_thing(thing)
    return _done(api, call, thing, "snapshot-delete")


async def restore(api: Emulator, call: Call) -> Response:
    """POST snapshots/{id}/restore: the machine must be off; here its disk is left as it is."""
    body = read_body(call, Restore)
    thing = owned_thing(api.cloud, call, KIND, call.ids[0], "Snapshot")
    machine = found(api.cloud, call, thing.wire["machine"])
    if (state := state_of(machine, call.now)) != "off":
        raise refusal(409, f"The machine must be off, it is {state}.")
    if body.create_snapshot_before_restore:
        take(api.cloud, machine, f"before {thing.name}")
    return _done(api, call, thing, "snapshot-restore")
