"""DigitalOcean's images: its own by slug, and the snapshots of an account, which cost."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType
from starlette.responses import Response

from gpubroker.model.money import Nanos, nanos
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.digitalocean.words import (
    PAGED,
    REGIONS,
    check_query,
    moment,
    no_body,
    no_content,
    not_found,
    paged,
    read_body,
    unprocessable,
)
from gpubroker.sandbox.rented import Machine, Thing

KIND = "snapshot"
SNAPSHOT_USD = 0.06
"""Per GiB and month."""
SNAPSHOT_GIB = 12
_MADE = "2026-05-15T05:47:50Z"


class Image(Struct, frozen=True):
    """One of the vendor's own, in every region."""

    id: int
    slug: str
    name: str
    distribution: str
    made_for: str = ""
    """The vendor of the GPUs that it has drivers for; "" = none, and it runs anywhere."""

    def json(self) -> dict[str, Any]:
        """As everywhere."""
        return _json(self.id, self.name, self.distribution) | {"slug": self.slug}


IMAGES = tuple(
    Image(*row)
    for row in (
        (182963001, "gpu-h100x1-base", "NVIDIA AI/ML Ready", "Ubuntu", "nvidia"),
        (182963002, "gpu-h100x8-base", "NVIDIA AI/ML Ready with NVLink", "Ubuntu", "nvidia"),
        (182963003, "gpu-amd-base", "AMD AI/ML Ready", "Ubuntu", "amd"),
        (155133621, "ubuntu-22-04-x64", "22.04 (LTS) x64", "Ubuntu"),
        (165133622, "ubuntu-24-04-x64", "24.04 (LTS) x64", "Ubuntu"),
        (165133623, "debian-12-x64", "12 x64", "Debian"),
    )
)
_FILTERS = (*PAGED, "type", "private", "tag_name")


class Rename(Struct, forbid_unknown_fields=True):
    """Body of PUT images/{id}."""

    name: str | UnsetType = UNSET
    distribution: str | UnsetType = UNSET
    description: str | UnsetType = UNSET


def _json(id_: int, name: str, distribution: str) -> dict[str, Any]:
    return {
        "id": id_,
        "name": name,
        "distribution": distribution,
        "slug": None,
        "public": True,
        "regions": list(REGIONS),
        "created_at": _MADE,
        "type": "base",
        "min_disk_size": 20,
        "size_gigabytes": 2.36,
        "description": "",
        "tags": [],
        "status": "available",
        "error_message": "",
    }


def snapshot_json(thing: Thing) -> dict[str, Any]:
    """A snapshot, as an image."""
    return _json(int(thing.id), thing.name, "Ubuntu") | {
        "public": False,
        "regions": [thing.wire["region"]],
        "created_at": moment(thing.created_at),
        "type": "snapshot",
        "size_gigabytes": float(SNAPSHOT_GIB),
        "description": thing.wire["description"],
    }


def add_snapshot(cloud: Cloud, machine: Machine, name: str, now: float) -> Thing:
    """One of a droplet: charged until it is deleted."""
    thing = cloud.add_thing(
        machine.account,
        KIND,
        number_from=202_000_001,
        name=name,
        region=cloud.slot(machine).place,
        droplet_id=machine.id,
        description="",
    )
    month = nanos(SNAPSHOT_USD * SNAPSHOT_GIB)
    thing.ledger.open("volume", Nanos(round(month / cloud.facts.hours_per_month)), now)
    cloud.save(thing)
    return thing


def snapshots_of(cloud: Cloud, machine: Machine) -> list[Thing]:
    """Those of a droplet; they outlive it."""
    things = cloud.live_things(machine.account, KIND)
    return [thing for thing in things if thing.wire["droplet_id"] == machine.id]


def image_json(cloud: Cloud, account: str, wanted: int | str) -> dict[str, Any] | None:
    """The account's image, by id (a number or its digits) or slug."""
    for image in IMAGES:
        if str(wanted) == str(image.id) or wanted == image.slug:
            return image.json()
    for thing in cloud.live_things(account, KIND):
        if str(wanted) == thing.id:
            return snapshot_json(thing)
    return None


def fits(wanted: int | str, gpu_vendor: str) -> bool:
    """Whether the image's drivers are those of the GPU."""
    made_for = next((i.made_for for i in IMAGES if wanted in (i.id, str(i.id), i.slug)), "")
    return made_for in ("", gpu_vendor)


async def list_images(api: Emulator, call: Call) -> Response:
    """GET images."""
    query = check_query(call, _FILTERS)
    kind, private = query.get("type"), query.get("private")
    if kind not in (None, "distribution", "application"):
        raise unprocessable("type must be distribution or application")
    if private not in (None, "true", "false"):
        raise unprocessable("private must be a boolean")
    snapshots = [snapshot_json(t) for t in api.cloud.live_things(call.owner.name, KIND)]
    rows = [image.json() for image in IMAGES if kind != "application"]
    if kind is None:
        rows += snapshots
    if private == "true":
        rows = snapshots
    if "tag_name" in query:
        rows = []
    return paged(api, call, "images", rows)


async def show_image(api: Emulator, call: Call) -> Response:
    """GET images/{id or slug}."""
    check_query(call)
    found = image_json(api.cloud, call.owner.name, call.ids[0])
    if found is None:
        raise not_found()
    return answer({"image": found})


def _own(api: Emulator, call: Call) -> Thing:
    things = api.cloud.live_things(call.owner.name, KIND)
    thing = next((thing for thing in things if thing.id == call.ids[0]), None)
    if thing is None:
        raise not_found()
    return thing


async def rename_image(api: Emulator, call: Call) -> Response:
    """PUT images/{id}."""
    body = read_body(call, Rename)
    thing = _own(api, call)
    if body.name is not UNSET:
        thing.name = body.name
    if body.description is not UNSET:
        thing.wire["description"] = body.description
    api.cloud.save(thing)
    return answer({"image": snapshot_json(thing)})


async def delete_image(api: Emulator, call: Call) -> Response:
    """DELETE images/{id}."""
    no_body(call)
    api.cloud.end_thing(_own(api, call))
    return no_content()
