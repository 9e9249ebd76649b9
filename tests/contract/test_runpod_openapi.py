"""RunPod's own OpenAPI document of REST v2, unknown fields closed, as the judge of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from jsonschema import (  # type: ignore[import-untyped]  # it ships no types
    Draft202012Validator,
)

from gpubroker.sandbox.emulators.runpod.api import RunPod

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

pytestmark = pytest.mark.judge
V2 = "/runpod/v2"
GPU = "NVIDIA GeForce RTX 4090"
A_KEY = "ssh-ed25519 AAAAC3Nza me"
NOT_IN_THE_DOCUMENT = {"GET /v2/openapi.json"}
EVENTS = "GET /v2/pods/{id}/logs 200"
"""Server-sent events: no JSON, and no schema."""

ANSWERS: dict[tuple[str, str], str] = {}
"""(operation and status, field): why the emulator says something else than the document."""


def closed(schemas: dict[str, Any], schema: Any) -> Any:
    """The schema with every object that lists its properties closed to others."""
    if isinstance(schema, list):
        return [closed(schemas, item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tight = {name: closed(schemas, value) for name, value in schema.items()}
    if "properties" in schema or "allOf" in schema:
        tight.setdefault("unevaluatedProperties", False)
    return tight


def opened(schema: Any) -> Any:
    """A part of a composition: only the whole is closed."""
    if isinstance(schema, dict):
        return {
            name: [_without_end(part) for part in value] if name == "allOf" else opened(value)
            for name, value in schema.items()
        }
    return [opened(item) for item in schema] if isinstance(schema, list) else schema


def _without_end(part: Any) -> Any:
    kept = {name: value for name, value in part.items() if name != "unevaluatedProperties"}
    return opened(kept)


def inlined(schemas: dict[str, Any], schema: Any) -> Any:
    """References replaced by what they name: closing must know what a part is a part of."""
    if isinstance(schema, list):
        return [inlined(schemas, item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        named = schemas[schema["$ref"].rpartition("/")[2]]
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        return inlined(schemas, {**named, **rest} if rest else named)
    return {name: inlined(schemas, value) for name, value in schema.items()}


def faults_in(document: dict[str, Any], operation: str, body: Any) -> Iterator[tuple[str, str]]:
    """(field, what is wrong) of an answer; `operation` is `GET /v2/pods 200`."""
    method, path, status = operation.split()
    answers = document["paths"][path][method.lower()]["responses"]
    found = answers.get(status, answers["default"])
    if "$ref" in found:
        found = document["components"]["responses"][found["$ref"].rpartition("/")[2]]
    schemas = document["components"]["schemas"]
    if "content" not in found:
        if body is not None:
            yield "", "has a body"
        return
    (content,) = found["content"].values()
    schema = opened(closed(schemas, inlined(schemas, content["schema"])))
    for error in Draft202012Validator(schema).iter_errors(body):
        named = [str(part) for part in error.absolute_path if not isinstance(part, int)]
        yield named[-1] if named else "", error.message


class Conversation:
    """Calls of the emulator, each with the document's name for its path."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.said: list[tuple[str, httpx2.Response]] = []

    async def __call__(
        self, spec_path: str, method: str, path: str, body: Any = None, **more: Any
    ) -> Any:
        await self.served.advance(5)
        answer = await self.served.ask(method, f"{V2}{path}", body, **more)
        self.said.append((f"{method} /v2{spec_path} {answer.status_code}", answer))
        return (
            answer.json() if answer.content and "json" in answer.headers["content-type"] else None
        )


async def _about_pods(ask: Conversation) -> None:
    create = {"name": "a", "image": "ubuntu", "gpu": {"id": GPU}, "ports": ["22/tcp", "80/http"]}
    volume = {"name": "v", "size": 20, "dataCenter": "US-KS-2"}
    made = await ask("/network-volumes", "POST", "/network-volumes", volume)
    mounted = {"mounts": {"network": [{"volumeId": made["id"], "path": "/w"}]}}
    persistent = {"mounts": {"persistent": {"size": 10, "path": "/w"}}, "globalNetworking": True}
    ids = []
    for more in ({"startSsh": True, "env": {"A": "1"}}, persistent, mounted):
        pod = await ask("/pods", "POST", "/pods", {**create, **more})
        ids.append(pod["id"])
    cpu = {"name": "c", "image": "x", "cpu": {"id": "cpu5c", "vcpuCount": 4}}
    await ask("/pods", "POST", "/pods", cpu)
    for wrong in (
        {"colour": "red"},
        {"cpu": {"id": "cpu5c", "vcpuCount": 4}},
        {"gpu": {"id": GPU, "count": 99}},
        {"templateId": "nosuch"},
    ):
        await ask("/pods", "POST", "/pods", {**create, **wrong})
    await ask("/pods", "GET", "/pods")
    await ask("/pods", "GET", "/pods", key=None)
    one = f"/pods/{ids[0]}"
    await ask("/pods/{id}", "GET", one)
    await ask("/pods/{id}", "GET", "/pods/nosuch")
    await ask("/pods/{id}/logs", "GET", f"{one}/logs")
    for action in ("stop", "stop", "start", "restart", "terminate"):
        await ask("/pods/{id}/action", "POST", f"{one}/action", {"action": action})
        if action == "stop":
            await ask("/pods/{id}", "GET", one)
    await ask("/pods/{id}/action", "POST", f"{one}/action", {"action": "fly"})
    two = f"/pods/{ids[1]}"
    await ask("/pods/{id}", "PATCH", two, {"name": "b", "locked": True, "env": {"B": "2"}})
    await ask("/pods/{id}", "PATCH", two, {"mounts": mounted["mounts"]})
    await ask("/pods/{id}", "PATCH", two, {"name": ""})
    await ask("/pods/{id}", "DELETE", two)
    await ask("/pods/{id}", "DELETE", two)


