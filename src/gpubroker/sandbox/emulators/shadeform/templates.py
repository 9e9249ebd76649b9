"""Shadeform's templates: what a create may take its configuration from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.shadeform.launching import LaunchConfiguration, VolumeMount
from gpubroker.sandbox.emulators.shadeform.words import (
    Env,
    Name,
    Tag,
    Threshold,
    check_query,
    done,
    new_id,
    no_body,
    not_found,
    owned_thing,
    read_body,
    stable_id,
    strip,
)
from gpubroker.sandbox.rented import Account

KIND = "template"


class UfwRule(Struct, forbid_unknown_fields=True):
    """A line of the machine's own firewall. Kept, not enforced."""

    rule: Literal["allow", "deny", "limit", "reject"] = "allow"
    from_ip: str | None = None
    to_ip: str | None = None
    port: str | None = None
    proto: str | None = None


class Networking(Struct, forbid_unknown_fields=True):
    """The machine's own firewall."""

    ufw_rules: list[UfwRule] = []


class Template(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of POST templates/save and of an update."""

    name: Name
    description: str | None = None
    public: bool | None = None
    launch_configuration: LaunchConfiguration | None = None
    auto_delete: Threshold | None = None
    alert: Threshold | None = None
    volume_mount: VolumeMount | None = None
    tags: list[Tag] | None = None
    envs: list[Env] | None = None
    networking: Networking | None = None


_FEATURED: tuple[Mapping[str, Any], ...] = (
    {
        "id": stable_id("featured", "vllm"),
        "name": "vLLM",
        "description": "Serves a small model",
        "author": "Shadeform",
        "public": True,
        "launch_configuration": {
            "type": "docker",
            "docker_configuration": {
                "image": "vllm/vllm-openai:latest",
                "args": "--model mistralai/Mistral-7B-v0.1",
                "port_mappings": [{"host_port": 80, "container_port": 8000}],
            },
        },
    },
)


def template_of(cloud: Cloud, account: Account, id_: str) -> Mapping[str, Any]:
    """The account's, or a featured one, by id, or the refusal."""
    thing = owned_thing(cloud, account, KIND, id_)
    if thing is not None:
        return {"id": thing.id, **thing.wire}
    featured = next((one for one in _FEATURED if one["id"] == id_), None)
    if featured is None:
        raise not_found("template")
    return featured


async def list_all(api: Emulator, call: Call) -> Response:
    """GET templates."""
    check_query(call)
    things = api.cloud.live_things(call.owner.name, KIND)
    return answer({"templates": [{"id": thing.id, **thing.wire} for thing in things]})


async def featured(_: Emulator, call: Call) -> Response:
    """GET templates/featured."""
    check_query(call)
    return answer({"templates": list(_FEATURED)})


async def show(api: Emulator, call: Call) -> Response:
    """GET templates/{id}/info."""
    check_query(call)
    return answer(template_of(api.cloud, call.owner, call.ids[0]))


def _read(call: Call) -> dict[str, Any]:
    body = read_body(call, Template)
    if body.launch_configuration is not None:
        body.launch_configuration.check()
    wire: dict[str, Any] = strip(msgspec.to_builtins(body))
    return wire


async def save(api: Emulator, call: Call) -> Response:
    """POST templates/save."""
    wire = _read(call)
    thing = api.cloud.add_thing(call.owner.name, KIND, named=new_id)
    thing.name, thing.wire = wire["name"], wire
    api.cloud.save(thing)
    return answer({"id": thing.id})


async def update(api: Emulator, call: Call) -> Response:
    """POST templates/{id}/update: all of it."""
    wire = _read(call)
    thing = owned_thing(api.cloud, call.owner, KIND, call.ids[0])
    if thing is None:
        raise not_found("template")
    thing.name, thing.wire = wire["name"], wire
    api.cloud.save(thing)
    return done()


async def delete(api: Emulator, call: Call) -> Response:
    """POST templates/{id}/delete."""
    no_body(call)
    thing = owned_thing(api.cloud, call.owner, KIND, call.ids[0])
    if thing is None:
        raise not_found("template")
    api.cloud.end_thing(thing)
    return done()
