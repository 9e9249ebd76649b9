"""RunPod's words in REST v2: problem documents, and bodies and queries read by a schema."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gpubroker.sandbox.emulators.base import Call, Refusal

T = TypeVar("T")
_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 14
_TITLES = {422: "Unprocessable Entity"}
"""Where Python's name for the status is another."""


def problem_response(
    status: int,
    detail: str,
    errors: Collection[str] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer as application/problem+json."""
    body: dict[str, Any] = {
        "title": _TITLES.get(status) or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        body["errors"] = list(errors)
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def problem(status: int, detail: str, errors: Collection[str] = ()) -> Refusal:
    """The same, to be raised."""
    return Refusal(problem_response(status, detail, errors))


def invalid(*errors: str) -> Refusal:
    """A body or query that is not as the schema says."""
    return problem(422, "Request validation failed.", errors)


def not_found() -> Refusal:
    """For an id that the account has nothing of."""
    return problem(404, "resource not found")


def read_body(call: Call, type_: type[T]) -> T:
    """The body as a struct that forbids unknown properties. Raises Refusal (422)."""
    try:
        return msgspec.convert({} if call.body is None else call.body, type_)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `")
        raise invalid(f"{where.rstrip('`') or '$'}: {what}") from None


def read_query(request: Request, type_: type[T]) -> T:
    """The query's parameters as a struct; numbers are read from their text."""
    pairs = request.query_params.multi_items()
    if len(dict(pairs)) != len(pairs):
        raise invalid("a query parameter was given twice")
    try:
        return msgspec.convert(dict(pairs), type_, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None


def no_query(request: Request) -> None:
    """Raises Refusal where there is a query."""
    if request.query_params:
        raise invalid(*(f"unknown parameter '{name}'" for name in request.query_params))


def vendor_id(kind: str, number: int | str, length: int = _ID_LENGTH) -> str:
    """An id as RunPod gives them, the same for a kind and number or name."""
    value = int.from_bytes(hashlib.sha256(f"runpod/{kind}/{number}".encode()).digest())
    letters = []
    for _ in range(length):
        value, rest = divmod(value, len(_LETTERS))
        letters.append(_LETTERS[rest])
    return "".join(letters)


def moment(epoch_s: float) -> str:
    """RFC 3339 by the second."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
