"""DigitalOcean's words: how it refuses, how a call is read, and how lists are paged."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
from msgspec import Struct
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Emulator, Limit, Refusal, answer
from gpubroker.sandbox.rented import Account

PER_HOUR = Limit("hour", 0.71875, burst=5000)
PER_MINUTE = Limit("minute", 0.234375, burst=250)
"""5,000 an hour and 250 a minute, in fractions that add up without rounding."""
KEY_LISTS = Limit("keys", 6.0, burst=10)
"""Ten lists of the keys in 60 s."""

PENDING_EVENT = "Droplet already has a pending event."
NO_CAPACITY = "Size is not available in this region."
QUOTA = "creating this/these droplet(s) will exceed your droplet limit"

REGIONS: Mapping[str, str] = {
    "nyc1": "New York 1",
    "nyc2": "New York 2",
    "nyc3": "New York 3",
    "sfo3": "San Francisco 3",
    "tor1": "Toronto 1",
    "atl1": "Atlanta 1",
    "ams3": "Amsterdam 3",
    "ric1": "Richmond 1",
    "lon1": "London 1",
    "fra1": "Frankfurt 1",
    "sgp1": "Singapore 1",
    "blr1": "Bangalore 1",
    "syd1": "Sydney 1",
}
_TEXTS: Mapping[str, tuple[int, str]] = {
    "bad_request": (400, "error parsing request body"),
    "unauthorized": (401, "Unable to authenticate you."),
    "forbidden": (403, "You are not authorized to perform this operation"),
    "not_found": (404, "The resource you requested could not be found."),
    "method_not_allowed": (405, "The method is not allowed for this resource."),
    "conflict": (409, "The request could not be completed due to a conflict."),
    "unprocessable_entity": (422, "The request could not be processed."),
    "too_many_requests": (429, "API rate limit exceeded."),
    "server_error": (500, "Unexpected server-side error"),
}
"""By `id`, which mirrors the status."""
_PER_PAGE, _MOST_PER_PAGE = 20, 200
_SPOILT = ("list", "offers")
"""Operations whose lists faults befall."""

T = TypeVar("T", bound=Struct)


def error(id_: str, message: str = "", *, status: int | None = None) -> Response:
    """The one form of every refusal."""
    usual_status, usual = _TEXTS[id_]
    status = status or usual_status
    digest = hashlib.sha256(f"{id_}/{message}".encode()).digest()
    body = {"id": id_, "message": message or usual, "request_id": str(UUID(bytes=digest[:16]))}
    return answer(body, status)


def refusal(id_: str, message: str = "") -> Refusal:
    """Likewise, to be raised."""
    return Refusal(error(id_, message))


def unprocessable(message: str) -> Refusal:
    """422 for what is read but cannot be done."""
    return refusal("unprocessable_entity", message)


def not_found() -> Refusal:
    """404 in the vendor's own words."""
    return refusal("not_found")


def no_content() -> Response:
    """204."""
    return Response(status_code=204)


def check_query(call: Call, allowed: Collection[str] = ()) -> Mapping[str, str]:
    """The query's parameters, none unknown."""
    for name in call.request.query_params:
        if name not in allowed:
            raise unprocessable(f"{name} is not a valid query parameter")
    return call.request.query_params


def read_body(call: Call, type_: type[T], allowed: Collection[str] = ()) -> T:
    """The body, of known fields alone and each as documented; `allowed` are query parameters."""
    check_query(call, allowed)
    if call.body is None:
        raise refusal("bad_request")
    try:
        return msgspec.convert(call.body, type_)
    except msgspec.ValidationError as wrong:
        raise unprocessable(str(wrong)) from None


def no_body(call: Call, allowed: Collection[str] = ()) -> Mapping[str, str]:
    """For a call that takes none: its query."""
    if call.body not in (None, {}):
        raise refusal("bad_request", "this call takes no body")
    return check_query(call, allowed)


PAGED = ("page", "per_page")


def page_of(call: Call) -> tuple[int, int]:
    """Number of the page, from 1, and how many rows it has; more than 200 are 200."""
    numbers = []
    for name, otherwise in (("page", 1), ("per_page", _PER_PAGE)):
        text = call.request.query_params.get(name, str(otherwise))
        if not (text.isascii() and text.isdigit()) or int(text) < 1:
            raise unprocessable(f"{name} must be a positive integer")
        numbers.append(int(text))
    return numbers[0], min(numbers[1], _MOST_PER_PAGE)


def paged(api: Emulator, call: Call, name: str, rows: Sequence[Any], **more: Any) -> Response:
    """A page of a list, with links to the others where there are any."""
    page, per_page = page_of(call)
    last = max(1, -(-len(rows) // per_page))
    shown = list(rows[(page - 1) * per_page : page * per_page])
    faults = api.cloud.faults
    if call.operation in _SPOILT and faults.take(call.operation, "duplicate_list"):
        shown = [row for row in shown for _ in range(2)]
    if call.operation in _SPOILT and faults.take(call.operation, "list_partial"):
        # The total still counts the rows that were lost.
        shown = shown[: len(shown) // 2]
    links: dict[str, Any] = {}
    if last > 1:
        numbers: dict[str, int] = {}
        if page > 1:
            numbers |= {"first": 1, "prev": page - 1}
        if page < last:
            numbers |= {"next": page + 1, "last": last}
        links["pages"] = {word: _link(api, call, number) for word, number in numbers.items()}
    return answer({name: shown, "links": links, "meta": {"total": len(rows)}, **more})


def _link(api: Emulator, call: Call, page: int) -> str:
    query = {**call.request.query_params, "page": str(page)}
    path = call.request.scope["path"].removeprefix(call.request.scope.get("root_path", ""))
    return f"{api.base_url}{path}?{urlencode(query)}"


def moment(epoch_s: float) -> str:
    """A time of the vendor: whole seconds."""
    return datetime.fromtimestamp(int(epoch_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def uuid_of(*words: str) -> str:
    """The same for the same words."""
    return str(uuid5(NAMESPACE_URL, "/".join(("digitalocean", *words))))


def team_of(account: Account) -> str:
    """The uuid of the account's team."""
    return uuid_of(account.name, "team")


def check_region(slug: str) -> str:
    """One of the vendor's."""
    if slug not in REGIONS:
        raise unprocessable("You specified an invalid region.")
    return slug
