"""The published OpenAPI document of TensorDock's instances, unknown fields closed, judges us.

The document is not the vendor's own. Where it says otherwise than the vendor's pages, that is a
named deviation.
"""

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
from gpubroker.providers.tensordock import TensorDock, parse_offers

pytestmark = pytest.mark.judge
FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures" / "tensordock"
ID = "468b716a-7a1f-4b1e-9d3c-0c2f5e8d1a77"
PATH = "/api/v2/instances"
A_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrokerKeyOfTheTestsNotReal000000000000000000"
DEVIATIONS = {
    "gpus": "a map by name in the vendor's examples, a list in the document",
    "cloud_init": "an object in the vendor's examples, a text in the document",
    "attributes": "has `port_forwards` in the vendor's examples, not in the document",
}
"""Field -> why the vendor's own pages (instance creation) win."""


@pytest.fixture
def document(closed: Callable[..., Document]) -> Document:
    return closed("tensordock/tensordock-instances-api-openapi.yml")


def told(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


async def test_our_requests_are_as_the_document_says(document: Document) -> None:
    wire = Scripted().says(f"POST {PATH}", told("made"), status=201)
    wire.says(f"GET {PATH}", told("list")).says(f"GET {PATH}/{ID}", told("running"))
    wire.says(f"DELETE {PATH}/{ID}", told("deleted"))
    dock, now = connected(TensorDock, wire), datetime(2026, 3, 1, tzinfo=UTC)
    body = (FIXTURES / "locations.json").read_bytes()
    offers, _ = parse_offers(body, account="default", fetched_at=now)
    spec = LaunchSpec(expires_at=now, ssh_keys=(A_KEY,), env={"WORD": "hi"}, ports=((80, "tcp"),))
    attempt = Attempt("abcdef", "abcdefghijklmnop", "launch")
    for offer in (offers[0], offers[-1]):
        ref = await dock.create(spec, offer, attempt, {})
        assert await dock.find(attempt, offer)
        assert (await dock.get(ref)).ref == ref
        await dock.terminate(ref)
    found = {
        field: wrong
        for request in wire.requests
        for field, wrong in document.faults_of_request(request, request.url.path)
    }
    assert found.keys() == DEVIATIONS.keys(), found
    assert {document.path_of(one.method, one.url.path) for one in wire.requests} == {
        PATH,
        f"{PATH}/{{id}}",
    }


def test_a_field_that_the_document_does_not_know_is_found(document: Document) -> None:
    wrong = [one for one, _ in document.faults(_create(document), {"data": {"typ": "x"}})]
    assert wrong


def _create(document: Document) -> Any:
    content = document.raw["paths"][PATH]["post"]["requestBody"]["content"]
    return content["application/json"]["schema"]
