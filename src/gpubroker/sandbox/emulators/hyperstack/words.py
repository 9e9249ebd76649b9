"""Hyperstack's words: its envelope, how it refuses, how a call is read, how lists are paged."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal, answer
from gpubroker.sandbox.rented import Thing

REGIONS: Mapping[str, tuple[int, str, str]] = {
    "NORWAY-1": (1, "NO", "GREEN"),
    "CANADA-1": (2, "CA", "GREEN"),
    "US-1": (3, "US", "NOT_GREEN"),
}
"""Name -> id, country and how green its power is."""

PAGED = ("page", "pageSize")
_PAGE_SIZE = 10
_SPOILT = ("list", "offers")
"""Operations whose lists faults befall."""

Name = Annotated[str, Meta(min_length=1, max_length=50)]
T = TypeVar("T", bound=Struct)


def error(status: int, reason: str, message: str) -> Response:
    """The one form of every refusal."""
    return answer({"status": False, "message": message, "error_reason": reason}, status)


def refusal(status: int, reason: str, message: str) -> Refusal:
    """Likewise, to be raised."""
    return Refusal(error(status, reason, message))


def bad(message: str) -> Refusal:
    """400 for what is not as documented, or cannot be done now."""
    return refusal(400, "bad_request", message)


def not_found(message: str) -> Refusal:
    """404."""
    return refusal(404, "not_found", message)


def conflict(message: str) -> Refusal:
    """409: a name is taken."""
    return refusal(409, "conflict", message)


def done(message: str, **more: Any) -> Response:
    """Always 200: of any other success the vendor's SDK reads nothing."""
    return answer({"status": True, "message": message, **more})


def check_query(call: Call, allowed: Collection[str] = ()) -> Mapping[str, str]:
    """The query's parameters, none unknown."""
    for name in call.request.query_params:
        if name not in allowed:
            raise bad(f"Unknown query parameter: {name}")
    return call.request.query_params


def read_body(call: Call, type_: type[T]) -> T:
    """The body, of known fields alone and each as documented."""
    check_query(call)
    try:
        return msgspec.convert({} if call.body is None else call.body, type_)
    except msgspec.ValidationError as wrong:
        raise bad(f"Input payload validation failed: {wrong}") from None


def no_body(call: Call, allowed: Collection[str] = ()) -> Mapping[str, str]:
    """For a call that takes none: its query."""
    if call.body not in (None, {}):
        raise bad("This call takes no body")
    return check_query(call, allowed)


def flag(query: Mapping[str, str], name: str, *, otherwise: bool) -> bool:
    """A truth value of a query."""
    text = query.get(name, "true" if otherwise else "false").lower()
    if text not in ("true", "false"):
        raise bad(f"{name} must be true or false")
    return text == "true"


def counted(query: Mapping[str, str], name: str, otherwise: int) -> int:
    """A whole number above 0 of a query."""
    text = query.get(name, str(otherwise))
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise bad(f"{name} must be a positive integer")
    return int(text)


def page_of(query: Mapping[str, str], rows: Sequence[Any], size: str) -> tuple[list[Any], int, int]:
    """Rows of the page that is asked for, its number from 1, and how many rows a page has."""
    page, per_page = counted(query, "page", 1), counted(query, size, _PAGE_SIZE)
    return list(rows[(page - 1) * per_page : page * per_page]), page, per_page


def paged(api: Emulator, call: Call, name: str, rows: Sequence[Any]) -> Response:
    """A page of a list; `count` is of all pages."""
    shown, page, size = page_of(call.request.query_params, rows, "pageSize")
    shown = spoilt(api, call, shown)
    more = {name: shown, "count": len(rows), "page": page, "page_size": size}
    return done(f"Getting {name} successful", **more)


def spoilt(api: Emulator, call: Call, rows: list[Any]) -> list[Any]:
    """As the faults of lists would have them: the count still has the rows that were lost."""
    faults = api.cloud.faults
    if call.operation in _SPOILT and faults.take(call.operation, "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    if call.operation in _SPOILT and faults.take(call.operation, "list_partial"):
        rows = rows[: len(rows) // 2]
    return rows


def moment(epoch_s: float) -> str:
    """A time of the vendor: UTC, and does not say so."""
    return datetime.fromtimestamp(int(epoch_s), UTC).strftime("%Y-%m-%dT%H:%M:%S")


def read_moment(query: Mapping[str, str], name: str, otherwise: float) -> float:
    """Epoch seconds of a time in a query."""
    if name not in query:
        return otherwise
    try:
        told = datetime.strptime(query[name], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        raise bad(f"{name} must be formatted as YYYY-MM-DDTHH:MM:SS") from None
    return told.timestamp()


def check_region(name: str) -> str:
    """One of the vendor's."""
    if name not in REGIONS:
        raise not_found(f"Region {name} does not exist")
    return name


def owned_thing(cloud: Cloud, call: Call, kind: str, id_: str, words: str) -> Thing:
    """The account's, by id, or the refusal."""
    thing = cloud.things.get((kind, id_))
    if thing is None or thing.account != call.owner.name or thing.ended_at is not None:
        raise not_found(f"{words} not found")
    return thing


def named_thing(cloud: Cloud, call: Call, kind: str, name: str) -> Thing | None:
    """The account's, by name."""
    things = cloud.live_things(call.owner.name, kind)
    return next((thing for thing in things if thing.name == name), None)
