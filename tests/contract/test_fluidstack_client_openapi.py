"""FluidStack's own OpenAPI document, unknown fields closed, as the judge of our client."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.contract.openapi import Document
from tests.providers.scripted import Scripted, connected

from gpubroker.model.identity import Attempt
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.query import Query
from gpubroker.model.terms import Resource
from gpubroker.providers.fluidstack import FluidStack

pytestmark = pytest.mark.judge
FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures" / "fluidstack"
ONE = "/instances/i-1234567890"
CALLS = {
    "GET /list_available_configurations": "configurations",
    "GET /list_available_os_templates": "templates",
    "GET /ssh_keys": "no-more",
    "POST /ssh_keys": "keys",
    "POST /instances": "made",
    "GET /instances": "no-more",
    f"GET {ONE}": "machine",
    f"PUT {ONE}/stop": "stopped",
    f"PUT {ONE}/start": "pending",
    f"DELETE {ONE}": "ended",
    "DELETE /ssh_keys/gb-abcdef": "ended",
}
"""What we ask -> what is answered."""
RECORDED = {
    "configurations": ("GET", "/list_available_configurations", 200),
    "templates": ("GET", "/list_available_os_templates", 200),
    "machine": ("GET", "/instances/{instance_id}", 200),
    "stopped": ("PUT", "/instances/{instance_id}/stop", 200),
    "pending": ("GET", "/instances/{instance_id}", 200),
    "list": ("GET", "/instances", 200),
    "no-more": ("GET", "/instances", 200),
    "made": ("POST", "/instances", 202),
    "keys": ("GET", "/ssh_keys", 200),
    "bad-key": ("GET", "/ssh_keys", 401),
    "ended": ("DELETE", "/instances/{instance_id}", 200),
}


@pytest.fixture
def document(closed: Callable[..., Document]) -> Document:
    return closed("fluidstack/platform-openapi.json")


def told(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


async def test_our_requests_are_as_the_document_says(document: Document) -> None:
    wire = Scripted()
    for request, name in CALLS.items():
        wire.says(request, told(name))
    fluid, attempt = connected(FluidStack, wire), Attempt("abcdef", "abcdefghijklmnop", "launch")
    spec = LaunchSpec(expires_at=datetime(2026, 3, 1, tzinfo=UTC), ssh_keys=("ssh-ed25519 AA gb",))
    (page,) = [page async for page in fluid.offers(Query())]
    key = await fluid.ensure(Resource.SSH_KEY, spec, page.rows[0], attempt, {})
    ref = await fluid.create(spec, page.rows[0], attempt, {Resource.SSH_KEY: key})
    await fluid.list("")
    await fluid.get(ref)
    await fluid.stop(ref)
    await fluid.start(ref)
    await fluid.terminate(ref)
    await fluid.discard(Resource.SSH_KEY, key)
    assert {*wire.asked()} == CALLS.keys()
    for sent in wire.requests:
        assert not list(document.faults_of_request(sent, sent.url.path)), sent.url


@pytest.mark.parametrize(("name", "call"), RECORDED.items())
def test_each_recorded_answer_is_as_the_document_says(
    document: Document, name: str, call: tuple[str, str, int]
) -> None:
    assert not list(document.faults_of_answer(*call, told(name)))


def test_a_field_that_the_document_does_not_know_is_found(document: Document) -> None:
    schema = {"$ref": "#/components/schemas/CreateInstanceRequest"}
    body = {"gpu_type": "L4_24GB", "ssh_key": "k", "env": {}}
    assert "'env' was unexpected" in str(list(document.faults(schema, body)))
