"""Thunder Compute's own OpenAPI document, unknown fields closed, as the judge of our client."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.contract.openapi import Document
from tests.providers.scripted import Scripted, connected

from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.launch import LaunchSpec
from gpubroker.providers.thunder_compute import ThunderCompute, parse_offers

pytestmark = pytest.mark.judge
FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures" / "thunder_compute"
ID = "3f6c1d2e-8a4b-4c7d-9e1f-5b6a7c8d9e0f"
ONE = f"/v1/instances/{ID}"
A_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrokerKeyOfTheTestsNotReal000000000000000000"
UNKNOWN = {"/auth/validate": "the vendor's client asks it, the document leaves it out"}
DEVIATIONS = {
    "/instances/list": "`update_ips`, which the vendor's client sends",
    "/instances/create": "`mode`, which the newest clients leave out: the catalogue has none",
}
"""Path -> what of our request the document does not know."""
RECORDED = {
    "specs.json": ("GET", "/specs", 200),
    "pricing.json": ("GET", "/pricing", 200),
    "made.json": ("POST", "/instances/create", 201),
    "sold-out.json": ("POST", "/instances/create", 400),
    "list.json": ("GET", "/instances/list", 200),
    "deleted.json": ("POST", "/instances/{id}/delete", 200),
    "missing.json": ("POST", "/instances/{id}/delete", 404),
}
NEWER = {"thundertypes.GpuSpecConfig": ("ramCapGiB",)}
"""Fields of the newer catalogue, `/v2`, that the document of `/v1` leaves out."""
BODIES = {
    "/instances/create": "thundertypes.InstanceCreateRequest",
    f"/instances/{ID}/add_key": "thundertypes.InstanceAddKeyRequest",
}
"""Path -> the schema of its body: in the document any object stands beside each."""


@pytest.fixture
def document(closed: Callable[..., Document]) -> Document:
    return closed("thunder_compute/swagger.json", NEWER)


def told(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text())


async def test_our_requests_are_as_the_document_says(document: Document) -> None:
    wire = Scripted().says("POST /v1/instances/create", told("made.json"), status=201)
    wire.says("GET /v1/auth/validate", told("valid.json"))
    wire.says("GET /v1/instances/list", told("list.json"))
    wire.says(f"POST {ONE}/add_key", {"success": True, "uuid": ID})
    wire.says(f"POST {ONE}/delete", told("deleted.json"))
    thunder, now = connected(ThunderCompute, wire), datetime(2026, 3, 1, tzinfo=UTC)
    catalog = told("specs.json")["specs"], told("pricing.json")["pricing"], None
    offers, _ = parse_offers(*catalog, account="default", fetched_at=now)
    spec = LaunchSpec(expires_at=now, ssh_keys=(A_KEY,), env={"WORD": "hi"})
    attempt = Attempt("abcdef", "abcdefghijklmnop", "launch")
    ref = await thunder.create(spec, offers[0], attempt, {})
    assert ref == Ref("thunder_compute", "default", "", ID)
    assert await thunder.find(attempt, offers[0])
    assert (await thunder.list("")).complete
    await thunder.attach_key(ref, A_KEY)
    await thunder.terminate(ref)
    found = {}
    for request in wire.requests:
        path = request.url.path.removeprefix("/v1")
        if path in UNKNOWN:
            with pytest.raises(KeyError):
                document.path_of(request.method, path)
            continue
        faults = document.faults_of_request(request, path)
        if path in BODIES:
            schema = {"$ref": f"#/components/schemas/{BODIES[path]}"}
            faults = document.faults(schema, json.loads(request.content))
        wrong = "; ".join(what for _, what in faults)
        if wrong:
            found[path] = wrong
    assert found.keys() == DEVIATIONS.keys(), found
    assert "'mode' is a required property" in found["/instances/create"]


@pytest.mark.parametrize(("file", "call"), RECORDED.items())
def test_each_recorded_answer_is_as_the_document_says(
    document: Document, file: str, call: tuple[str, str, int]
) -> None:
    assert not list(document.faults_of_answer(*call, told(file)))


def test_a_field_that_the_document_does_not_know_is_found(document: Document) -> None:
    schema = {"$ref": f"#/components/schemas/{BODIES['/instances/create']}"}
    assert "'env' was unexpected" in str(list(document.faults(schema, {"env": {}})))
