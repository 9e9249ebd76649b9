"""GraphQL over the one transport: fixed documents with variables, failures told inside a 200."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Struct

from gpubroker.providers.exchange import UNREADABLE, tolerant_json

if TYPE_CHECKING:
    from gpubroker.providers.rest import RestCloud

Data = TypeVar("Data")
PATH = "/graphql"
_NOTHING = msgspec.Raw(b"null")


class _Told(Struct):
    """Any answer. `errors` may stand beside data that is partly there."""

    data: msgspec.Raw = _NOTHING
    errors: tuple[Mapping[str, Any], ...] | None = None


def has_errors(body: bytes) -> bool:
    """Whether an answer tells failures, beside data or instead of it."""
    return b'"errors"' in body and bool(_told(body).errors)


def data_of(body: bytes) -> bytes:
    """What stands under `data`; `null` where nothing does."""
    return bytes(_told(body).data)


def _told(body: bytes) -> _Told:
    try:
        return msgspec.json.decode(body, type=_Told)
    except UNREADABLE:
        return _tolerated(body)


def _tolerated(body: bytes) -> _Told:
    """Of an answer with a number that is none: its row is to be put aside, and no other."""
    try:
        decoded = tolerant_json(body)
    except ValueError:
        return _Told()
    if not isinstance(decoded, dict):
        return _Told()
    errors = decoded.get("errors")
    failures = [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else ()
    data = json.dumps(decoded.get("data")).encode()
    return _Told(msgspec.Raw(data), tuple(failures))


async def query(
    cloud: RestCloud,
    operation: str,
    document: str,
    shape: type[Data],
    variables: Mapping[str, Any] | None = None,
    *,
    under: str = "",
    hide: Sequence[str] = (),
) -> Data:
    """One document and the data of its answer: all of it, or what stands there `under` a key.

    Values go in `variables`, never into the document. `hide`: those of them that are secrets.
    """
    body = payload(document, variables)
    told = f"data.{under}" if under else "data"
    return await cloud.ask_for(shape, operation, "POST", PATH, body, under=told, hide=hide)


def payload(document: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The body of a request."""
    return {"query": document} | ({"variables": dict(variables)} if variables else {})
