"""Verda's named texts: SSH keys and startup scripts, objects of the account."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.verda.words import (
    bare_id,
    check_query,
    invalid,
    moment,
    new_id,
    no_body,
    not_found,
    owned_thing,
    read_body,
)
from gpubroker.sandbox.rented import Thing

_PUBLIC_KEY = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ ([A-Za-z0-9+/]+={0,2})( .*)?")
_Named = Annotated[str, Meta(min_length=1, max_length=255)]


class NewKey(Struct, forbid_unknown_fields=True):
    """Body of POST ssh-keys."""

    name: _Named
    key: str

    @property
    def text(self) -> str:
        """The public key; refused where it is none."""
        key = self.key.strip()
        if not _PUBLIC_KEY.fullmatch(key):
            raise invalid("Invalid ssh key")
        return key


class NewScript(Struct, forbid_unknown_fields=True):
    """Body of POST scripts."""

    name: _Named
    script: Annotated[str, Meta(min_length=1)]

    @property
    def text(self) -> str:
        """The script."""
        return self.script


class KeysWanted(Struct, forbid_unknown_fields=True):
    """Body of DELETE ssh-keys."""

    keys: list[str]


class ScriptsWanted(Struct, forbid_unknown_fields=True):
    """Body of DELETE scripts."""

    scripts: list[str]


def _fingerprint(key: str) -> str:
    fields = _PUBLIC_KEY.fullmatch(key)
    digest = hashlib.sha256(fields[2].encode() if fields else b"").digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


class Kind:
    """The five calls of one kind; there is none that changes a text."""

    def __init__(
        self,
        kind: str,
        field: str,
        new: type[NewKey | NewScript],
        many: type[KeysWanted | ScriptsWanted],
        words: str,
    ) -> None:
        self.kind, self.words = kind, words
        self._field, self._new, self._many = field, new, many

    def json(self, thing: Thing) -> dict[str, Any]:
        """As lists tell it, the whole text included."""
        text = thing.wire["text"]
        row = {"id": thing.id, "name": thing.name, self._field: text}
        if self.kind == "ssh_key":
            row |= {"fingerprint": _fingerprint(text), "created_at": moment(thing.created_at)}
        return row

    def _found(self, api: Emulator, call: Call, id_: str) -> Thing:
        thing = owned_thing(api.cloud, call, self.kind, id_)
        if thing is None:
            raise not_found(f"{self.words} not found")
        return thing

    async def list_all(self, api: Emulator, call: Call) -> Response:
        """GET: oldest first."""
        check_query(call)
        return answer([self.json(t) for t in api.cloud.live_things(call.owner.name, self.kind)])

    async def add(self, api: Emulator, call: Call) -> Response:
        """POST: names are not unique."""
        body = read_body(call, self._new)
        thing = api.cloud.add_thing(
            call.owner.name, self.kind, named=new_id, name=body.name, text=body.text
        )
        return bare_id(thing.id, 201)

    async def show(self, api: Emulator, call: Call) -> Response:
        """GET {id}: a list of one."""
        check_query(call)
        return answer([self.json(self._found(api, call, call.ids[0]))])

    async def delete_one(self, api: Emulator, call: Call) -> Response:
        """DELETE {id}: instances that have it keep it."""
        no_body(call)
        api.cloud.end_thing(self._found(api, call, call.ids[0]))
        return Response(status_code=200)

    async def delete_many(self, api: Emulator, call: Call) -> Response:
        """DELETE: all that the body names, or none."""
        body = read_body(call, self._many)
        ids = body.keys if isinstance(body, KeysWanted) else body.scripts
        for thing in [self._found(api, call, id_) for id_ in dict.fromkeys(ids)]:
            api.cloud.end_thing(thing)
        return Response(status_code=200)


SSH_KEYS = Kind("ssh_key", "key", NewKey, KeysWanted, "SSH key")
SCRIPTS = Kind("script", "script", NewScript, ScriptsWanted, "Startup script")
