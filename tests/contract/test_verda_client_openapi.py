"""Our requests to Verda against a third party's document of its interface, unknown fields closed.

The vendor publishes no document that can be had without a browser. What this one lacks, the
vendor's own SDKs send: `OF_THE_SDKS` says where.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.contract.conftest import vendor_document
from tests.contract.openapi import Document
from tests.providers.scripted import Scripted, connected

from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.query import Query
from gpubroker.model.terms import Market, Resource
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
INSTANCE, SCRIPT = (f"{n}-2222-4333-8444-555555555555" for n in ("11111111", "44444444"))
ANSWERS = {
    "POST /oauth2/token": "token.json",
    "GET /balance": "balance.json",
    "GET /instance-types": "types.json",
    "GET /instance-availability": "free.json",
    "GET /locations": "locations.json",
    "GET /volume-types": "volume-types.json",
    "GET /ssh-keys": "keys.json",
    "POST /ssh-keys": "key-made.txt",
    "GET /scripts": "scripts.json",
    "POST /scripts": "script-made.txt",
    f"DELETE /scripts/{SCRIPT}": "ended.json",
    "POST /instances": "made.txt",
    "GET /instances": "list.json",
    f"GET /instances/{INSTANCE}": "running.json",
    "PUT /instances": "ended.json",
}
"""A call, and the recorded answer that it gets."""
QUERY = {
    "GET /instance-types": {"currency"},
    "GET /instance-availability": {"is_spot"},
}
UNKNOWN_QUERY = ("GET /instance-types", "currency")
"""The SDKs send it; the document does not know it."""


@pytest.fixture(scope="module")
def document() -> Document:
    raw = vendor_document("verda/thirdparty-reconstruction-openapi.yml")
    order = raw["components"]["schemas"]["DeployInstanceRequest"]["properties"]
    order["os_volume"]["properties"] |= SPOT_DISK
    assert "delete" not in raw["paths"]["/scripts/{script_id}"], "the document knows it"
    # As the Python SDK 1.25.0 ends one, without a body.
    raw["paths"]["/scripts/{script_id}"]["delete"] = {}
    return Document(raw, OF_THE_SDKS)


def call_of(request: httpx2.Request) -> str:
    """`METHOD /path`, below the interface's version."""
    return f"{request.method} {request.url.path.removeprefix('/v1')}"


def faults(document: Document, request: httpx2.Request) -> list[str]:
    call = call_of(request)
    path = call.partition(" ")[2]
    known = next((path.replace(a, b) for a, b in ALIASES.items() if path.startswith(a)), path)
    found = [
        wrong
        for field, wrong in document.faults_of_request(request, known)
        if (call, field) != UNKNOWN_QUERY
    ]
    if ("authorization" in request.headers) is (call == "POST /oauth2/token"):
        found.append("a token where none belongs, or none")
    if set(request.url.params) != QUERY.get(call, set()):
        found.append("another query")
    return found


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


async def test_our_requests_are_as_the_document_says(document: Document) -> None:
    scripted = Scripted()
    for call, file in ANSWERS.items():
        scripted.says(call.replace(" ", " /v1"), (FIXTURES / file).read_bytes())
    await _one_life(connected(Verda, scripted))
    assert {call_of(request) for request in scripted.requests} == set(ANSWERS)
    for request in scripted.requests:
        assert not faults(document, request), f"{call_of(request)} {request.content[:80]!r}"


def test_a_request_that_the_document_does_not_know_is_found(document: Document) -> None:
    def request(method: str, path: str, body: Any) -> httpx2.Request:
        return httpx2.Request(method, f"https://verda.test/v1{path}", json=body)

    body = {"instance_type": "1V100.6V", "image": 7, "quantity": 1, "contract": "GIFT"}
    text = "\n".join(faults(document, request("POST", "/instances", body)))
    for part in ("a token where none belongs", "quantity", "GIFT", "ssh_key_ids", "7 is not"):
        assert part in text
    with pytest.raises(KeyError):
        faults(document, request("POST", "/instances/stop", {}))
