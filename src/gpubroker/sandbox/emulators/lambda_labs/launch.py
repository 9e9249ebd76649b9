"""Lambda's launch call: one instance of a type in a region."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal
from gpubroker.sandbox.emulators.lambda_labs.catalog import IMAGES, NEWEST, Image, slots_of
from gpubroker.sandbox.emulators.lambda_labs.words import (
    NO_CAPACITY,
    UNKNOWN,
    WRONG_REGION,
    Named,
    check_region,
    invalid,
    new_id,
    owned_thing,
    read_body,
    refusal,
    success,
)
from gpubroker.sandbox.rented import Order, Thing
from gpubroker.sandbox.stock import Slot

USER = "ubuntu"
USER_DATA_BYTES = 1_000_000
_MOUNT_ROOT = "/lambda/nfs"


class Tag(Struct, forbid_unknown_fields=True):
    """A mark of the customer's own."""

    key: Annotated[str, Meta(max_length=55, pattern="^[a-z][a-z0-9-:]+$")]
    value: Annotated[str, Meta(max_length=128)]


class Mount(Struct, forbid_unknown_fields=True):
    """Where a filesystem is to be seen."""

    mount_point: Annotated[
        str, Meta(max_length=256, pattern="^(/home|/lambda/nfs|/data)[//a-zA-Z0-9-]*$")
    ]
    file_system_id: str


class ImageWanted(Struct, forbid_unknown_fields=True):
    """An image: by id or by family, not by both."""

    id: str | UnsetType = UNSET
    family: str | UnsetType = UNSET


class Ruleset(Struct, forbid_unknown_fields=True):
    """A firewall ruleset, by id."""

    id: str


