"""Thunder Compute's words: how it refuses, and how a call is read before it is carried out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import TypeVar
from uuid import uuid4

import msgspec
from msgspec import Struct
from starlette.responses import HTMLResponse, Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Refusal, answer
from gpubroker.sandbox.rented import Thing

INVALID = "invalid_request"
_WORDS = {
    400: INVALID,
    401: "unauthorized",
    404: "not_found",
    409: "conflict",
    429: "rate_limited",
    500: "internal_error",
}
_PUBLIC_KEY = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}( .*)?")

T = TypeVar("T", bound=Struct)


def error(status: int, message: str, word: str = "") -> Response:
    """The one form of every refusal; the status is told twice."""
    return answer({"code": status, "error": word or _WORDS[status], "message": message}, status)


def refusal(status: int, message: str, word: str = "") -> Refusal:
    """Likewise, to be raised."""
    return Refusal(error(status, message, word))


def invalid(message: str) -> Refusal:
    """400 for what is not as documented."""
    return refusal(400, message)


def banned() -> Refusal:
    """What stands before the API sends some programs away, in its own words."""
    return Refusal(HTMLResponse("<html><body>error code: 1010</body></html>", 403))


def check_query(call: Call, allowed: Collection[str] = ()) -> Mapping[str, str]:
    """The query's parameters, none unknown."""
    for name in call.request.query_params:
        if name not in allowed:
            raise invalid(f"unknown query parameter: {name}")
    return call.request.query_params


def no_body(call: Call) -> None:
    """For a call that takes none; an empty object is none."""
    check_query(call)
    if call.body not in (None, {}):
        raise invalid("no request body is expected")


def read_body(call: Call, type_: type[T]) -> T:
    """The body, of known fields alone and each as documented."""
    check_query(call)
    try:
        return msgspec.convert({} if call.body is None else call.body, type_)
    except msgspec.ValidationError as wrong:
        raise invalid(str(wrong)) from None


def check_public_key(text: str) -> str:
    """A line of an OpenSSH public key."""
    if not _PUBLIC_KEY.fullmatch(text.strip()):
        raise invalid("invalid SSH public key")
    return text.strip()


def new_id(_number: int) -> str:
    """A UUID."""
    return str(uuid4())


def moment(epoch_s: float) -> str:
    """A time of the vendor: whole seconds."""
    return datetime.fromtimestamp(int(epoch_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def owned_thing(cloud: Cloud, call: Call, kind: str, id_: str) -> Thing:
    """The account's, by id, or the refusal."""
    for thing in cloud.live_things(call.owner.name, kind):
        if thing.id == id_:
            return thing
    raise refusal(404, f"{kind.replace('_', ' ')} not found")
