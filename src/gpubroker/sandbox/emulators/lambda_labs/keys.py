"""Lambda's SSH keys: objects of the account, known to a launch by their names."""

from __future__ import annotations

import re
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.key_pair import new_pair
from gpubroker.sandbox.emulators.lambda_labs.words import (
    check_query,
    invalid,
    new_id,
    no_body,
    owned_thing,
    read_body,
    success,
)
from gpubroker.sandbox.rented import Thing

KIND = "ssh_key"
MOST = 1024
_PUBLIC_KEY = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}( .*)?")


class NewKey(Struct, forbid_unknown_fields=True):
    """Body of POST ssh-keys; without a public key the service makes a pair."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    public_key: Annotated[str, Meta(min_length=1, max_length=4096)] | UnsetType = UNSET


def key_json(thing: Thing) -> dict[str, Any]:
    """As everywhere."""
    return {"id": thing.id, "name": thing.name, "public_key": thing.wire["public_key"]}


async def list_keys(api: Emulator, call: Call) -> Response:
    """GET ssh-keys."""
    check_query(call)
    return success([key_json(thing) for thing in api.cloud.live_things(call.owner.name, KIND)])


async def add_key(api: Emulator, call: Call) -> Response:
    """POST ssh-keys."""
    body = read_body(call, NewKey)
    known = api.cloud.live_things(call.owner.name, KIND)
    if any(thing.name == body.name for thing in known):
        raise invalid(f"name: there is a key {body.name!r}")
    if len(known) >= MOST:
        raise invalid(f"an account has {MOST} keys at most")
    private: dict[str, str] = {}
    if body.public_key is UNSET:
        public, private["private_key"] = new_pair()
    else:
        public = body.public_key.strip()
        if not _PUBLIC_KEY.fullmatch(public):
            raise invalid("public_key: not an OpenSSH public key")
    thing = api.cloud.add_thing(
        call.owner.name, KIND, named=new_id, name=body.name, public_key=public
    )
    return success(key_json(thing) | private)


async def delete_key(api: Emulator, call: Call) -> Response:
    """DELETE ssh-keys/{id}: instances that have it keep it."""
    no_body(call)
    thing = owned_thing(api.cloud, call, KIND, call.ids[0])
    if thing is None:
        raise invalid("There is no such SSH key.")
    api.cloud.end_thing(thing)
    return success({})
