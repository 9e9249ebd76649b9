"""Thunder Compute's SSH keys: of the organisation, and of one instance."""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.key_pair import new_pair
from gpubroker.sandbox.emulators.thunder_compute.instances import found
from gpubroker.sandbox.emulators.thunder_compute.words import (
    check_public_key,
    check_query,
    invalid,
    new_id,
    no_body,
    owned_thing,
    read_body,
    refusal,
)
from gpubroker.sandbox.rented import Thing

KIND = "ssh_key"


class NewKey(Struct, forbid_unknown_fields=True):
    """Body of POST keys/add."""

    name: Annotated[str, Meta(min_length=1)]
    public_key: str


class AddedKey(Struct, forbid_unknown_fields=True):
    """Body of POST instances/{id}/add_key; without a key a pair is made."""

    public_key: str | None = None


def _key_json(thing: Thing) -> dict[str, Any]:
    kind, _, rest = thing.wire["public_key"].partition(" ")
    digest = hashlib.sha256(rest.partition(" ")[0].encode()).digest()
    return {
        "id": thing.id,
        "name": thing.name,
        "fingerprint": f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}",
        "key_type": kind,
        "public_key": thing.wire["public_key"],
        "created_at": int(thing.created_at),
    }


async def list_all(api: Emulator, call: Call) -> Response:
    """GET keys/list."""
    check_query(call)
    return answer([_key_json(thing) for thing in api.cloud.live_things(call.owner.name, KIND)])


async def add(api: Emulator, call: Call) -> Response:
    """POST keys/add: neither name nor key twice."""
    body = read_body(call, NewKey)
    public_key = check_public_key(body.public_key)
    for thing in api.cloud.live_things(call.owner.name, KIND):
        if thing.name == body.name or thing.wire["public_key"] == public_key:
            raise refusal(409, "SSH key already exists")
    thing = api.cloud.add_thing(
        call.owner.name, KIND, named=new_id, name=body.name, public_key=public_key
    )
    return answer({"key": _key_json(thing), "message": "SSH key added successfully"})


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE keys/{id}: instances that have it keep it."""
    no_body(call)
    api.cloud.end_thing(owned_thing(api.cloud, call, KIND, call.ids[0]))
    return answer({"message": "SSH key deleted successfully"})


async def add_to_instance(api: Emulator, call: Call) -> Response:
    """POST instances/{id}/add_key: one more key of a machine that runs."""
    body = read_body(call, AddedKey)
    machine = found(api.cloud, call)
    if machine.state != State.RUNNING:
        raise invalid("the instance is not running")
    private: dict[str, str] = {}
    if body.public_key is None:
        public, private["key"] = new_pair()
    else:
        public = check_public_key(body.public_key)
    await api.cloud.admit(machine, (*machine.keys, public))
    told = {"success": True, "uuid": machine.id, "message": "Key added"}
    return answer({**told, **private})
