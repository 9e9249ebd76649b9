"""FluidStack's SSH keys: the account's, known by their names."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.fastapi_words import (
    Nothing,
    read_body,
    read_query,
    unprocessable,
)
from gpubroker.sandbox.emulators.fluidstack.words import OK, refusal
from gpubroker.sandbox.rented import Thing

KIND = "ssh_key"
_PUBLIC_KEY = re.compile(
    r"(ssh-rsa|ssh-dss|ssh-ed25519|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,2}( .*)?"
)


class Shown(Struct, forbid_unknown_fields=True):
    """Query of the list."""

    show_all: bool = False


class NewKey(Struct, forbid_unknown_fields=True):
    """Body of the call that adds one."""

    name: Annotated[str, Meta(min_length=1)]
    public_key: str


def _json(key: Thing) -> dict[str, str]:
    return {"name": key.name, "public_key": key.wire["public_key"]}


def key_named(cloud: Cloud, account: str, name: str) -> Thing | None:
    """The account's."""
    return next((key for key in cloud.live_things(account, KIND) if key.name == name), None)


async def list_all(api: Emulator, call: Call) -> Response:
    """GET ssh_keys."""
    read_query(call, Shown)
    return answer([_json(key) for key in api.cloud.live_things(call.owner.name, KIND)])


async def add(api: Emulator, call: Call) -> Response:
    """POST ssh_keys: names are unique; the same key may have several."""
    body = read_body(call, NewKey)
    public_key = body.public_key.strip()
    if not _PUBLIC_KEY.fullmatch(public_key):
        raise unprocessable(("body", "public_key"), "Value error, Invalid SSH public key")
    if key_named(api.cloud, call.owner.name, body.name):
        raise refusal(409, f"SSH key with name {body.name} already exists")
    key = api.cloud.add_thing(call.owner.name, KIND, name=body.name, public_key=public_key)
    return answer(_json(key))


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE ssh_keys/{name}: instances that have it keep it."""
    read_query(call, Nothing)
    key = key_named(api.cloud, call.owner.name, call.ids[0])
    if key is None:
        raise refusal(404, "SSH key not found")
    api.cloud.end_thing(key)
    return answer(OK)
