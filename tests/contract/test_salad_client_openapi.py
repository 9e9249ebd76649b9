"""SaladCloud's own OpenAPI document, unknown fields closed, as the judge of our client."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.contract.openapi import Document
from tests.providers.scripted import KEY, Scripted, connected

from gpubroker.model.identity import Attempt
from gpubroker.model.launch import LaunchSpec, RegistryAuth
from gpubroker.model.query import Query
from gpubroker.providers.salad import Salad

pytestmark = pytest.mark.judge
FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures" / "salad"
ATTEMPT = Attempt("abcdef", "abcdefghijklmnop", "launch")
ORGANIZATION = "/organizations/acme-org"
GROUPS = f"{ORGANIZATION}/projects/default/containers"
GROUP = f"{GROUPS}/{ATTEMPT.name}"
ANSWERS = {
    f"GET {ORGANIZATION}/gpu-classes": ("classes", 200),
    f"POST {ORGANIZATION}/availability/sce-gpu-availability": ("free", 200),
    f"GET {ORGANIZATION}/quotas": ("quotas", 200),
    f"POST {GROUPS}": ("made", 201),
    f"GET {GROUPS}": ("list", 200),
    f"GET {GROUP}": ("running", 200),
    f"GET {GROUP}/instances": ("instances", 200),
    f"POST {GROUP}/stop": ("", 202),
    f"POST {GROUP}/start": ("", 202),
    f"DELETE {GROUP}": ("", 202),
}
"""A call, the recorded answer that it gets, and its status."""
MORE = {
    "waiting": (f"GET {GROUP}", 200),
    "failed": (f"GET {GROUP}", 200),
    "none": (f"POST {ORGANIZATION}/availability/sce-gpu-availability", 200),
    "missing": (f"GET {GROUP}", 404),
    "quota": (f"POST {GROUPS}", 403),
    "no-credit": (f"POST {GROUPS}", 403),
    "bad-key": (f"GET {ORGANIZATION}/quotas", 401),
}
RECORDED = {name: (call, status) for call, (name, status) in ANSWERS.items() if name} | MORE


@pytest.fixture(scope="module")
def document(closed: Callable[..., Document]) -> Document:
    return closed("salad/salad-cloud.yaml")


async def test_our_requests_are_as_the_document_says(document: Document) -> None:
    scripted = Scripted()
    for call, (name, status) in ANSWERS.items():
        method, path = call.split()
        body = json.loads((FIXTURES / f"{name}.json").read_text()) if name else None
        scripted.says(f"{method} /api/public{path}", body, status=status)
    secrets = {"SALAD_API_KEY": KEY, "SALAD_ORGANIZATION_NAME": "acme-org"}
    salad = connected(Salad, scripted, secrets)
    (page,) = [page async for page in salad.offers(Query())]
    spec = LaunchSpec(
        expires_at=datetime(2026, 3, 2, tzinfo=UTC),
        env={"WORD": "hi"},
        startup_script="echo up\n" * 100,
        command="python train.py",
        ports=((8888, "tcp"),),
        disk_gb=50,
        registry_auth=RegistryAuth("mine", "ghcr.io", "me", "p4ss"),
    )
    hub = LaunchSpec(expires_at=None, registry_auth=RegistryAuth("hub", "", "me", "p4ss"))
    for wanted in (spec, hub):
        ref = await salad.create(wanted, page.rows[0], ATTEMPT, {})
    assert await salad.whoami()
    assert await salad.find(ATTEMPT, page.rows[0])
    assert await salad.get(ref)
    assert (await salad.list("default")).complete
    await salad.stop(ref)
    await salad.start(ref)
    await salad.terminate(ref)
    assert {call.replace("/api/public", "") for call in scripted.asked()} == {*ANSWERS}
    found = [
        wrong
        for request in scripted.requests
        for _, wrong in document.faults_of_request(
            request, request.url.path.removeprefix("/api/public")
        )
    ]
    assert not found


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_each_recorded_answer_is_as_the_document_says(document: Document, name: str) -> None:
    call, status = RECORDED[name]
    method, path = call.split()
    told = json.loads((FIXTURES / f"{name}.json").read_text())
    assert not list(document.faults_of_answer(method, path, status, told))
