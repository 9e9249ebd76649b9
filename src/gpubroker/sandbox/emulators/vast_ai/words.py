"""Vast.ai's words: how it refuses, and how a call is read before it is carried out."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Limit, Refusal, answer
from gpubroker.sandbox.rented import Machine

SEARCH = Limit("search", 6.0, burst=10)
CREATE = Limit("create", 4.5)
DESTROY = Limit("destroy", 3.0)
SHOW = Limit("show", 2.0)
LIST = Limit("list", 1.0)
MANAGE = Limit("manage", 1.0)
BID = Limit("bid", 5.5)
VOLUMES = Limit("volumes", 5.5)
CHARGES = Limit("charges", 1.0)
KEYS = Limit("keys", 1.0)
DEPOSIT = Limit("deposit", 3.0)
"""Published thresholds are the intervals; one call more at once is let through."""


def refusal(status: int, error: str, msg: str, **more: Any) -> Refusal:
    """The usual form of a 4xx."""
    return Refusal(answer({"success": False, "error": error, "msg": msg, **more}, status))


def success(**more: Any) -> Response:
    """The usual form of an answer that tells nothing else."""
    return answer({"success": True, **more})


def check_query(request: Request, allowed: Collection[str] = ()) -> Mapping[str, str]:
    """The query's parameters; `api_key` is taken everywhere. Raises Refusal for others."""
    for name in request.query_params:
        if name not in allowed and name != "api_key":
            raise refusal(400, "invalid_args", f"Invalid args: unknown parameter '{name}'")
    return request.query_params


def check_body(
    call: Call, fields: Mapping[str, type | tuple[type, ...]], *, required: Collection[str] = ()
) -> dict[str, Any]:
    """The body's fields, none unknown or of another type. No body is an empty one."""
    body = {} if call.body is None else call.body
    if not isinstance(body, dict):
        raise refusal(400, "invalid_args", "Invalid args: the body must be an object")
    for name, value in body.items():
        if name not in fields:
            raise refusal(400, "invalid_args", f"Invalid args: unknown field '{name}'")
        wrong_bool = isinstance(value, bool) and fields[name] is not bool
        if wrong_bool or not isinstance(value, fields[name]):
            raise refusal(400, "invalid_args", f"Invalid args: '{name}' has the wrong type")
    for name in required:
        if name not in body:
            raise refusal(400, "invalid_args", f"Invalid args: '{name}' is required")
    return body


def check_json(text: str, what: str) -> Any:
    """A query parameter that holds JSON."""
    try:
        return json.loads(text)
    except ValueError:
        raise refusal(400, "invalid_request", f"{what} is not valid JSON") from None


def check_number(text: str, what: str) -> int:
    """A whole number in a path or query."""
    if not text.lstrip("-").isascii() or not text.lstrip("-").isdigit():
        raise refusal(400, "invalid_args", f"invalid {what}")
    return int(text)


def no_such_instance() -> Refusal:
    """For an id that the account has no instance of."""
    return refusal(404, "no_such_instance", "Instance with that ID does not exist.")


def find_machine(cloud: Cloud, call: Call, id_: str) -> Machine | None:
    """The account's live instance of that id. Raises Refusal where the id is no number."""
    machine = cloud.machines.get(str(check_number(id_, "instance_id")))
    if machine is None or machine.ended or machine.account != call.owner.name:
        return None
    return machine


def the_machine(cloud: Cloud, call: Call, id_: str) -> Machine:
    """Likewise; raises the vendor's 404 where there is none."""
    machine = find_machine(cloud, call, id_)
    if machine is None:
        raise no_such_instance()
    return machine
