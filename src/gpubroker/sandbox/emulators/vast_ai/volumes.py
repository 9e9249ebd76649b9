"""Vast.ai's volumes: rented, listed, brought to an instance, deleted."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from gpubroker.model.money import usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.vast_ai.instance_record import ADDRESS
from gpubroker.sandbox.emulators.vast_ai.offers import (
    OFFER_FIELDS,
    OfferView,
    offer_view,
    volume_offer_number,
)
from gpubroker.sandbox.emulators.vast_ai.words import (
    check_body,
    check_number,
    check_query,
    refusal,
    success,
)
from gpubroker.sandbox.rented import Thing
from gpubroker.sandbox.stock import Slot

VOLUMES_FROM = 26_900_000
VOLUME_GB = 15
_VOLUME_FIELDS = (
    "driver_version", "cuda_max_good", "machine_id", "reliability2", "host_id", "cpu_name",
    "mobo_name", "disk_name", "inet_up", "inet_down", "os_version", "verification", "static_ip",
    "cpu_arch",
)  # fmt: skip


def volume_json(thing: Thing, view: OfferView) -> dict[str, Any]:
    """A rented volume."""
    return {
        **{name: OFFER_FIELDS[name](view) for name in _VOLUME_FIELDS},
        "id": int(thing.id),
        "label": thing.name,
        "status": thing.state,
        "disk_space": thing.wire["size_gb"],
        "instances": [{"id": int(i)} for i in thing.wire["instances"]],
        "public_ipaddr": ADDRESS,
        "start_date": thing.created_at,
        "storage_total_cost": usd(thing.ledger.rate),
    }


def _volume_slot(cloud: Cloud, offer_id: int) -> Slot:
    for slot in cloud.stock.slots.values():
        if volume_offer_number(slot) == offer_id:
            return slot
    raise refusal(404, "no_such_ask", f"Volume offer {offer_id} is not available.")


def open_volume(cloud: Cloud, call: Call, *, offer_id: int, size_gb: int, name: str) -> Thing:
    """A new volume on the offer's machine; charged until it is deleted."""
    slot = _volume_slot(cloud, offer_id)
    if not 0 < size_gb <= slot.facts["volume_gb"]:
        raise refusal(400, "invalid_args", f"Invalid args: size exceeds {slot.facts['volume_gb']}")
    thing = cloud.add_thing(
        call.owner.name,
        "volume",
        number_from=VOLUMES_FROM,
        name=name,
        slot=slot.key,
        size_gb=size_gb,
        instances=[],
    )
    thing.name = name or f"V.{thing.id}"
    thing.ledger.open("volume", cloud.facts.disk_rate(slot, size_gb), call.now)
    cloud.save(thing)
    return thing


def _volume(cloud: Cloud, call: Call, number: int) -> Thing:
    for thing in cloud.live_things(call.owner.name, "volume"):
        if thing.id == str(number):
            return thing
    raise refusal(404, "no_such_volume", "Volume with that ID does not exist.")


def attach_volume(cloud: Cloud, call: Call, number: int, slot: Slot) -> Thing:
    """The account's volume, if it is on the slot's machine."""
    thing = _volume(cloud, call, number)
    if cloud.stock.slots[thing.wire["slot"]].facts["machine"] != slot.facts["machine"]:
        raise refusal(400, "invalid_args", "Invalid args: the volume is on another machine")
    return thing


async def create_volume(api: Emulator, call: Call) -> Response:
    """PUT volumes."""
    check_query(call.request)
    body = check_body(call, {"size": int, "id": int, "name": str}, required=("id",))
    thing = open_volume(
        api.cloud,
        call,
        offer_id=body["id"],
        size_gb=body.get("size", VOLUME_GB),
        name=body.get("name", ""),
    )
    return success(volume_name=thing.name)


async def list_volumes(api: Emulator, call: Call) -> Response:
    """GET volumes, with or without the slash."""
    query = check_query(call.request, ("owner", "type"))
    wanted = query.get("type", "all_volume")
    if wanted not in ("all_volume", "local_volume", "network_volume"):
        raise refusal(400, "invalid_args", f"Invalid args: type '{wanted}' is not known")
    things = api.cloud.live_things(call.owner.name, "volume")
    rows = [
        volume_json(
            thing,
            offer_view(
                api.cloud,
                api.cloud.stock.slots[thing.wire["slot"]],
                bid=False,
                disk_gb=thing.wire["size_gb"],
                now=call.now,
            ),
        )
        for thing in things
        if wanted != "network_volume"
    ]
    return answer({"volumes": rows})


async def delete_volume(api: Emulator, call: Call) -> Response:
    """DELETE volumes: the id in the query or in the body."""
    query = check_query(call.request, ("id",))
    body = check_body(call, {"id": int})
    if "id" not in query and "id" not in body:
        raise refusal(400, "invalid_args", "Please provide a valid volume ID.")
    number = body["id"] if "id" in body else check_number(query["id"], "volume id")
    thing = _volume(api.cloud, call, number)
    if thing.wire["instances"]:
        raise refusal(400, "invalid_args", "Invalid args: the volume is used by an instance")
    api.cloud.end_thing(thing)
    return success()
