"""FluidStack's own OpenAPI document, unknown fields closed, beside the emulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract.openapi import Conversation, Document

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

pytestmark = pytest.mark.judge
Documents = Callable[..., Document]
DOCUMENT = "fluidstack/platform-openapi.json"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
KEY = {"name": "k", "public_key": PUBLIC}
ORDER: dict[str, Any] = {"gpu_type": "RTX_A5000_24GB", "ssh_key": "k", "name": "job-1"}
NOWHERE = ORDER | {"region": "GERMANY"}
NOT_SOLD = "PUT /user/company-details"
"""The customer's own address: nothing of a machine's life."""
OF_A_LIFE: dict[tuple[str, str], str] = {
    ("GET /instances/{instance_id} 202", ""): "the text says it of pending ones; no schema has it",
    ("GET /instances/{instance_id} 404", ""): "no such instance; the document has no such refusal",
    ("DELETE /instances/{instance_id} 400", ""): "ended already, in the older API's words",
    ("PUT /instances/{instance_id}/stop 409", ""): "not running; the document has no refusal",
    ("POST /ssh_keys 409", ""): "the name is taken; the text says that it must be unique",
    ("DELETE /ssh_keys/{ssh_key_name} 404", ""): "no such key; the document has no refusal",
}
OF_TROUBLE: dict[tuple[str, str], str] = {
    ("POST /instances 400", ""): "out of stock; the document has no refusal",
    ("POST /instances 403", ""): "quota; the document has no refusal",
    ("GET /instances 429", ""): "no limit is documented; the library takes it to pass",
    ("GET /instances 500", ""): "the document has no failure",
}
"""(operation and status, field): why the emulator says something else than the document."""


async def test_every_answer_is_as_the_document_says_but_for_the_named_deviations(
    served: Served, closed: Documents
) -> None:
    told = closed(DOCUMENT)
    ask = Conversation(served, told, "/fluidstack", {"api-key": "key-of-the-judge"})
    await ask("GET", "/healthcheck")
    assert await ask("GET", "/list_available_configurations")
    assert await ask("GET", "/list_available_os_templates")
    for _ in range(2):
        await ask("POST", "/ssh_keys", KEY)
    assert await ask("GET", "/ssh_keys?show_all=true")
    await ask.fault("create", "boot_failure")
    failed = (await ask("POST", "/instances", ORDER))["id"]
    one = f"/instances/{(await ask('POST', '/instances', ORDER))['id']}"
    for path in (one, f"/instances/{failed}"):
        await ask("GET", path)
    for _ in range(3):
        await served.advance(4)
        await ask("GET", one)
    assert len(await ask("GET", "/instances?page=1&include_failed_instances=true")) == 2
    for _ in range(2):
        await ask("PUT", f"{one}/stop")
    await served.advance(3)
    await ask("GET", one)
    await ask("PUT", f"{one}/start")
    for _ in range(2):
        await ask("DELETE", one)
    await ask("GET", one)
    await ask("GET", "/instances/i-0000000000")
    for _ in range(2):
        await ask("DELETE", "/ssh_keys/k")
    ask.agrees_but_for(OF_A_LIFE)
    assert ask.succeeded == told.calls() - {NOT_SOLD}


async def test_every_refusal_is_as_the_document_says_but_for_the_named_deviations(
    served: Served, closed: Documents
) -> None:
    ask = Conversation(served, closed(DOCUMENT), "/fluidstack", {"api-key": "key-of-the-judge"})
    await ask("POST", "/instances", ORDER)
    await ask("POST", "/instances", {})
    await ask("GET", "/instances?page=x")
    await ask("POST", "/ssh_keys", {"name": "k", "public_key": "none"})
    await ask("POST", "/ssh_keys", KEY)
    await ask("POST", "/instances", NOWHERE)
    for kind in ("no_capacity", "quota"):
        await ask.fault("create", kind)
        await ask("POST", "/instances", ORDER)
    for kind in ("rate_limit", "server_error", "bad_credentials"):
        await ask.fault("list", kind)
        await ask("GET", "/instances")
    ask.headers.clear()
    for method, path in (("GET", "/instances"), ("GET", "/ssh_keys"), ("PUT", "/instances/i/stop")):
        await ask(method, path)
    ask.agrees_but_for(OF_TROUBLE)


def test_a_field_that_the_document_does_not_know_is_found(closed: Documents) -> None:
    told = closed(DOCUMENT)
    body = [{"name": "k", "public_key": PUBLIC, "shoe_size": 43}]
    ((_, wrong),) = told.faults_of_answer("GET", "/ssh_keys", 200, body)
    assert "shoe_size" in wrong
