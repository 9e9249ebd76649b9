"""SaladCloud's words: how it refuses, and how a call is read before it is carried out."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TypeVar
from uuid import uuid4

import msgspec
from msgspec import Struct
from starlette.responses import HTMLResponse, Response

from gpubroker.sandbox.emulators.base import Call, Limit, Refusal, answer

CALLS = Limit("calls", 0.25, burst=240)
"""240 requests a minute for each key (SaladCloud docs, rate limits)."""
_PER_MINUTE = 10
REALLOCATIONS, RECREATIONS, RESTARTS = (
    Limit(name, 60 / _PER_MINUTE, burst=_PER_MINUTE)
    for name in ("reallocate", "recreate", "restart")
)
REPLICAS_QUOTA = 500
JSON, MERGE_PATCH = "application/json", "application/merge-patch+json"
NAME = "^[a-z][a-z0-9-]{0,61}[a-z0-9]$"
"""Of organizations, projects and container groups."""

T = TypeVar("T", bound=Struct)


def problem(status: int, detail: str, instance: str = "") -> Response:
    """RFC 7807; no field of it is certain."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    return answer(body | ({"instance": instance} if instance else {}), status)


def page(status: int) -> Response:
    """Some errors are web pages (SaladCloud docs, errors)."""
    title = f"{status} {HTTPStatus(status).phrase}"
    text = f"<!doctype html><html><head><title>{title}</title></head><body>{title}</body></html>"
    return HTMLResponse(text, status)


def refusal(status: int, detail: str) -> Refusal:
    """A problem, to be raised."""
    return Refusal(problem(status, detail))


def invalid(detail: str) -> Refusal:
    """400."""
    return refusal(400, detail)


def not_found(detail: str) -> Refusal:
    """404."""
    return refusal(404, detail)


def no_query(call: Call) -> None:
    """For a call that takes none."""
    for name in call.request.query_params:
        raise invalid(f"The query parameter '{name}' is unknown.")


def no_body(call: Call) -> None:
    """For a call that takes none; the vendor's own client sends an empty object."""
    no_query(call)
    if call.body not in (None, {}):
        raise invalid("No request body is expected.")


def read_body(call: Call, type_: type[T], media_type: str = JSON) -> T:
    """The body, of known fields alone and each as documented."""
    no_query(call)
    told = call.request.headers.get("content-type", "").partition(";")[0]
    if told != media_type:
        raise refusal(415, f"The content type must be {media_type}.")
    try:
        return msgspec.convert(call.body, type_)
    except msgspec.ValidationError as wrong:
        raise invalid(str(wrong)) from None


def new_id(_number: int = 0) -> str:
    """A UUID."""
    return str(uuid4())


def moment(epoch_s: float) -> str:
    """A time of the vendor."""
    stamp = datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")
