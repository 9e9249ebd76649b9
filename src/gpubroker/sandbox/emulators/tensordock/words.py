"""TensorDock's words: how it refuses, and how a call is read before it is carried out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar
from uuid import NAMESPACE_URL, uuid4, uuid5

import msgspec
from msgspec import Struct
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Limit, Refusal, answer

GENERAL = Limit("organisation", 0.59375, burst=100)
"""100 in a minute, in a fraction that adds up without rounding."""

SSH_PORT = 22
NO_NODES = "No available nodes found"
NO_HOST = "Hostnode unavailable"
NO_ADDRESS = "No available public IP"
NO_MONEY = "You need at least $1 in your account balance to deploy an instance"
_CODES = (
    ("unknown field", "unrecognized_keys"),
    (">=", "too_small"),
    ("length", "too_small"),
    ("<=", "too_big"),
    ("multiple of", "not_multiple_of"),
    ("Invalid enum value", "invalid_literal"),
)
_PLACE = re.compile(r"^(?P<problem>.*) - at `\$\.?(?P<path>.*)`$")

T = TypeVar("T", bound=Struct)


def error(status: int, message: str) -> Response:
    """The usual form of a refusal."""
    return answer({"error": message}, status)


def refusal(status: int, message: str) -> Refusal:
    """Likewise, to be raised."""
    return Refusal(error(status, message))


def refused_with_200(message: str) -> Refusal:
    """What a create is refused with once its form is right: the status is only in the body."""
    return Refusal(answer({"error": message, "status": 400}, 200))


def invalid(message: str, *path: str | int, code: str = "custom") -> Refusal:
    """400 for what is not as documented: a bare list, as the vendor's validation makes it."""
    return Refusal(answer([{"code": code, "message": message, "path": list(path)}], 400))


def check_query(call: Call, allowed: Collection[str] = ()) -> Mapping[str, str]:
    """The query's parameters, none unknown."""
    for name in call.request.query_params:
        if name not in allowed:
            raise invalid(f"Unrecognized key: {name!r}", name, code="unrecognized_keys")
    return call.request.query_params


def no_body(call: Call) -> None:
    """For a call that takes none; an empty object is none."""
    check_query(call)
    if call.body not in (None, {}):
        raise invalid("No body is expected", code="unrecognized_keys")


def read_body(call: Call, type_: type[T]) -> T:
    """The body, of known fields alone and each as documented."""
    check_query(call)
    try:
        return msgspec.convert({} if call.body is None else call.body, type_)
    except msgspec.ValidationError as wrong:
        raise _wrong(str(wrong)) from None


def _wrong(text: str) -> Refusal:
    found = _PLACE.match(text)
    problem, at = (found["problem"], found["path"]) if found else (text, "")
    code = next((code for words, code in _CODES if words in problem), "invalid_type")
    path: list[str | int] = [
        int(part) if part.isdigit() else part for part in re.findall(r"\w+", at) if part
    ]
    return invalid(problem, *path, code=code)


def new_id(_number: int) -> str:
    """A UUID."""
    return str(uuid4())


def stable_id(*words: str) -> str:
    """The same UUID for the same words."""
    return str(uuid5(NAMESPACE_URL, "/".join(("tensordock", *words))))


def done(message: str) -> Response:
    """A change that leaves nothing to be told."""
    return answer({"data": {"type": "success", "attributes": {"message": message}}})


def acting(id_: str, status: str) -> Response:
    """A change of an instance that takes its time."""
    row: dict[str, Any] = {"type": "instance", "id": id_, "attributes": {"status": status}}
    return answer({"data": row})
