"""TensorDock's secrets: SSH keys, and texts that are never told again."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.tensordock.words import (
    check_query,
    invalid,
    new_id,
    no_body,
    read_body,
    refusal,
)
from gpubroker.sandbox.rented import Thing

KIND = "secret"
SSH_KEY = "SSHKEY"
_PUBLIC_KEY = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}( .*)?")


class Attributes(Struct, forbid_unknown_fields=True):
    """What it is."""

    name: Annotated[str, Meta(min_length=1)]
    value: Annotated[str, Meta(min_length=1)]
    type: Literal["SSHKEY", "GENERIC", "SECRET"]


class Data(Struct, forbid_unknown_fields=True):
    """The envelope."""

    type: Literal["secret"]
    attributes: Attributes


class NewSecret(Struct, forbid_unknown_fields=True):
    """Body of POST secrets."""

    data: Data


def is_public_key(text: str) -> bool:
    """Whether it is a line of an OpenSSH public key."""
    return _PUBLIC_KEY.fullmatch(text.strip()) is not None


def found(cloud: Cloud, call: Call, id_: str) -> Thing | None:
    """The account's, by id."""
    secrets = cloud.live_things(call.owner.name, KIND)
    return next((thing for thing in secrets if thing.id == id_), None)


def _found(api: Emulator, call: Call) -> Thing:
    thing = found(api.cloud, call, call.ids[0])
    if thing is None:
        raise refusal(404, "Secret not found")
    return thing


async def list_all(api: Emulator, call: Call) -> Response:
    """GET secrets: without their values."""
    check_query(call)
    rows = [
        {"type": thing.wire["type"], "id": thing.id, "name": thing.name}
        for thing in api.cloud.live_things(call.owner.name, KIND)
    ]
    return answer({"data": {"secrets": rows}})


async def create(api: Emulator, call: Call) -> Response:
    """POST secrets: names are not unique. Of what is no SSH key the value is not even kept."""
    wanted = read_body(call, NewSecret).data.attributes
    is_key = wanted.type == SSH_KEY
    if is_key and not is_public_key(wanted.value):
        raise invalid("Invalid SSH public key", "data", "attributes", "value")
    thing = api.cloud.add_thing(
        call.owner.name,
        KIND,
        named=new_id,
        name=wanted.name,
        type=wanted.type,
        value=wanted.value.strip() if is_key else None,
    )
    return answer({"data": {"type": "secret", "id": thing.id, "name": thing.name}}, 201)


async def show(api: Emulator, call: Call) -> Response:
    """GET secrets/{id}: an SSH key's value too."""
    check_query(call)
    thing = _found(api, call)
    row: dict[str, Any] = {"type": "secret", "id": thing.id, "name": thing.name}
    if thing.wire["value"] is not None:
        row["value"] = thing.wire["value"]
    return answer({"data": row})


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE secrets/{id}: instances that have the key keep it."""
    no_body(call)
    api.cloud.end_thing(_found(api, call))
    return answer({"data": {"type": "success", "message": "Secret deleted successfully"}})
