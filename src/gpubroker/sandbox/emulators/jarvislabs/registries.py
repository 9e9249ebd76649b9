"""What an account of Jarvis Labs keeps besides instances: keys, startup scripts, filesystems."""

from __future__ import annotations

from email import message_from_bytes
from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gpubroker.model.money import Nanos, nanos
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.fastapi_words import (
    Nothing,
    read_body,
    read_query,
    unprocessable,
)
from gpubroker.sandbox.emulators.jarvislabs.instances import user_id
from gpubroker.sandbox.emulators.jarvislabs.words import (
    GB_MONTH_USD,
    REGIONS,
    check_host,
    declined,
    declined_misspelled,
    done,
    is_public_key,
    owned_thing,
    refusal,
    refusal_detail,
)
from gpubroker.sandbox.rented import Thing

KEY, SCRIPT, FILESYSTEM = "ssh_key", "startup_script", "filesystem"
MOST_KEYS = 10

StorageGb = Annotated[int, Meta(ge=50, le=2048)]


# --- SSH keys: every instance gets all of them --------------------------------------------


class NewKey(Struct, forbid_unknown_fields=True):
    """Body of POST ssh/."""

    ssh_key: Annotated[str, Meta(min_length=1)]
    key_name: Annotated[str, Meta(min_length=1)]


async def list_keys(api: Emulator, call: Call) -> Response:
    """GET ssh/: a bare list."""
    read_query(call, Nothing)
    things = api.cloud.live_things(call.owner.name, KEY)
    owner = user_id(call.owner)
    rows = [
        {"key_id": t.id, "key_name": t.name, "ssh_key": t.wire["text"], "user_id": owner}
        for t in things
    ]
    return answer(rows)


async def add_key(api: Emulator, call: Call) -> Response:
    """POST ssh/: the answer does not tell the id."""
    body = read_body(call, NewKey)
    if not is_public_key(body.ssh_key):
        raise declined_misspelled("Invalid SSH key")
    if len(api.cloud.live_things(call.owner.name, KEY)) >= MOST_KEYS:
        raise declined_misspelled(f"Maximum of {MOST_KEYS} SSH keys reached")
    text = body.ssh_key.strip()
    api.cloud.add_thing(
        call.owner.name, KEY, named=lambda n: f"k{n}", name=body.key_name, text=text
    )
    return done()


async def delete_key(api: Emulator, call: Call) -> Response:
    """DELETE ssh/{id}: instances that have it keep it until they are started again."""
    read_query(call, Nothing)
    thing = owned_thing(api.cloud, call, KEY, call.ids[0])
    if thing is None:
        raise declined("SSH key not found")
    api.cloud.end_thing(thing)
    return done()


# --- startup scripts ----------------------------------------------------------------------


class ScriptName(Struct, forbid_unknown_fields=True):
    """Query of the add."""

    name: str = ""


class OneScript(Struct, forbid_unknown_fields=True):
    """Query of what concerns one."""

    script_id: int


async def uploaded_script(request: Request) -> str:
    """The text of the form's one part; "" where there is none."""
    kind = request.headers.get("content-type", "")
    form = message_from_bytes(b"Content-Type: " + kind.encode() + b"\n\n" + await request.body())
    parts = form.walk() if form.get_content_type() == "multipart/form-data" else ()
    for part in parts:
        content = part.get_payload(decode=True)
        if part.get_param("name", header="content-disposition") != "script":
            continue
        if isinstance(content, bytes):
            return content.decode(errors="replace")
    return ""


def _script_text(call: Call) -> str:
    if not call.body or not call.body.strip():
        raise unprocessable(("body", "script"), "Field required", "missing")
    return str(call.body)


async def list_scripts(api: Emulator, call: Call) -> Response:
    """GET scripts/: without their texts."""
    read_query(call, Nothing)
    things = api.cloud.live_things(call.owner.name, SCRIPT)
    rows = [{"script_id": int(t.id), "script_name": t.name} for t in things]
    return answer({"script_meta": rows})


