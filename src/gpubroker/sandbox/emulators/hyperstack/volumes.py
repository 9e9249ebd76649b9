"""Hyperstack's volumes: of an environment, by the GB, attached to a VM of the same region."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.model.money import Nanos, nanos
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.hyperstack.catalog import IMAGES, USD_PER_HOUR, VOLUME_TYPE
from gpubroker.sandbox.emulators.hyperstack.environments import (
    Environment,
    environment_named,
)
from gpubroker.sandbox.emulators.hyperstack.words import (
    PAGED,
    Name,
    bad,
    check_query,
    conflict,
    done,
    moment,
    named_thing,
    no_body,
    not_found,
    owned_thing,
    paged,
    read_body,
)
from gpubroker.sandbox.rented import Machine, Thing

KIND = "volume"
CREATING_S = 1.0


class NewVolume(Struct, forbid_unknown_fields=True):
    """Body of POST volumes; `image_id` makes it bootable."""

    name: Name
    environment_name: str
    size: Annotated[int, Meta(ge=1, le=1_048_576)]
    volume_type: str
    description: str = ""
    image_id: int | None = None
    callback_url: Annotated[str, Meta(max_length=250)] | None = None


class Attached(Struct, forbid_unknown_fields=True):
    """Body of attach-volumes."""

    volume_ids: Annotated[list[int], Meta(min_length=1)]
    protected: bool = False


class Detached(Struct, forbid_unknown_fields=True):
    """Body of detach-volumes."""

    volume_ids: Annotated[list[int], Meta(min_length=1)]


def new_volume(
    cloud: Cloud, account: str, environment: Environment, body: NewVolume, image: str = ""
) -> Thing:
    """Charged for from now on, attached or not."""
    thing = cloud.add_thing(
        account,
        KIND,
        name=body.name,
        size=body.size,
        environment=environment.name,
        region=environment.region,
        description=body.description,
        image_id=body.image_id,
        image=image,
        callback_url=body.callback_url,
        instance_id=None,
        device=None,
        protected=False,
    )
    rate = Nanos(nanos(USD_PER_HOUR[VOLUME_TYPE]) * body.size)
    thing.ledger.open("volume", rate, cloud.clock.now())
    cloud.save(thing)
    return thing


def holder_of(cloud: Cloud, thing: Thing) -> Machine | None:
    """The VM that a volume is attached to; a VM's end sets it free."""
    machine = cloud.machines.get(thing.wire["instance_id"] or "")
    return None if machine is None or machine.ended else machine


def attached(cloud: Cloud, machine: Machine) -> list[Thing]:
    """The VM's volumes, oldest first."""
    things = cloud.live_things(machine.account, KIND)
    return [thing for thing in things if holder_of(cloud, thing) is machine]


def attach(cloud: Cloud, thing: Thing, machine: Machine, *, protected: bool = False) -> None:
    """At the next free device."""
    taken = {volume.wire["device"] for volume in attached(cloud, machine)}
    devices = (f"/dev/vd{letter}" for letter in "bcdefghijklmnopqrstuvwxyz")
    device = next((device for device in devices if device not in taken), None)
    if device is None:
        raise bad("No more volumes can be attached to this virtual machine")
    thing.wire |= {"instance_id": machine.id, "device": device, "protected": protected}
    cloud.save(thing)


def _status(cloud: Cloud, thing: Thing) -> str:
    if holder_of(cloud, thing) is not None:
        return "in-use"
    return "creating" if cloud.clock.now() - thing.created_at < CREATING_S else "available"


def _volume_json(cloud: Cloud, thing: Thing) -> dict[str, Any]:
    wire, machine = thing.wire, holder_of(cloud, thing)
    row = {
        "id": int(thing.id),
        "name": thing.name,
        "description": wire["description"],
        "status": _status(cloud, thing),
        "size": wire["size"],
        "volume_type": VOLUME_TYPE,
        "bootable": bool(wire["image"]),
        "image_id": wire["image_id"],
        "callback_url": wire["callback_url"],
        "environment": {
            "name": wire["environment"],
            "region": wire["region"],
            "features": {},
        },
        "attachments": [],
        "created_at": moment(thing.created_at),
        "updated_at": moment(thing.created_at),
    }
    if machine is not None:
        row["attachments"] = [
            {
                "id": int(thing.id),
                "instance_id": int(machine.id),
                "device": wire["device"],
                "status": "ATTACHED",
                "protected": wire["protected"],
            }
        ]
    return row


