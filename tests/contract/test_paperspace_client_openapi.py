"""Paperspace's own document, as its vendor's client has it, as the judge of our client."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.contract.conftest import vendor_text
from tests.contract.openapi import Document
from tests.contract.typescript import openapi_of
from tests.providers.scripted import Scripted, connected

from gpubroker.model.identity import Attempt
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.query import Query
from gpubroker.model.terms import Resource
from gpubroker.providers.paperspace import Paperspace

pytestmark = pytest.mark.judge
FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures" / "paperspace"
ONE, SCRIPT = "/machines/psabc123", "/startup-scripts/sc123"
CALLS = {
    "GET /auth/session": "session",
    "GET /os-templates": "templates",
    "GET /startup-scripts": "no-scripts",
    "POST /startup-scripts": "script",
    f"DELETE {SCRIPT}": "script",
    "POST /machines": "made",
    "GET /machines": "list-2",
    f"GET {ONE}": "off",
    "GET /machine-events": "no-capacity",
    f"PATCH {ONE}/stop": "stopping",
    f"PATCH {ONE}/start": "starting",
    f"DELETE {ONE}": "ended",
}
"""What we ask -> what is answered, and must be an answer of that call."""
MORE = {
    f"GET {ONE}": ("machine", "pending"),
    "GET /machine-events": ("done",),
    "GET /machines": ("list",),
}
UNKNOWN = {"/machine-availability": "in the vendor's API reference, newer than this document"}
NO_BODY = {
    f"PATCH {ONE}/stop": "an empty object, as the vendor's client sends: without one it is refused",
    f"PATCH {ONE}/start": "likewise",
}
DATES = {"dtDeleted", "dtStarted", "dtFinished"}
"""Null until they have come: this form of the document loses it."""


@pytest.fixture(scope="module")
def document() -> Document:
    return Document(openapi_of(vendor_text("paperspace/openapi-v1-trimmed.d.ts")))


def told(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


async def test_our_requests_are_as_the_document_says(document: Document) -> None:
    wire = Scripted().says("GET /v1/machine-availability", told("in-stock"))
    for request, name in CALLS.items():
        wire.says(request.replace(" ", " /v1"), told(name))
    space, attempt = connected(Paperspace, wire), Attempt("abcdef", "abcdefghijklmnop", "launch")
    spec = LaunchSpec(expires_at=datetime(2026, 3, 1, tzinfo=UTC), ssh_keys=("ssh-ed25519 AA gb",))
    (page,) = [page async for page in space.offers(Query())]
    script = await space.ensure(Resource.STARTUP_SCRIPT, spec, page.rows[0], attempt, {})
    ref = await space.create(spec, page.rows[0], attempt, {Resource.STARTUP_SCRIPT: script})
    await space.list("")
    await space.find(attempt, page.rows[0])
    await space.get(ref)
    await space.stop(ref)
    await space.start(ref)
    await space.terminate(ref)
    await space.release(Resource.STARTUP_SCRIPT, script)
    assert {one.replace(" /v1", " ") for one in wire.asked()} - CALLS.keys() == {
        "GET /machine-availability"
    }
    found = {}
    for sent in wire.requests:
        path = sent.url.path.removeprefix("/v1")
        if path in UNKNOWN:
            with pytest.raises(KeyError):
                document.path_of(sent.method, path)
            continue
        if wrong := [what for _, what in document.faults_of_request(sent, path)]:
            found[f"{sent.method} {path}"] = wrong
    assert found == {call: ["a body where the document has none"] for call in NO_BODY}


@pytest.mark.parametrize("call", CALLS)
def test_each_recorded_answer_is_as_the_document_says(document: Document, call: str) -> None:
    method, path = call.split(" ")
    for name in (CALLS[call], *MORE.get(call, ())):
        faults = document.faults_of_answer(method, path, 200, told(name))
        assert not [what for field, what in faults if field not in DATES], name


def test_a_field_that_the_document_does_not_know_is_found(document: Document) -> None:
    schema = document.raw["paths"]["/machines"]["post"]["requestBody"]["content"]
    faults = str(list(document.faults(schema["application/json"]["schema"], {"env": {}})))
    assert "'env' was unexpected" in faults
    assert "'templateId' is a required property" in faults
