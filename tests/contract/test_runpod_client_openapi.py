"""RunPod's own OpenAPI document as the judge of our client.

Of its requests, with unknown fields closed, and of how it reads the document's own examples.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from tests.contract.openapi import Document
from tests.providers.scripted import START, Scripted, connected

from gpubroker.model.gpu import Gpu
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint
from gpubroker.model.launch import LaunchSpec, RegistryAuth
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market, Resource, Source, State
from gpubroker.providers.runpod import RunPod

pytestmark = pytest.mark.judge
ME = {"data": {"myself": {"id": "user_1", "clientBalance": 12.5}}}
POD, REGISTRY = Ref("runpod", "default", "", "7h9k2m4n6p"), "6n2k8v4d"
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


@pytest.fixture(scope="module")
def document(closed: Callable[..., Document]) -> Document:
    return closed("runpod/rest-v2-openapi.json")


def examples(document: Document) -> Scripted:
    """A vendor that answers with the examples of its own document."""
    scripted = Scripted().says("POST /graphql", ME)
    for call in OF_ONE_LIFE:
        method, path = call.split()
        answers = document.raw["paths"][path][method.lower()]["responses"]
        status = min(code for code in answers if code.startswith("2"))
        content = answers[status].get("content")
        told = content and next(iter(content["application/json"]["examples"].values()))["value"]
        id_ = REGISTRY if "registries" in path else POD.id
        scripted.says(call.format(id=id_), told, status=int(status))
    return scripted


def faults(document: Document, request: httpx2.Request) -> list[str]:
    told = document.faults_of_request(request, request.url.path)
    found = [f"{field} {wrong}" for field, wrong in told]
    bearer = request.headers.get("authorization", "").startswith("Bearer ")
    return found if bearer else [*found, "no bearer token"]


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
        fetched_at=START,
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
    expires_at=START + timedelta(hours=1),
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
    bill = await client.billing(POD, START - timedelta(hours=12), START)
    assert (bill.amount, len(bill.lines)) == (12_340_000_000, 2)
    await client.terminate(POD)


async def test_our_requests_are_as_the_document_says(document: Document) -> None:
    scripted = examples(document)
    await one_life(connected(RunPod, scripted))
    asked = [request for request in scripted.requests if request.url.path != "/graphql"]
    called = {f"{one.method} {document.path_of(one.method, one.url.path)}" for one in asked}
    assert called == OF_ONE_LIFE
    for request in asked:
        assert not faults(document, request), f"{request.method} {request.url}"


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
    document: Document, method: str, path: str, body: Any, wrong: str
) -> None:
    headers = {"authorization": "Bearer k"}
    request = httpx2.Request(method, f"https://runpod.test{path}", headers=headers, json=body)
    found = faults(document, request)
    assert any(wrong in one for one in found), found
    with pytest.raises(KeyError):
        document.path_of("POST", "/v2/machines")
