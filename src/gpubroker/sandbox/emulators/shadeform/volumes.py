"""Shadeform's volumes: in one region of one cloud, at most one with a machine."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.model.money import Nanos, nanos
from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.shadeform.catalog import VOLUME_TYPES, VolumeType
from gpubroker.sandbox.emulators.shadeform.words import (
    Name,
    check_query,
    cost_text,
    done,
    new_id,
    no_body,
    not_found,
    owned_thing,
    read_body,
    refusal,
    stable_id,
)
from gpubroker.sandbox.rented import Account, Machine, Thing

KIND = "volume"


class NewVolume(Struct, forbid_unknown_fields=True):
    """Body of POST volumes/create."""

    cloud: str
    region: str
    size_in_gb: Annotated[int, Meta(ge=1, le=100_000)]
    name: Name


def holder_of(cloud: Cloud, thing: Thing) -> Machine | None:
    """The machine that has it; its end, by whatever cause, sets the volume free."""
    for machine in cloud.owned(thing.account):
        gone = machine.ended or machine.state == State.PREEMPTED
        if thing.id in machine.wire["volume_ids"] and not gone:
            return machine
    return None


def _type_of(thing: Thing) -> VolumeType:
    place = (thing.wire["cloud"], thing.wire["region"])
    return next(one for one in VOLUME_TYPES if (one.cloud, one.region) == place)


def _volume_json(cloud: Cloud, thing: Thing, now: float) -> dict[str, Any]:
    holder, type_ = holder_of(cloud, thing), _type_of(thing)
    return {
        "id": thing.id,
        "cloud": type_.cloud,
        "cloud_assigned_id": stable_id(thing.id),
        "region": type_.region,
        "name": thing.name,
        "fixed_size": type_.fixed_size,
        "size_in_gb": thing.wire["size"],
        "cost_estimate": cost_text(thing, now),
        "supports_multi_mount": type_.supports_multi_mount,
        "mounted_by": holder.id if holder else "",
    }


def found(cloud: Cloud, account: Account, id_: str) -> Thing:
    """By id, or the refusal."""
    thing = owned_thing(cloud, account, KIND, id_)
    if thing is None:
        raise not_found("volume")
    return thing


async def list_all(api: Emulator, call: Call) -> Response:
    """GET volumes."""
    check_query(call)
    things = api.cloud.live_things(call.owner.name, KIND)
    return answer({"volumes": [_volume_json(api.cloud, one, call.now) for one in things]})


async def show(api: Emulator, call: Call) -> Response:
    """GET volumes/{id}/info."""
    check_query(call)
    return answer(_volume_json(api.cloud, found(api.cloud, call.owner, call.ids[0]), call.now))


async def create(api: Emulator, call: Call) -> Response:
    """POST volumes/create: only where there is a type of it."""
    body = read_body(call, NewVolume)
    kinds = [one for one in VOLUME_TYPES if (one.cloud, one.region) == (body.cloud, body.region)]
    if not kinds:
        raise refusal("INVALID_REGION", "volumes are not supported in this cloud and region")
    thing = api.cloud.add_thing(
        call.owner.name,
        KIND,
        named=new_id,
        name=body.name,
        cloud=body.cloud,
        region=body.region,
        size=body.size_in_gb,
    )
    rate = Nanos(nanos(kinds[0].price) * body.size_in_gb)
    thing.ledger.open("volume", rate, call.now)
    api.cloud.save(thing)
    return answer({"id": thing.id})


async def delete(api: Emulator, call: Call) -> Response:
    """POST volumes/{id}/delete: not while a machine has it."""
    no_body(call)
    thing = found(api.cloud, call.owner, call.ids[0])
    if holder_of(api.cloud, thing) is not None:
        raise refusal("VOLUME_IN_USE", "volume is mounted by an instance and cannot be deleted")
    api.cloud.end_thing(thing)
    return done()
