"""DigitalOcean's create: one droplet, or up to ten alike, accepted before anything is made."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.responses import Response

from gpubroker.model.terms import Market
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.digitalocean import attachments
from gpubroker.sandbox.emulators.digitalocean.catalog import slots_of
from gpubroker.sandbox.emulators.digitalocean.droplet_record import (
    begin_action,
    default_vpc,
    droplet_json,
    living,
)
from gpubroker.sandbox.emulators.digitalocean.images import fits, image_json
from gpubroker.sandbox.emulators.digitalocean.keys import find_key
from gpubroker.sandbox.emulators.digitalocean.words import (
    NO_CAPACITY,
    QUOTA,
    read_body,
    refusal,
    unprocessable,
)
from gpubroker.sandbox.rented import Machine, Order, Thing
from gpubroker.sandbox.stock import Slot

DROPLET_LIMIT = 25
AT_ONCE = 10
USER_DATA_BYTES = 64 * 1024
_FIRST_ID = 3_164_445

Name = Annotated[
    str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9]?[a-z0-9A-Z.\-]*[a-z0-9A-Z]$")
]
Tag = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9_\-:]+$")]


class NewDroplets(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of POST droplets: `name` or `names`. `project_id` is sent by clients, undocumented."""

    size: str
    image: str | int
    name: Name | UnsetType = UNSET
    names: Annotated[list[Name], Meta(min_length=1)] | UnsetType = UNSET
    region: str | UnsetType = UNSET
    ssh_keys: list[str | int] = []
    backups: bool = False
    backup_policy: dict[str, Any] | None = None
    ipv6: bool = False
    monitoring: bool = False
    tags: list[Tag] | None = None
    user_data: str | None = None
    private_networking: bool = False
    volumes: list[str] = []
    vpc_uuid: str | UnsetType = UNSET
    with_droplet_agent: bool | None = None
    public_networking: bool = True
    project_id: str | None = None


async def create(api: Emulator, call: Call) -> Response:
    """POST droplets."""
    body = read_body(call, NewDroplets)
    cloud, account = api.cloud, call.owner.name
    names = _names(body)
    slot = _slot(cloud, body)
    image = image_json(cloud, account, body.image)
    if image is None or not fits(body.image, cloud.gpu(slot.gpu).vendor if slot.gpu_count else ""):
        raise unprocessable("You specified an invalid image for Droplet creation.")
    keys = _keys(cloud, account, body)
    volumes = _volumes(cloud, account, body, slot, len(names))
    if body.user_data is not None and len(body.user_data.encode()) > USER_DATA_BYTES:
        raise unprocessable("User data is too long (maximum is 65536 bytes)")
    vpc = default_vpc(account, slot.place)
    if body.vpc_uuid not in (UNSET, vpc):
        raise unprocessable("You specified an invalid VPC for Droplet creation.")
    over = len(living(cloud, account)) + len(names) > DROPLET_LIMIT
    if cloud.faults.take("create", "quota") or over:
        raise unprocessable(QUOTA)
    if cloud.credit(account) <= 0:
        raise refusal("forbidden")
    if cloud.faults.take("create", "no_capacity") or not cloud.stock.free(slot):
        raise unprocessable(NO_CAPACITY)
    wire = {
        "image": image,
        "features": _features(body),
        "tags": [] if cloud.faults.take("create", "ignored_field") else body.tags or [],
        "snapshot_ids": [],
        "vpc_uuid": vpc,
        "public_networking": body.public_networking,
    }
    made = [_make(cloud, account, name, body, slot, keys, wire) for name in names]
    machines = [machine for machine in made if machine is not None]
    for volume in volumes:
        attachments.attach(cloud, volume, machines[0])
    return answer(_accepted(api, machines, call.now, several=body.names is not UNSET), 202)


