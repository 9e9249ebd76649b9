"""RunPod's own OpenAPI document as the judge of our client.

Of its requests, with unknown fields closed, and of how it reads the document's own examples.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import (  # type: ignore[import-untyped]  # it ships no types
    Draft202012Validator,
)

from gpubroker.model.gpu import Gpu
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint
from gpubroker.model.launch import LaunchSpec, RegistryAuth
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market, Resource, Source, State
from gpubroker.providers.accounts import Account
from gpubroker.providers.http import Transport
from gpubroker.providers.runpod import SHOWN, RunPod

pytestmark = pytest.mark.judge
NOW = datetime(2026, 6, 1, 13, tzinfo=UTC)
ME = {"data": {"myself": {"id": "user_1", "clientBalance": 12.5}}}
POD = Ref("runpod", "default", "", "7h9k2m4n6p")
OF_ONE_LIFE = {
    "GET /v2/registries",
    "POST /v2/registries",
    "DELETE /v2/registries/{id}",
    "POST /v2/pods",
    "GET /v2/pods",
    "GET /v2/pods/{id}",
    "DELETE /v2/pods/{id}",
    "POST /v2/pods/{id}/action",
    "GET /v2/billing/pods",
}


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    """RunPod's own OpenAPI document of REST v2."""
    folder = os.environ.get("GPUBROKER_SPECS")
    file = Path(folder or "/nonexistent") / "runpod" / "rest-v2-openapi.json"
    if not file.exists():
        why = "GPUBROKER_SPECS does not name a folder with the vendors' specifications"
        if os.environ.get("GPUBROKER_REQUIRE_SPECS") == "1":
            pytest.fail(why)
        pytest.skip(why)
    read: dict[str, Any] = json.loads(file.read_text())
    return read


class Examples:
    """A vendor that answers with the examples of its own document, and remembers the requests."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.heard: list[tuple[str, httpx2.Request]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/graphql":
            return httpx2.Response(200, json=ME)
        operation = operation_of(self.document, request)
        self.heard.append((operation, request))
        answers = known(self.document, operation)["responses"]
        status = min(code for code in answers if code.startswith("2"))
        content = answers[status].get("content")
        if content is None:
            return httpx2.Response(int(status))
        example = next(iter(content["application/json"]["examples"].values()))["value"]
        return httpx2.Response(int(status), json=example)


def operation_of(document: dict[str, Any], request: httpx2.Request) -> str:
    """The document's name of a request; KeyError where it has none."""
    for template in sorted(document["paths"], key=lambda path: path.count("{")):
        pattern = re.sub(r"\{[^}]+\}", "[^/]+", template)
        if (
            re.fullmatch(pattern, request.url.path)
            and request.method.lower() in document["paths"][template]
        ):
            return f"{request.method} {template}"
    raise KeyError(f"{request.method} {request.url.path}")


def known(document: dict[str, Any], operation: str) -> Any:
    method, _, template = operation.partition(" ")
    return document["paths"][template][method.lower()]


def resolved(document: dict[str, Any], row: Any) -> Any:
    for name in row.get("$ref", "#").split("/")[1:]:
        document = document[name]
    return document if "$ref" in row else row


def faults(
    document: dict[str, Any], operation: str, request: httpx2.Request
) -> Iterator[tuple[str, str]]:
    """(field, what is wrong) of a request."""
    if not request.headers.get("authorization", "").startswith("Bearer "):
        yield "authorization", "is no bearer token"
    told = known(document, operation)
    rows = [resolved(document, row) for row in told.get("parameters", ())]
    parameters = {row["name"]: row["schema"] for row in rows if row["in"] == "query"}
    for name, value in request.url.params.items():
        if name not in parameters:
            yield name, "is not in the document"
            continue
        read = json.loads(value) if parameters[name].get("type") == "boolean" else value
        for error in _errors(document, parameters[name], read):
            yield name, error
    if "requestBody" in told:
        schema = told["requestBody"]["content"]["application/json"]["schema"]
        for error in _errors(document, schema, json.loads(request.content or b"null")):
            yield "body", error
    elif request.content:
        yield "body", "the document has none"


def _errors(document: dict[str, Any], schema: Any, value: Any) -> Iterator[str]:
    whole = {"allOf": [schema], "components": document["components"]}
    checker = Draft202012Validator.FORMAT_CHECKER
    for error in Draft202012Validator(whole, format_checker=checker).iter_errors(value):
        yield f"{error.json_path}: {error.message}"


@pytest.fixture
def examples(document: dict[str, Any]) -> Examples:
    return Examples(document)


