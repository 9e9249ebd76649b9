"""Paperspace's words: how it refuses, how a call is read, how lists are told by pages."""

from __future__ import annotations

import base64
import hashlib
import secrets
import string
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal, answer
from gpubroker.sandbox.rented import Account, Thing

CODES: Mapping[int, str] = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_SUPPORTED",
    409: "CONFLICT",
    412: "PRECONDITION_FAILED",
    429: "TOO_MANY_REQUESTS",
    500: "INTERNAL_SERVER_ERROR",
}
"""What the vendor's command line takes each status for."""
_LETTERS = string.ascii_lowercase + string.digits

T = TypeVar("T", bound=Struct)
Name = Annotated[str, Meta(min_length=1)]


class Page(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Query of a list; each has its own words to order by."""

    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=120)] = 20
    order_by: Literal["dtCreated", "name", "state"] = "dtCreated"
    order: Literal["asc", "desc"] = "desc"


class NamedPage(Page):
    """Query of most lists."""

    order_by: Literal["dtCreated", "name"] = "dtCreated"


class Nothing(Struct, forbid_unknown_fields=True, rename="camel"):
    """For calls without parameters."""


def error(status: int, message: str, code: str = "") -> Response:
    """The one form of every refusal."""
    return answer({"code": code or CODES[status], "message": message}, status)


def refusal(status: int, message: str) -> Refusal:
    """The same, to be raised."""
    return Refusal(error(status, message))


def invalid(*issues: str) -> Refusal:
    """400 for what is not as documented."""
    body = {"code": "BAD_REQUEST", "message": "Input validation failed"}
    return Refusal(answer({**body, "issues": [{"message": text} for text in issues]}, 400))


def not_found(what: str) -> Refusal:
    """404 in words; a path that there is not has others."""
    return refusal(404, f"{what} not found")


def read_query(call: Call, type_: type[T]) -> T:
    """The query's parameters, none unknown."""
    try:
        return msgspec.convert(dict(call.request.query_params), type_, strict=False)
    except msgspec.ValidationError as wrong:
        raise invalid(str(wrong)) from None


def read_body(call: Call, type_: type[T]) -> T:
    """The body, of known fields alone. One that is said to be JSON may not be empty."""
    read_query(call, Nothing)
    said = call.request.headers.get("content-type", "")
    if call.body is None and "json" in said:
        raise Refusal(error(400, "Failed to parse request body", "PARSE_ERROR"))
    try:
        return msgspec.convert({} if call.body is None else call.body, type_)
    except msgspec.ValidationError as wrong:
        raise invalid(str(wrong)) from None


def new_id(prefix: str) -> Callable[[int], str]:
    """Makes ids: the kind in two letters, and what nobody guesses."""
    return lambda _: prefix + "".join(secrets.choice(_LETTERS) for _ in range(10))


def account_id(account: Account, prefix: str) -> str:
    """Of the team or of its user: the same at each look."""
    return prefix + hashlib.sha256(f"{prefix}/{account.name}".encode()).hexdigest()[:8]


def moment(epoch_s: float) -> str:
    """A time of the vendor."""
    stamp = datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


def owned_thing(cloud: Cloud, call: Call, kind: str, id_: str, words: str) -> Thing:
    """The account's, by id. Raises the 404."""
    for thing in cloud.live_things(call.owner.name, kind):
        if thing.id == id_:
            return thing
    raise not_found(words)


def paged(
    api: Emulator, call: Call, query: Page, rows: list[dict[str, Any]], *, key: str = "id"
) -> Response:
    """One page of what is given oldest first; its cursor is the last row's key."""
    faults = api.cloud.faults
    if faults.take(call.operation, "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    if query.order_by != "dtCreated":
        rows = sorted(rows, key=lambda row: str(row[query.order_by]))
    if query.order == "desc":
        rows = rows[::-1]
    if query.after:
        cursors = [_cursor(row[key]) for row in rows]
        if faults.take(call.operation, "page_cursor_expired") or query.after not in cursors:
            raise invalid("Invalid cursor")
        rows = rows[len(cursors) - cursors[::-1].index(query.after) :]
    page, rest = rows[: query.limit], rows[query.limit :]
    cursor = _cursor(page[-1][key]) if rest else None
    if faults.take(call.operation, "list_partial"):
        page, cursor = page[: len(page) // 2], None
    return answer({"hasMore": cursor is not None, "items": page, "nextPage": cursor})


def _cursor(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
