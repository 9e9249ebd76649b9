"""What a RunPod account keeps beside pods: SSH keys, network volumes, registry credentials."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET
from starlette.responses import Response

from gpubroker.model.money import nanos
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.runpod.bodies import (
    CreateRegistry,
    CreateVolume,
    SshKeys,
    UpdateVolume,
)
from gpubroker.sandbox.emulators.runpod.deploy import account_keys, set_account_keys
from gpubroker.sandbox.emulators.runpod.refused import Refused
from gpubroker.sandbox.emulators.runpod.sheet import sheet
from gpubroker.sandbox.emulators.runpod.words import (
    invalid,
    no_query,
    not_found,
    problem,
    read_body,
    vendor_id,
)
from gpubroker.sandbox.rented import Thing

LARGE_GB = 1000
_SHORT_ID = 10


def the_thing(cloud: Cloud, call: Call, kind: str) -> Thing:
    """The account's thing that the path names. Raises the 404."""
    found = cloud.things.get((kind, call.ids[0]))
    if found is None or found.account != call.owner.name or found.ended_at is not None:
        raise not_found()
    return found


# --- SSH keys -----------------------------------------------------------------------------


async def show_keys(api: Emulator, call: Call) -> Response:
    """GET account/ssh-keys."""
    no_query(call.request)
    return answer({"keys": account_keys(api.cloud, call.owner.name)})


async def replace_keys(api: Emulator, call: Call) -> Response:
    """PUT account/ssh-keys: the whole set."""
    no_query(call.request)
    set_account_keys(api.cloud, call.owner.name, list(read_body(call, SshKeys).keys))
    return answer({"keys": account_keys(api.cloud, call.owner.name)})


# --- network volumes ----------------------------------------------------------------------


def volume_json(volume: Thing) -> dict[str, Any]:
    """A network volume."""
    return {
        "id": volume.id,
        "name": volume.name,
        "size": volume.wire["size_gb"],
        "dataCenter": volume.wire["data_center"],
        "type": volume.wire["type"],
    }


def open_volume(
    cloud: Cloud, account: str, *, name: str, size_gb: int, place: str, kind: str | None
) -> Thing:
    """A new volume, charged until it is deleted. Raises Refused."""
    data_center = sheet().data_center(place)
    if data_center is None or not data_center.volume_types:
        raise Refused("invalid", f"data center '{place}' has no network volumes")
    kind = kind or data_center.volume_types[0]
    if kind not in data_center.volume_types:
        raise Refused("invalid", f"data center '{place}' has no {kind} network volumes")
    volume = cloud.add_thing(
        account,
        "network_volume",
        named=lambda number: vendor_id("volume", number, _SHORT_ID),
        name=name,
        size_gb=size_gb,
        data_center=place,
        type=kind,
    )
    charge_volume(cloud, volume)
    return volume


def charge_volume(cloud: Cloud, volume: Thing) -> None:
    """At its present size from now on."""
    size, now = volume.wire["size_gb"], cloud.clock.now()
    prices = sheet().large_volume_gb_month if size > LARGE_GB else sheet().volume_gb_month
    rate = nanos(prices[volume.wire["type"]]) * size // cloud.facts.hours_per_month
    volume.ledger.close(now)
    volume.ledger.open("volume", rate, now)
    cloud.save(volume)


def resize_volume(cloud: Cloud, volume: Thing, size_gb: int) -> None:
    """It can only grow. Raises Refused."""
    if size_gb < volume.wire["size_gb"]:
        raise Refused("invalid", "network volume size cannot be reduced")
    volume.wire["size_gb"] = size_gb
    charge_volume(cloud, volume)


def drop_volume(cloud: Cloud, volume: Thing) -> None:
    """Raises Refused while a pod has it."""
    for machine in cloud.owned(volume.account):
        if not machine.ended and machine.wire["network_volume"] == volume.id:
            raise Refused("invalid", f"network volume is in use by pod {machine.id}")
    cloud.end_thing(volume)


async def list_volumes(api: Emulator, call: Call) -> Response:
    """GET network-volumes."""
    no_query(call.request)
    volumes = api.cloud.live_things(call.owner.name, "network_volume")
    return answer({"networkVolumes": [volume_json(volume) for volume in volumes]})


async def create_volume(api: Emulator, call: Call) -> Response:
    """POST network-volumes."""
    no_query(call.request)
    body = read_body(call, CreateVolume)
    try:
        volume = open_volume(
            api.cloud,
            call.owner.name,
            name=body.name,
            size_gb=body.size,
            place=body.data_center,
            kind=body.type,
        )
    except Refused as refused:
        raise problem(400, str(refused)) from None
    return answer(volume_json(volume), 201)


async def show_volume(api: Emulator, call: Call) -> Response:
    """GET network-volumes/{id}."""
    no_query(call.request)
    return answer(volume_json(the_thing(api.cloud, call, "network_volume")))


async def update_volume(api: Emulator, call: Call) -> Response:
    """PATCH network-volumes/{id}."""
    no_query(call.request)
    body = read_body(call, UpdateVolume)
    if not call.body:
        raise invalid("$: minProperties: got 0, want 1")
    volume = the_thing(api.cloud, call, "network_volume")
    try:
        if body.size is not UNSET:
            resize_volume(api.cloud, volume, body.size)
    except Refused as refused:
        raise problem(400, str(refused)) from None
    if body.name is not UNSET:
        volume.name = body.name
        api.cloud.save(volume)
    return answer(volume_json(volume))


async def delete_volume(api: Emulator, call: Call) -> Response:
    """DELETE network-volumes/{id}."""
    no_query(call.request)
    try:
        drop_volume(api.cloud, the_thing(api.cloud, call, "network_volume"))
    except Refused as refused:
        raise problem(400, str(refused)) from None
    return Response(status_code=204)


# --- registry credentials -----------------------------------------------------------------


def _registry_json(registry: Thing) -> dict[str, Any]:
    return {"id": registry.id, "name": registry.name}


async def list_registries(api: Emulator, call: Call) -> Response:
    """GET registries."""
    no_query(call.request)
    things = api.cloud.live_things(call.owner.name, "registry")
    return answer({"registries": [_registry_json(thing) for thing in things]})


async def create_registry(api: Emulator, call: Call) -> Response:
    """POST registries: the name is kept, the password is not."""
    no_query(call.request)
    body = read_body(call, CreateRegistry)
    registry = api.cloud.add_thing(
        call.owner.name,
        "registry",
        named=lambda number: vendor_id("registry", number, _SHORT_ID),
        name=body.name,
    )
    return answer(_registry_json(registry), 201)


async def show_registry(api: Emulator, call: Call) -> Response:
    """GET registries/{id}."""
    no_query(call.request)
    return answer(_registry_json(the_thing(api.cloud, call, "registry")))


async def delete_registry(api: Emulator, call: Call) -> Response:
    """DELETE registries/{id}."""
    no_query(call.request)
    api.cloud.end_thing(the_thing(api.cloud, call, "registry"))
    return Response(status_code=204)