def attachment_json(thing: Thing) -> dict[str, Any]:
    """As instances tell it."""
    wire = thing.wire
    return {
        "id": int(thing.id),
        "device": wire["device"],
        "status": "ATTACHED",
        "protected": wire["protected"],
        "created_at": moment(thing.created_at),
        "volume": {
            "id": int(thing.id),
            "name": thing.name,
            "description": wire["description"],
            "size": wire["size"],
            "volume_type": VOLUME_TYPE,
            "bootable": bool(wire["image"]),
        },
    }


def _found(cloud: Cloud, call: Call, id_: str) -> Thing:
    return owned_thing(cloud, call, KIND, id_, "Volume")


async def volume_types(_: Emulator, call: Call) -> Response:
    """GET core/volume-types."""
    check_query(call)
    return done("Getting volume types successful", volume_types=[VOLUME_TYPE])


async def list_all(api: Emulator, call: Call) -> Response:
    """GET core/volumes."""
    query = check_query(call, (*PAGED, "search", "environment"))
    rows = [
        _volume_json(api.cloud, thing)
        for thing in api.cloud.live_things(call.owner.name, KIND)
        if query.get("search", "").lower() in thing.name.lower()
        and query.get("environment", "") in thing.wire["environment"]
    ]
    return paged(api, call, "volumes", rows)


async def show(api: Emulator, call: Call) -> Response:
    """GET core/volumes/{id}."""
    check_query(call)
    thing = _found(api.cloud, call, call.ids[0])
    row = _volume_json(api.cloud, thing) | {"os_image": thing.wire["image"]}
    return done("Getting volume successful", volume=row)


async def create(api: Emulator, call: Call) -> Response:
    """POST core/volumes."""
    body = read_body(call, NewVolume)
    environment = environment_named(api.cloud, call, body.environment_name)
    if body.volume_type != VOLUME_TYPE:
        raise bad(f"Invalid volume type: {body.volume_type}")
    if named_thing(api.cloud, call, KIND, body.name) is not None:
        raise conflict(f"Volume with name {body.name} already exists")
    image = ""
    if body.image_id is not None:
        names = [i.name for i in IMAGES if (i.id, i.region) == (body.image_id, environment.region)]
        if not names:
            raise not_found("Image not found")
        image = names[0]
    thing = new_volume(api.cloud, call.owner.name, environment, body, image)
    row = _volume_json(api.cloud, thing) | {"os_image": image}
    return done("Volume created successfully", volume=row)


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE core/volumes/{id}."""
    no_body(call)
    thing = _found(api.cloud, call, call.ids[0])
    if holder_of(api.cloud, thing) is not None:
        raise bad("Volume is in use and cannot be deleted")
    api.cloud.end_thing(thing)
    return done("Volume deleted successfully")


def _rows(machine: Machine, things: list[Thing], status: str) -> list[dict[str, Any]]:
    return [
        {
            "id": int(thing.id),
            "instance_id": int(machine.id),
            "volume_id": int(thing.id),
            "device": thing.wire["device"],
            "status": status,
            "protected": thing.wire["protected"],
            "created_at": moment(thing.created_at),
        }
        for thing in things
    ]


async def attach_many(api: Emulator, call: Call, machine: Machine) -> Response:
    """POST core/virtual-machines/{id}/attach-volumes: all of them, or none."""
    body = read_body(call, Attached)
    cloud = api.cloud
    things = [_found(cloud, call, str(id_)) for id_ in dict.fromkeys(body.volume_ids)]
    for thing in things:
        if _status(cloud, thing) != "available":
            raise bad(f"Volume {thing.name} is not available")
        if thing.wire["environment"] != machine.wire["environment"]:
            raise bad(f"Volume {thing.name} is in another environment")
    for thing in things:
        attach(cloud, thing, machine, protected=body.protected)
    rows = _rows(machine, things, "ATTACHING")
    return done("Attaching volumes initiated successfully", volume_attachments=rows)


async def detach_many(api: Emulator, call: Call, machine: Machine) -> Response:
    """POST core/virtual-machines/{id}/detach-volumes: all of them, or none."""
    body = read_body(call, Detached)
    things = [_found(api.cloud, call, str(id_)) for id_ in dict.fromkeys(body.volume_ids)]
    for thing in things:
        if holder_of(api.cloud, thing) is not machine:
            raise bad(f"Volume {thing.name} is not attached to this virtual machine")
        if thing.wire["protected"]:
            raise bad(f"Volume {thing.name} is protected")
    rows = _rows(machine, things, "DETACHING")
    for thing in things:
        thing.wire |= {"instance_id": None, "device": None}
        api.cloud.save(thing)
    return done("Detaching volumes initiated successfully", volume_attachments=rows)
