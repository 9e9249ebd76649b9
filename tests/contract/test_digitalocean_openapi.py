"""DigitalOcean's own OpenAPI document, unknown fields closed, as the judge of the emulator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract.conftest import vendor_document
from tests.contract.openapi import Conversation, Document

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

pytestmark = pytest.mark.judge
ROOT = "/digitalocean"
KEY = "dop_v1_judge0123456789abcdef"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
ADA: dict[str, Any] = {
    "name": "judged",
    "region": "nyc2",
    "size": "gpu-4000adax1-20gb",
    "image": "gpu-h100x1-base",
}

OPENED_SINCE = ("atl1", "ric1")
"""Regions: the document's list, in its images, has neither of these."""
MORE = {"size": ("networking_throughput",)}
"""Schema -> what the vendor tells of each of them, and the document does not know."""
NOT_SERVED = {
    "POST /v2/images": "images of one's own are no part of renting machines",
    "GET /v2/customers/my/invoices/{invoice_uuid}/summary": "addresses and names, no charges",
    "POST /v2/droplets/{droplet_id}/destroy_with_associated_resources/retry": (
        "answers 409 where nothing failed, and here nothing fails"
    ),
}


@pytest.fixture
def document() -> Document:
    raw = vendor_document("digitalocean/digitalocean-v2-trimmed.json")
    regions = raw["components"]["schemas"]["image"]["properties"]["regions"]["items"]["enum"]
    assert not set(OPENED_SINCE) & set(regions), "the document knows it"
    regions.extend(OPENED_SINCE)
    return Document(raw, MORE)


async def _about_droplets(ask: Conversation) -> None:
    key = (await ask("POST", "/v2/account/keys", {"name": "k", "public_key": PUBLIC}))["ssh_key"]
    await ask("POST", "/v2/account/keys", {"name": "k", "public_key": PUBLIC})
    for path in ("/v2/sizes?per_page=200", "/v2/sizes?per_page=2&page=2", "/v2/regions"):
        await ask("GET", path)
    await ask("GET", "/v2/images?type=distribution")
    await ask("GET", "/v2/images/gpu-amd-base")
    disk = {"name": "data", "region": "nyc2", "size_gigabytes": 10, "filesystem_type": "ext4"}
    volume = (await ask("POST", "/v2/volumes", disk))["volume"]["id"]
    whole = {
        **ADA,
        "ssh_keys": [key["id"]],
        "tags": ["a"],
        "user_data": "#cloud-config\n",
        "volumes": [volume],
        "monitoring": True,
        "ipv6": False,
    }
    made = await ask("POST", "/v2/droplets", whole)
    droplet = f"/v2/droplets/{made['droplet']['id']}"
    action = made["links"]["actions"][0]["id"]
    await ask("POST", "/v2/droplets", {**whole, "volumes": [], "region": "syd1"})
    await ask("POST", "/v2/droplets", {"colour": "red"})
    several = {name: value for name, value in ADA.items() if name != "name"}
    await ask("POST", "/v2/droplets", {**several, "names": ["one", "two"], "tags": ["b"]})
    for path in ("?type=gpus", "", "?type=gpus&per_page=1", "?tag_name=a&type=gpus"):
        await ask("GET", f"/v2/droplets{path}")
    for path in (droplet, f"{droplet}/actions", f"{droplet}/actions/{action}"):
        await ask("GET", path)
    for path in ("/v2/actions", f"/v2/actions/{action}", "/v2/actions/1", "/v2/droplets/1"):
        await ask("GET", path)
    for type_ in ("power_off", "power_on", "power_on", "snapshot"):
        await ask("POST", f"{droplet}/actions", {"type": type_})
    await ask("POST", "/v2/droplets/actions?tag_name=a", {"type": "shutdown"})
    await ask("GET", droplet)
    await ask("GET", "/v2/volumes")
    for path in (f"/v2/volumes/{volume}", f"/v2/volumes/{volume}/actions"):
        await ask("GET", path)
    moved = {"type": "detach", "droplet_id": made["droplet"]["id"]}
    action = (await ask("POST", f"/v2/volumes/{volume}/actions", moved))["action"]["id"]
    await ask("GET", f"/v2/volumes/{volume}/actions/{action}")
    named = {**moved, "type": "attach", "volume_name": "data", "region": "nyc2"}
    await ask("POST", "/v2/volumes/actions", named)
    ending = f"{droplet}/destroy_with_associated_resources"
    snapshots = (await ask("GET", ending))["snapshots"]
    await ask("PUT", f"/v2/images/{snapshots[0]['id']}", {"name": "n"})
    await ask("GET", "/v2/images?private=true")
    await ask("DELETE", f"/v2/images/{snapshots[0]['id']}")
    await ask("DELETE", f"/v2/volumes/{volume}")
    await ask("DELETE", f"{ending}/selective", {"volumes": [volume]})
    await ask("GET", f"{ending}/status")
    await ask("POST", f"{ending}/retry")
    await ask("DELETE", droplet)
    await ask("DELETE", "/v2/droplets?tag_name=b")
    await ask("DELETE", "/v2/droplets?tag_name=c")
    for path in ("", "/destroy_with_associated_resources/dangerous"):
        made = await ask("POST", "/v2/droplets", ADA)
        await ask("DELETE", f"/v2/droplets/{made['droplet']['id']}{path}")
    for path in (f"/v2/account/keys/{key['id']}", "/v2/account/keys"):
        await ask("GET", path)
    await ask("PUT", f"/v2/account/keys/{key['id']}", {"name": "new"})
    for _ in range(2):
        await ask("DELETE", f"/v2/account/keys/{key['id']}")
    await ask("POST", "/v2/volumes", disk)
    await ask("DELETE", "/v2/volumes?name=data&region=nyc2")
    volume = (await ask("POST", "/v2/volumes", disk))["volume"]["id"]
    await ask("DELETE", f"/v2/volumes/{volume}")


