"""Verda's tags: the customer's own marks of an instance."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import unquote

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.verda.instances import found
from gpubroker.sandbox.emulators.verda.words import (
    INVALID,
    invalid,
    new_id,
    no_body,
    not_found,
    read_body,
    refusal,
)

MOST = 10


class Tag(Struct, forbid_unknown_fields=True):
    """One of them; without a value it is a bare word."""

    key: Annotated[str, Meta(min_length=1, max_length=63)]
    value: Annotated[str, Meta(max_length=127)] = ""

    def json(self) -> dict[str, Any]:
        """As an instance tells it; keys are kept in lower case."""
        return {"id": new_id(0), "key": self.key.lower(), "value": self.value}


def tags_json(wanted: list[Tag]) -> list[dict[str, Any]]:
    """Those of a new instance."""
    if len(wanted) > MOST:
        raise invalid(f"A resource has {MOST} tags at most")
    rows = [tag.json() for tag in wanted]
    if len({row["key"] for row in rows}) < len(rows):
        raise invalid("Tag keys must be unique")
    return rows


async def add(api: Emulator, call: Call) -> Response:
    """POST instances/{id}/tags."""
    tag = read_body(call, Tag).json()
    machine = found(api.cloud, call, call.ids[0])
    known = machine.wire["tags"]
    if any(row["key"] == tag["key"] for row in known):
        raise refusal(409, INVALID, "Tag already exists")
    if len(known) >= MOST:
        raise invalid(f"A resource has {MOST} tags at most")
    machine.wire["tags"] = [*known, tag]
    api.cloud.save(machine)
    return answer(tag, 201)


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE instances/{id}/tags/{key}."""
    no_body(call)
    machine = found(api.cloud, call, call.ids[0])
    key = unquote(call.ids[1]).lower()
    left = [row for row in machine.wire["tags"] if row["key"] != key]
    if len(left) == len(machine.wire["tags"]):
        raise not_found("Tag not found")
    machine.wire["tags"] = left
    api.cloud.save(machine)
    return Response(status_code=204)
