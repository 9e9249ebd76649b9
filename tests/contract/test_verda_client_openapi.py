"""Our requests to Verda against a third party's document of its interface, unknown fields closed.

The vendor publishes no document that can be had without a browser. What this one lacks, the
vendor's own SDKs send: `OF_THE_SDKS` says where.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from jsonschema import (  # type: ignore[import-untyped]  # it ships no types
    Draft202012Validator,
)

from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.query import Query
from gpubroker.model.terms import Market, Resource
from gpubroker.providers.accounts import Account
from gpubroker.providers.http import Transport
from gpubroker.providers.verda import Verda

pytestmark = pytest.mark.judge
FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures" / "verda"
A_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrokerKeyOfTheTestsNotReal000000000000000000"
TEXT, FLAG = {"type": "string"}, {"type": "boolean"}
OF_THE_SDKS: dict[str, dict[str, Any]] = {
    "DeployInstanceRequest": {
        "contract": {"enum": ["LONG_TERM", "PAY_AS_YOU_GO", "SPOT"]},
        "pricing": {"enum": ["DYNAMIC_PRICE", "FIXED_PRICE"]},
        "tags": {"type": "array", "maxItems": 10, "items": {"properties": {
            "key": TEXT | {"maxLength": 63}, "value": TEXT | {"maxLength": 127}}}},
    },
    "InstanceActionRequest": {"delete_permanently": FLAG},
}  # fmt: skip
"""Fields of a body that the Go SDK (tags: its newest) and the Python SDK 1.25.0 send."""
SPOT_DISK = {
    "on_spot_discontinue": {"enum": ["keep_detached", "move_to_trash", "delete_permanently"]}
}
ALIASES = {"/ssh-keys": "/sshkeys"}
"""The Go SDK's path -> the Python SDK's older one, which is that of the document."""
QUERIES = {"GET /instance-types": {"currency"}, "GET /instance-availability": {"is_spot"}}
"""`currency` is of the SDKs."""
ANSWERS = {
    "POST /oauth2/token": "token.json",
    "GET /balance": "balance.json",
    "GET /instance-types": "types.json",
    "GET /instance-availability": "free.json",
    "GET /locations": "locations.json",
    "GET /volume-types": "volume-types.json",
    "GET /sshkeys": "keys.json",
    "POST /sshkeys": "key-made.txt",
    "GET /scripts": "scripts.json",
    "POST /scripts": "script-made.txt",
    "DELETE /scripts/{script_id}": "ended.json",
    "POST /instances": "made.txt",
    "GET /instances": "list.json",
    "GET /instances/{instance_id}": "running.json",
    "PUT /instances": "ended.json",
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    folder = os.environ.get("GPUBROKER_SPECS")
    file = Path(folder or "/nonexistent") / "verda" / "thirdparty-reconstruction-openapi.yml"
    if not file.exists():
        why = "GPUBROKER_SPECS does not name a folder with the vendors' specifications"
        if os.environ.get("GPUBROKER_REQUIRE_SPECS") == "1":
            pytest.fail(why)
        pytest.skip(why)
    read: dict[str, Any] = yaml.safe_load(file.read_text())
    schemas = read["components"]["schemas"]
    for name, fields in OF_THE_SDKS.items():
        assert not fields.keys() & schemas[name]["properties"].keys(), "the document knows it"
        schemas[name]["properties"] |= fields
    schemas["DeployInstanceRequest"]["properties"]["os_volume"]["properties"] |= SPOT_DISK
    assert "delete" not in read["paths"]["/scripts/{script_id}"], "the document knows it"
    # As the Python SDK 1.25.0 ends one, without a body.
    read["paths"]["/scripts/{script_id}"]["delete"] = {}
    return read


def closed(schema: Any) -> Any:
    """The schema with every object that lists its properties closed to others."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tight = {name: closed(value) for name, value in schema.items()}
    if isinstance(tight.get("properties"), dict) and tight["properties"]:
        tight.setdefault("additionalProperties", False)
    return tight


def faults(document: dict[str, Any], schema: Any, body: Any) -> Iterator[str]:
    root = {**closed(schema), "components": {"schemas": closed(document["components"]["schemas"])}}
    for error in Draft202012Validator(root).iter_errors(body):
        yield f"{error.json_path}: {error.message}"


