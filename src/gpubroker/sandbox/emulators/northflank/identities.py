"""Northflank's SSH identities: who comes in through the vendor's command line, and where."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.northflank.bodies import NewIdentity
from gpubroker.sandbox.emulators.northflank.words import (
    PAGING,
    check_query,
    data,
    moment,
    no_body,
    not_found,
    page_of,
    read_body,
    refusal,
    slug,
    unused,
)
from gpubroker.sandbox.rented import Thing

KIND = "ssh_identity"


def _matches(wanted: dict[str, Any], told: set[str]) -> bool:
    if not wanted["enabled"]:
        return True
    items = set(wanted["items"])
    return items <= told if wanted.get("matchCondition") == "and" else bool(items & told)


def keys_for(cloud: Cloud, project: Thing, tags: list[str]) -> tuple[str, ...]:
    """The keys that open a service of the project with these tags."""
    keys = []
    for identity in cloud.live_things(project.account, KIND):
        limits = identity.wire["restrictions"]
        here = {project.wire["id"]}
        if _matches(limits["projects"], here) and _matches(limits["tags"], set(tags)):
            keys += [one["key"] for one in identity.wire["sshPublicKeys"]]
    return tuple(dict.fromkeys(keys))


def _json(identity: Thing) -> dict[str, Any]:
    told = {name: value for name, value in identity.wire.items() if value is not None}
    at = moment(identity.created_at)
    return {**told, "name": identity.name, "createdAt": at, "updatedAt": at}


def _the_identity(cloud: Cloud, call: Call) -> Thing:
    for identity in cloud.live_things(call.owner.name, KIND):
        if identity.wire["id"] == call.ids[0]:
            return identity
    raise not_found("SSH identity")


async def add(api: Emulator, call: Call) -> Response:
    """POST ssh-identities."""
    body = read_body(call, NewIdentity)
    cloud, account, id_ = api.cloud, call.owner.name, slug(body.name)
    if any(one.wire["id"] == id_ for one in cloud.live_things(account, KIND)):
        raise refusal(409, "There is already an SSH identity with the same derived identifier")
    taken = {key for kind, key in cloud.things if kind == KIND}
    record = {k: v for k, v in msgspec.to_builtins(body).items() if k != "name"}
    identity = cloud.add_thing(
        account, KIND, named=lambda _: unused(id_, taken), name=body.name, **record
    )
    identity.wire["id"] = id_
    cloud.save(identity)
    return data(_json(identity))


async def list_all(api: Emulator, call: Call) -> Response:
    """GET ssh-identities."""
    check_query(call, PAGING)
    rows = [_json(identity) for identity in api.cloud.live_things(call.owner.name, KIND)]
    shown, pagination = page_of(api, call, rows)
    return data({"identities": shown}, pagination=pagination)


async def show(api: Emulator, call: Call) -> Response:
    """GET ssh-identities/{id}."""
    check_query(call)
    return data(_json(_the_identity(api.cloud, call)))


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE ssh-identities/{id}: services that exist keep what they have."""
    no_body(call)
    api.cloud.end_thing(_the_identity(api.cloud, call))
    return data({})
