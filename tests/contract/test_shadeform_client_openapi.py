"""Shadeform's own OpenAPI document, unknown fields closed, as the judge of our client."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.contract.openapi import Document
from tests.providers.scripted import START, Scripted, connected

from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.query import Query
from gpubroker.model.terms import Resource
from gpubroker.providers.shadeform import Shadeform

pytestmark = pytest.mark.judge
FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures" / "shadeform"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrokerKeyOfTheTestsNotReal000000000000000000 gb-abcdef"
ONE = "/instances/d290f1ee-6c54-4b01-90e6-d701748f0851"
ANSWERS = {
    "GET /instances/types": "types",
    "GET /sshkeys": "keys",
    "POST /sshkeys/add": "key-made",
    "POST /instances/create": "made",
    "GET /instances": "list",
    f"GET {ONE}/info": "running",
}
"""A call, and the recorded answer that it gets."""
EMPTY = {
    f"POST {ONE}/update",
    f"POST {ONE}/delete",
    "POST /sshkeys/26bedfa2-3f0c-4b7e-9c55-000000000001/delete",
}
NOT_YET = "None is not of type 'string'"
"""`deleted_at` of a machine that lives: null in the document's own examples of others' clients."""


@pytest.fixture(scope="module")
def document(closed: Callable[..., Document]) -> Document:
    return closed("shadeform/openapi.yaml")


async def test_our_requests_are_as_the_document_says(document: Document) -> None:
    scripted = Scripted()
    for call, name in ANSWERS.items():
        method, path = call.split()
        scripted.says(f"{method} /v1{path}", json.loads((FIXTURES / f"{name}.json").read_text()))
    for call in EMPTY:
        scripted.says(call.replace(" ", " /v1"), None)
    cloud = connected(Shadeform, scripted)
    (page,) = [page async for page in cloud.offers(Query())]
    attempt = Attempt("abcdef", "abcdefghijklmnop", "launch")
    spec = LaunchSpec(
        expires_at=datetime(2026, 3, 2, tzinfo=UTC),
        image="ubuntu:24.04",
        env={"WORD": "hi"},
        ports=((8888, "tcp"),),
        ssh_keys=(KEY,),
    )
    assert await cloud.whoami()
    have: dict[Resource, Ref] = {}
    for what in cloud.capabilities.needs:
        have[what] = await cloud.ensure(what, spec, page.rows[0], attempt, have)
    ref = await cloud.create(spec, page.rows[0], attempt, have)
    assert await cloud.find(attempt, page.rows[0])
    assert (await cloud.get(ref)).expires_at
    await cloud.extend(ref, START)
    await cloud.terminate(ref)
    for one in (await cloud.resources("")).resources:
        await cloud.discard(one.what, one.ref)
    assert {call.replace(" /v1", " ") for call in scripted.asked()} == {*ANSWERS, *EMPTY}
    found = {
        f"{request.method} {request.url.path}": faults
        for request in scripted.requests
        if (faults := [*document.faults_of_request(request, request.url.path.removeprefix("/v1"))])
    }
    assert not found


@pytest.mark.parametrize(("call", "name"), ANSWERS.items())
def test_each_recorded_answer_is_as_the_document_says(
    document: Document, call: str, name: str
) -> None:
    method, path = call.split()
    told = json.loads((FIXTURES / f"{name}.json").read_text())
    found = [wrong for _, wrong in document.faults_of_answer(method, path, 200, told)]
    assert not [wrong for wrong in found if NOT_YET not in wrong]