class Launch(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of the call. `quantity` of older versions is not among its fields."""

    region_name: str
    instance_type_name: str
    ssh_key_names: list[str]
    file_system_names: list[str] = []
    file_system_mounts: list[Mount] = []
    hostname: (
        Annotated[str, Meta(min_length=1, max_length=63, pattern="^[a-z0-9][0-9a-z-]{0,62}$")]
        | UnsetType
    ) = UNSET
    name: Named = ""
    image: ImageWanted | UnsetType = UNSET
    user_data: str = ""
    tags: list[Tag] = []
    firewall_rulesets: list[Ruleset] = []


def _unknown(what: str, name: str, status: int = 404) -> Refusal:
    return refusal(status, UNKNOWN, f"{what} {name!r} does not exist.", f"Check the {what}.")


async def launch(api: Emulator, call: Call) -> Response:
    """POST instance-operations/launch."""
    body = read_body(call, Launch)
    cloud = api.cloud
    slot = _slot(cloud, body)
    key = _key(cloud, call, body)
    image = _image(body, slot)
    disks = _filesystems(cloud, call, body)
    rulesets = _rulesets(cloud, call, body)
    if len(body.user_data.encode()) > USER_DATA_BYTES:
        raise invalid("user_data: longer than 1 MB")
    if len({tag.key for tag in body.tags}) < len(body.tags):
        raise invalid("tags: a key is named twice")
    if cloud.faults.take("create", "quota"):
        raise refusal(400, "global/quota-exceeded")
    if cloud.credit(call.owner.name) <= 0:
        raise refusal(403, "global/account-inactive")
    if cloud.faults.take("create", "no_capacity"):
        raise refusal(400, NO_CAPACITY)
    ignored = cloud.faults.take("create", "ignored_field")
    order = Order(
        slot=slot.key,
        disk_gb=slot.disk_max_gb,
        name=body.name,
        label="" if ignored else body.name,
        hostname="" if body.hostname is UNSET else body.hostname,
        image=image.family,
        user=USER,
        user_data=body.user_data.encode(),
        is_vm=True,
        keys=(key.wire["public_key"],),
        wire={
            "ssh_key_names": body.ssh_key_names,
            "file_system_names": [disk.name for disk, _ in disks],
            "file_system_ids": [disk.id for disk, _ in disks],
            "file_system_mounts": [
                {"mount_point": place, "file_system_id": disk.id} for disk, place in disks
            ],
            "firewall_rulesets": rulesets,
            "tags": [] if ignored else [{"key": tag.key, "value": tag.value} for tag in body.tags],
            "jupyter_token": secrets.token_hex(16),
            "private_ip": _private_ip(slot.place, secrets.token_hex(8)),
            "image": image.id,
        },
    )
    try:
        machine = cloud.create(call.owner.name, order, named=new_id)
    except NoSlot:
        raise refusal(400, NO_CAPACITY) from None
    return success({"instance_ids": [machine.id]})


def _slot(cloud: Cloud, body: Launch) -> Slot:
    region = check_region(body.region_name)
    by_region = slots_of(cloud, body.instance_type_name)
    if not by_region:
        raise _unknown("instance type", body.instance_type_name, 400)
    if region not in by_region:
        raise refusal(400, NO_CAPACITY)
    return by_region[region]


def _key(cloud: Cloud, call: Call, body: Launch) -> Thing:
    if len(body.ssh_key_names) != 1:
        raise invalid("ssh_key_names: exactly one SSH key must be specified")
    (name,) = body.ssh_key_names
    for thing in cloud.live_things(call.owner.name, "ssh_key"):
        if thing.name == name:
            return thing
    raise _unknown("SSH key", name, 400)


def _image(body: Launch, slot: Slot) -> Image:
    wanted = body.image
    if wanted is UNSET:
        wanted = ImageWanted(family=NEWEST)
    if (wanted.id is UNSET) == (wanted.family is UNSET):
        raise invalid("image: either id or family")
    here = [image for image in IMAGES if image.region == slot.place]
    arch = slot.facts["arch"]
    for image in here:
        if image.id == wanted.id and image.architecture != arch:
            raise invalid(f"image: {image.architecture} does not run on {slot.facts['type']}")
        if wanted.id == image.id or (image.family, image.architecture) == (wanted.family, arch):
            return image
    raise _unknown("image", str(wanted.family if wanted.id is UNSET else wanted.id))


def _filesystems(cloud: Cloud, call: Call, body: Launch) -> list[tuple[Thing, str]]:
    """Each with its mount point; one that is named twice has the place that was chosen."""
    found: dict[str, tuple[Thing, str]] = {}
    for name in body.file_system_names:
        things = cloud.live_things(call.owner.name, "filesystem")
        thing = next((thing for thing in things if thing.name == name), None)
        if thing is None:
            raise _unknown("filesystem", name)
        found[thing.id] = (thing, f"{_MOUNT_ROOT}/{name}")
    for mount in body.file_system_mounts:
        thing = owned_thing(cloud, call, "filesystem", mount.file_system_id)
        if thing is None:
            raise _unknown("filesystem", mount.file_system_id)
        found[thing.id] = (thing, mount.mount_point)
    places = [place for _, place in found.values()]
    if len(set(places)) < len(places):
        raise invalid("file_system_mounts: a mount point is named twice")
    if any(thing.wire["region"] != body.region_name for thing, _ in found.values()):
        raise refusal(400, WRONG_REGION)
    return list(found.values())


def _rulesets(cloud: Cloud, call: Call, body: Launch) -> list[str]:
    for wanted in body.firewall_rulesets:
        thing = owned_thing(cloud, call, "firewall_ruleset", wanted.id)
        if thing is None:
            raise _unknown("firewall ruleset", wanted.id)
        if thing.wire["region"] != body.region_name:
            raise invalid("firewall_rulesets: not in the region of the instance")
    return [wanted.id for wanted in body.firewall_rulesets]


def _private_ip(*words: Any) -> str:
    digest = hashlib.sha256(repr(words).encode()).digest()
    return f"10.19.{digest[0]}.{digest[1] or 1}"
