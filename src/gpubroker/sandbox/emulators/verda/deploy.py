"""Verda's deploying call: one instance of a type in a location."""

from __future__ import annotations

import secrets
from typing import Annotated, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.model.terms import Market
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal
from gpubroker.sandbox.emulators.verda import storage
from gpubroker.sandbox.emulators.verda.catalog import IMAGES, sold
from gpubroker.sandbox.emulators.verda.keys import SCRIPTS, SSH_KEYS
from gpubroker.sandbox.emulators.verda.storage import Fate
from gpubroker.sandbox.emulators.verda.tags import Tag, tags_json
from gpubroker.sandbox.emulators.verda.volumes import Named, SizeGb, VolumeType
from gpubroker.sandbox.emulators.verda.words import (
    FORBIDDEN,
    NO_FUNDS,
    UNAVAILABLE,
    bare_id,
    check_location,
    invalid,
    new_id,
    owned_thing,
    read_body,
    refusal,
)
from gpubroker.sandbox.rented import Machine, Order, Thing
from gpubroker.sandbox.stock import Slot

LEAST_OS_GB = 50
_HOST = "^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$"


class OsVolume(Struct, forbid_unknown_fields=True):
    """The system's disk."""

    name: Named
    size: SizeGb
    on_spot_discontinue: Fate | None = None


class DataVolume(Struct, forbid_unknown_fields=True):
    """Another disk."""

    name: Named
    size: SizeGb
    type: VolumeType
    location_code: str | None = None
    on_spot_discontinue: Fate | None = None


