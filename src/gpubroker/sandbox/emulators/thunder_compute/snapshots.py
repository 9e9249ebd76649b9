"""Thunder Compute's snapshots: disks that outlive their instance, paid by the GB."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.thunder_compute.catalog import SNAPSHOT_GB_RATE
from gpubroker.sandbox.emulators.thunder_compute.instances import SNAPPING_S, by_id
from gpubroker.sandbox.emulators.thunder_compute.words import (
    check_query,
    new_id,
    no_body,
    owned_thing,
    read_body,
    refusal,
)
from gpubroker.sandbox.rented import Thing

KIND = "snapshot"


class NewSnapshot(Struct, forbid_unknown_fields=True):
    """Body of POST snapshots/create."""

    instanceId: str  # noqa: N815 - the vendor's
    name: Annotated[str, Meta(min_length=1)]


def status_of(thing: Thing, now: float) -> str:
    """In the vendor's words."""
    return "CREATING" if now - thing.created_at < SNAPPING_S else "READY"


def ready(cloud: Cloud, account: str, name: str, now: float) -> Thing | None:
    """The account's that an instance can be made from, by name."""
    for thing in cloud.live_things(account, KIND):
        if thing.name == name and status_of(thing, now) == "READY":
            return thing
    return None


def _snapshot_json(thing: Thing, now: float) -> dict[str, Any]:
    return {
        "id": thing.id,
        "name": thing.name,
        "status": status_of(thing, now),
        "minimumDiskSizeGb": thing.wire["gb"],
        "createdAt": int(thing.created_at),
    }


async def list_all(api: Emulator, call: Call) -> Response:
    """GET snapshots/list."""
    check_query(call)
    things = api.cloud.live_things(call.owner.name, KIND)
    return answer([_snapshot_json(thing, call.now) for thing in things])


async def create(api: Emulator, call: Call) -> Response:
    """POST snapshots/create: of an instance that runs, which is busy meanwhile."""
    body = read_body(call, NewSnapshot)
    cloud = api.cloud
    machine = by_id(cloud, call, body.instanceId)
    if machine.state != State.RUNNING:
        raise refusal(409, "the instance is not running")
    if any(thing.name == body.name for thing in cloud.live_things(call.owner.name, KIND)):
        raise refusal(409, "a snapshot with this name already exists")
    gb = int(machine.order.disk_gb)
    thing = cloud.add_thing(call.owner.name, KIND, named=new_id, name=body.name, gb=gb)
    thing.ledger.open("volume", gb * SNAPSHOT_GB_RATE, call.now)
    machine.wire["snapped_at"] = call.now
    cloud.save(thing)
    cloud.save(machine)
    return answer({"message": "Snapshot creation started"}, 202)


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE snapshots/{id}."""
    no_body(call)
    api.cloud.end_thing(owned_thing(api.cloud, call, KIND, call.ids[0]))
    return answer({"message": "Snapshot deleted successfully"})