async def _about_the_account(ask: Conversation) -> None:
    team = (await ask("GET", "/v2/account"))["account"]["team"]["uuid"]
    await ask.served.advance(40 * 86_400)
    await ask("GET", "/v2/customers/my/balance")
    await ask("GET", "/v2/customers/my/billing_history")
    bills = await ask("GET", "/v2/customers/my/invoices")
    assert float(bills["invoices"][-1]["amount"]) > 0, "there is something to judge"
    path = f"/v2/customers/my/invoices/{bills['invoices'][-1]['invoice_uuid']}"
    assert (await ask("GET", path))["invoice_items"]
    points = await ask("GET", f"/v2/billing/do:team:{team}/insights/2027-01-10/2027-01-31")
    assert points["data_points"]
    for kind in ("server_error", "rate_limit", "not_found_for_bad_key"):
        await ask.fault("list", kind)
        await ask("GET", "/v2/droplets")
    for call in ask.document.calls() - NOT_SERVED.keys():
        method, path = re.sub(r"\{\w+\}", "1", call).split()
        await ask(method, path, headers={"Authorization": "Bearer invalid-key"})
        if method in {"GET", "DELETE"}:
            await ask(method, path)


async def test_answers_are_as_the_document_says_but_for_the_named_deviations(
    served: Served, document: Document
) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "X-Dangerous": "true"}
    ask = Conversation(served, document, ROOT, headers, pause_s=8)
    await _about_droplets(ask)
    await _about_the_account(ask)
    ask.agrees_but_for({})
    assert document.calls() - ask.succeeded == set(NOT_SERVED), "each other one succeeded once"


def test_a_field_that_the_document_does_not_know_is_found(document: Document) -> None:
    key = {"id": 1, "fingerprint": "f", "name": "x", "public_key": "y", "shoe_size": 43}
    body = {"ssh_keys": [key], "links": {}, "meta": {"total": 1}}
    found = document.faults_of_answer("GET", "/v2/account/keys", 200, body)
    assert any("shoe_size" in wrong for _, wrong in found)
    assert list(document.faults_of_answer("GET", "/v2/account/keys", 200, {"ssh_keys": [{}]}))
