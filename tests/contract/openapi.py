"""A vendor's OpenAPI document as a judge: unknown fields closed, every deviation named."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import httpx2
from jsonschema import (  # type: ignore[import-untyped]  # it ships no types
    Draft202012Validator,
)

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

_COMPOSED = {"allOf", "anyOf", "oneOf"}
_JSON = "application/json"


def closed(schema: Any, *, part: bool = False) -> Any:
    """The schema with every object that lists its properties closed to others.

    `part`: of a composition, which is closed as a whole, at the place of its use.
    """
    if not isinstance(schema, dict):
        return schema
    tight = _of_json_schema(schema)
    for word in _COMPOSED & tight.keys():
        tight[word] = [closed(one, part=True) for one in tight[word]]
    if "properties" in tight:
        tight["properties"] = {name: closed(one) for name, one in tight["properties"].items()}
    for word in {"items", "additionalProperties"} & tight.keys():
        tight[word] = closed(tight[word])
    if not part and {*_COMPOSED, "properties", "$ref"} & tight.keys():
        tight.setdefault("unevaluatedProperties", False)
    return {"anyOf": [tight, {"type": "null"}]} if tight.pop("nullable", False) else tight


def _of_json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What OpenAPI 3.0 says in its own way, in JSON Schema's."""
    told = {word: value for word, value in schema.items() if word not in {"example", "examples"}}
    # YAML 1.1 reads the word `off` as false, and published documents have it so.
    if False in told.get("enum", ()) and told.get("type") == "string":
        told["enum"] = ["off" if word is False else word for word in told["enum"]]
    for limit in ("Minimum", "Maximum"):
        if isinstance(told.get(f"exclusive{limit}"), bool) and told.pop(f"exclusive{limit}"):
            told[f"exclusive{limit}"] = told.pop(limit.lower())
    return told


