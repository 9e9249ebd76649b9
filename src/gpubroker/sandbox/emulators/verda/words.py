"""Verda's words: how it refuses, and how a call is read before it is carried out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TypeVar
from uuid import uuid4

import msgspec
from msgspec import Struct
from starlette.responses import PlainTextResponse, Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Refusal, answer
from gpubroker.sandbox.rented import Thing

INVALID = "invalid_request"
UNAUTHORIZED = "unauthorized_request"
NO_FUNDS = "insufficient_funds"
FORBIDDEN = "forbidden_action"
NOT_FOUND = "not_found"
SERVER_ERROR = "server_error"
UNAVAILABLE = "service_unavailable"

LOCATIONS: Mapping[str, tuple[str, str]] = {
    "FIN-01": ("Finland 1", "FI"),
    "FIN-02": ("Finland 2", "FI"),
    "FIN-03": ("Finland 3", "FI"),
    "ICE-01": ("Iceland 1", "IS"),
}
"""Code -> name and country."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

T = TypeVar("T", bound=Struct)


def error(status: int, code: str | None, message: str) -> Response:
    """The one form of every refusal; without a code where no code is known for it."""
    body = {"message": message} if code is None else {"code": code, "message": message}
    return answer(body, status)


def refusal(status: int, code: str | None, message: str) -> Refusal:
    """Likewise, to be raised."""
    return Refusal(error(status, code, message))


def invalid(message: str) -> Refusal:
    """400 for what is not as documented."""
    return refusal(400, INVALID, message)


def not_found(message: str) -> Refusal:
    """404."""
    return refusal(404, NOT_FOUND, message)


def bare_id(id_: str, status: int) -> Response:
    """What a creating call answers: the id and nothing around it."""
    return PlainTextResponse(id_, status)


def check_query(call: Call, allowed: Collection[str] = ()) -> Mapping[str, str]:
    """The query's parameters, none unknown."""
    for name in call.request.query_params:
        if name not in allowed:
            raise invalid(f"property {name} should not exist")
    return call.request.query_params


def no_body(call: Call) -> None:
    """For a call that takes none."""
    check_query(call)
    if call.body not in (None, {}):
        raise invalid("no body is expected")


def read_body(call: Call, type_: type[T], query: Collection[str] = ()) -> T:
    """The body, of known fields alone and each as documented."""
    check_query(call, query)
    try:
        return msgspec.convert({} if call.body is None else call.body, type_)
    except msgspec.ValidationError as wrong:
        raise invalid(str(wrong)) from None


def check_location(code: str) -> str:
    """One of the vendor's."""
    if code not in LOCATIONS:
        raise invalid("Invalid location code")
    return code


def flag(text: str | None, name: str) -> bool | None:
    """A truth value of a query."""
    if text not in (None, "true", "false"):
        raise invalid(f"{name} must be a boolean value")
    return None if text is None else text == "true"


def new_id(_number: int) -> str:
    """A UUID."""
    return str(uuid4())


def is_id(text: str) -> bool:
    """Whether it has the form of the vendor's ids."""
    return _UUID.fullmatch(text) is not None


def moment(epoch_s: float) -> str:
    """A time of the vendor."""
    from datetime import UTC, datetime

    stamp = datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


def owned_thing(cloud: Cloud, call: Call, kind: str, id_: str) -> Thing | None:
    """The account's, by id."""
    things = cloud.live_things(call.owner.name, kind)
    return next((thing for thing in things if thing.id == id_), None)
