"""NAME=VALUE lines, as .env files and --env-file hold them. Read, never executed.

Comments, `export`, 'literal' and "escaped" values are understood; nothing is expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$"}
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class Line(NamedTuple):
    """One line that says something: an assignment, or what is wrong with it."""

    number: int
    name: str
    value: str
    fault: str = ""
    """"" for an assignment. Never repeats a value."""


def lines(text: str) -> Iterator[Line]:
    """Every line but blank ones and comments, in order."""
    for number, line in enumerate(text.splitlines(), 1):
        plain = line.strip()
        if not plain or plain.startswith("#"):
            continue
        name, equals, value = plain.removeprefix("export ").partition("=")
        if not equals or not NAME.fullmatch(name.strip()):
            yield Line(number, "", "", "expected NAME=VALUE")
            continue
        try:
            yield Line(number, name.strip(), _value(value.strip()))
        except ValueError as error:
            yield Line(number, name.strip(), "", str(error))


def _value(text: str) -> str:
    if text[:1] not in {"'", '"'}:
        return re.split(r"\s#", text, maxsplit=1)[0].rstrip()
    quote, rest = text[0], text[1:]
    closing = re.search(r"'" if quote == "'" else r'(?<!\\)(?:\\\\)*"', rest)
    if closing is None:
        raise ValueError(f"the {quote} is not closed on its line")
    behind = rest[closing.end() :].strip()
    if behind and not behind.startswith("#"):
        raise ValueError(f"something stands behind the closing {quote}")
    inside = rest[: closing.end() - 1]
    if quote == "'":
        return inside
    return _ESCAPED.sub(lambda match: _ESCAPES.get(match[1], match[0]), inside)
