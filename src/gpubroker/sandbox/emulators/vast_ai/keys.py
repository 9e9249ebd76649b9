"""Vast.ai's SSH keys: an account's, and those of one instance."""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.responses import Response

from gpubroker.sandbox.clock import iso
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.vast_ai.words import (
    check_body,
    check_number,
    check_query,
    find_machine,
    refusal,
    success,
    the_machine,
)
from gpubroker.sandbox.rented import Account, Machine, Thing

KEYS_FROM = 410_000
_PUBLIC_KEY = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}( .*)?")


def key_json(thing: Thing, account: Account) -> dict[str, Any]:
    """An account's SSH key."""
    return {
        "id": int(thing.id),
        "user_id": account.number,
        "key": thing.wire["public_key"],
        "created_at": iso(thing.created_at),
        "deleted_at": None,
    }


def _public_key(call: Call) -> str:
    body = check_body(call, {"ssh_key": str, "id": int})
    key = str(body.get("ssh_key", "")).strip()
    if not key:
        raise refusal(400, "no_ssh_key", "No ssh key provided")
    if not _PUBLIC_KEY.fullmatch(key):
        raise refusal(400, "invalid_args", "Invalid ssh key")
    return key


def _account_key(cloud: Cloud, call: Call, id_: str) -> Thing:
    number = str(check_number(id_, "ssh key id"))
    for thing in cloud.live_things(call.owner.name, "ssh_key"):
        if thing.id == number:
            return thing
    raise refusal(400, "no_ssh_key", "No ssh key provided")


async def list_keys(api: Emulator, call: Call) -> Response:
    """GET ssh: a bare array."""
    check_query(call.request)
    keys = api.cloud.live_things(call.owner.name, "ssh_key")
    return answer([key_json(key, call.owner) for key in keys])


async def add_key(api: Emulator, call: Call) -> Response:
    """POST ssh: onto the account and onto every instance that there is."""
    check_query(call.request)
    key = _public_key(call)
    thing = api.cloud.add_thing(call.owner.name, "ssh_key", number_from=KEYS_FROM, public_key=key)
    for machine in api.cloud.owned(call.owner.name):
        if not machine.ended and key not in machine.keys:
            await api.cloud.admit(machine, (*machine.keys, key))
    shown = key_json(thing, call.owner)
    shown["public_key"] = shown.pop("key")
    return success(key=shown)


async def change_key(api: Emulator, call: Call) -> Response:
    """PUT ssh/{id}."""
    check_query(call.request)
    thing = _account_key(api.cloud, call, call.ids[0])
    thing.wire["public_key"] = _public_key(call)
    api.cloud.save(thing)
    return success(key=key_json(thing, call.owner))


async def delete_key(api: Emulator, call: Call) -> Response:
    """DELETE ssh/{id}: instances that have it keep it."""
    check_query(call.request)
    check_body(call, {})
    api.cloud.end_thing(_account_key(api.cloud, call, call.ids[0]))
    return success()


def _instance_keys(cloud: Cloud, call: Call, machine: Machine) -> list[dict[str, Any]]:
    named = {t.wire["public_key"]: int(t.id) for t in cloud.live_things(call.owner.name, "ssh_key")}
    named.update({row["public_key"]: row["id"] for row in machine.wire["extra_keys"]})
    return [{"id": named.get(key, 0), "public_key": key} for key in machine.keys]


async def instance_keys(api: Emulator, call: Call) -> Response:
    """GET instances/{id}/ssh."""
    check_query(call.request)
    machine = the_machine(api.cloud, call, call.ids[0])
    # JSON as text inside the JSON, as the vendor has it.
    return success(ssh_keys=json.dumps(_instance_keys(api.cloud, call, machine)))


async def attach_key(api: Emulator, call: Call) -> Response:
    """POST instances/{id}/ssh."""
    check_query(call.request)
    key = _public_key(call)
    machine = the_machine(api.cloud, call, call.ids[0])
    if key not in machine.keys:
        number = api.cloud.number("ssh_key", KEYS_FROM)
        extra = {"id": number, "public_key": key}
        machine.wire["extra_keys"] = [*machine.wire["extra_keys"], extra]
        await api.cloud.admit(machine, (*machine.keys, key))
    return success(msg="SSH key added to instance.")


async def detach_key(api: Emulator, call: Call) -> Response:
    """DELETE instances/{id}/ssh/{key}."""
    check_query(call.request)
    check_body(call, {})
    machine = find_machine(api.cloud, call, call.ids[0])
    if machine is None:
        raise refusal(404, "no_such_instance", "Instance not found.")
    number = check_number(call.ids[1], "ssh key id")
    gone = {
        row["public_key"] for row in _instance_keys(api.cloud, call, machine) if row["id"] == number
    }
    if not gone:
        raise refusal(404, "no_such_ssh_key", "SSH key not found.")
    await api.cloud.admit(machine, tuple(key for key in machine.keys if key not in gone))
    return success(msg="SSH key removed from instance.")
