"""OpenAPI documents of TensorDock's API by others, unknown fields closed, beside the emulator.

The vendor publishes none. Where these differ from the vendor's pages and from clients that work,
those are right; every difference is a row here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract.openapi import Conversation, Document

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

pytestmark = pytest.mark.judge
Documents = Callable[..., Document]
KEY = {"authorization": "Bearer token-of-the-judge"}
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
NOBODY = "00000000-0000-4000-8000-000000000000"
INSTANCES = "/api/v2/instances"
SECRETS = "/api/v2/secrets"
ORDER: dict[str, Any] = {
    "data": {
        "type": "virtualmachine",
        "attributes": {
            "name": "job-1",
            "type": "virtualmachine",
            "image": "ubuntu2404",
            "resources": {
                "vcpu_count": 8,
                "ram_gb": 32,
                "storage_gb": 200,
                "gpus": {"geforcertx4090-pcie-24gb": {"count": 1}},
            },
            "location_id": "1a779525-4c04-4f2c-aa45-58b47d54bb38",
            "useDedicatedIp": True,
            "ssh_key": PUBLIC,
        },
    }
}

PAGES = "as the vendor's pages show it"
CLIENTS = "as clients saw it"
ABOUT_INSTANCES: dict[tuple[str, str], str] = {
    ("POST /api/v2/instances 201", "data"): f"{PAGES}: flat, not in `attributes`",
    ("GET /api/v2/instances 200", "data"): f"{CLIENTS}: the rows are right in `data`, and flat",
    ("GET /api/v2/instances/{id} 200", ""): f"{PAGES}: in no envelope at all",
    ("POST /api/v2/instances/{id}/stop 200", "type"): f"{PAGES}: an `instance`",
    ("POST /api/v2/instances/{id}/start 200", "type"): f"{PAGES}: an `instance`",
    ("PUT /api/v2/instances/{id}/modify 200", "data"): "as the deletion",
    ("DELETE /api/v2/instances/{id} 200", "data"): f"{PAGES}: the message is in `attributes`",
    ("POST /api/v2/instances 200", ""): f"{CLIENTS}: refused with the status in the body",
    ("POST /api/v2/instances 400", ""): f"{CLIENTS}: a bare list of what is wrong",
    ("GET /api/v2/instances 401", ""): f"{CLIENTS}: one text",
    ("GET /api/v2/instances/{id} 404", ""): f"{CLIENTS}: one text",
    ("DELETE /api/v2/instances/{id} 404", ""): f"{CLIENTS}: gone is not found",
    ("POST /api/v2/instances/{id}/start 409", ""): f"{CLIENTS}: it runs already",
    ("PUT /api/v2/instances/{id}/modify 400", ""): f"{PAGES}: only a stopped one is changed",
}
ABOUT_SECRETS: dict[tuple[str, str], str] = {
    ("POST /api/v2/secrets 201", "data"): f"{PAGES}: flat, not in `attributes`",
    ("GET /api/v2/secrets 200", "type"): f"{PAGES}: the kind of secret",
    ("GET /api/v2/secrets 200", "secrets"): f"{PAGES}: flat, not in `attributes`",
    ("GET /api/v2/secrets/{id} 200", "data"): f"{PAGES}: flat, not in `attributes`",
    ("GET /api/v2/secrets/{id} 404", ""): "no such secret; the document has no refusal",
    ("POST /api/v2/secrets 400", ""): "what is wrong, as with instances",
}
ABOUT_MONEY: dict[tuple[str, str], str] = {
    ("POST /api/v0/auth/test 401", ""): "a bad pair; the document has no refusal",
    ("POST /api/v0/billing/balance 401", ""): "a bad pair; the document has no refusal",
    ("POST /api/v0/billing/balance 200", ""): "`hourly_cost`, as the library of others shows it",
}
"""(operation and status, field): why the emulator says something else than the document."""


async def test_instances_are_told_as_the_document_says_but_for_the_named_deviations(
    served: Served, closed: Documents
) -> None:
    told = closed("tensordock/tensordock-instances-api-openapi.yml")
    ask = Conversation(served, told, "/tensordock", KEY)
    made = await ask("POST", INSTANCES, ORDER)
    one = f"{INSTANCES}/{made['data']['id']}"
    await served.advance(10)
    await ask("GET", INSTANCES)
    await ask("GET", one)
    await ask("POST", f"{one}/stop")
    await ask("PUT", f"{one}/modify", {"cpuCores": 4})
    await ask("POST", f"{one}/start")
    await ask("POST", f"{one}/start")
    await ask("PUT", f"{one}/modify", {"cpuCores": 4})
    await ask("DELETE", one)
    await ask("DELETE", one)
    await ask("GET", one)
    await ask("POST", INSTANCES, {"data": {}})
    await ask.fault("create", "no_capacity")
    await ask("POST", INSTANCES, ORDER)
    for kind in ("rate_limit", "bad_credentials"):
        await ask.fault("list", kind)
        await ask("GET", INSTANCES)
    ask.agrees_but_for(ABOUT_INSTANCES)
    assert ask.succeeded == told.calls()


async def test_secrets_are_told_as_the_document_says_but_for_the_named_deviations(
    served: Served, closed: Documents
) -> None:
    told = closed("tensordock/tensordock-secrets-api-openapi.yml")
    ask = Conversation(served, told, "/tensordock", KEY)
    attributes = {"name": "k", "type": "SSHKEY", "value": PUBLIC}
    made = await ask("POST", SECRETS, {"data": {"type": "secret", "attributes": attributes}})
    one = f"{SECRETS}/{made['data']['id']}"
    await ask("GET", SECRETS)
    await ask("GET", one)
    await ask("DELETE", one)
    await ask("GET", one)
    await ask("POST", SECRETS, {"data": {"type": "secret", "attributes": {}}})
    ask.agrees_but_for(ABOUT_SECRETS)
    assert ask.succeeded == told.calls()


async def test_the_older_api_is_as_the_document_says_but_for_the_named_deviations(
    served: Served, closed: Documents
) -> None:
    told = closed("tensordock/tensordock-marketplace-v0-openapi.yml")
    ask = Conversation(served, told, "/tensordock", {})
    pair = {"api_key": "id", "api_token": "token-of-the-judge"}
    for path in ("/api/v0/auth/test", "/api/v0/billing/balance"):
        await ask("POST", path, data=pair)
        await ask("POST", path, data={**pair, "api_token": "invalid-key"})
    ask.agrees_but_for(ABOUT_MONEY)
    assert len(ask.succeeded) == 2, "of all that v0 has, what v2 has not"


def test_a_field_that_the_document_does_not_know_is_found(closed: Documents) -> None:
    told = closed("tensordock/tensordock-secrets-api-openapi.yml")
    body = {"data": {"type": "secret", "id": NOBODY, "shoe_size": 43}}
    ((_, wrong),) = told.faults_of_answer("GET", f"{SECRETS}/{NOBODY}", 200, body)
    assert "shoe_size" in wrong