@pytest.fixture
def client(examples: Examples) -> RunPod:
    class Fixed:
        def now(self) -> datetime:
            return NOW

        def boot_s(self) -> float:
            return 0.0

        async def sleep(self, seconds: float) -> None:
            raise AssertionError(seconds)

    from gpubroker.providers.redaction import Redactor

    transport = Transport(
        "runpod",
        "https://runpod.test",
        auth=lambda: {"authorization": "Bearer key-of-the-tests"},
        redactor=Redactor(SHOWN),
        clock=Fixed(),
        wire=httpx2.MockTransport(examples),
    )
    return RunPod(Account("runpod", "default", {"RUNPOD_API_KEY": "key-of-the-tests"}), transport)


def offer(region: str) -> Offer:
    return Offer(
        provider="runpod",
        account="default",
        key="NVIDIA_GeForce_RTX_4090:1",
        gpu=Gpu(name="RTX 4090", raw="NVIDIA GeForce RTX 4090", memory_gb=24.0),
        gpu_count=1,
        kind=Kind.CONTAINER,
        market=Market.ON_DEMAND,
        tier="secure",
        region=region,
        price=Price(compute=Nanos(440_000_000)),
        availability=Availability.YES,
        source=Source.LIVE,
        fetched_at=NOW,
    )


EVERYTHING = LaunchSpec(
    image="ghcr.io/me/private:1",
    env={"WORD": "hi"},
    ports=((9000, "tcp"),),
    startup_script="echo hello",
    command="sleep 5",
    disk_gb=20,
    ssh_keys=("ssh-ed25519 AAAAC3Nza me",),
    volumes=((Ref("runpod", "default", "", "vol_xyz"), "/data"),),
    registry_auth=RegistryAuth("mine", "ghcr.io", "me", "pass"),
    options={"min_cuda_version": "12.4", "http_ports": [8888]},
    expires_at=NOW + timedelta(hours=1),
)
PERSISTENT = LaunchSpec(expires_at=None, options={"persistent_gb": 20})


async def one_life(client: RunPod) -> None:
    """Everything that our client asks REST v2."""
    attempt = Attempt("abcdef", "abcdefghijklmnop", "launch")
    for spec, of in (
        (EVERYTHING, offer("US-KS-2")),
        (PERSISTENT, offer("EU-RO-1")),
        (LaunchSpec(expires_at=None), offer("")),
    ):
        need = await client.ensure(Resource.SECRET, spec, of, attempt, {})
        ref = await client.create(spec, of, attempt, {Resource.SECRET: need})
        assert ref == POD
        await client.find(attempt, of)
        await client.release(Resource.SECRET, need)
    machine = await client.get(POD)
    assert machine.state is State.RUNNING
    assert machine.ssh == Endpoint(host="195.26.233.3", port=34446, user="root")
    assert machine.price == 440_000_000
    listing = await client.list("")
    assert [one.ref for one in listing.instances] == [POD]
    await client.stop(POD)
    await client.start(POD)
    bill = await client.billing(POD, NOW - timedelta(hours=12), NOW)
    assert (bill.amount, len(bill.lines)) == (12_340_000_000, 2)
    await client.terminate(POD)


async def test_our_requests_are_as_the_document_says(
    client: RunPod, examples: Examples, document: dict[str, Any]
) -> None:
    await one_life(client)
    assert {operation for operation, _ in examples.heard} == OF_ONE_LIFE
    found = [
        f"{operation} {field}: {wrong}"
        for operation, request in examples.heard
        for field, wrong in faults(document, operation, request)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("method", "path", "body", "wrong"),
    [
        ("POST", "/v2/pods", {"name": "x", "image": "y", "shoe_size": 43}, "shoe_size"),
        ("POST", "/v2/pods", {"name": "x", "image": "y", "gpu": {"id": "z", "hue": 1}}, "hue"),
        ("POST", "/v2/pods", {"image": "y"}, "name"),
        ("POST", "/v2/pods/a/action", {"action": "dance"}, "dance"),
        ("GET", "/v2/pods?colour=red", None, "colour"),
        ("GET", "/v2/billing/pods?bucketSize=minute", None, "minute"),
    ],
)
def test_a_request_that_the_document_does_not_know_is_found(
    document: dict[str, Any], method: str, path: str, body: Any, wrong: str
) -> None:
    headers = {"authorization": "Bearer k"}
    request = httpx2.Request(method, f"https://runpod.test{path}", headers=headers, json=body)
    found = list(faults(document, operation_of(document, request), request))
    assert any(wrong in f"{field} {error}" for field, error in found), found
    with pytest.raises(KeyError):
        operation_of(document, httpx2.Request("POST", "https://runpod.test/v2/machines"))
