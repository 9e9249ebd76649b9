"""Shadeform's SSH keys: the account's own, and one that the vendor made and manages."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.shadeform.words import (
    Name,
    check_query,
    done,
    invalid,
    new_id,
    no_body,
    not_found,
    owned_thing,
    read_body,
    refusal,
    stable_id,
)
from gpubroker.sandbox.rented import Account

KIND = "ssh_key"
_PUBLIC_KEY = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}( .*)?")


class Key(Struct, frozen=True):
    """One that an account can choose."""

    id: str
    name: str
    public_key: str
    is_default: bool

    def json(self) -> dict[str, Any]:
        """As everywhere."""
        return {
            "id": self.id,
            "name": self.name,
            "public_key": self.public_key,
            "is_default": self.is_default,
        }


class NewKey(Struct, forbid_unknown_fields=True):
    """Body of POST sshkeys/add."""

    name: Name
    public_key: str


def _managed(account: Account) -> tuple[str, str]:
    """Id and public key of the vendor's: there from the first day, and nothing left behind."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    seed = hashlib.sha256(f"{account.name}/managed".encode()).digest()
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    text = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return stable_id(account.name, "managed"), text


def keys_of(cloud: Cloud, account: Account) -> list[Key]:
    """The managed key, then the account's, oldest first; one of them is the default."""
    things = cloud.live_things(account.name, KIND)
    chosen = next((thing.id for thing in things if thing.wire["is_default"]), None)
    id_, text = _managed(account)
    managed = Key(id_, "Shadeform Managed Key", text, chosen is None)
    return [managed] + [
        Key(thing.id, thing.name, thing.wire["public_key"], thing.id == chosen) for thing in things
    ]


def found(cloud: Cloud, account: Account, id_: str) -> Key:
    """By id, or the refusal."""
    for key in keys_of(cloud, account):
        if key.id == id_:
            return key
    raise not_found("ssh key")


def default_of(cloud: Cloud, account: Account) -> Key:
    """For machines that name none."""
    return next(key for key in keys_of(cloud, account) if key.is_default)


async def list_all(api: Emulator, call: Call) -> Response:
    """GET sshkeys."""
    check_query(call)
    return answer({"ssh_keys": [key.json() for key in keys_of(api.cloud, call.owner)]})


async def add(api: Emulator, call: Call) -> Response:
    """POST sshkeys/add."""
    body = read_body(call, NewKey)
    public = body.public_key.strip()
    if not _PUBLIC_KEY.fullmatch(public):
        raise invalid("public_key is not a valid OpenSSH public key")
    if any(key.name == body.name for key in keys_of(api.cloud, call.owner)):
        raise refusal("INVALID_NAME", "ssh key name must be unique")
    thing = api.cloud.add_thing(
        call.owner.name, KIND, named=new_id, name=body.name, public_key=public, is_default=False
    )
    return answer({"id": thing.id})


async def show(api: Emulator, call: Call) -> Response:
    """GET sshkeys/{id}/info."""
    check_query(call)
    return answer(found(api.cloud, call.owner, call.ids[0]).json())


async def set_default(api: Emulator, call: Call) -> Response:
    """POST sshkeys/{id}/setdefault."""
    no_body(call)
    wanted = found(api.cloud, call.owner, call.ids[0])
    for thing in api.cloud.live_things(call.owner.name, KIND):
        thing.wire["is_default"] = thing.id == wanted.id
        api.cloud.save(thing)
    return done()


async def delete(api: Emulator, call: Call) -> Response:
    """POST sshkeys/{id}/delete: not the managed one, the default or one in use."""
    no_body(call)
    key = found(api.cloud, call.owner, call.ids[0])
    thing = owned_thing(api.cloud, call.owner, KIND, key.id)
    used = any(
        not machine.ended and machine.wire["ssh_key_id"] == key.id
        for machine in api.cloud.owned(call.owner.name)
    )
    if thing is None or key.is_default or used:
        why = "is in use" if used else "is the managed or the default key"
        raise refusal("SSH_KEY_IN_USE", f"ssh key {why} and cannot be deleted")
    api.cloud.end_thing(thing)
    return done()
