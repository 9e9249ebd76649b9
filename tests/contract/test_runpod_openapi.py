"""RunPod's own OpenAPI document of REST v2, unknown fields closed, as the judge of the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from tests.contract.openapi import Conversation, Document

from gpubroker.sandbox.emulators.runpod.api import RunPod

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

pytestmark = pytest.mark.judge
ROOT = "/runpod"
KEY = {"Authorization": "Bearer key-of-the-judge"}
GPU = "NVIDIA GeForce RTX 4090"
A_KEY = "ssh-ed25519 AAAAC3Nza me"
NOT_IN_THE_DOCUMENT = {"GET /v2/openapi.json"}

ANSWERS: dict[tuple[str, str], str] = {}
"""(operation and status, field): why the emulator says something else than the document."""


@pytest.fixture
def document(closed: Callable[..., Document]) -> Document:
    return closed("runpod/rest-v2-openapi.json")


async def _about_pods(ask: Conversation) -> None:
    create = {"name": "a", "image": "ubuntu", "gpu": {"id": GPU}, "ports": ["22/tcp", "80/http"]}
    volume = {"name": "v", "size": 20, "dataCenter": "US-KS-2"}
    made = await ask("POST", "/v2/network-volumes", volume)
    mounted = {"mounts": {"network": [{"volumeId": made["id"], "path": "/w"}]}}
    persistent = {"mounts": {"persistent": {"size": 10, "path": "/w"}}, "globalNetworking": True}
    ids = []
    for more in ({"startSsh": True, "env": {"A": "1"}}, persistent, mounted):
        pod = await ask("POST", "/v2/pods", {**create, **more})
        ids.append(pod["id"])
    cpu = {"name": "c", "image": "x", "cpu": {"id": "cpu5c", "vcpuCount": 4}}
    await ask("POST", "/v2/pods", cpu)
    for wrong in (
        {"colour": "red"},
        {"cpu": {"id": "cpu5c", "vcpuCount": 4}},
        {"gpu": {"id": GPU, "count": 99}},
        {"templateId": "nosuch"},
    ):
        await ask("POST", "/v2/pods", {**create, **wrong})
    await ask("GET", "/v2/pods")
    key = ask.headers.pop("Authorization")
    await ask("GET", "/v2/pods")
    ask.headers["Authorization"] = key
    one = f"/v2/pods/{ids[0]}"
    await ask("GET", one)
    await ask("GET", "/v2/pods/nosuch")
    await ask("GET", f"{one}/logs")
    for action in ("stop", "stop", "start", "restart", "terminate"):
        await ask("POST", f"{one}/action", {"action": action})
        if action == "stop":
            await ask("GET", one)
    await ask("POST", f"{one}/action", {"action": "fly"})
    two = f"/v2/pods/{ids[1]}"
    await ask("PATCH", two, {"name": "b", "locked": True, "env": {"B": "2"}})
    await ask("PATCH", two, {"mounts": mounted["mounts"]})
    await ask("PATCH", two, {"name": ""})
    await ask("DELETE", two)
    await ask("DELETE", two)


async def _about_the_rest(ask: Conversation) -> None:
    stock = {"include": "AVAILABILITY", "product": "POD"}
    for params in (stock, {**stock, "cloud": "COMMUNITY", "count": "2"}, {"product": "POD"}, {}):
        await ask("GET", "/v2/catalog/gpus", params=params)
    await ask("GET", f"/v2/catalog/gpus/{GPU}", params=stock)
    await ask("GET", "/v2/catalog/gpus/Voodoo2")
    await ask("GET", "/v2/catalog/cpus", params=stock)
    await ask("GET", "/v2/catalog/cpus/cpu5c")
    places = {"include": "GPU_AVAILABILITY,CPU_AVAILABILITY"}
    await ask("GET", "/v2/catalog/datacenters", params=places)
    await ask("GET", "/v2/catalog/datacenters/EU-RO-1", params=places)
    await ask("PUT", "/v2/account/ssh-keys", {"keys": [A_KEY]})
    await ask("PUT", "/v2/account/ssh-keys", {"keys": ["nonsense"]})
    await ask("GET", "/v2/account/ssh-keys")
    await ask("GET", "/v2/account/ssh-keys", headers={"Authorization": "Bearer invalid-key"})
    body = {"name": "r", "username": "me", "password": "p"}
    registry = await ask("POST", "/v2/registries", body)
    one = f"/v2/registries/{registry['id']}"
    await ask("GET", "/v2/registries")
    await ask("GET", one)
    await ask("DELETE", one)
    wanted = {"name": "w", "size": 20, "dataCenter": "EU-RO-1", "type": "HIGH_PERFORMANCE"}
    volume = await ask("POST", "/v2/network-volumes", wanted)
    one = f"/v2/network-volumes/{volume['id']}"
    await ask("GET", "/v2/network-volumes")
    await ask("GET", one)
    await ask("PATCH", one, {"size": 30})
    await ask("PATCH", one, {"size": 20})
    await ask.served.advance(7200)
    for kind in ("", "/pods", "/network-volumes"):
        await ask("GET", f"/v2/billing{kind}", params={"bucketSize": "hour"})
        await ask("GET", f"/v2/billing{kind}", params={"bucketSize": "second"})
    await ask("DELETE", one)
    ask.pause_s = 0
    for _ in range(61):
        await ask("GET", "/v2/pods")


async def test_answers_are_as_the_document_says_but_for_the_named_deviations(
    served: Served, document: Document
) -> None:
    ask = Conversation(served, document, ROOT, KEY, pause_s=5)
    await _about_pods(ask)
    await _about_the_rest(ask)
    served_here = {f"{r.method} {r.path.replace('{}', '{id}')}" for r in RunPod.routes}
    assert {call for call, _ in ask.said} == served_here - NOT_IN_THE_DOCUMENT
    statuses = {answer.status_code for _, answer in ask.said}
    assert statuses == {200, 201, 204, 400, 401, 404, 409, 422, 429}
    ask.agrees_but_for(ANSWERS)


async def test_what_goes_wrong_is_told_as_a_problem_and_every_answer_tells_the_quota(
    served: Served, document: Document
) -> None:
    ask = Conversation(served, document, ROOT, KEY, pause_s=5)
    await _about_pods(ask)
    for call, answer in ask.said:
        kind = answer.headers.get("content-type", "")
        assert (answer.status_code >= 400) == (kind == "application/problem+json"), call
        assert ("ratelimit" in answer.headers) == (answer.status_code != 401), call


def test_a_field_that_the_document_does_not_know_is_found(document: Document) -> None:
    wrong = dict(document.faults_of_answer("GET", "/v2/registries/{id}", 200, {"id": 1, "x": 2}))
    assert "id" in wrong
    assert "x" in wrong[""]
    pods = {"pods": [{"id": "a", "shoe_size": 43}]}
    found = document.faults_of_answer("GET", "/v2/pods", 200, pods)
    assert any("shoe_size" in text for _, text in found)
