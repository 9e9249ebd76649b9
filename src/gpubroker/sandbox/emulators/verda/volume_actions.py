"""What is done to Verda's volumes: attached, detached, renamed, resized, cloned, deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.verda.instances import found as found_instance
from gpubroker.sandbox.emulators.verda.instances import status_of
from gpubroker.sandbox.emulators.verda.storage import (
    attach,
    charge,
    detach,
    dispose,
    new_volume,
)
from gpubroker.sandbox.emulators.verda.volumes import Named, SizeGb, VolumeType, found
from gpubroker.sandbox.emulators.verda.words import flag, invalid, read_body
from gpubroker.sandbox.rented import Thing

_GONE = ("deleting", "discontinued", "starting_hibernation", "hibernating")


class Action(Struct, forbid_unknown_fields=True):
    """Body of PUT volumes: each action reads its own fields of it."""

    id: str | list[str]
    action: Literal["attach", "detach", "rename", "resize", "delete", "clone"]
    instance_id: str | None = None
    name: Named | None = None
    size: SizeGb | None = None
    type: VolumeType | None = None
    is_permanent: bool = False


class Deletion(Struct, forbid_unknown_fields=True):
    """Body of DELETE volumes/{id}."""

    is_permanent: bool = False


def _needs_shut_down(api: Emulator, call: Call, id_: str | None) -> None:
    """Volumes are moved only while the instance is off."""
    machine = api.cloud.machines.get(id_ or "")
    if machine is not None and status_of(machine, call.now) not in ("offline", *_GONE):
        raise invalid("The instance must be shut down")


def _attach(api: Emulator, call: Call, thing: Thing, body: Action) -> str:
    if body.instance_id is None:
        raise invalid("instance_id should not be empty")
    machine = found_instance(api.cloud, call, body.instance_id)
    if thing.state != "detached":
        raise invalid("The volume is not detached")
    if status_of(machine, call.now) in _GONE:
        raise invalid("Invalid instance id")
    if api.cloud.slot(machine).place != thing.wire["location"]:
        raise invalid("The instance is in another location")
    _needs_shut_down(api, call, machine.id)
    attach(api.cloud, thing, machine)
    return thing.id


def _detach(api: Emulator, call: Call, thing: Thing, _: Action) -> str:
    if thing.state != "attached":
        raise invalid("The volume is not attached")
    _needs_shut_down(api, call, thing.wire["instance_id"])
    detach(api.cloud, thing)
    return thing.id


def _rename(api: Emulator, _: Call, thing: Thing, body: Action) -> str:
    if body.name is None:
        raise invalid("name should not be empty")
    thing.name = body.name
    api.cloud.save(thing)
    return thing.id


def _resize(api: Emulator, _: Call, thing: Thing, body: Action) -> str:
    if body.size is None:
        raise invalid("size should not be empty")
    if body.size <= thing.wire["size"]:
        raise invalid("The new size must be larger than the present one")
    thing.wire["size"] = body.size
    charge(api.cloud, thing)
    return thing.id


def _clone(api: Emulator, call: Call, thing: Thing, body: Action) -> str:
    copy = new_volume(
        api.cloud,
        call.owner.name,
        name=body.name or f"{thing.name}-clone",
        size=thing.wire["size"],
        type_=body.type or thing.wire["type"],
        location=thing.wire["location"],
        is_os=thing.wire["is_os"],
    )
    return copy.id


def _delete(api: Emulator, call: Call, thing: Thing, *, permanently: bool) -> None:
    """From the trash it can only be deleted for good."""
    _needs_shut_down(api, call, thing.wire["instance_id"])
    if thing.wire["trashed_at"] is not None and not permanently:
        raise invalid("The volume is in the trash already")
    fate: Literal["delete_permanently", "move_to_trash"]
    fate = "delete_permanently" if permanently else "move_to_trash"
    dispose(api.cloud, thing, fate, call.now)


def _delete_by_action(api: Emulator, call: Call, thing: Thing, body: Action) -> str:
    _delete(api, call, thing, permanently=body.is_permanent)
    return thing.id


_ACTIONS: dict[str, Callable[[Emulator, Call, Thing, Action], str]] = {
    "attach": _attach,
    "detach": _detach,
    "rename": _rename,
    "resize": _resize,
    "clone": _clone,
    "delete": _delete_by_action,
}


async def act(api: Emulator, call: Call) -> Response:
    """PUT volumes: answers the ids, of clones the new ones."""
    body = read_body(call, Action)
    ids = [body.id] if isinstance(body.id, str) else list(dict.fromkeys(body.id))
    things = [found(api.cloud, call, id_) for id_ in ids]
    if any(thing.wire["trashed_at"] is not None for thing in things) and body.action != "delete":
        raise invalid("The volume is in the trash")
    return answer([_ACTIONS[body.action](api, call, thing, body) for thing in things], 202)


async def delete_one(api: Emulator, call: Call) -> Response:
    """DELETE volumes/{id}: to the trash unless it says otherwise, in body or query."""
    body = read_body(call, Deletion, query=("is_permanent",))
    asked = flag(call.request.query_params.get("is_permanent"), "is_permanent")
    thing = found(api.cloud, call, call.ids[0])
    _delete(api, call, thing, permanently=body.is_permanent or bool(asked))
    return Response(status_code=202)
