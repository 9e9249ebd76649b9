"""What clouds built on FastAPI say alike: a refusal's `detail`, and the list of what is invalid."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Refusal, answer

_PLACE = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.?(?P<name>[^.\[\]]+)|\[(?P<index>\d*)\]")
_KNOWN: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r"Object missing required field `(\w+)`"), "missing", "Field required"),
    (
        re.compile(r"Object contains unknown field `([^`]+)`"),
        "extra_forbidden",
        "Extra inputs are not permitted",
    ),
)

T = TypeVar("T", bound=Struct)
Detail = str | list[dict[str, Any]]


def detail(status: int, what: Detail) -> Response:
    """The usual form of a refusal."""
    return answer({"detail": what}, status)


def unprocessable(place: Iterable[str | int], message: str, kind: str = "value_error") -> Refusal:
    """422 for one field; `place` begins with "body", "query" or "path"."""
    return Refusal(detail(422, [{"type": kind, "loc": list(place), "msg": message}]))


def not_json() -> Response:
    """422 for a body that is no JSON."""
    row = {"type": "json_invalid", "loc": ["body", 0], "msg": "JSON decode error"}
    return detail(422, [row])


def no_path(method_exists: bool) -> Response:
    """404 or 405 of a route that there is not."""
    return detail(405, "Method Not Allowed") if method_exists else detail(404, "Not Found")


def read_body(call: Call, type_: type[T]) -> T:
    """The body, of known fields alone and each as documented; the query is empty."""
    read_query(call, Nothing)
    if call.body is None:
        raise unprocessable(("body",), "Field required", "missing")
    return _converted(call.body, type_, "body", strict=True)


def read_query(call: Call, type_: type[T]) -> T:
    """The query's parameters, likewise; numbers and truth values are read from text."""
    return _converted(dict(call.request.query_params), type_, "query", strict=False)


class Nothing(Struct, forbid_unknown_fields=True):
    """For calls without parameters."""


def number_in_path(text: str, name: str) -> int:
    """A whole number that is a part of the path."""
    if not re.fullmatch(r"\d{1,18}", text):
        raise unprocessable(("path", name), "Input should be a valid integer", "int_parsing")
    return int(text)


def _converted(given: Any, type_: type[T], where: str, *, strict: bool) -> T:
    try:
        return msgspec.convert(given, type_, strict=strict)
    except msgspec.ValidationError as wrong:
        raise _refusal(str(wrong), where) from None


def _refusal(words: str, where: str) -> Refusal:
    place: list[str | int] = [where]
    if at := _PLACE.search(words):
        words = words[: at.start()]
        place += [_step(found.groupdict()) for found in _STEP.finditer(at["path"])]
    for pattern, kind, message in _KNOWN:
        if found := pattern.fullmatch(words):
            return unprocessable([*place, found[1]], message, kind)
    return unprocessable(place, words)


def _step(found: Mapping[str, str | None]) -> str | int:
    return found["name"] or int(found["index"] or 0)
