"""DigitalOcean's own OpenAPI document, unknown fields closed, as the judge of our client.

Of its requests, and of the recorded answers that its tests read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import (  # type: ignore[import-untyped]  # it ships no types
    Draft202012Validator,
)

from gpubroker.model.errors import NotFound
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.query import Query
from gpubroker.model.terms import Resource
from gpubroker.providers.accounts import Account
from gpubroker.providers.digitalocean import DigitalOcean
from gpubroker.providers.http import Transport

pytestmark = pytest.mark.judge
FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures" / "digitalocean"
A_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJxVJ1SPSM9vG2n2fSKZ0eiFO0Ptc1jD3dhKkq8bCQh9"
VOLUME = Ref("digitalocean", "default", "", "506f78a4-e098-11e5-ad9f-000f53306ae1")
RECORDED = {
    "account.json": "GET /v2/account 200",
    "bad-key.json": "GET /v2/account 401",
    "sizes.json": "GET /v2/sizes 200",
    "keys.json": "GET /v2/account/keys 200",
    "key-made.json": "POST /v2/account/keys 201",
    "made.json": "POST /v2/droplets 202",
    "sold-out.json": "POST /v2/droplets default",
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
_COMPOSED = ("allOf", "anyOf", "oneOf")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    folder = os.environ.get("GPUBROKER_SPECS")
    file = Path(folder or "/nonexistent") / "digitalocean" / "digitalocean-v2-trimmed.json"
    if not file.exists():
        why = "GPUBROKER_SPECS does not name a folder with the vendors' specifications"
        if os.environ.get("GPUBROKER_REQUIRE_SPECS") == "1":
            pytest.fail(why)
        pytest.skip(why)
    read: dict[str, Any] = json.loads(file.read_text())
    return read


def closed(schema: Any, *, part: bool = False) -> Any:
    """OpenAPI 3.0 as JSON Schema, with every object closed to fields that it does not list.

    `part`: of a composition, which is closed as a whole, at the place of its use.
    """
    if not isinstance(schema, dict):
        return schema
    tight = dict(schema)
    for word in _COMPOSED:
        if word in tight:
            tight[word] = [closed(one, part=True) for one in tight[word]]
    if "properties" in tight:
        tight["properties"] = {name: closed(one) for name, one in tight["properties"].items()}
    if "items" in tight:
        tight["items"] = closed(tight["items"])
    # YAML 1.1 reads the word `off` as false, and the published document has it so.
    if False in tight.get("enum", ()):
        tight["enum"] = ["off" if word is False else word for word in tight["enum"]]
    if tight.pop("nullable", False) and "type" in tight:
        tight["type"] = [tight["type"], "null"]
    if not part and ({*_COMPOSED, "properties", "$ref"} & tight.keys()):
        tight["unevaluatedProperties"] = False
    return tight


def faults(document: dict[str, Any], schema: Any, body: Any) -> Iterator[str]:
    known = document["components"]["schemas"].items()
    schemas = {name: closed(one, part=True) for name, one in known}
    root = {**closed(schema), "components": {"schemas": schemas}}
    for error in Draft202012Validator(root).iter_errors(body):
        yield f"{error.json_path}: {error.message[:300]}"


def operation_of(document: dict[str, Any], request: httpx2.Request) -> str:
    """`GET /v2/droplets`, as in the document; KeyError where it knows no such call."""
    for path, methods in document["paths"].items():
        pattern = re.sub(r"\\\{\w+\\\}", r"[0-9a-f-]+", re.escape(path))
        if request.method.lower() in methods and re.fullmatch(pattern, request.url.path):
            return f"{request.method} {path}"
    raise KeyError(f"{request.method} {request.url.path}")


def faults_in_query(known: Mapping[str, Any], request: httpx2.Request) -> Iterator[str]:
    listed = {one["name"]: one["schema"] for one in known.get("parameters", ())}
    for name, value in request.url.params.items():
        if name not in listed:
            yield f"{name} in the query is not in the document"
            continue
        number = listed[name].get("type") == "integer"
        told = int(value) if number and value.isdecimal() else value
        for error in Draft202012Validator(listed[name]).iter_errors(told):
            yield f"{name}: {error.message}"


def faults_in_request(document: dict[str, Any], request: httpx2.Request) -> Iterator[str]:
    method, path = operation_of(document, request).split()
    known = document["paths"][path][method.lower()]
    if not request.headers["authorization"].startswith("Bearer "):
        yield "no bearer token"
    yield from faults_in_query(known, request)
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

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        call = operation_of(self.document, request)
        if call in ANSWERS:
            return httpx2.Response(200, content=(FIXTURES / ANSWERS[call]).read_bytes())
        body = UNRECORDED[call]
        return httpx2.Response(204) if body is None else httpx2.Response(200, json=body)


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
    assert (await ocean.billing(ref, began, None)).amount
    assert (await ocean.resources("")).complete
    await ocean.discard(Resource.SSH_KEY, key)
    await ocean.discard(Resource.VOLUME, VOLUME)


def ocean_on(wire: Any) -> DigitalOcean:
    account = Account(
        "digitalocean", "default", {"DIGITALOCEAN_ACCESS_TOKEN": "k3y-0f-the-tests-n0t-real"}
    )
    transport = Transport(
        "digitalocean",
        "https://ocean.test",
        auth=lambda: DigitalOcean.authorization(account),
        wire=httpx2.MockTransport(wire),
    )
    return DigitalOcean(account, transport)


async def test_our_requests_are_as_the_document_says(document: dict[str, Any]) -> None:
    vendor = Recorder(document)
    await _one_life(ocean_on(vendor))
    asked = {operation_of(document, request) for request in vendor.requests}
    assert asked == {*ANSWERS, *UNRECORDED}
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


async def test_the_documents_own_words_for_what_is_not_there_are_understood(
    document: dict[str, Any],
) -> None:
    known = document["paths"]["/v2/droplets/{droplet_id}"]
    for method, call in (("get", "get"), ("delete", "terminate")):
        said = known[method]["responses"]["404"]["content"]["application/json"]["example"]
        ocean = ocean_on(lambda _, said=said: httpx2.Response(404, json=said))
        asked = getattr(ocean, call)(Ref("digitalocean", "default", "", "3164444"))
        if call == "get":
            with pytest.raises(NotFound):
                await asked
        else:
            await asked


def test_a_request_that_the_document_does_not_know_is_found(document: dict[str, Any]) -> None:
    def request(method: str, path: str, body: Any) -> httpx2.Request:
        headers = {"authorization": "Basic x"}
        return httpx2.Request(method, f"https://ocean.test{path}", json=body, headers=headers)

    body = {"name": "gb_x", "size": "s", "image": "i", "quantity": 1}
    found = list(faults_in_request(document, request("POST", "/v2/droplets?per_page=5", body)))
    assert any("no bearer token" in one for one in found)
    assert any("per_page" in one for one in found)
    assert any("not valid under any of the given schemas" in one for one in found)
    fitting = {"name": "gb-x", "size": "s", "image": "i"}
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"quantity": 1},
        {"name": "gb_x"},
        {"ssh_keys": [{}]},
    )
    for change in changes:
        faulty = list(
            faults_in_request(document, request("POST", "/v2/droplets", fitting | change))
        )
        assert (len(faulty) > 1) == bool(change), faulty
    listed = list(faults_in_request(document, request("GET", "/v2/droplets?type=gpu", None)))
    assert any("'gpu'" in one for one in listed)
    with pytest.raises(KeyError):
        operation_of(document, request("POST", "/v2/tags", {}))
