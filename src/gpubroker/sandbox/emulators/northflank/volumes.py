"""Northflank's volumes: they are charged for as long as they are there, attached or not."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from gpubroker.model.money import nanos
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.northflank.bodies import Attached, AttachVolume, NewVolume
from gpubroker.sandbox.emulators.northflank.catalog import sheet
from gpubroker.sandbox.emulators.northflank.projects import (
    VOLUME,
    services_of,
    the_project,
    volumes_of,
)
from gpubroker.sandbox.emulators.northflank.words import (
    PAGING,
    check_query,
    data,
    moment,
    no_body,
    not_found,
    page_of,
    read_body,
    refusal,
    slug,
    unused,
)
from gpubroker.sandbox.rented import Machine, Thing

_MB_PER_GB = 1024


def attach(cloud: Cloud, volume: Thing, service: Machine) -> None:
    """It is the service's from now on."""
    volume.wire["attached"], volume.state = service.id, "attached"
    cloud.save(volume)


def detach(cloud: Cloud, volume: Thing) -> None:
    """It is nobody's, and charged for all the same."""
    volume.wire["attached"], volume.state = "", "detached"
    cloud.save(volume)


def _json(cloud: Cloud, volume: Thing) -> dict[str, Any]:
    told = volume.wire
    service = cloud.machines.get(told["attached"])
    attached = [] if service is None else [{"id": service.wire["id"], "type": "service"}]
    at = moment(volume.created_at)
    return {
        "id": told["id"],
        "name": volume.name,
        "tags": told["tags"],
        "spec": told["spec"],
        "attachedObjects": attached,
        "status": "BOUND" if attached else "UNBOUND",
        "createdAt": at,
        "updatedAt": at,
    }


def _the_volume(cloud: Cloud, call: Call) -> Thing:
    for volume in volumes_of(cloud, the_project(cloud, call)):
        if volume.wire["id"] == call.ids[1]:
            return volume
    raise not_found("Volume")


def _target(cloud: Cloud, project: Thing, wanted: Attached) -> Machine:
    for service in services_of(cloud, project):
        if service.wire["id"] == wanted.id:
            return service
    raise not_found("Service")


async def create(api: Emulator, call: Call) -> Response:
    """POST volumes."""
    cloud, project = api.cloud, the_project(api.cloud, call)
    body = read_body(call, NewVolume)
    id_ = slug(body.name)
    if any(volume.wire["id"] == id_ for volume in volumes_of(cloud, project)):
        raise refusal(409, "There is already a volume with the same derived identifier")
    targets = [_target(cloud, project, wanted) for wanted in body.attachedObjects]
    taken = {key for kind, key in cloud.things if kind == VOLUME}
    volume = cloud.add_thing(
        project.account,
        VOLUME,
        named=lambda _: unused(id_, taken),
        name=body.name,
        project=project.id,
        tags=body.tags,
        spec=msgspec.to_builtins(body.spec),
        attached="",
    )
    volume.wire["id"], volume.state = id_, "detached"
    gb = body.spec.storageSize / _MB_PER_GB
    rate = round(nanos(sheet().volume_gb_month) * gb / cloud.facts.hours_per_month)
    volume.ledger.open("volume", rate, call.now)
    for service in targets:
        attach(cloud, volume, service)
    cloud.save(volume)
    return data(_json(cloud, volume))


async def list_all(api: Emulator, call: Call) -> Response:
    """GET volumes: a bare list."""
    check_query(call, PAGING)
    project = the_project(api.cloud, call)
    rows = [_json(api.cloud, volume) for volume in volumes_of(api.cloud, project)]
    shown, pagination = page_of(api, call, rows)
    return data(shown, pagination=pagination)


async def show(api: Emulator, call: Call) -> Response:
    """GET volumes/{id}."""
    check_query(call)
    return data(_json(api.cloud, _the_volume(api.cloud, call)))


async def attach_one(api: Emulator, call: Call) -> Response:
    """POST volumes/{id}/attach: to one service at a time."""
    cloud, volume = api.cloud, _the_volume(api.cloud, call)
    body = read_body(call, AttachVolume)
    if volume.wire["attached"]:
        raise refusal(409, "The volume is already attached")
    attach(cloud, volume, _target(cloud, the_project(cloud, call), body.nfObject))
    return data({})


async def detach_one(api: Emulator, call: Call) -> Response:
    """POST volumes/{id}/detach."""
    cloud, volume = api.cloud, _the_volume(api.cloud, call)
    body = read_body(call, AttachVolume)
    if volume.wire["attached"] != _target(cloud, the_project(cloud, call), body.nfObject).id:
        raise refusal(409, "The volume is not attached to the object")
    detach(cloud, volume)
    return data({})


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE volumes/{id}: not while a service has it."""
    no_body(call)
    cloud, volume = api.cloud, _the_volume(api.cloud, call)
    if volume.wire["attached"]:
        raise refusal(409, "The volume is attached")
    cloud.end_thing(volume)
    return data({})