def operation_of(document: dict[str, Any], request: httpx2.Request) -> str:
    """`GET /instances`, as in the document; KeyError where it knows no such call."""
    asked = request.url.path.removeprefix("/v1")
    asked = next((asked.replace(a, b) for a, b in ALIASES.items() if asked.startswith(a)), asked)
    for path, methods in document["paths"].items():
        pattern = re.sub(r"\\\{\w+\\\}", r"[0-9a-f-]{36}", re.escape(path))
        if request.method.lower() in methods and re.fullmatch(pattern, asked):
            return f"{request.method} {path}"
    raise KeyError(f"{request.method} {request.url.path}")


def faults_in_request(document: dict[str, Any], request: httpx2.Request) -> Iterator[str]:
    operation = operation_of(document, request)
    method, path = operation.split()
    known = document["paths"][path][method.lower()]
    is_token = operation == "POST /oauth2/token"
    if ("authorization" in request.headers) is is_token:
        yield "a token where none belongs, or none"
    if set(request.url.params) != QUERIES.get(operation, set()):
        yield "another query"
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
        file = FIXTURES / ANSWERS[operation_of(self.document, request)]
        return httpx2.Response(200, content=file.read_bytes())


async def _one_life(verda: Verda) -> None:
    """Everything that our client can ask, of a plain machine and a spot one with all there is."""
    (page,) = [page async for page in verda.offers(Query())]
    plain, spot = (
        next(row for row in page.rows if row.market is market)
        for market in (Market.ON_DEMAND, Market.SPOT)
    )
    key = f"{A_KEY} gb-abcdef"
    everything = LaunchSpec(
        expires_at=None,
        image="ubuntu:24.04",
        vm_image="ubuntu-24.04-cuda-12.8-open-docker",
        command="sleep 5",
        startup_script="echo hello",
        env={"WORD": "hi"},
        ports=((8888, "tcp"), (9000, "udp")),
        ssh_keys=(key, f"{A_KEY[:-4]}MINE me"),
        disk_gb=200,
    )
    simple = LaunchSpec(expires_at=datetime(2026, 3, 2, tzinfo=UTC), ssh_keys=(key,))
    attempt = Attempt("abcdef", "abcdefghijklmnop", "launch")
    assert await verda.whoami()
    assert await verda.balance()
    for spec, offer in ((simple, plain), (everything, spot)):
        have: dict[Resource, Ref] = {}
        for what in verda.capabilities.needs:
            have[what] = await verda.ensure(what, spec, offer, attempt, have)
        ref = await verda.create(spec, offer, attempt, have)
        assert await verda.find(attempt, offer)
        assert (await verda.get(ref)).ref == ref
        assert (await verda.list("")).complete
        await verda.terminate(ref)
        for what, made in have.items():
            await verda.release(what, made)


async def test_our_requests_are_as_the_document_says(document: dict[str, Any]) -> None:
    vendor = Recorder(document)
    secrets = {"VERDA_CLIENT_ID": "client-id-0123456789", "VERDA_CLIENT_SECRET": "n0t-real"}
    transport = Transport("verda", "https://verda.test", wire=httpx2.MockTransport(vendor))
    await _one_life(Verda(Account("verda", "default", secrets), transport))
    assert {operation_of(document, request) for request in vendor.requests} == set(ANSWERS)
    found = {
        f"{operation_of(document, request)} {request.content[:80]!r}": list(
            faults_in_request(document, request)
        )
        for request in vendor.requests
    }
    assert not any(found.values()), found


def test_a_request_that_the_document_does_not_know_is_found(document: dict[str, Any]) -> None:
    def request(method: str, path: str, body: Any) -> httpx2.Request:
        return httpx2.Request(method, f"https://verda.test/v1{path}", json=body)

    body = {"instance_type": "1V100.6V", "image": 7, "quantity": 1, "contract": "GIFT"}
    text = "\n".join(faults_in_request(document, request("POST", "/instances", body)))
    for part in ("a token where none belongs", "quantity", "GIFT", "ssh_key_ids", "7 is not"):
        assert part in text
    with pytest.raises(KeyError):
        operation_of(document, request("POST", "/instances/stop", {}))
