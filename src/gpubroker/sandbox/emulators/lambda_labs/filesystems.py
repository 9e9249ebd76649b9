"""Lambda's filesystems: of one region, and charged by what is in them."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.lambda_labs.words import (
    UNKNOWN,
    check_query,
    check_region,
    machines_with,
    moment,
    new_id,
    no_body,
    owned_thing,
    read_body,
    refusal,
    region_json,
    success,
)
from gpubroker.sandbox.rented import Thing

KIND = "filesystem"
MOST = 24


class NewFilesystem(Struct, forbid_unknown_fields=True):
    """Body of POST filesystems."""

    name: Annotated[str, Meta(min_length=1, max_length=60, pattern="^[a-zA-Z]+[0-9a-zA-Z-]*$")]
    region: str


def filesystem_json(cloud: Cloud, thing: Thing) -> dict[str, Any]:
    """As everywhere."""
    owner = hashlib.sha256(thing.account.encode()).hexdigest()[:32]
    return {
        "id": thing.id,
        "name": thing.name,
        "mount_point": f"/lambda/nfs/{thing.name}",
        "created": moment(thing.created_at),
        "created_by": {"id": owner, "email": "you@example.com", "status": "active"},
        "is_in_use": bool(machines_with(cloud, "file_system_ids", thing.id)),
        "region": region_json(thing.wire["region"]),
        "bytes_used": 0,
    }


async def list_filesystems(api: Emulator, call: Call) -> Response:
    """GET file-systems, with the hyphen."""
    check_query(call)
    things = api.cloud.live_things(call.owner.name, KIND)
    return success([filesystem_json(api.cloud, thing) for thing in things])


async def create_filesystem(api: Emulator, call: Call) -> Response:
    """POST filesystems, without the hyphen."""
    body = read_body(call, NewFilesystem)
    region = check_region(body.region)
    known = api.cloud.live_things(call.owner.name, KIND)
    if any(thing.name == body.name for thing in known):
        raise refusal(400, "global/duplicate")
    if len(known) >= MOST:
        raise refusal(400, "global/quota-exceeded")
    thing = api.cloud.add_thing(call.owner.name, KIND, named=new_id, name=body.name, region=region)
    return success(filesystem_json(api.cloud, thing))


async def delete_filesystem(api: Emulator, call: Call) -> Response:
    """DELETE filesystems/{id}."""
    no_body(call)
    thing = owned_thing(api.cloud, call, KIND, call.ids[0])
    if thing is None:
        raise refusal(404, UNKNOWN, "Filesystem was not found.")
    if machines_with(api.cloud, "file_system_ids", thing.id):
        raise refusal(400, "filesystems/filesystem-in-use")
    api.cloud.end_thing(thing)
    return success({"deleted_ids": [thing.id]})
