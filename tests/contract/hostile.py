"""Bodies by a vendor's own schemas: a plausible one, and what arrives of it on a hostile day.

No input, no output, no clock: the same seed makes the same bodies.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from itertools import chain
from random import Random
from typing import Any, cast

from msgspec import Struct

Path = tuple[str | int, ...]
Way = tuple[str, bytes | None, bool]
"""How a place is spoiled, what stands there then (None: nothing does), and whether lawfully."""
_NOTHING: Any = object()
_DEEPEST = 9
"""Schemas may hold themselves."""
_ELEMENTS = 2
"""Of a long list the others are like these."""
_WORDS: Mapping[str, str] = {
    "date": "2026-10-31",
    "date-time": "2026-10-31T09:30:00Z",
    "email": "someone@vendor.test",
    "hostname": "host.vendor.test",
    "ipv4": "203.0.113.7",
    "ipv6": "2001:db8::7",
    "uri": "https://vendor.test/x",
    "url": "https://vendor.test/x",
    "uuid": "5f0c8f1e-7a3d-4b52-9c3c-1d2e3f405162",
}


class Schemas:
    """The schemas of one document, as far as bodies can be made of them."""

    def __init__(self, raw: Mapping[str, Any], random: Random) -> None:
        self._raw, self._random = raw, random

    def plausible(self, schema: Any, like: Any = _NOTHING, depth: int = 0) -> Any:
        """A body of the schema with every field that it names.

        `like`: a recorded one, whose values win, and whose other fields stay.
        """
        if like is None or isinstance(like, str | int | float):
            return like
        told = self._whole(schema, like)
        kind = _kind(told, like)
        if kind == "object":
            return self._object(told, like if isinstance(like, dict) else {}, depth)
        if kind == "array":
            return self._array(told, like, depth)
        return self._scalar(told, kind)

    def _whole(self, schema: Any, like: Any) -> Mapping[str, Any]:
        """Without references and compositions."""
        if not isinstance(schema, dict):
            return {}
        if "$ref" in schema:
            at: Any = self._raw
            for step in cast("str", schema["$ref"]).removeprefix("#/").split("/"):
                at = at[step.replace("~1", "/")]
            return self._whole(at, like)
        parts = [self._whole(part, like) for part in schema.get("allOf", ())]
        for word in ("oneOf", "anyOf"):
            parts += [self._nearest(schema[word], like)] if schema.get(word) else []
        whole: dict[str, Any] = {}
        fields: dict[str, Any] = {}
        for part in (*parts, schema):
            fields |= part.get("properties", {})
            whole |= part
        if fields:
            whole["properties"] = fields
        return whole

    def _nearest(self, choices: list[Any], like: Any) -> Mapping[str, Any]:
        told = [self._whole(choice, like) for choice in choices]
        told = [one for one in told if one.get("type") != "null"] or told
        if not isinstance(like, dict):
            return self._random.choice(told)
        return max(told, key=lambda one: len(like.keys() & one.get("properties", {}).keys()))

    def _object(self, told: Mapping[str, Any], like: Mapping[str, Any], depth: int) -> Any:
        made = dict(like)
        if depth >= _DEEPEST:
            return made
        others = told.get("additionalProperties")
        for name in like:
            made[name] = self.plausible(others, like[name], depth + 1)
        for name, field in told.get("properties", {}).items():
            made[name] = self.plausible(field, like.get(name, _NOTHING), depth + 1)
        if isinstance(others, dict) and not like:
            made.setdefault("word", self.plausible(others, _NOTHING, depth + 1))
        return made

    def _array(self, told: Mapping[str, Any], like: Any, depth: int) -> list[Any]:
        if isinstance(like, list):
            return [self.plausible(told.get("items"), one, depth + 1) for one in like]
        if depth >= _DEEPEST:
            return []
        count = max(told.get("minItems", 0), min(_ELEMENTS, told.get("maxItems", _ELEMENTS)))
        return [self.plausible(told.get("items"), _NOTHING, depth + 1) for _ in range(count)]

    def _scalar(self, told: Mapping[str, Any], kind: str) -> Any:
        if "const" in told:
            return told["const"]
        if choices := [word for word in told.get("enum", ()) if word is not None]:
            return self._random.choice(choices)
        if kind == "boolean":
            return self._random.random() < 0.5
        if kind in {"integer", "number"}:
            low = told.get("minimum", 1)
            high = max(low, min(told.get("maximum", low + 8), low + 8))
            odd = self._random.uniform(low, high)
            return int(odd) if kind == "integer" else round(odd, 3)
        word = _WORDS.get(str(told.get("format")), f"text-{self._random.randrange(1000)}")
        return word[: told.get("maxLength", len(word))].ljust(told.get("minLength", 0), "x")


def _kind(told: Mapping[str, Any], like: Any) -> str:
    if like is not _NOTHING:
        return "object" if isinstance(like, dict) else "array"
    kind = told.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind is None and ("properties" in told or "additionalProperties" in told):
        kind = "object"
    return str(kind or ("array" if "items" in told else "string"))


class Hostile(Struct, frozen=True):
    """One body that is not as the vendor promised."""

    what: str
    body: bytes
    whole: bool = False
    """Nothing is left of the good one."""
    lawful: bool = False
    """The schema has nothing against it: rows left out, another word or number of that kind."""


def no_bodies(body: Any, random: Random) -> Iterator[Hostile]:
    """What is none at all, in any order; only an empty list or table may stand for one of rows."""
    names = list(_NO_BODIES)
    random.shuffle(names)
    empty = b"[]" if isinstance(body, list) else b"{}"
    table = isinstance(body, list | dict) and _table(body)
    for name in names:
        token = _NO_BODIES[name]
        yield Hostile(name, token, whole=True, lawful=table and token == empty)


def hostile(body: Any, random: Random) -> Iterator[Hostile]:
    """The body with one field spoiled: each field in its turn, and every time in another way."""
    yield Hostile("cut short", json.dumps(body).encode()[:-1])
    paths = list(_paths(body))
    random.shuffle(paths)
    ways: dict[Path, list[Way]] = {}
    while paths:
        for path in tuple(paths):
            if path not in ways:
                ways[path] = _ways(_at(body, path), path, row=_table(_at(body, path[:-1])))
            left = ways[path]
            name, token, lawful = left.pop(random.randrange(len(left)))
            if not left:
                paths.remove(path)
            spoiled = _spoiled(body, path, token)
            yield Hostile(f"{'.'.join(map(str, path))}: {name}", spoiled, lawful=lawful)


_DEEP = b"[" * 3000 + b"]" * 3000
_DEEP_OBJECTS = b'{"a":' * 3000 + b"1" + b"}" * 3000
_NO_BODIES: Mapping[str, bytes] = {
    "empty": b"",
    "null": b"null",
    "true": b"true",
    "a number": b"17",
    "a number that is none": b"NaN",
    "a word": b'"word"',
    "an empty list": b"[]",
    "an empty object": b"{}",
    "a list of nulls": b"[null, null]",
    "a list of lists": b"[[], [[]]]",
    "a web page": b"<!doctype html><title>502 Bad Gateway</title>",
    "no UTF-8": b'{"\xff\xfe": "\xc3\x28"}',
    "UTF-16": '{"id": 1}'.encode("utf-16"),
    "half a character": b'"\\ud800"',
    "lists without end": b"[" * 100_000,
    "lists in lists": _DEEP,
    "objects in objects": _DEEP_OBJECTS,
    "two bodies": b"{}{}",
}
_TOKENS: Mapping[str, bytes] = {
    "null": b"null",
    "true": b"true",
    "0": b"0",
    "-1": b"-1",
    "half": b"0.5",
    "1e300": b"1e300",
    "1e999": b"1e999",
    "-1e999": b"-1e999",
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "2**63": b"9223372036854775808",
    "2**64": b"18446744073709551616",
    "400 digits": b"9" * 400,
    "5000 digits": b"9" * 5000,
    "no text": b'""',
    "odd text": b'"odd\\u0000text/../\\u202e"',
    "half a character": b'"\\ud800"',
    "no UTF-8": b'"\xff\xfe"',
    "a long text": b'"' + b"long " * 5000 + b'"',
    "the end of time": b'"9999-12-31T23:59:59-23:59"',
    "before all time": b'"0001-01-01T00:00:00+23:59"',
    "a time without zone": b'"2026-10-31T09:30:00"',
    "NaN as text": b'"NaN"',
    "infinity as text": b'"1e999"',
    "-1 as text": b'"-1"',
    "400 digits as text": b'"' + b"9" * 400 + b'"',
    "an empty list": b"[]",
    "an empty object": b"{}",
    "a list of null": b"[null]",
    "a list of itself": b"[[[]]]",
    "objects as rows": b'[{"a": []}, 7, "word"]',
    "a field nobody knows": b'{"unknown": {"a": [null]}}',
    "many nulls": b"[" + b"null," * 2000 + b"null]",
    "lists in lists": _DEEP,
    "objects in objects": _DEEP_OBJECTS,
}
_LAWFUL: Mapping[type, tuple[str, ...]] = {
    str: tuple(
        name
        for name, token in _TOKENS.items()
        if token[:1] == b'"' and name not in {"no UTF-8", "half a character"}
    ),
    int: ("0", "half"),
    float: ("0", "half"),
    bool: ("true",),
    list: ("an empty list",),
    dict: ("an empty object",),
}
"""Of what stands there -> what is of its type all the same."""
_TWICE = ("null", "-1", "1e300", "odd text", "an empty list")


def _table(value: Any) -> bool:
    """Whether its children are rows, which may be fewer: each under its name, or in a list."""
    return isinstance(value, list) or all(isinstance(row, dict) for row in value.values())


def _ways(value: Any, path: Path, *, row: bool) -> list[Way]:
    """Every way to spoil what stands at a place."""
    usual = _LAWFUL.get(type(value), ())
    ways: list[Way] = [
        (name, token, name in usual or value is None) for name, token in _TOKENS.items()
    ]
    ways.append(("missing", None, row))
    good = json.dumps(value).encode()
    if isinstance(value, int | float) and not isinstance(value, bool):
        ways.append(("as text", b'"' + good + b'"', False))
        ways.append(("as text with a unit", b'"$' + good + b'/h"', False))
    if isinstance(value, str) and _number(value):
        ways = [(name, token, lawful or name in {"0", "half"}) for name, token, lawful in ways]
        ways.append(("as a number", value.strip().encode(), False))
    if isinstance(value, dict):
        more = b'"__proto__": {}, "": null, "unknown": ' + _DEEP
        ways.append(("more fields", good[:-1] + (b", " if value else b"") + more + b"}", False))
    if isinstance(value, list):
        ways.append(("each twice", json.dumps(value + value).encode(), False))
        ways.append(("and null", json.dumps([*value, None]).encode(), False))
    if isinstance(path[-1], str):
        name = json.dumps(path[-1]).encode()
        for other in _TWICE:
            first = _TOKENS[other] + b"," + name + b":" + good
            last = good + b"," + name + b":" + _TOKENS[other]
            ways.append((f"first {other}", first, False))
            ways.append((f"then {other}", last, other in usual))
    return ways


def _number(text: str) -> bool:
    whole, _, part = text.strip().partition(".")
    plain = whole.isascii() and whole.isdigit() and (whole == "0" or whole[0] != "0")
    return plain and (not part or (part.isascii() and part.isdigit()))


def _paths(value: Any, above: Path = ()) -> Iterator[Path]:
    if above:
        yield above
    inner: Iterator[tuple[str | int, Any]] = iter(())
    if isinstance(value, dict):
        inner = chain(value.items())
    elif isinstance(value, list):
        inner = chain(enumerate(value[:_ELEMENTS]))
    for name, child in inner:
        yield from _paths(child, (*above, name))


def _at(body: Any, path: Path) -> Any:
    for step in path:
        body = body[step]
    return body


_MARK = "\ufff9the spoiled\ufffb"


def _spoiled(body: Any, path: Path, token: bytes | None) -> bytes:
    """Text, not values: what is no JSON, and names that stand twice, are wanted too."""
    changed = _copied(body, path)
    inner = _at(changed, path[:-1])
    if token is None:
        del inner[path[-1]]
        return json.dumps(changed).encode()
    inner[path[-1]] = _MARK
    return json.dumps(changed).encode().replace(json.dumps(_MARK).encode(), token, 1)


def _copied(body: Any, path: Path) -> Any:
    """As deep as the path goes; all else is the same objects."""
    changed = copy.copy(body)
    inner = changed
    for step in path[:-1]:
        inner[step] = copy.copy(inner[step])
        inner = inner[step]
    return changed