def _make(
    cloud: Cloud,
    account: str,
    name: str,
    body: NewDroplets,
    slot: Slot,
    keys: tuple[str, ...],
    wire: dict[str, Any],
) -> Machine | None:
    """One of them; None where they ran out on the way: what was accepted may never appear."""
    order = Order(
        slot=slot.key,
        market=Market.SPOT if slot.facts.get("spot") else Market.ON_DEMAND,
        comes_back=False,
        keeps_gpu=True,
        disk_gb=slot.disk_max_gb,
        name=name,
        label=name,
        image=str(body.image),
        user="root",
        user_data=(body.user_data or "").encode(),
        is_vm=True,
        keys=keys,
        wire=wire,
    )
    try:
        machine = cloud.create(account, order, number_from=_FIRST_ID)
    except NoSlot:
        return None
    begin_action(cloud, machine, "create", machine.created_at, cloud.facts.boot_s)
    return machine


def _accepted(
    api: Emulator, machines: list[Machine], now: float, *, several: bool
) -> dict[str, Any]:
    rows = [droplet_json(api.cloud, machine, now) for machine in machines]
    links = [
        {
            "id": machine.wire["actions"][0]["id"],
            "rel": "create",
            "href": f"{api.base_url}/v2/actions/{machine.wire['actions'][0]['id']}",
        }
        for machine in machines
    ]
    told = {"droplets": rows} if several else {"droplet": rows[0]}
    return {**told, "links": {"actions": links}}


def _names(body: NewDroplets) -> list[str]:
    if (body.name is UNSET) == (body.names is UNSET):
        raise unprocessable("name or names is required")
    if body.names is UNSET:
        return [str(body.name)]
    if len(body.names) > AT_ONCE:
        raise unprocessable(f"at most {AT_ONCE} droplets can be created at once")
    return body.names


def _slot(cloud: Cloud, body: NewDroplets) -> Slot:
    by_region = slots_of(cloud, body.size)
    if not by_region:
        raise unprocessable("You specified an invalid size for Droplet creation.")
    places = {slot.place for slot in cloud.stock.slots.values()}
    wanted = "" if body.region is UNSET else body.region
    # "nyc" is any site of New York.
    if wanted and not any(p == wanted or p.rstrip("0123456789") == wanted for p in places):
        raise unprocessable("You specified an invalid region for Droplet creation.")
    here = [
        slot
        for place, slot in by_region.items()
        if wanted in ("", place, place.rstrip("0123456789"))
    ]
    free = [slot for slot in here if cloud.stock.free(slot)]
    if not here:
        raise unprocessable(NO_CAPACITY)
    return (free or here)[0]


def _keys(cloud: Cloud, account: str, body: NewDroplets) -> tuple[str, ...]:
    found = {wanted: find_key(cloud, account, wanted) for wanted in body.ssh_keys}
    if unknown := [str(wanted) for wanted, key in found.items() if key is None]:
        listed = ", ".join(unknown)
        raise unprocessable(f"{listed} are invalid key identifiers for Droplet creation.")
    return tuple(key.wire["public_key"] for key in found.values() if key is not None)


def _volumes(
    cloud: Cloud, account: str, body: NewDroplets, slot: Slot, droplets: int
) -> list[Thing]:
    known = {thing.id: thing for thing in cloud.live_things(account, attachments.VOLUME)}
    volumes = [known[id_] for id_ in body.volumes if id_ in known]
    if len(volumes) < len(body.volumes) or (volumes and droplets > 1):
        raise unprocessable("You specified an invalid volume for Droplet creation.")
    for volume in volumes:
        if volume.wire["region"] != slot.place:
            raise unprocessable("Volume is not in the region of the Droplet.")
        if attachments.droplet_with(cloud, volume):
            raise unprocessable("Volume is already attached to a Droplet.")
    return volumes


def _features(body: NewDroplets) -> list[str]:
    wanted = {
        "backups": body.backups,
        "ipv6": body.ipv6,
        "monitoring": body.monitoring,
        "droplet_agent": body.with_droplet_agent is not False,
        "private_networking": True,
    }
    return [feature for feature, is_on in wanted.items() if is_on]
