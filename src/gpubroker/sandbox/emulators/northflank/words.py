"""Northflank's words: the envelope, how it refuses, and how a call is read."""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal, answer

CALLS_AN_HOUR, HOUR_S = 1000, 3600
NAME = r"^[a-zA-Z]((-|\s)?[a-zA-Z0-9]+((-|\s)[a-zA-Z0-9]+)*)?$"
PAGING = ("per_page", "page", "cursor")
LONGEST_PAGE, _USUAL_PAGE = 100, 50
EXPIRED = "The cursor is not valid."

T = TypeVar("T", bound=Struct)


def error(status: int, message: str, details: Mapping[str, Any] | None = None) -> Response:
    """The one form of every refusal."""
    told = {"status": status, "message": message, "id": secrets.token_hex(12)}
    return answer({"error": told | ({"details": dict(details)} if details else {})}, status)


def refusal(status: int, message: str, details: Mapping[str, Any] | None = None) -> Refusal:
    """Likewise, to be raised."""
    return Refusal(error(status, message, details))


def invalid(message: str, details: Mapping[str, Any] | None = None) -> Refusal:
    """400."""
    return refusal(400, message, details)


def not_found(what: str) -> Refusal:
    """404."""
    return refusal(404, f"{what} not found")


def data(told: Any, **more: Any) -> Response:
    """The one form of every success."""
    return answer({"data": told, **more})


def check_query(call: Call, allowed: Collection[str] = ()) -> Mapping[str, str]:
    """The query's parameters, none unknown."""
    for name in call.request.query_params:
        if name not in allowed:
            raise invalid("Invalid request", {"query": [f"{name} is not allowed"]})
    return call.request.query_params


def no_body(call: Call, query: Collection[str] = ()) -> Mapping[str, str]:
    """For a call that takes none."""
    if call.body not in (None, {}):
        raise invalid("Invalid request", {"body": ["no body is expected"]})
    return check_query(call, query)


def read_body(call: Call, type_: type[T]) -> T:
    """The body, of known fields alone and each as documented."""
    check_query(call)
    try:
        return msgspec.convert({} if call.body is None else call.body, type_)
    except msgspec.ValidationError as wrong:
        raise invalid("Invalid request", {"body": [str(wrong)]}) from None


def whole_number(told: Mapping[str, str], name: str, usual: int, most: int | None = None) -> int:
    """A positive number of the query."""
    text = told.get(name, str(usual))
    if not text.isdecimal() or not 1 <= int(text) <= (most or int(text) or 1):
        raise invalid("Invalid request", {"query": [f"{name} is invalid"]})
    return int(text)


def page_of(
    api: Emulator, call: Call, rows: list[Any], size: str = "per_page"
) -> tuple[list[Any], dict[str, Any]]:
    """A page of a list, and what is told of it; the cursor leads to the next one."""
    told = call.request.query_params
    length = whole_number(told, size, _USUAL_PAGE, LONGEST_PAGE)
    begin = (whole_number(told, "page", 1) - 1) * length
    if "cursor" in told:
        if api.cloud.faults.take(call.operation, "page_cursor_expired"):
            raise invalid(EXPIRED)
        begin = _place(told["cursor"])
    shown = rows[begin : begin + length]
    more = begin + length < len(rows)
    pagination: dict[str, Any] = {"hasNextPage": more, "count": len(shown)}
    if more:
        pagination["cursor"] = urlsafe_b64encode(str(begin + length).encode()).decode()
    return shown, pagination


def _place(cursor: str) -> int:
    try:
        return int(urlsafe_b64decode(cursor))
    except ValueError:
        raise invalid(EXPIRED) from None


def slug(name: str) -> str:
    """An id is made of the name."""
    return re.sub(r"\s", "-", name.lower())


def unused(id_: str, taken: Collection[str]) -> str:
    """What the sandbox's books call it: the id, unless another account's thing has it."""
    number = 0
    while (name := f"{id_}~{number}" if number else id_) in taken:
        number += 1
    return name


def flag(told: Mapping[str, str], name: str) -> bool:
    """A truth value of the query."""
    text = told.get(name, "false")
    if text not in ("true", "false"):
        raise invalid("Invalid request", {"query": [f"{name} must be a boolean"]})
    return text == "true"


def moment(epoch_s: float) -> str:
    """A time of the vendor."""
    stamp = datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")
