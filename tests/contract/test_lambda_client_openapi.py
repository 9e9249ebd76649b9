"""Lambda's own OpenAPI document 1.8.3, unknown fields closed, as the judge of our client.

Of its requests, and of the recorded answers that its tests read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.contract.openapi import Document
from tests.providers.scripted import Scripted, connected

from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.query import Query
from gpubroker.model.terms import Resource
from gpubroker.providers.lambda_labs import LambdaLabs

pytestmark = pytest.mark.judge
FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures" / "lambda_labs"
ID = "0920582c7ff041399e34823a0be62549"
A_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrokerKeyOfTheTestsNotReal000000000000000000"
RULESET: dict[str, Any] = {
    "id": "c4d291f47f9d436fa39f58493ce3b50d",
    "name": "x",
    "rules": [],
    "instance_ids": [],
}
RULESET |= {"created": "2026-03-01T12:00:00Z", "region": {"name": "us-east-3", "description": ""}}
OF_ONE_LIFE = {
    "GET /api/v1/instance-types",
    "GET /api/v1/ssh-keys",
    "POST /api/v1/ssh-keys",
    "GET /api/v1/firewall-rulesets",
    "POST /api/v1/firewall-rulesets",
    "POST /api/v1/instance-operations/launch",
    "GET /api/v1/instances",
    "GET /api/v1/instances/{id}",
    "POST /api/v1/instance-operations/terminate",
}
RECORDED = {
    "types.json": "GET /api/v1/instance-types 200",
    "keys.json": "GET /api/v1/ssh-keys 200",
    "key-made.json": "POST /api/v1/ssh-keys 200",
    "launched.json": "POST /api/v1/instance-operations/launch 200",
    "sold-out.json": "POST /api/v1/instance-operations/launch 400",
    "running.json": "GET /api/v1/instances/{id} 200",
    "booting.json": "GET /api/v1/instances/{id} 200",
    "missing.json": "GET /api/v1/instances/{id} 404",
    "list.json": "GET /api/v1/instances 200",
    "terminated.json": "POST /api/v1/instance-operations/terminate 200",
    "bad-key.json": "GET /api/v1/ssh-keys 401",
}
"""File -> the call and status whose answer it is."""


@pytest.fixture(scope="module")
def document(closed: Callable[..., Document]) -> Document:
    return closed("lambda_labs/openapi-1.8.3.json")


def told(file: str) -> Any:
    return json.loads((FIXTURES / file).read_text())


def call_of(document: Document, request: httpx2.Request) -> str:
    """As in the document; KeyError where it knows no such call."""
    return f"{request.method} {document.path_of(request.method, request.url.path)}"


def faults(document: Document, request: httpx2.Request) -> list[str]:
    found = [wrong for _, wrong in document.faults_of_request(request, request.url.path)]
    bearer = request.headers["authorization"].startswith("Bearer ")
    return found if bearer else [*found, "no bearer token"]


async def _one_life(labs: LambdaLabs) -> None:
    """Everything that our client can ask, of a plain machine and of one with all there is."""
    (page,) = [page async for page in labs.offers(Query())]
    offer = page.rows[0]
    plain = LaunchSpec(
        expires_at=datetime(2026, 3, 2, tzinfo=UTC), ssh_keys=(f"{A_KEY} gb-abcdef",)
    )
    everything = LaunchSpec(
        expires_at=None,
        image="ubuntu:24.04",
        vm_image="lambda-stack-24-04",
        command="sleep 5",
        startup_script="echo hello",
        env={"WORD": "hi"},
        ports=((8888, "tcp"), (9000, "udp")),
        ssh_keys=(f"{A_KEY} gb-abcdef", f"{A_KEY[:-4]}MINE me"),
        disk_gb=100,
        volumes=((Ref("lambda_labs", "default", "", "398578a2336b4907"), "/data/x"),),
    )
    attempt = Attempt("abcdef", "abcdefghijklmnop", "launch")
    assert await labs.whoami()
    for spec in (plain, everything):
        have: dict[Resource, Ref] = {}
        for what in labs.capabilities.needs:
            have[what] = await labs.ensure(what, spec, offer, attempt, have)
        ref = await labs.create(spec, offer, attempt, have)
        assert await labs.find(attempt, offer)
        assert (await labs.get(ref)).ref == ref
        assert (await labs.list("")).complete
        await labs.terminate(ref)


async def test_our_requests_are_as_the_document_says(document: Document) -> None:
    scripted = Scripted()
    for file, call in RECORDED.items():
        if call.endswith(" 200") and file != "booting.json":
            scripted.says(call.removesuffix(" 200").format(id=ID), told(file))
    scripted.says("GET /api/v1/firewall-rulesets", {"data": []})
    scripted.says("POST /api/v1/firewall-rulesets", {"data": RULESET})
    await _one_life(connected(LambdaLabs, scripted))
    assert {call_of(document, request) for request in scripted.requests} == OF_ONE_LIFE
    for request in scripted.requests:
        assert not request.url.query
        assert not faults(document, request), call_of(document, request)


@pytest.mark.parametrize(("file", "call"), RECORDED.items())
def test_each_recorded_answer_is_as_the_document_says(
    document: Document, file: str, call: str
) -> None:
    method, path, status = call.split()
    assert not list(document.faults_of_answer(method, path, int(status), told(file)))


def test_a_request_that_the_document_does_not_know_is_found(document: Document) -> None:
    def wrong(path: str, body: Any) -> str:
        headers = {"authorization": "Basic x"}
        request = httpx2.Request("POST", f"https://lambda.test{path}", json=body, headers=headers)
        return "\n".join(faults(document, request))

    body = {"region_name": "mars-1", "instance_type_name": "x", "quantity": 1}
    text = wrong("/api/v1/instance-operations/launch", body)
    for part in ("no bearer token", "mars-1", "quantity", "ssh_key_names"):
        assert part in text
    with pytest.raises(KeyError):
        wrong("/api/v1/instance-operations/stop", {})
