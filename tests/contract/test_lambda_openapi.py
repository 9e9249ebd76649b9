"""Lambda's own OpenAPI document 1.8.3, unknown fields closed, as the judge of the emulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract.openapi import Conversation, Document

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

pytestmark = pytest.mark.judge
ROOT = "/lambda_labs"
V1 = "/api/v1"
LAUNCH = "/instance-operations/launch"
KEY = "secret_judge_0123456789abcdef.tokentokentoken"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"

ANSWERS: dict[tuple[str, str], str] = {
    ("POST /api/v1/instance-operations/terminate 400", ""): (
        "refused while `actions` say so; the document names no answer"
    ),
    ("POST /api/v1/instance-operations/restart 400", ""): "as terminate",
    (
        "PUT /api/v1/firewall-rules 400",
        "",
    ): "an invalid rule, in the usual form; the document has none",
    ("PATCH /api/v1/firewall-rulesets/{id} 400", ""): "as PUT /firewall-rules",
    ("PATCH /api/v1/firewall-rulesets/global 400", ""): "as PUT /firewall-rules",
    ("GET /api/v1/instances 400", ""): "an unknown parameter, in the usual form",
    ("GET /api/v1/instances 500", ""): "the internal error of other paths",
}
"""(operation and status, field): why the emulator says something else than the document."""


A10: dict[str, Any] = {
    "region_name": "us-west-1",
    "instance_type_name": "gpu_1x_a10",
    "ssh_key_names": ["mine"],
}


@pytest.fixture
def document(closed: Callable[..., Document]) -> Document:
    return closed("lambda_labs/openapi-1.8.3.json")


class Unwrapping(Conversation):
    """Paths below `/api/v1`; of what is answered, what is under `data`."""

    async def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        return (await super().__call__(method, f"{V1}{path}", body, **more)).get("data")


async def _about_instances(ask: Conversation) -> None:
    await ask("POST", "/ssh-keys", {"name": "mine", "public_key": PUBLIC})
    await ask("GET", "/instance-types")
    await ask("GET", "/images")
    disk = await ask("POST", "/filesystems", {"name": "data", "region": "us-west-1"})
    rules = {"name": "web", "region": "us-west-1", "rules": []}
    ruleset = await ask("POST", "/firewall-rulesets", rules)
    whole = {
        **A10,
        "name": "My Instance",
        "hostname": "head",
        "tags": [{"key": "owner", "value": "me"}],
        "file_system_mounts": [{"mount_point": "/data/x", "file_system_id": disk["id"]}],
        "firewall_rulesets": [{"id": ruleset["id"]}],
        "user_data": "#!/bin/sh\ntrue\n",
        "image": {"family": "ubuntu-24-04"},
    }
    (id_,) = (await ask("POST", LAUNCH, whole))["instance_ids"]
    await ask("GET", f"/instances/{id_}")
    await ask("GET", "/instances")
    await ask("GET", "/instances?colour=red")
    await ask("POST", f"/instances/{id_}", {"name": "new"})
    await ask("POST", f"/instances/{id_}", {"name": 1})
    await ask("POST", "/instances/nothing", {"name": "new"})
    for wrong in (
        {"quantity": 1},
        {"ssh_key_names": ["nobody's"]},
        {"instance_type_name": "nothing"},
        {"image": {"family": "nothing"}},
        {"region_name": "me-west-1"},
        {"region_name": "us-east-1", "file_system_names": ["data"]},
    ):
        await ask("POST", LAUNCH, {**A10, **wrong})
    await ask.fault("create", "quota")
    await ask("POST", LAUNCH, A10)
    await ask("DELETE", f"/filesystems/{disk['id']}")
    await ask("DELETE", f"/firewall-rulesets/{ruleset['id']}")
    await ask("GET", "/file-systems")
    one = {"instance_ids": [id_]}
    await ask("POST", "/instance-operations/restart", one)
    await ask("POST", "/instance-operations/restart", {"instance_ids": ["nothing"]})
    await ask("POST", "/instance-operations/restart", {})
    await ask("POST", "/instance-operations/terminate", one)
    await ask("POST", "/instance-operations/terminate", one)
    await ask("GET", "/instances")
    await ask("POST", "/instance-operations/terminate", one)
    await ask("GET", f"/instances/{id_}")
    await ask.served.advance(600)
    await ask("GET", f"/instances/{id_}")
    await ask("DELETE", f"/filesystems/{disk['id']}")
    await ask("DELETE", f"/filesystems/{disk['id']}")
    await ask("DELETE", f"/firewall-rulesets/{ruleset['id']}")


async def _about_the_account(ask: Conversation) -> None:
    pair = await ask("POST", "/ssh-keys", {"name": "pair"})
    await ask("POST", "/ssh-keys", {"name": "pair"})
    await ask("GET", "/ssh-keys")
    await ask("DELETE", f"/ssh-keys/{pair['id']}")
    await ask("DELETE", f"/ssh-keys/{pair['id']}")
    disk = {"name": "twice", "region": "us-west-1"}
    await ask("POST", "/filesystems", disk)
    await ask("POST", "/filesystems", disk)
    await ask("POST", "/filesystems", {"name": "1st", "region": "us-west-1"})
    rules = await ask("GET", "/firewall-rules")
    await ask("PUT", "/firewall-rules", {"data": rules})
    await ask("PUT", "/firewall-rules", {"data": [{"protocol": "icmp"}]})
    await ask("GET", "/firewall-rulesets/global")
    await ask("PATCH", "/firewall-rulesets/global", {"rules": rules})
    await ask("PATCH", "/firewall-rulesets/global", {"name": "x"})
    made = {"name": "web", "region": "us-west-1", "rules": rules}
    ruleset = f"/firewall-rulesets/{(await ask('POST', '/firewall-rulesets', made))['id']}"
    await ask("POST", "/firewall-rulesets", {**made, "region": "mars-1"})
    await ask("GET", "/firewall-rulesets")
    await ask("GET", ruleset)
    await ask("PATCH", ruleset, {"name": "www"})
    await ask("PATCH", ruleset, {"colour": "red"})
    await ask("DELETE", ruleset)
    for method in ("GET", "DELETE"):
        await ask(method, ruleset)
    await ask("PATCH", ruleset, {"name": "x"})
    await ask("GET", "/audit-events")
    await ask("GET", "/audit-events?start=yesterday")
    await ask.fault("list", "server_error")
    await ask("GET", "/instances")
    ask.headers["Authorization"] = "Bearer invalid-key"
    for call in ask.document.calls():
        method, path = call.split()
        await ask(method, path.removeprefix(V1).replace("{id}", "nothing"))


async def test_answers_are_as_the_document_says_but_for_the_named_deviations(
    served: Served, document: Document
) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    ask = Unwrapping(served, document, ROOT, headers, pause_s=12)
    await _about_instances(ask)
    await _about_the_account(ask)
    ask.agrees_but_for(ANSWERS)
    assert ask.succeeded == document.calls(), "each operation of the document succeeded once"


def test_a_field_that_the_document_does_not_know_is_found(document: Document) -> None:
    row = {"id": "1", "name": "x", "public_key": "y", "shoe_size": 43}
    told = {"data": [row]}
    (wrong,) = document.faults_of_answer("GET", f"{V1}/ssh-keys", 200, told)
    assert "shoe_size" in wrong[1]
    assert list(document.faults_of_answer("GET", f"{V1}/ssh-keys", 302, {}))
