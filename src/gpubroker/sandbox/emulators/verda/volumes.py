"""Verda's volumes: how they are looked at and made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.verda.instances import found as found_instance
from gpubroker.sandbox.emulators.verda.instances import status_of
from gpubroker.sandbox.emulators.verda.storage import (
    KIND,
    USD_PER_GB_MONTH,
    attach,
    attached,
    hourly_usd,
    new_volume,
    settle,
)
from gpubroker.sandbox.emulators.verda.words import (
    bare_id,
    check_location,
    check_query,
    invalid,
    moment,
    not_found,
    owned_thing,
    read_body,
)
from gpubroker.sandbox.rented import Thing

VolumeType = Literal["NVMe", "HDD", "NVMe_Shared"]
Named = Annotated[str, Meta(min_length=1, max_length=255)]
SizeGb = Annotated[int, Meta(ge=1, le=100_000)]
_STATUSES = (
    "ordered", "created", "attached", "attaching", "detached", "detaching", "deleting", "deleted",
    "cloning", "restoring", "exported", "canceled", "canceling",
)  # fmt: skip
_SECONDS_PER_MONTH = 730 * 3600


class NewVolume(Struct, forbid_unknown_fields=True):
    """Body of POST volumes."""

    type: VolumeType
    name: Named
    size: SizeGb
    location_code: str
    instance_id: str | None = None


def _instances_json(cloud: Cloud, thing: Thing, now: float) -> list[dict[str, Any]]:
    machine = cloud.machines.get(thing.wire["instance_id"] or "")
    if machine is None:
        return []
    system = next((v.id for v in attached(cloud, machine) if v.wire["is_os"]), None)
    return [
        {
            "id": machine.id,
            "auto_rental_extension": None,
            "ip": machine.address or None,
            "instance_type": cloud.slot(machine).facts["type"],
            "status": status_of(machine, now),
            "os_volume_id": system,
            "hostname": machine.order.hostname,
        }
    ]


def volume_json(cloud: Cloud, thing: Thing, now: float) -> dict[str, Any]:
    """As everywhere; one of the trash says since when."""
    wire = thing.wire
    hourly = hourly_usd(wire["type"], wire["size"])
    row = {
        "id": thing.id,
        "name": thing.name,
        "size": wire["size"],
        "type": wire["type"],
        "status": thing.state,
        "created_at": moment(thing.created_at),
        "instance_id": wire["instance_id"],
        "instances": _instances_json(cloud, thing, now),
        "location": wire["location"],
        "is_os_volume": wire["is_os"],
        "target": wire["target"],
        "base_hourly_cost": hourly,
        "monthly_price": round(USD_PER_GB_MONTH[wire["type"]] * wire["size"], 2),
        "currency": "usd",
        "contract": "PAY_AS_YOU_GO",
        "ssh_key_ids": [],
    }
    if wire["trashed_at"] is not None:
        row |= {"deleted_at": moment(wire["trashed_at"]), "is_permanently_deleted": False}
    return row


def found(cloud: Cloud, call: Call, id_: str) -> Thing:
    """The account's, or the refusal; those in the trash too."""
    settle(cloud, call.owner.name, call.now)
    thing = owned_thing(cloud, call, KIND, id_)
    if thing is None:
        raise not_found("Volume not found")
    return thing


def _rows(cloud: Cloud, call: Call, *, trash: bool) -> list[dict[str, Any]]:
    settle(cloud, call.owner.name, call.now)
    things = cloud.live_things(call.owner.name, KIND)
    chosen = [thing for thing in things if (thing.wire["trashed_at"] is not None) == trash]
    return [volume_json(cloud, thing, call.now) for thing in chosen]


async def list_all(api: Emulator, call: Call) -> Response:
    """GET volumes: not those in the trash."""
    wanted = check_query(call, ("status",)).get("status")
    if wanted is not None and wanted not in _STATUSES:
        raise invalid("Invalid status")
    rows = _rows(api.cloud, call, trash=False)
    return answer([row for row in rows if wanted in (None, row["status"])])


async def list_trash(api: Emulator, call: Call) -> Response:
    """GET volumes/trash."""
    check_query(call)
    return answer(_rows(api.cloud, call, trash=True))


async def show(api: Emulator, call: Call) -> Response:
    """GET volumes/{id}."""
    check_query(call)
    return answer(volume_json(api.cloud, found(api.cloud, call, call.ids[0]), call.now))


async def create(api: Emulator, call: Call) -> Response:
    """POST volumes: detached, or at an instance of the same location that is shut down."""
    body = read_body(call, NewVolume)
    cloud, location = api.cloud, check_location(body.location_code)
    machine = None
    if body.instance_id is not None:
        machine = found_instance(cloud, call, body.instance_id)
        if cloud.slot(machine).place != location:
            raise invalid("The instance is in another location")
        if status_of(machine, call.now) != "offline":
            raise invalid("The instance must be shut down")
    thing = new_volume(
        cloud,
        call.owner.name,
        name=body.name,
        size=body.size,
        type_=body.type,
        location=location,
    )
    if machine is not None:
        attach(cloud, thing, machine)
    return bare_id(thing.id, 202)


async def volume_types(_: Emulator, call: Call) -> Response:
    """GET volume-types."""
    check_query(call)
    return answer(
        [
            {
                "type": type_,
                "price": {
                    "price_per_month_per_gb": price,
                    "cps_per_gb": price / _SECONDS_PER_MONTH,
                    "currency": "usd",
                },
                "is_shared_fs": type_ == "NVMe_Shared",
            }
            for type_, price in USD_PER_GB_MONTH.items()
        ]
    )
