"""What goes over the wire and what is shown of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading a body raises: text that is no UTF-8 is told in Python's own way."""


class Answer(Struct, frozen=True):
    """What came back, whatever its status. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    asked_at: datetime
    """Before the request was sent."""
    hidden: tuple[str, ...] = ()
    """Secrets of the request, which a vendor may repeat: no error of this answer shows them."""

    def __repr__(self) -> str:
        return f"Answer({self.status}, {len(self.body)} bytes)"

    @property
    def ok(self) -> bool:
        """A status of 2xx; some vendors say failure in its body all the same."""
        return 200 <= self.status < 300  # noqa: PLR2004 - HTTP's own classes


class Exchange(Struct, frozen=True, kw_only=True):
    """One request and what became of it, secrets removed: for traces and recordings."""

    operation: str
    method: str
    url: str
    request_headers: Mapping[str, str]
    request_body: str
    status: int | None = None
    headers: Mapping[str, str] = {}
    body: str = ""
    seconds: float
    outcome: str
    """"answered" or the word of the error."""


_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Of a character beyond the first plane, which JSON may write as two."""
Observer = Callable[[Exchange], None]


def trace_lines(write: Callable[[str], None]) -> Observer:
    """An observer that writes each exchange as a few lines of text (`--trace-http`)."""

    def observe(exchange: Exchange) -> None:
        status = exchange.status if exchange.status is not None else exchange.outcome
        write(f"{exchange.method} {exchange.url} -> {status} in {exchange.seconds:.3f}s")
        if exchange.request_body:
            write(f"  > {exchange.request_body}")
        if exchange.body:
            write(f"  < {exchange.body}")

    return observe


def tolerant_json(body: bytes) -> Any:
    """JSON as lax readers take it (NaN, very deep nesting refused): ValueError where it is none.

    What is no character is replaced: a half of one could never be written down again.
    """
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    try:
        decoded = json.loads(text)
        if _HALF.search(text):
            decoded = json.loads(json.dumps(decoded, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("nested too deep") from None
    return decoded