async def add_script(api: Emulator, call: Call) -> Response:
    """POST scripts/add: the answer does not tell the id."""
    name = read_query(call, ScriptName).name
    api.cloud.add_thing(call.owner.name, SCRIPT, name=name, text=_script_text(call))
    return done()


def _script(api: Emulator, call: Call) -> Thing:
    thing = owned_thing(api.cloud, call, SCRIPT, read_query(call, OneScript).script_id)
    if thing is None:
        raise refusal_detail(404, "Script not found")
    return thing


async def update_script(api: Emulator, call: Call) -> Response:
    """POST scripts/update."""
    thing = _script(api, call)
    thing.wire["text"] = _script_text(call)
    api.cloud.save(thing)
    return done()


async def delete_script(api: Emulator, call: Call) -> Response:
    """DELETE scripts/."""
    api.cloud.end_thing(_script(api, call))
    return done()


# --- filesystems: of one region, paid for as long as they are there ----------------------


class NewFilesystem(Struct, forbid_unknown_fields=True):
    """Body of the create."""

    fs_name: Annotated[str, Meta(min_length=1, max_length=30)]
    storage: StorageGb
    region: str


class GrownFilesystem(Struct, forbid_unknown_fields=True):
    """Body of the edit."""

    fs_id: int
    storage: StorageGb


class OneFilesystem(Struct, forbid_unknown_fields=True):
    """Query of the delete."""

    fs_id: int


async def list_filesystems(api: Emulator, call: Call) -> Response:
    """GET filesystem/list: a bare list of all regions'."""
    read_query(call, Nothing)
    rows = [
        {
            "fs_id": int(thing.id),
            "fs_name": thing.name,
            "storage": thing.wire["gb"],
            "region": thing.wire["region"],
        }
        for thing in api.cloud.live_things(call.owner.name, FILESYSTEM)
    ]
    return answer(rows)


def _new(cloud: Cloud, account: str, name: str, region: str, gb: int) -> Thing:
    thing = cloud.add_thing(account, FILESYSTEM, name=name, region=region, gb=gb)
    rate = Nanos(round(nanos(GB_MONTH_USD) * gb / cloud.facts.hours_per_month))
    thing.ledger.open("volume", rate, cloud.clock.now())
    cloud.save(thing)
    return thing


def _users(cloud: Cloud, thing: Thing) -> bool:
    mine = cloud.owned(thing.account)
    return any(not m.ended and m.wire["fs_id"] == int(thing.id) for m in mine)


def _filesystem(api: Emulator, call: Call, id_: int) -> Thing:
    thing = owned_thing(api.cloud, call, FILESYSTEM, id_)
    if thing is None:
        raise refusal(404, "Filesystem not found")
    check_host(call, thing.wire["region"])
    if _users(api.cloud, thing):
        raise declined("Filesystem is in use by an instance")
    return thing


async def create_filesystem(api: Emulator, call: Call) -> Response:
    """POST filesystem/create."""
    body = read_body(call, NewFilesystem)
    if body.region not in REGIONS:
        raise unprocessable(("body", "region"), "Unknown region")
    check_host(call, body.region)
    thing = _new(api.cloud, call.owner.name, body.fs_name, body.region, body.storage)
    return answer({"fs_id": int(thing.id)})


async def edit_filesystem(api: Emulator, call: Call) -> Response:
    """POST filesystem/edit: it grows, and has another id then."""
    body, cloud = read_body(call, GrownFilesystem), api.cloud
    old = _filesystem(api, call, body.fs_id)
    if body.storage < old.wire["gb"]:
        raise refusal(400, "Storage can only be increased")
    new = _new(cloud, old.account, old.name, old.wire["region"], body.storage)
    cloud.end_thing(old)
    return answer({"fs_id": int(new.id)})


async def delete_filesystem(api: Emulator, call: Call) -> Response:
    """POST filesystem/delete."""
    api.cloud.end_thing(_filesystem(api, call, read_query(call, OneFilesystem).fs_id))
    return done()
