"""DigitalOcean's block storage: volumes of one region, charged by size until they are deleted."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import uuid4

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.model.money import Nanos, nanos
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.digitalocean import attachments
from gpubroker.sandbox.emulators.digitalocean.catalog import region_json
from gpubroker.sandbox.emulators.digitalocean.droplet_record import (
    SHORT_S,
    action_json,
    actions_of,
    begin_action,
    check_idle,
    gone,
)
from gpubroker.sandbox.emulators.digitalocean.words import (
    PAGED,
    check_query,
    check_region,
    moment,
    no_body,
    no_content,
    not_found,
    paged,
    read_body,
    refusal,
    unprocessable,
)
from gpubroker.sandbox.rented import Machine, Thing

GIB_MONTH_USD = 0.10
_NAME = r"^[a-z][a-z0-9-]*$"


class NewVolume(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of POST volumes."""

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=_NAME)]
    region: str
    size_gigabytes: Annotated[int, Meta(ge=1, le=16384)]
    description: str = ""
    tags: list[str] | None = None
    filesystem_type: Literal["", "ext4", "xfs"] = ""
    filesystem_label: Annotated[str, Meta(max_length=16)] = ""
    snapshot_id: str | None = None


class VolumeAction(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of POST volumes/{id}/actions and of volumes/actions."""

    type: Literal["attach", "detach", "resize"]
    droplet_id: int | None = None
    size_gigabytes: Annotated[int, Meta(ge=1, le=16384)] | None = None
    region: str | None = None
    tags: list[str] | None = None
    volume_name: str | None = None


def volume_json(cloud: Cloud, thing: Thing) -> dict[str, Any]:
    """As everywhere."""
    machine, wire = attachments.droplet_with(cloud, thing), thing.wire
    return {
        "id": thing.id,
        "name": thing.name,
        "created_at": moment(thing.created_at),
        "description": wire["description"],
        "droplet_ids": [int(machine.id)] if machine else [],
        "region": region_json(cloud, wire["region"]),
        "size_gigabytes": wire["size_gigabytes"],
        "tags": wire["tags"],
        "filesystem_type": wire["filesystem_type"],
        "filesystem_label": wire["filesystem_label"],
    }


def _charge(cloud: Cloud, thing: Thing, gib: int, now: float) -> None:
    thing.wire["size_gigabytes"] = gib
    thing.ledger.close(now)
    month = nanos(GIB_MONTH_USD * gib)
    thing.ledger.open("volume", Nanos(round(month / cloud.facts.hours_per_month)), now)
    cloud.save(thing)


def _own(api: Emulator, call: Call) -> Thing:
    for thing in api.cloud.live_things(call.owner.name, attachments.VOLUME):
        if thing.id == call.ids[0]:
            return thing
    raise not_found()


def _named(api: Emulator, call: Call, name: str | None, region: str | None) -> Thing:
    for thing in api.cloud.live_things(call.owner.name, attachments.VOLUME):
        if thing.name == name and thing.wire["region"] == region:
            return thing
    raise not_found()


async def list_volumes(api: Emulator, call: Call) -> Response:
    """GET volumes, all or by name and region."""
    query = check_query(call, (*PAGED, "name", "region"))
    rows = [
        volume_json(api.cloud, thing)
        for thing in api.cloud.live_things(call.owner.name, attachments.VOLUME)
        if query.get("name", thing.name) == thing.name
        and query.get("region", thing.wire["region"]) == thing.wire["region"]
    ]
    return paged(api, call, "volumes", rows)


async def create_volume(api: Emulator, call: Call) -> Response:
    """POST volumes: a name but once in a region."""
    body = read_body(call, NewVolume)
    region, cloud = check_region(body.region), api.cloud
    if body.snapshot_id:
        raise not_found()
    for known in cloud.live_things(call.owner.name, attachments.VOLUME):
        if (known.name, known.wire["region"]) == (body.name, region):
            raise refusal("conflict", "a volume with this name already exists in this region")
    thing = cloud.add_thing(
        call.owner.name,
        attachments.VOLUME,
        named=lambda _: str(uuid4()),
        name=body.name,
        region=region,
        description=body.description,
        tags=body.tags or [],
        filesystem_type=body.filesystem_type,
        filesystem_label=body.filesystem_label,
        droplet_id="",
    )
    _charge(cloud, thing, body.size_gigabytes, call.now)
    return answer({"volume": volume_json(cloud, thing)}, 201)


async def show_volume(api: Emulator, call: Call) -> Response:
    """GET volumes/{id}."""
    check_query(call)
    return answer({"volume": volume_json(api.cloud, _own(api, call))})


def _delete(api: Emulator, thing: Thing) -> Response:
    if attachments.droplet_with(api.cloud, thing):
        raise refusal("conflict", "failed to delete volume: volume is attached to a Droplet")
    api.cloud.end_thing(thing)
    return no_content()


async def delete_volume(api: Emulator, call: Call) -> Response:
    """DELETE volumes/{id}: not while it is attached."""
    no_body(call)
    return _delete(api, _own(api, call))


async def delete_named(api: Emulator, call: Call) -> Response:
    """DELETE volumes?name=&region=."""
    query = no_body(call, ("name", "region"))
    return _delete(api, _named(api, call, query.get("name"), query.get("region")))


# --- actions ------------------------------------------------------------------------------


async def act(api: Emulator, call: Call) -> Response:
    """POST volumes/{id}/actions; the vendor's client pages even this call."""
    wanted = read_body(call, VolumeAction, PAGED)
    return _acted(api, call, _own(api, call), wanted)


async def act_by_name(api: Emulator, call: Call) -> Response:
    """POST volumes/actions."""
    wanted = read_body(call, VolumeAction, PAGED)
    thing = _named(api, call, wanted.volume_name, wanted.region)
    return _acted(api, call, thing, wanted)


def _droplet(api: Emulator, call: Call, thing: Thing, wanted: VolumeAction) -> Machine:
    machine = api.cloud.machines.get(str(wanted.droplet_id))
    if machine is None or machine.account != call.owner.name or gone(machine):
        raise not_found()
    if api.cloud.slot(machine).place != thing.wire["region"]:
        raise unprocessable("Volume is not in the region of the Droplet.")
    check_idle(machine, call.now)
    return machine


def _acted(api: Emulator, call: Call, thing: Thing, wanted: VolumeAction) -> Response:
    cloud = api.cloud
    if wanted.region not in (None, thing.wire["region"]):
        raise unprocessable("Volume is not in this region.")
    if wanted.type == "resize":
        if (wanted.size_gigabytes or 0) <= thing.wire["size_gigabytes"]:
            raise unprocessable("a volume can only grow")
        _charge(cloud, thing, wanted.size_gigabytes or 0, call.now)
    else:
        machine, holder = _droplet(api, call, thing, wanted), attachments.droplet_with(cloud, thing)
        if wanted.type == "attach" and holder is not None:
            raise unprocessable("Volume is already attached to a Droplet.")
        if wanted.type == "detach" and holder is not machine:
            raise unprocessable("Volume is not attached to the Droplet.")
        attachments.attach(cloud, thing, machine if wanted.type == "attach" else None)
    action = begin_action(cloud, thing, f"{wanted.type}_volume", call.now, SHORT_S)
    return answer({"action": action_json(cloud, thing, action, call.now)}, 202)


async def list_actions(api: Emulator, call: Call) -> Response:
    """GET volumes/{id}/actions."""
    check_query(call, PAGED)
    thing = _own(api, call)
    rows = [action_json(api.cloud, thing, a, call.now) for a in reversed(actions_of(thing))]
    return paged(api, call, "actions", rows)


async def show_action(api: Emulator, call: Call) -> Response:
    """GET volumes/{id}/actions/{id}."""
    check_query(call, PAGED)
    thing = _own(api, call)
    for action in actions_of(thing):
        if str(action["id"]) == call.ids[1]:
            return answer({"action": action_json(api.cloud, thing, action, call.now)})
    raise not_found()