class Deploy(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of the call. Null is as good as left out."""

    instance_type: str
    image: str
    hostname: Annotated[str, Meta(pattern=_HOST)]
    description: Annotated[str, Meta(min_length=1, max_length=100)]
    location_code: str
    ssh_key_ids: list[str]
    startup_script_id: str | None = None
    os_volume: OsVolume | None = None
    volumes: list[DataVolume] | None = None
    existing_volumes: list[str] | None = None
    is_spot: bool = False
    contract: Literal["LONG_TERM", "PAY_AS_YOU_GO", "SPOT"] | None = None
    pricing: Literal["DYNAMIC_PRICE", "FIXED_PRICE"] | None = None
    coupon: str | None = None
    tags: list[Tag] | None = None

    @property
    def os_wanted(self) -> OsVolume:
        """The system's disk, also where nothing is said of it."""
        return self.os_volume or OsVolume(f"OS-{self.hostname}", LEAST_OS_GB)


def no_capacity(slot: Slot | None, body_type: str, place: str) -> Refusal:
    """503: sold out is told as if the service were away."""
    count = slot.gpu_count if slot else 1
    words = f"Not enough resources to deploy a {count} GPU instance type {body_type} in {place}"
    return refusal(503, UNAVAILABLE, words)


def check_means(cloud: Cloud, call: Call, operation: str) -> None:
    """Quota and money."""
    if cloud.faults.take(operation, "quota"):
        raise refusal(403, FORBIDDEN, "GPU quota limit exceeded for this project")
    if cloud.credit(call.owner.name) <= 0:
        raise refusal(402, NO_FUNDS, "Insufficient funds")


async def deploy(api: Emulator, call: Call) -> Response:
    """POST instances: answers the bare id of what is only ordered yet."""
    body = read_body(call, Deploy)
    cloud = api.cloud
    storage.settle(cloud, call.owner.name, call.now)
    _check_terms(body)
    place = check_location(body.location_code)
    if not sold(cloud, body.instance_type):
        raise invalid("Invalid instance type")
    keys = [_owned(cloud, call, SSH_KEYS.kind, id_, "ssh key") for id_ in body.ssh_key_ids]
    script = None
    if body.startup_script_id is not None:
        script = _owned(cloud, call, SCRIPTS.kind, body.startup_script_id, "startup script")
    old = [_spare(cloud, call, body, id_) for id_ in body.existing_volumes or ()]
    image, system = _image(cloud, call, body)
    tags = tags_json(body.tags or [])
    check_means(cloud, call, "create")
    slot = sold(cloud, body.instance_type, spot=body.is_spot).get(place)
    if slot is None or cloud.faults.take("create", "no_capacity"):
        raise no_capacity(slot, body.instance_type, place)
    ignored = cloud.faults.take("create", "ignored_field")
    order = Order(
        slot=slot.key,
        market=Market.SPOT if body.is_spot else Market.ON_DEMAND,
        disk_gb=system.wire["size"] if system else body.os_wanted.size,
        name=body.hostname,
        label="" if ignored else body.description,
        hostname=body.hostname,
        image=image,
        user="root",
        user_data=_script_data(script),
        is_vm=True,
        keeps_gpu=True,
        keys=tuple(dict.fromkeys(key.wire["text"] for key in keys)),
        comes_back=False,
        ends_penniless=True,
        wire={
            "contract": "SPOT" if body.is_spot else body.contract or "PAY_AS_YOU_GO",
            "pricing": body.pricing or "FIXED_PRICE",
            "ssh_key_ids": body.ssh_key_ids,
            "startup_script_id": body.startup_script_id,
            "os_name": next((i.name for i in IMAGES if i.image_type == image), image),
            "jupyter_token": secrets.token_hex(16),
            "tags": [] if ignored else tags,
            "hibernated": False,
        },
    )
    try:
        machine = cloud.create(call.owner.name, order, named=new_id)
    except NoSlot:
        raise no_capacity(slot, body.instance_type, place) from None
    _furnish(cloud, body, machine, system, old)
    return bare_id(machine.id, 202)


def _check_terms(body: Deploy) -> None:
    fates = [body.os_wanted.on_spot_discontinue]
    fates += [volume.on_spot_discontinue for volume in body.volumes or ()]
    if not body.is_spot and any(fates):
        raise invalid("on_spot_discontinue is only valid for spot instances")
    if (body.contract == "SPOT") > body.is_spot:
        raise invalid("contract SPOT is only valid for spot instances")
    if body.is_spot and body.contract not in (None, "SPOT"):
        raise invalid("contract is not valid for spot instances")
    if body.contract == "LONG_TERM":
        raise invalid("A long term contract needs a period")
    if body.coupon is not None:
        raise invalid("Invalid coupon")
    if body.os_wanted.size < LEAST_OS_GB:
        raise invalid(f"OS volume size must be at least {LEAST_OS_GB} GB")
    here = (None, body.location_code)
    if any(volume.location_code not in here for volume in body.volumes or ()):
        raise invalid("Volumes must be in the location of the instance")


def _owned(cloud: Cloud, call: Call, kind: str, id_: str, words: str) -> Thing:
    thing = owned_thing(cloud, call, kind, id_)
    if thing is None:
        raise invalid(f"Invalid {words} id")
    return thing


def _spare(cloud: Cloud, call: Call, body: Deploy, id_: str) -> Thing:
    """A volume of the account that is free, and where the instance is to be."""
    thing = _owned(cloud, call, storage.KIND, id_, "volume")
    if thing.state != "detached":
        raise invalid("The volume is not detached")
    if thing.wire["location"] != body.location_code:
        raise invalid("Volumes must be in the location of the instance")
    return thing


def _image(cloud: Cloud, call: Call, body: Deploy) -> tuple[str, Thing | None]:
    """An image by type or id, or a system's disk that is there already."""
    if owned_thing(cloud, call, storage.KIND, body.image) is not None:
        thing = _spare(cloud, call, body, body.image)
        if thing.wire["is_os"]:
            return thing.id, thing
    slot = next(iter(sold(cloud, body.instance_type).values()))
    for image in IMAGES:
        fits = not image.is_cluster and image.image_type in slot.facts["images"]
        if fits and body.image in (image.image_type, image.id):
            return image.image_type, None
    raise invalid("Operating system is not valid for this instance type")


def _script_data(script: Thing | None) -> bytes:
    """Run once as root; a text without a first line of its own by the shell."""
    if script is None:
        return b""
    text: str = script.wire["text"]
    return (text if text.startswith("#!") else f"#!/bin/bash\n{text}").encode()


def _furnish(
    cloud: Cloud, body: Deploy, machine: Machine, system: Thing | None, old: list[Thing]
) -> None:
    """Its disks: what it is made from, what is made for it, what was there before."""

    def made(name: str, size: int, fate: Fate | None, type_: str, *, is_os: bool) -> Thing:
        return storage.new_volume(
            cloud,
            machine.account,
            name=name,
            size=size,
            type_=type_,
            location=body.location_code,
            is_os=is_os,
            fate=fate or "keep_detached",
            made_for=machine.id,
        )

    if system is None:
        wanted = body.os_wanted
        fate = wanted.on_spot_discontinue
        system = made(wanted.name, wanted.size, fate, storage.OS_TYPE, is_os=True)
    new = [
        made(extra.name, extra.size, extra.on_spot_discontinue, extra.type, is_os=False)
        for extra in body.volumes or ()
    ]
    for disk in [system, *new, *old]:
        storage.attach(cloud, disk, machine)
