"""Lambda's own OpenAPI document 1.8.3, unknown fields closed, as the judge of our client.

Of its requests, and of the recorded answers that its tests read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import (  # type: ignore[import-untyped]  # it ships no types
    Draft202012Validator,
)

from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.query import Query
from gpubroker.model.terms import Resource
from gpubroker.providers.accounts import Account
from gpubroker.providers.http import Transport
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
def document() -> dict[str, Any]:
    folder = os.environ.get("GPUBROKER_SPECS")
    file = Path(folder or "/nonexistent") / "lambda_labs" / "openapi-1.8.3.json"
    if not file.exists():
        why = "GPUBROKER_SPECS does not name a folder with the vendors' specifications"
        if os.environ.get("GPUBROKER_REQUIRE_SPECS") == "1":
            pytest.fail(why)
        pytest.skip(why)
    read: dict[str, Any] = json.loads(file.read_text())
    return read


def closed(schema: Any) -> Any:
    """The schema with every object that lists its properties closed to others."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tight = {name: closed(value) for name, value in schema.items()}
    if isinstance(tight.get("properties"), dict) and tight["properties"]:
        tight.setdefault("additionalProperties", False)
    return tight


def faults(document: dict[str, Any], schema: Any, body: Any) -> Iterator[str]:
    root = {**closed(schema), "components": {"schemas": closed(document["components"]["schemas"])}}
    for error in Draft202012Validator(root).iter_errors(body):
        yield f"{error.json_path}: {error.message}"


def operation_of(document: dict[str, Any], request: httpx2.Request) -> str:
    """`GET /api/v1/ssh-keys`, as in the document; KeyError where it knows no such call."""
    for path, methods in document["paths"].items():
        pattern = re.sub(r"\\\{\w+\\\}", r"[0-9a-f]+", re.escape(path))
        if request.method.lower() in methods and re.fullmatch(pattern, request.url.path):
            return f"{request.method} {path}"
    raise KeyError(f"{request.method} {request.url.path}")


def faults_in_request(document: dict[str, Any], request: httpx2.Request) -> Iterator[str]:
    method, path = operation_of(document, request).split()
    known = document["paths"][path][method.lower()]
    if not request.headers["authorization"].startswith("Bearer "):
        yield "no bearer token"
    if request.url.query:
        yield "a query that is not in the document"
    if "requestBody" in known:
        schema = known["requestBody"]["content"]["application/json"]["schema"]
        yield from faults(document, schema, json.loads(request.content or b"null"))
    elif request.content:
        yield "a body where the document has none"


class Recorder:
    """Answers each call with its recorded answer, and keeps the requests."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.requests: list[httpx2.Request] = []
        self.answers: dict[str, Any] = {
            call.removesuffix(" 200"): json.loads((FIXTURES / file).read_text())
            for file, call in RECORDED.items()
            if call.endswith(" 200")
        }
        self.answers["GET /api/v1/firewall-rulesets"] = {"data": []}
        self.answers["POST /api/v1/firewall-rulesets"] = {"data": RULESET}

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return httpx2.Response(200, json=self.answers[operation_of(self.document, request)])


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


async def test_our_requests_are_as_the_document_says(document: dict[str, Any]) -> None:
    vendor = Recorder(document)
    account = Account("lambda_labs", "default", {"LAMBDA_API_KEY": "k3y-0f-the-tests-n0t-real"})
    transport = Transport(
        "lambda_labs",
        "https://lambda.test",
        auth=lambda: LambdaLabs.authorization(account),
        wire=httpx2.MockTransport(vendor),
    )
    await _one_life(LambdaLabs(account, transport))
    assert {operation_of(document, request) for request in vendor.requests} == OF_ONE_LIFE
    found = {
        operation_of(document, request): list(faults_in_request(document, request))
        for request in vendor.requests
    }
    assert not any(found.values()), found


@pytest.mark.parametrize(("file", "call"), RECORDED.items())
def test_each_recorded_answer_is_as_the_document_says(
    document: dict[str, Any], file: str, call: str
) -> None:
    method, path, status = call.split()
    answer = document["paths"][path][method.lower()]["responses"][status]
    schema = answer["content"]["application/json"]["schema"]
    assert not list(faults(document, schema, json.loads((FIXTURES / file).read_text())))


def test_a_request_that_the_document_does_not_know_is_found(document: dict[str, Any]) -> None:
    def request(method: str, path: str, body: Any) -> httpx2.Request:
        headers = {"authorization": "Basic x"}
        return httpx2.Request(method, f"https://lambda.test{path}", json=body, headers=headers)

    body = {"region_name": "mars-1", "instance_type_name": "x", "quantity": 1}
    found = faults_in_request(document, request("POST", "/api/v1/instance-operations/launch", body))
    text = "\n".join(found)
    for part in ("no bearer token", "mars-1", "quantity", "ssh_key_names"):
        assert part in text
    with pytest.raises(KeyError):
        operation_of(document, request("POST", "/api/v1/instance-operations/stop", {}))
