"""Paperspace's startup scripts: kept for themselves, run by the machines that they are given to."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.paperspace.machines import found as found_machine
from gpubroker.sandbox.emulators.paperspace.words import (
    Name,
    NamedPage,
    Nothing,
    invalid,
    moment,
    new_id,
    owned_thing,
    paged,
    read_body,
    read_query,
)
from gpubroker.sandbox.rented import Machine, Thing

KIND = "startup_script"
_SHELL = "#!/bin/bash\n"


class NewScript(Struct, forbid_unknown_fields=True, rename="camel"):
    """Body of the call that makes one."""

    name: Name
    script: Name
    is_run_once: bool = False


class Change(Struct, forbid_unknown_fields=True, rename="camel"):
    """Body of the call that changes one."""

    name: Name | None = None
    script: Name | None = None
    is_run_once: bool | None = None
    is_enabled: bool | None = None


class Assignment(Struct, forbid_unknown_fields=True, rename="camel"):
    """Body of the calls that give it to a machine, and take it away."""

    machine_id: str


class ScriptPage(NamedPage):
    """Query of the list."""

    name: str = ""


def _json(thing: Thing) -> dict[str, Any]:
    """Without the text: it is told nowhere."""
    return {
        "id": thing.id,
        "name": thing.name,
        "description": None,
        "isEnabled": thing.wire["enabled"],
        "isRunOnce": thing.wire["once"],
        "assignedMachineIds": thing.wire["machines"],
        "dtCreated": moment(thing.created_at),
        "dtDeleted": None if thing.ended_at is None else moment(thing.ended_at),
    }


def script_named(cloud: Cloud, call: Call, id_: str) -> Thing:
    """By id. Raises the 404."""
    return owned_thing(cloud, call, KIND, id_, "Startup script")


def text_of(script: Thing) -> str:
    """What a shell can run."""
    text: str = script.wire["script"] if script.wire["enabled"] else ""
    return text if not text or text.startswith("#!") else _SHELL + text


def give(cloud: Cloud, script: Thing, machine: Machine) -> None:
    """One that runs once does so at the first boot alone; the others from the next boot on."""
    if machine.id not in script.wire["machines"]:
        script.wire["machines"] = [*script.wire["machines"], machine.id]
        cloud.save(script)
    text = text_of(script)
    if script.wire["once"]:
        machine.order = replace(machine.order, user_data=text.encode())
    else:
        machine.order = replace(machine.order, startup_script=text)
    cloud.save(machine)


async def list_all(api: Emulator, call: Call) -> Response:
    """GET startup-scripts."""
    query = read_query(call, ScriptPage)
    things = api.cloud.live_things(call.owner.name, KIND)
    return paged(api, call, query, [_json(one) for one in things if query.name in one.name])


async def create(api: Emulator, call: Call) -> Response:
    """POST startup-scripts: names may collide."""
    body = read_body(call, NewScript)
    thing = api.cloud.add_thing(
        call.owner.name,
        KIND,
        named=new_id("sc"),
        name=body.name,
        script=body.script,
        once=body.is_run_once,
        enabled=True,
        machines=[],
    )
    return answer(_json(thing))


async def show(api: Emulator, call: Call) -> Response:
    """GET startup-scripts/{id}."""
    read_query(call, Nothing)
    return answer(_json(script_named(api.cloud, call, call.ids[0])))


async def update(api: Emulator, call: Call) -> Response:
    """PUT startup-scripts/{id}: machines that have run it are as they are."""
    body = read_body(call, Change)
    script = script_named(api.cloud, call, call.ids[0])
    script.name = body.name or script.name
    changed = {"script": body.script, "once": body.is_run_once, "enabled": body.is_enabled}
    script.wire |= {name: value for name, value in changed.items() if value is not None}
    api.cloud.save(script)
    return answer(_json(script))


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE startup-scripts/{id}: whoever has it keeps it."""
    read_query(call, Nothing)
    script = script_named(api.cloud, call, call.ids[0])
    api.cloud.end_thing(script)
    return answer(_json(script))


async def assign(api: Emulator, call: Call) -> Response:
    """POST startup-scripts/{id}/assign."""
    body = read_body(call, Assignment)
    script = script_named(api.cloud, call, call.ids[0])
    give(api.cloud, script, found_machine(api.cloud, call, body.machine_id))
    return answer(_json(script))


async def unassign(api: Emulator, call: Call) -> Response:
    """POST startup-scripts/{id}/unassign."""
    body = read_body(call, Assignment)
    script = script_named(api.cloud, call, call.ids[0])
    machine = found_machine(api.cloud, call, body.machine_id)
    if machine.id not in script.wire["machines"]:
        raise invalid("The startup script is not assigned to this machine")
    script.wire["machines"] = [id_ for id_ in script.wire["machines"] if id_ != machine.id]
    api.cloud.save(script)
    machine.order = replace(machine.order, startup_script="")
    api.cloud.save(machine)
    return answer(_json(script))
