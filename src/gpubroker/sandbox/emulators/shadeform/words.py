"""Shadeform's words: how it refuses, and how a call is read before it is carried out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID, uuid4, uuid5

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.model.money import usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Refusal, answer
from gpubroker.sandbox.rented import Account, Machine, Thing

_SPACE = UUID("5b1f6c0e-6d5f-4a43-9d11-6c4f3a1d2e90")

Tag = Annotated[str, Meta(min_length=1, max_length=255)]
Name = Annotated[str, Meta(min_length=1, max_length=255)]
T = TypeVar("T", bound=Struct)


class Env(Struct, forbid_unknown_fields=True):
    """An environment variable."""

    name: Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
    value: str


class Threshold(Struct, forbid_unknown_fields=True):
    """When to delete, or to warn: at a date, or once so many dollars were spent."""

    date_threshold: str | None = None
    spend_threshold: Annotated[str, Meta(pattern=r"^\d+(\.\d+)?$")] | None = None


def error(status: int, code: str, message: str) -> Response:
    """A business error; other refusals have a `message` alone."""
    return answer({"error_code": code, "error": message}, status)


def refusal(code: str, message: str, status: int = 409) -> Refusal:
    """Likewise, to be raised."""
    return Refusal(error(status, code, message))


def invalid(message: str) -> Refusal:
    """400 for what is not as documented."""
    return Refusal(answer({"message": message}, 400))


def not_found(what: str) -> Refusal:
    """404."""
    return refusal("NOT_FOUND", f"{what} not found", 404)


def done() -> Response:
    """200 with an empty body: there is nothing to parse."""
    return Response(status_code=200)


def check_query(call: Call, allowed: Collection[str] = ()) -> Mapping[str, str]:
    """The query's parameters, none unknown."""
    for name in call.request.query_params:
        if name not in allowed:
            raise invalid(f"unknown query parameter {name}")
    return call.request.query_params


def read_body(call: Call, type_: type[T]) -> T:
    """The body, of known fields alone and each as documented."""
    check_query(call)
    try:
        return msgspec.convert({} if call.body is None else call.body, type_)
    except msgspec.ValidationError as wrong:
        raise invalid(str(wrong)) from None


def no_body(call: Call) -> None:
    """For a call that takes none."""
    check_query(call)
    if call.body not in (None, {}):
        raise invalid("this call takes no body")


def new_id(_number: int) -> str:
    """A UUID."""
    return str(uuid4())


def stable_id(*words: str) -> str:
    """The same UUID for the same words."""
    return str(uuid5(_SPACE, "/".join(words)))


def moment(epoch_s: float | None) -> str | None:
    """A time of the vendor."""
    if epoch_s is None:
        return None
    stamp = datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="microseconds")
    return stamp.replace("+00:00", "Z")


def read_date(text: str) -> float:
    """Epoch seconds of an RFC 3339 date."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise invalid(f"date_threshold: {text!r} is not an RFC3339 date") from None
    if read.tzinfo is None:
        raise invalid("date_threshold: the time zone is missing")
    return read.timestamp()


def kept(value: Any) -> Any:
    """A field of a body for the record: what was not given is not there."""
    return None if value is None else strip(msgspec.to_builtins(value))


def strip(value: Any) -> Any:
    """Without the fields that are null."""
    if isinstance(value, dict):
        return {name: strip(one) for name, one in value.items() if one is not None}
    return [strip(one) for one in value] if isinstance(value, list) else value


def cost_text(one: Machine | Thing, now: float) -> str:
    """Dollars so far, as a decimal text."""
    return f"{usd(one.ledger.cost(now)):.2f}"


def owned_thing(cloud: Cloud, account: Account, kind: str, id_: str) -> Thing | None:
    """The account's, by id."""
    thing = cloud.things.get((kind, id_))
    if thing is None or thing.account != account.name or thing.ended_at is not None:
        return None
    return thing
