"""DigitalOcean's own OpenAPI document, unknown fields closed, as the judge of our client.

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

from gpubroker.model.errors import NotFound
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.query import Query
from gpubroker.model.terms import Resource
from gpubroker.providers.digitalocean import DigitalOcean

pytestmark = pytest.mark.judge
FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures" / "digitalocean"
A_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJxVJ1SPSM9vG2n2fSKZ0eiFO0Ptc1jD3dhKkq8bCQh9"
DROPLET = "3164444"
VOLUME = Ref("digitalocean", "default", "", "506f78a4-e098-11e5-ad9f-000f53306ae1")
RECORDED = {
    "account.json": "GET /v2/account 200",
    "bad-key.json": "GET /v2/account 401",
    "sizes.json": "GET /v2/sizes 200",
    "keys.json": "GET /v2/account/keys 200",
    "key-made.json": "POST /v2/account/keys 201",
    "made.json": "POST /v2/droplets 202",
    "sold-out.json": "POST /v2/droplets 422",
    "list.json": "GET /v2/droplets 200",
    "running.json": "GET /v2/droplets/{droplet_id} 200",
    "new.json": "GET /v2/droplets/{droplet_id} 200",
    "off.json": "GET /v2/droplets/{droplet_id} 200",
    "missing.json": "GET /v2/droplets/{droplet_id} 404",
    "invoices.json": "GET /v2/customers/my/invoices 200",
    "items.json": "GET /v2/customers/my/invoices/{invoice_uuid} 200",
}
"""File -> the call and status whose answer it is."""
ANSWERS = {
    **{call.rpartition(" ")[0]: file for file, call in RECORDED.items() if " 20" in call},
    "GET /v2/droplets/{droplet_id}": "running.json",
}
UNRECORDED = {
    "GET /v2/volumes": {"volumes": [], "links": {}, "meta": {"total": 0}},
    "DELETE /v2/droplets/{droplet_id}": None,
    "DELETE /v2/account/keys/{ssh_key_identifier}": None,
    "DELETE /v2/volumes/{volume_id}": None,
}


@pytest.fixture(scope="module")
def document(closed: Callable[..., Document]) -> Document:
    return closed("digitalocean/digitalocean-v2-trimmed.json")


def told(file: str) -> Any:
    return json.loads((FIXTURES / file).read_text())


def call_of(document: Document, request: httpx2.Request) -> str:
    """As in the document; KeyError where it knows no such call."""
    return f"{request.method} {document.path_of(request.method, request.url.path)}"


def faults(document: Document, request: httpx2.Request) -> list[str]:
    found = [wrong for _, wrong in document.faults_of_request(request, request.url.path)]
    bearer = request.headers["authorization"].startswith("Bearer ")
    return found if bearer else [*found, "no bearer token"]


async def _one_life(ocean: DigitalOcean) -> None:
    """Everything that our client can ask, of a plain machine and of one with all there is."""
    (page,) = [page async for page in ocean.offers(Query())]
    offer = page.rows[0]
    began = datetime(2026, 10, 1, tzinfo=UTC)
    plain = LaunchSpec(expires_at=began, ssh_keys=(f"{A_KEY} gb-abcdef",))
    everything = LaunchSpec(
        expires_at=None,
        image="ubuntu:24.04",
        vm_image="198567",
        command="sleep 5",
        startup_script="echo hello",
        env={"WORD": "hi"},
        ports=((8888, "tcp"), (9000, "udp")),
        ssh_keys=(f"{A_KEY} gb-abcdef", f"{A_KEY[:-4]}MINE me"),
        disk_gb=100,
        volumes=((VOLUME, "/dev/disk/by-id/scsi-0DO_Volume_data-1"),),
        options={
            "ipv6": True,
            "monitoring": True,
            "with_droplet_agent": False,
            "vpc_uuid": "760e09ef-dc84-11e8-981e-3cfdfeaae000",
        },
    )
    attempt = Attempt("abcdef", "abcdefghijklmnop", "launch")
    assert await ocean.whoami()
    assert await ocean.quotas()
    for spec in (plain, everything):
        key = await ocean.ensure(Resource.SSH_KEY, spec, offer, attempt, {})
        ref = await ocean.create(spec, offer, attempt, {Resource.SSH_KEY: key})
        assert await ocean.find(attempt, offer)
        assert (await ocean.get(ref)).ref == ref
        assert (await ocean.list("")).complete
        await ocean.terminate(ref)
    assert (await ocean.billing(ref, began, began)).amount
    assert (await ocean.resources("")).complete
    await ocean.discard(Resource.SSH_KEY, key)
    await ocean.discard(Resource.VOLUME, VOLUME)


async def test_our_requests_are_as_the_document_says(document: Document) -> None:
    scripted = Scripted()
    real = {
        "droplet_id": DROPLET,
        "invoice_uuid": told("invoices.json")["invoices"][0]["invoice_uuid"],
        "ssh_key_identifier": str(told("key-made.json")["ssh_key"]["id"]),
        "volume_id": VOLUME.id,
    }
    for call, file in ANSWERS.items():
        scripted.says(call.format(**real), told(file))
    for call, body in UNRECORDED.items():
        scripted.says(call.format(**real), body)
    await _one_life(connected(DigitalOcean, scripted))
    asked = {call_of(document, request) for request in scripted.requests}
    assert asked == {*ANSWERS, *UNRECORDED}
    for request in scripted.requests:
        assert not faults(document, request), call_of(document, request)


@pytest.mark.parametrize(("file", "call"), RECORDED.items())
def test_each_recorded_answer_is_as_the_document_says(
    document: Document, file: str, call: str
) -> None:
    method, path, status = call.split()
    assert not list(document.faults_of_answer(method, path, int(status), told(file)))


async def test_the_documents_own_words_for_what_is_not_there_are_understood(
    document: Document,
) -> None:
    known = document.raw["paths"]["/v2/droplets/{droplet_id}"]
    scripted = Scripted()
    for method in ("get", "delete"):
        said = known[method]["responses"]["404"]["content"]["application/json"]["example"]
        scripted.says(f"{method.upper()} /v2/droplets/{DROPLET}", said, status=404)
    ocean, ref = connected(DigitalOcean, scripted), Ref("digitalocean", "default", "", DROPLET)
    with pytest.raises(NotFound):
        await ocean.get(ref)
    await ocean.terminate(ref)


def test_a_request_that_the_document_does_not_know_is_found(document: Document) -> None:
    def wrong(method: str, path: str, body: Any = None) -> list[str]:
        headers = {"authorization": "Basic x"}
        request = httpx2.Request(method, f"https://ocean.test{path}", json=body, headers=headers)
        return faults(document, request)

    found = "\n".join(wrong("POST", "/v2/droplets?per_page=5", {"name": "gb_x", "size": "s"}))
    for part in ("no bearer token", "document's query", "any of the given schemas"):
        assert part in found
    fitting = {"name": "gb-x", "size": "s", "image": "i"}
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"quantity": 1},
        {"name": "gb_x"},
        {"ssh_keys": [{}]},
    )
    for change in changes:
        faulty = wrong("POST", "/v2/droplets", {**fitting, **change})
        assert (len(faulty) > 1) == bool(change), faulty
    assert "'gpu'" in wrong("GET", "/v2/droplets?type=gpu")[0]
    with pytest.raises(KeyError):
        wrong("POST", "/v2/tags", {})
