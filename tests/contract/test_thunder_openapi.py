"""Thunder Compute's own OpenAPI document, unknown fields closed, as the judge of the emulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract.openapi import Conversation, Document

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

pytestmark = pytest.mark.judge
HEADERS = {"authorization": "Bearer token-of-the-judge", "user-agent": "gpubroker-tests"}
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
NOBODY = "00000000-0000-4000-8000-000000000000"
ORDER: dict[str, Any] = {
    "cpu_cores": 8,
    "disk_size_gb": 100,
    "gpu_type": "a100xl",
    "num_gpus": 1,
    "mode": "prototyping",
    "template": "base",
    "public_key": PUBLIC,
}
MORE = {"thundertypes.GpuSpecConfig": ("ramCapGiB",)}
"""Schema -> fields that the vendor's newer clients read and the document does not have."""

ANSWERS: dict[tuple[str, str], str] = {
    (
        "POST /instances/{id}/modify 409",
        "",
    ): "not running: the vendor's Terraform provider reads it",
    ("POST /snapshots/create 409", ""): "a name that is taken, as a key's",
    ("POST /snapshots/create 404", ""): "no such instance, as elsewhere",
    ("DELETE /snapshots/{id} 404", ""): "no such snapshot, in the usual form",
    ("DELETE /keys/{id} 404", ""): "no such key, in the usual form",
    ("GET /instances/list 429", ""): "no limit is published: the usual form",
    ("GET /keys/list 429", ""): "no limit is published: the usual form",
}
"""(operation and status, field): why the emulator says something else than the document."""


async def _about_instances(ask: Conversation) -> None:
    for path in ("/pricing", "/specs", "/thunder-templates"):
        await ask("GET", path)
    made = await ask("POST", "/instances/create", ORDER)
    one = f"/instances/{made['uuid']}"
    await ask("GET", "/instances/list")
    await ask("POST", f"{one}/modify", {"add_ports": [80]})
    await ask("POST", f"{one}/add_key", {"public_key": PUBLIC})
    await ask.served.advance(10)
    await ask("GET", "/instances/list")
    await ask("POST", f"{one}/modify", {"add_ports": [80]})
    await ask("POST", f"{one}/modify", {"cpu_cores": 12})
    await ask("POST", f"{one}/add_key")
    await ask("POST", f"{one}/add_key", {"public_key": PUBLIC})
    await ask("POST", "/snapshots/create", {"instanceId": made["uuid"], "name": "s1"})
    await ask("POST", "/snapshots/create", {"instanceId": made["uuid"], "name": "s1"})
    await ask("POST", "/snapshots/create", {"instanceId": NOBODY, "name": "s2"})
    (snapshot,) = await ask("GET", "/snapshots/list")
    await ask("DELETE", f"/snapshots/{snapshot['id']}")
    await ask("DELETE", f"/snapshots/{NOBODY}")
    await ask("POST", f"{one}/delete")
    for path in ("delete", "modify", "add_key"):
        await ask("POST", f"/instances/{NOBODY}/{path}", {})
    await ask("POST", "/instances/create", {**ORDER, "cpu_cores": 9})
    await ask("GET", "/instances/list?page=1")


async def _about_keys(ask: Conversation) -> None:
    body = {"name": "k", "public_key": PUBLIC}
    made = await ask("POST", "/keys/add", body)
    await ask("POST", "/keys/add", body)
    await ask("POST", "/keys/add", {})
    await ask("GET", "/keys/list")
    await ask("DELETE", f"/keys/{made['key']['id']}")
    await ask("DELETE", f"/keys/{made['key']['id']}")


async def _about_trouble(ask: Conversation) -> None:
    for operation, kind in (("create", "server_error"), ("create", "bad_credentials")):
        await ask.fault(operation, kind)
        await ask("POST", "/instances/create", ORDER)
    for operation, path in (("list", "/instances/list"), ("keys", "/keys/list")):
        for kind in ("server_error", "bad_credentials", "rate_limit"):
            await ask.fault(operation, kind)
            await ask("GET", path)


async def test_answers_are_as_the_document_says_but_for_the_named_deviations(
    served: Served, closed: Callable[..., Document]
) -> None:
    document = closed("thunder_compute/swagger.json", MORE)
    ask = Conversation(served, document, "/thunder_compute/v1", HEADERS)
    for about in (_about_instances, _about_keys, _about_trouble):
        await about(ask)
    ask.agrees_but_for(ANSWERS)
    assert ask.succeeded == document.calls()


def test_a_field_that_the_document_does_not_know_is_found(
    closed: Callable[..., Document],
) -> None:
    document = closed("thunder_compute/swagger.json")
    body = {"identifier": 0, "key": "", "uuid": NOBODY, "shoe_size": 43}
    ((_, wrong),) = document.faults_of_answer("POST", "/instances/create", 201, body)
    assert "shoe_size" in wrong