async def _about_the_rest(ask: Conversation) -> None:
    stock = {"include": "AVAILABILITY", "product": "POD"}
    for params in (stock, {**stock, "cloud": "COMMUNITY", "count": "2"}, {"product": "POD"}, {}):
        await ask("/catalog/gpus", "GET", "/catalog/gpus", params=params)
    await ask("/catalog/gpus/{id}", "GET", f"/catalog/gpus/{GPU}", params=stock)
    await ask("/catalog/gpus/{id}", "GET", "/catalog/gpus/Voodoo2")
    await ask("/catalog/cpus", "GET", "/catalog/cpus", params=stock)
    await ask("/catalog/cpus/{id}", "GET", "/catalog/cpus/cpu5c")
    places = {"include": "GPU_AVAILABILITY,CPU_AVAILABILITY"}
    await ask("/catalog/datacenters", "GET", "/catalog/datacenters", params=places)
    await ask("/catalog/datacenters/{id}", "GET", "/catalog/datacenters/EU-RO-1", params=places)
    await ask("/account/ssh-keys", "PUT", "/account/ssh-keys", {"keys": [A_KEY]})
    await ask("/account/ssh-keys", "PUT", "/account/ssh-keys", {"keys": ["nonsense"]})
    await ask("/account/ssh-keys", "GET", "/account/ssh-keys")
    await ask("/account/ssh-keys", "GET", "/account/ssh-keys", key="invalid-key")
    body = {"name": "r", "username": "me", "password": "p"}
    registry = await ask("/registries", "POST", "/registries", body)
    one = f"/registries/{registry['id']}"
    await ask("/registries", "GET", "/registries")
    await ask("/registries/{id}", "GET", one)
    await ask("/registries/{id}", "DELETE", one)
    wanted = {"name": "w", "size": 20, "dataCenter": "EU-RO-1", "type": "HIGH_PERFORMANCE"}
    volume = await ask("/network-volumes", "POST", "/network-volumes", wanted)
    one = f"/network-volumes/{volume['id']}"
    await ask("/network-volumes", "GET", "/network-volumes")
    await ask("/network-volumes/{id}", "GET", one)
    await ask("/network-volumes/{id}", "PATCH", one, {"size": 30})
    await ask("/network-volumes/{id}", "PATCH", one, {"size": 20})
    await ask.served.advance(7200)
    for kind in ("", "/pods", "/network-volumes"):
        await ask(f"/billing{kind}", "GET", f"/billing{kind}", params={"bucketSize": "hour"})
        await ask(f"/billing{kind}", "GET", f"/billing{kind}", params={"bucketSize": "second"})
    await ask("/network-volumes/{id}", "DELETE", one)
    for _ in range(61):
        answer = await ask.served.ask("GET", f"{V2}/pods")
    ask.said.append((f"GET /v2/pods {answer.status_code}", answer))


async def test_answers_are_as_the_document_says_but_for_the_named_deviations(
    served: Served, runpod_specification: dict[str, Any]
) -> None:
    ask = Conversation(served)
    await _about_pods(ask)
    await _about_the_rest(ask)
    asked = {" ".join(operation.split()[:2]) for operation, _ in ask.said}
    served_here = {f"{r.method} {r.path.replace('{}', '{id}')}" for r in RunPod.routes}
    assert asked == served_here - NOT_IN_THE_DOCUMENT
    statuses = {answer.status_code for _, answer in ask.said}
    assert statuses == {200, 201, 204, 400, 401, 404, 409, 422, 429}
    found = {
        (operation, field): wrong
        for operation, answer in ask.said
        if operation != EVENTS
        for field, wrong in faults_in(
            runpod_specification, operation, answer.json() if answer.content else None
        )
    }
    unexplained = {key: wrong for key, wrong in found.items() if key not in ANSWERS}
    assert not unexplained, "\n".join(f"{key}: {wrong}" for key, wrong in unexplained.items())
    assert set(ANSWERS) - set(found) == set(), "no deviation any more"


async def test_what_goes_wrong_is_told_as_a_problem_and_every_answer_tells_the_quota(
    served: Served,
) -> None:
    ask = Conversation(served)
    await _about_pods(ask)
    for operation, answer in ask.said:
        kind = answer.headers.get("content-type", "")
        assert (answer.status_code >= 400) == (kind == "application/problem+json"), operation
        assert ("ratelimit" in answer.headers) == (answer.status_code != 401), operation


def test_a_field_that_the_document_does_not_know_is_found(
    runpod_specification: dict[str, Any],
) -> None:
    wrong = dict(faults_in(runpod_specification, "GET /v2/registries/{id} 200", {"id": 1, "x": 2}))
    assert "id" in wrong
    assert "x" in wrong[""]
    pod = {"pods": [{"id": "a", "shoe_size": 43}]}
    assert any(
        "shoe_size" in text for _, text in faults_in(runpod_specification, "GET /v2/pods 200", pod)
    )
