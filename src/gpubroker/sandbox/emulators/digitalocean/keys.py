"""DigitalOcean's SSH keys: known by number or fingerprint, each public key but once."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.digitalocean.words import (
    PAGED,
    check_query,
    no_body,
    no_content,
    not_found,
    paged,
    read_body,
    unprocessable,
)
from gpubroker.sandbox.rented import Thing

KIND = "ssh_key"
INVALID = "Key invalid, key should be of the format `type key [comment]`"
IN_USE = "SSH Key is already in use on your account"
_PUBLIC_KEY = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ ([A-Za-z0-9+/]+={0,2})( .*)?")

Name = Annotated[str, Meta(min_length=1, max_length=255)]


class NewKey(Struct, forbid_unknown_fields=True):
    """Body of POST account/keys."""

    name: Name
    public_key: str


class Rename(Struct, forbid_unknown_fields=True):
    """Body of PUT account/keys/{}."""

    name: Name


def fingerprint(public_key: str) -> str:
    """MD5 of the key's material, in pairs. Raises `Refusal` for what is no key."""
    fits = _PUBLIC_KEY.fullmatch(public_key)
    try:
        material = base64.b64decode(fits[2], validate=True) if fits else b""
    except binascii.Error:
        material = b""
    if not material:
        raise unprocessable(INVALID)
    digest = hashlib.md5(material, usedforsecurity=False).hexdigest()
    return ":".join(digest[at : at + 2] for at in range(0, 32, 2))


def key_json(thing: Thing) -> dict[str, Any]:
    """As everywhere."""
    wire = thing.wire
    return {
        "id": int(thing.id),
        "fingerprint": wire["fingerprint"],
        "public_key": wire["public_key"],
        "name": thing.name,
    }


def find_key(cloud: Cloud, account: str, wanted: int | str) -> Thing | None:
    """The account's, by number or fingerprint."""
    for thing in cloud.live_things(account, KIND):
        if str(wanted) == thing.id or wanted == thing.wire["fingerprint"]:
            return thing
    return None


def _own(api: Emulator, call: Call) -> Thing:
    thing = find_key(api.cloud, call.owner.name, call.ids[0])
    if thing is None:
        raise not_found()
    return thing


async def list_keys(api: Emulator, call: Call) -> Response:
    """GET account/keys."""
    check_query(call, PAGED)
    things = api.cloud.live_things(call.owner.name, KIND)
    return paged(api, call, "ssh_keys", [key_json(thing) for thing in things])


async def add_key(api: Emulator, call: Call) -> Response:
    """POST account/keys. Names need not be unique."""
    body = read_body(call, NewKey)
    public = body.public_key.strip()
    marks = fingerprint(public)
    if find_key(api.cloud, call.owner.name, marks) is not None:
        raise unprocessable(IN_USE)
    thing = api.cloud.add_thing(
        call.owner.name,
        KIND,
        number_from=512_190,
        name=body.name,
        public_key=public,
        fingerprint=marks,
    )
    return answer({"ssh_key": key_json(thing)}, 201)


async def show_key(api: Emulator, call: Call) -> Response:
    """GET account/keys/{}."""
    check_query(call)
    return answer({"ssh_key": key_json(_own(api, call))})


async def rename_key(api: Emulator, call: Call) -> Response:
    """PUT account/keys/{}."""
    body = read_body(call, Rename)
    thing = _own(api, call)
    thing.name = body.name
    api.cloud.save(thing)
    return answer({"ssh_key": key_json(thing)})


async def delete_key(api: Emulator, call: Call) -> Response:
    """DELETE account/keys/{}: droplets that have it keep it."""
    no_body(call)
    api.cloud.end_thing(_own(api, call))
    return no_content()