class Document:
    """One document. A path is told as it stands in there, without the servers' part.

    `more`: schema -> fields that its objects have beside the document's, with a reason at their
    place of definition; a field that the document has after all is an error. A mapping tells
    their forms as well. `refusal`: the schema of refusals that the document forgets.
    """

    def __init__(
        self,
        raw: Mapping[str, Any],
        more: Mapping[str, Sequence[str] | Mapping[str, Any]] | None = None,
        refusal: str = "",
    ) -> None:
        self.raw, self._refusal = raw, refusal
        schemas = raw.get("components", {}).get("schemas", {}) or raw.get("definitions", {})
        whole = dict(schemas)
        for name, fields in (more or {}).items():
            has = whole[name].get("properties", {})
            assert not set(fields) & has.keys(), (
                f"{name}: the document has {set(fields) & set(has)}"
            )
            forms = fields if isinstance(fields, Mapping) else dict.fromkeys(fields, True)
            whole[name] = {**whole[name], "properties": {**has, **forms}}
        parts = {name: closed(one, part=True) for name, one in whole.items()}
        self._parts = {"components": {"schemas": parts}, "definitions": parts}

    def path_of(self, method: str, path: str) -> str:
        """As in the document; KeyError where it knows no such call. Fixed words win over ids."""
        fits = [
            known
            for known, methods in self.raw["paths"].items()
            if method.lower() in methods
            and re.fullmatch(re.sub(r"\\\{[^/]+?\\\}", "[^/]+", re.escape(known)), path)
        ]
        if not fits:
            raise KeyError(f"{method} {path}")
        return str(min(fits, key=lambda known: known.count("{")))

    def calls(self) -> set[str]:
        """Every `METHOD /path` of the document."""
        methods = {"get", "put", "post", "delete", "patch"}
        return {
            f"{method.upper()} {path}"
            for path, known in self.raw["paths"].items()
            for method in methods & known.keys()
        }

    def faults(self, schema: Any, body: Any) -> Iterator[tuple[str, str]]:
        """(field, what is wrong) of a body."""
        checker = Draft202012Validator(
            {**closed(schema), **self._parts}, format_checker=Draft202012Validator.FORMAT_CHECKER
        )
        for error in checker.iter_errors(body):
            named = [str(part) for part in error.absolute_path if not isinstance(part, int)]
            yield named[-1] if named else "", f"{error.json_path}: {error.message[:300]}"

    def faults_of_answer(
        self, method: str, path: str, status: int, body: Any
    ) -> Iterator[tuple[str, str]]:
        """(field, what is wrong) of an answer; `path`: real, or as in the document."""
        known = path if path in self.raw["paths"] else self.path_of(method, path)
        answers = self.raw["paths"][known][method.lower()]["responses"]
        told = answers.get(str(status)) or answers.get(status) or answers.get("default")
        if told is None:
            yield "", f"HTTP {status} is not in the document"
            if self._refusal and status >= HTTPStatus.BAD_REQUEST:
                yield from self.faults({"$ref": f"#/components/schemas/{self._refusal}"}, body)
            return
        told = self._resolved(told)
        schema = self._schema_of(told)
        if schema is not None:
            yield from self.faults(schema, body)
        elif body and not told.keys() & {"content", "schema"}:
            yield "", "a body where the document has none"

    def schema_of_answer(self, method: str, path: str, status: int) -> Any:
        """None where the document tells no form; KeyError where it knows no such call."""
        known = self.path_of(method, path)
        answers = self.raw["paths"][known][method.lower()]["responses"]
        told = answers.get(str(status)) or answers.get(status) or answers.get("default")
        return self._schema_of(self._resolved(told)) if told else None

    def faults_of_request(self, request: httpx2.Request, path: str) -> Iterator[tuple[str, str]]:
        """(field, what is wrong) of a request to `path`, real or as in the document."""
        known = path if path in self.raw["paths"] else self.path_of(request.method, path)
        item = self.raw["paths"][known]
        call = item[request.method.lower()]
        parameters = [
            self._resolved(one)
            for one in (*item.get("parameters", ()), *call.get("parameters", ()))
        ]
        yield from self._faults_of_query(parameters, request)
        in_body = next((one for one in parameters if one["in"] == "body"), None)
        asked = in_body or self._resolved(call.get("requestBody") or {})
        schema = self._schema_of(asked)
        if schema is not None and (request.content or asked.get("required")):
            yield from self.faults(schema, json.loads(request.content or b"null"))
        elif request.content and schema is None:
            yield "", "a body where the document has none"

    def _faults_of_query(
        self, parameters: Sequence[Mapping[str, Any]], request: httpx2.Request
    ) -> Iterator[tuple[str, str]]:
        listed = {one["name"]: one for one in parameters if one["in"] == "query"}
        for name, value in request.url.params.items():
            if name not in listed:
                yield name, "is not in the document's query"
                continue
            schema = listed[name].get("schema") or {"type": listed[name].get("type", "string")}
            told = [value, value.split(",")]
            told += [json.loads(value)] if re.fullmatch(r"-?\d+(\.\d+)?|true|false", value) else []
            wrong = [list(self.faults(schema, one)) for one in told]
            if all(wrong):
                yield name, wrong[0][0][1]
        for name in listed.keys() - set(request.url.params):
            if listed[name].get("required"):
                yield name, "is required in the query"

    def _resolved(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in told:
            at: Any = self.raw
            for part in cast("str", told["$ref"]).removeprefix("#/").split("/"):
                at = at[part.replace("~1", "/")]
            told = at
        return told

    @staticmethod
    def _schema_of(told: Mapping[str, Any]) -> Any:
        """None where the document tells no form."""
        contents: Mapping[str, Any] = told.get("content", {})
        usual: Mapping[str, Any] = contents.get(_JSON) or next(
            (one for kind, one in contents.items() if "json" in kind), {}
        )
        return usual.get("schema", told.get("schema"))


class Conversation:
    """Calls of an emulator, each with its answer and what the document says against it.

    `root`: what stands before the document's paths. `headers` carry the key; may be changed.
    `pause_s`: passes before each call, at clouds that count them; may be changed.
    """

    def __init__(
        self,
        served: Served,
        document: Document,
        root: str,
        headers: Mapping[str, str],
        pause_s: float = 0,
    ) -> None:
        self.served, self.document, self.root = served, document, root
        self.headers, self.pause_s = dict(headers), pause_s
        self.said: list[tuple[str, httpx2.Response]] = []
        """("METHOD /path", its answer), in turn."""
        self.found: dict[tuple[str, str], str] = {}
        """("METHOD /path status", field) -> what the document says against it."""
        self.succeeded: set[str] = set()
        """"METHOD /path" of the calls that were answered 2xx."""

    async def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """What is answered: JSON where it is some, else text."""
        more["headers"] = {**self.headers, **more.get("headers", {})}
        if body is not None:
            more["json"] = body
        if self.pause_s:
            await self.served.advance(self.pause_s)
        answer = await self.served.http.request(method, f"{self.root}{path}", **more)
        told: Any = answer.text
        if "json" in answer.headers.get("content-type", ""):
            told = answer.json()
        known = self.document.path_of(method, path.partition("?")[0])
        call = f"{method} {known}"
        self.said.append((call, answer))
        if answer.is_success:
            self.succeeded.add(call)
        for field, wrong in self.document.faults_of_answer(method, known, answer.status_code, told):
            self.found.setdefault((f"{call} {answer.status_code}", field), wrong)
        return told

    async def fault(self, operation: str, kind: str, **more: Any) -> None:
        """Once, of this emulator."""
        provider = self.root.strip("/").split("/")[0]
        body = {"provider": provider, "operation": operation, "kind": kind, "times": 1, **more}
        await self.served.control("POST", "faults", body)

    def agrees_but_for(self, deviations: Mapping[tuple[str, str], str]) -> None:
        """Fails on what no row explains, and on rows that explain nothing any more."""
        unexplained = {key: wrong for key, wrong in self.found.items() if key not in deviations}
        assert not unexplained, "\n".join(f"{key}: {wrong}" for key, wrong in unexplained.items())
        assert not deviations.keys() - self.found.keys(), "no deviation any more"
