"""Lyceum's creating call: one VM of a profile, a kind and a number of GPUs."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from uuid import uuid4

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.model.terms import Market
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal, answer
from gpubroker.sandbox.emulators.fastapi_words import read_body, unprocessable
from gpubroker.sandbox.emulators.lyceum import volumes
from gpubroker.sandbox.emulators.lyceum.market import SPOT, variants
from gpubroker.sandbox.emulators.lyceum.vms import vm_json
from gpubroker.sandbox.emulators.lyceum.words import owned_thing, refusal
from gpubroker.sandbox.rented import Machine, Order, Thing
from gpubroker.sandbox.stock import Slot

USER = "lyceum"
LEAST_DISK_GB = 100
MIGRATION_S = 2 * 3600.0
"""How long volumes are copied to where there is capacity."""
_PUBLIC_KEY = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}( .*)?")


class Specs(Struct, frozen=True, forbid_unknown_fields=True):
    """What the VM is made of; the profile tells the rest."""

    gpu_count: Annotated[int, Meta(ge=1)] = 1
    disk: Annotated[int, Meta(ge=LEAST_DISK_GB)] = LEAST_DISK_GB


class NewVolume(Struct, forbid_unknown_fields=True):
    """A volume that is made with the VM."""

    size_gb: Annotated[int, Meta(ge=1)]


class Create(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of the call."""

    user_public_key: Annotated[str, Meta(min_length=1)]
    hardware_profile: str
    instance_type: Literal["on-demand", "spot"] = "on-demand"
    instance_specs: Specs = Specs()
    display_name: str | None = None
    volume_ids: list[str] = []
    volume_migration_allowed: bool = True
    new_volume: NewVolume | None = None


class _Place(Struct, frozen=True):
    slot: Slot
    migrates: bool = False
    """Whether its volumes have to be copied there first."""


def _no_capacity(body: Create) -> Refusal:
    count = body.instance_specs.gpu_count
    what = f"{count}x {body.hardware_profile} ({body.instance_type})"
    return refusal(503, f"No capacity available for {what}. Please try again later.")


def _sold(cloud: Cloud, body: Create) -> list[Slot]:
    """The slots of the variant with that count, in every location."""
    slots = variants(cloud).get((body.hardware_profile, body.instance_type))
    if slots is None:
        raise unprocessable(("body", "hardware_profile"), "Unknown hardware profile")
    fitting = [slot for slot in slots if slot.gpu_count == body.instance_specs.gpu_count]
    if not fitting:
        place = ("body", "instance_specs", "gpu_count")
        raise unprocessable(place, "GPU count is not available for this hardware profile")
    return fitting


def _place(cloud: Cloud, body: Create, disks: list[Thing]) -> _Place:
    """Where there is room; volumes decide it. Raises NoSlot."""
    free = [slot for slot in _sold(cloud, body) if cloud.stock.free(slot)]
    if disks or body.new_volume is not None:
        free = [slot for slot in free if slot.facts["storage"]]
    homes = {thing.wire["location"] for thing in disks}
    near = [slot for slot in free if homes <= {slot.place}]
    if near:
        return _Place(near[0])
    if body.volume_migration_allowed and free:
        return _Place(free[0], migrates=True)
    raise NoSlot(body.hardware_profile)


def _volumes(cloud: Cloud, call: Call, body: Create) -> list[Thing]:
    if body.volume_ids and body.new_volume is not None:
        raise unprocessable(("body", "new_volume"), "Not together with volume_ids")
    found = []
    for id_ in dict.fromkeys(body.volume_ids):
        thing = owned_thing(cloud, call, volumes.KIND, id_)
        if thing is None:
            raise refusal(404, f"Volume {id_} not found")
        if thing.state == volumes.ATTACHED:
            raise refusal(409, f"Volume {id_} is attached to another VM")
        found.append(thing)
    return found


async def create(api: Emulator, call: Call) -> Response:
    """POST vms/create: 200, not 201."""
    body, cloud = read_body(call, Create), api.cloud
    volumes.settle(cloud, call.owner.name)
    if not _PUBLIC_KEY.fullmatch(body.user_public_key.strip()):
        raise unprocessable(("body", "user_public_key"), "Not an OpenSSH public key")
    _sold(cloud, body)
    disks = _volumes(cloud, call, body)
    if cloud.faults.take("create", "quota") or cloud.credit(call.owner.name) <= 0:
        raise refusal(402, "Insufficient credits. Please top up your account.")
    try:
        if cloud.faults.take("create", "no_capacity"):
            raise NoSlot(body.hardware_profile)
        place = _place(cloud, body, disks)
        machine = _ordered(cloud, call, body, place.slot)
    except NoSlot:
        raise _no_capacity(body) from None
    row = vm_json(cloud, call, machine)
    if body.new_volume is not None:
        made = volumes.new_volume(cloud, machine, body.new_volume.size_gb)
        told = {"name": made.name, "size_gb": made.wire["size_gb"], "status": "pending"}
        row |= {"volume": told}
    for thing in disks:
        volumes.attach(cloud, thing, machine)
    if place.migrates:
        _copy_first(cloud, machine, disks)
        notice = "The volumes are being copied to another location. This takes hours."
        row |= {"volume_notice": notice, "volume_migration_in_progress": True}
    return answer(row)


def _ordered(cloud: Cloud, call: Call, body: Create, slot: Slot) -> Machine:
    name = body.display_name or ""
    order = Order(
        slot=slot.key,
        market=Market.SPOT if body.instance_type == SPOT else Market.ON_DEMAND,
        disk_gb=body.instance_specs.disk,
        name=name,
        label="" if cloud.faults.take("create", "ignored_field") else name,
        hostname="lyceum-vm",
        user=USER,
        is_vm=True,
        keys=(body.user_public_key.strip(),),
        comes_back=False,
        ends_penniless=True,
    )
    return cloud.create(call.owner.name, order, named=lambda _: f"vm-{uuid4().hex[:12]}")


def _copy_first(cloud: Cloud, machine: Machine, disks: list[Thing]) -> None:
    for thing in disks:
        thing.wire["location"] = cloud.slot(machine).place
        cloud.save(thing)
    if machine.due_at is not None:
        machine.due_at += MIGRATION_S
    cloud.save(machine)
