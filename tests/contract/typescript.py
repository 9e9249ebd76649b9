"""Types that openapi-typescript made of an OpenAPI document, read back as such a document.

For vendors who publish the types and not the document. Read is what that generator writes:
interfaces of object types, arrays, unions, literals, and places in other interfaces.
"""

from __future__ import annotations

import re
from typing import Any

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z_]\w*|\d+|\S')
_SIMPLE: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
    "undefined": {"not": {}},
    "never": {"not": {}},
    "true": {"const": True},
    "false": {"const": False},
    "Date": {"type": "string", "format": "date-time"},
}
_JSON = "application/json"
Schema = dict[str, Any]


class _Reader:
    """Types as JSON Schema; a place in another interface as {"at": [interface, name, …]}."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = [*_TOKEN.findall(_COMMENT.sub("", text)), ""]
        self._next = 0

    def interfaces(self) -> dict[str, Schema]:
        """Each `interface NAME {…}`; one that is cut short by its own second beginning is not."""
        found: dict[str, Schema] = {}
        while self._next < len(self._tokens):
            if self._take() != "interface":
                continue
            name = self._take()
            if self._tokens[self._next + 1] != "export":
                found[name] = self._type()
        return found

    def _take(self) -> str:
        self._next += 1
        return self._tokens[self._next - 1]

    def _takes(self, token: str) -> bool:
        there = self._tokens[self._next] == token
        self._next += there
        return there

    def _must(self, token: str) -> None:
        got = self._take()
        assert got == token, f"{token} expected at {self._tokens[self._next - 5 : self._next + 5]}"

    def _type(self) -> Schema:
        self._takes("|")
        parts = [self._part()]
        while self._takes("|"):
            parts.append(self._part())
        return parts[0] if len(parts) == 1 else {"anyOf": parts}

    def _part(self) -> Schema:
        self._takes("readonly")
        told = self._single()
        while self._takes("["):
            if self._takes("]"):
                told = {"type": "array", "items": told}
            else:
                told = {"at": [*told["at"], self._name()]}
                self._must("]")
        return told

    def _single(self) -> Schema:
        if self._takes("("):
            told = self._type()
            self._must(")")
            return told
        if self._takes("{"):
            return self._object()
        word = self._take()
        if word.startswith('"'):
            return {"const": word[1:-1]}
        if self._takes("<"):
            # Record<string, …>
            while not self._takes(">"):
                self._next += 1
            return {"type": "object"}
        return _SIMPLE.get(word, {"at": [word]})

    def _name(self) -> str:
        return self._take().strip('"')

    def _object(self) -> Schema:
        told: Schema = {"type": "object"}
        while not self._takes("}"):
            self._takes("readonly")
            if self._takes("["):
                while not self._takes("]"):
                    self._next += 1
                self._must(":")
                told["additionalProperties"] = self._type()
            else:
                name, optional = self._name(), self._takes("?")
                self._must(":")
                told.setdefault("properties", {})[name] = self._type()
                told.setdefault("required", []).extend([] if optional else [name])
            self._must(";")
        return told


def openapi_of(text: str) -> dict[str, Any]:
    """The document's paths, with the query, the body and the answers of each call."""
    known = _Reader(text).interfaces()

    def resolved(told: Schema) -> Schema:
        while "at" in told:
            first, *rest = told["at"]
            told = known[first]
            for name in rest:
                told = told["properties"][name]
        return told

    def in_json(told: Schema) -> dict[str, Any]:
        content = resolved(told)["properties"]["content"]["properties"]
        return {"content": {_JSON: {"schema": content[_JSON]}}}

    def call(told: Schema) -> dict[str, Any]:
        parts = resolved(told)["properties"]
        answers = parts["responses"]["properties"]
        made: dict[str, Any] = {
            "responses": {status: in_json(one) for status, one in answers.items()}
        }
        if "requestBody" in parts:
            made["requestBody"] = in_json(parts["requestBody"])
        query = parts.get("parameters", {}).get("properties", {}).get("query", {})
        made["parameters"] = [
            {"name": name, "in": "query", "required": name in query["required"], "schema": one}
            for name, one in query.get("properties", {}).items()
        ]
        return made

    paths = known["paths"]["properties"].items()
    return {
        "paths": {
            path: {method: call(one) for method, one in methods["properties"].items()}
            for path, methods in paths
        }
    }
