"""Hyperstack's own OpenAPI document, unknown fields closed, as the judge of the emulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract.openapi import Conversation, Document

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

pytestmark = pytest.mark.judge
ROOT = "/hyperstack/v1"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
VMS = "/core/virtual-machines"
HOME = "default-CANADA-1"
RULE = {
    "direction": "ingress",
    "ethertype": "IPv4",
    "protocol": "tcp",
    "remote_ip_prefix": "0.0.0.0/0",
    "port_range_min": 22,
    "port_range_max": 22,
}
ORDER: dict[str, Any] = {
    "name": "job",
    "environment_name": HOME,
    "image_name": "Ubuntu Server 24.04 LTS (Noble Numbat)",
    "flavor_name": "n3-H100x1",
    "key_name": "k",
    "count": 1,
    "assign_floating_ip": True,
    "enable_port_randomization": False,
    "security_rules": [RULE],
    "user_data": "#!/bin/sh\ntrue\n",
    "labels": ["broker"],
}

_NULL = "null before there is something to tell, as the API does; the document has no null"
_FEATURES = "what clients read of a flavor's features; the document names none of them"
_NO_MACHINE_YET = ("fixed_ip", "floating_ip", "power_state", "vm_state")
_OF_A_MACHINE = ("callback_url", "contract_id", "port_randomization_status")
_OF_A_VOLUME = ("callback_url", "image_id")
_NULLS = {
    "GET /core/stocks": ("planned_7_days", "planned_30_days", "planned_100_days"),
    "GET /pricebook": ("start_time", "end_time"),
    f"POST {VMS}": (*_NO_MACHINE_YET, *_OF_A_MACHINE),
    f"GET {VMS}/{{vm_id}}": _OF_A_MACHINE,
    f"GET {VMS}": _OF_A_MACHINE,
    "POST /core/volumes": _OF_A_VOLUME,
    "GET /core/volumes": _OF_A_VOLUME,
    "GET /core/volumes/{volume_id}": _OF_A_VOLUME,
    "GET /billing/billing/history/virtual-machine": ("contract_id",),
    "GET /billing/billing/usage": ("terminate_time",),
}
_WITH_FLAVORS = ("GET /core/flavors", f"POST {VMS}", f"GET {VMS}", f"GET {VMS}/{{vm_id}}")
DEVIATIONS = {
    (f"{call} 200", field): _NULL for call, fields in _NULLS.items() for field in fields
} | {(f"{call} 200", "features"): _FEATURES for call in _WITH_FLAVORS}
"""(call and status, field): why the emulator says something else than the document."""


@pytest.fixture
def document(closed: Callable[..., Document]) -> Document:
    return closed("hyperstack/infrahub-openapi-trimmed.yaml")


async def _about_machines(ask: Conversation) -> None:
    for path in ("flavors", "flavors?region=US-1", "flavors?region=X", "stocks", "regions"):
        await ask("GET", f"/core/{path}")
    await ask("GET", "/pricebook")
    await ask("GET", "/core/images?region=CANADA-1&include_public=true")
    key = {"name": "k", "environment_name": HOME, "public_key": PUBLIC}
    await ask("POST", "/core/keypairs", key)
    made = await ask("POST", VMS, ORDER)
    id_ = made["instances"][0]["id"]
    await ask("DELETE", f"{VMS}/{id_}")
    for wrong in ({}, {"flavor_name": "x", "name": "b"}, {"count": 0}, {"name": "b", "count": 9}):
        await ask("POST", VMS, {**ORDER, **wrong})
    await ask("GET", f"{VMS}/name-availability/job?count=2")
    await ask.served.advance(10)
    await ask("GET", f"{VMS}/{id_}")
    await ask("GET", f"{VMS}?page=1&pageSize=100&search=job&environment={HOME}")
    await ask("GET", f"{VMS}?page=x")
    rule = await ask("POST", f"{VMS}/{id_}/sg-rules", {**RULE, "port_range_max": 80})
    await ask("POST", f"{VMS}/{id_}/sg-rules", {})
    await ask("DELETE", f"{VMS}/{id_}/sg-rules/{rule['security_rule']['id']}")
    await ask("PUT", f"{VMS}/{id_}/label", {"labels": ["a"]})
    await ask("POST", f"{VMS}/{id_}/detach-floatingip")
    await ask("POST", f"{VMS}/{id_}/attach-floatingip")
    for action in ("stop", "start", "hard-reboot", "hibernate?retain_ip=true", "hibernate-restore"):
        await ask("GET", f"{VMS}/{id_}/{action}")
        await ask("GET", f"{VMS}/{id_}/{action}")
        await ask.served.advance(10)
    await ask("POST", f"{VMS}/{id_}/resize", {"flavor_name": "n3-H100x2"})
    await ask.served.advance(10)
    await _about_volumes(ask, id_)
    await _about_money(ask, id_)
    await ask("DELETE", f"{VMS}/{id_}")
    await ask.served.advance(10)
    for action in ("", "/start", "/stop", "/hard-reboot", "/hibernate", "/hibernate-restore"):
        await ask("GET", f"{VMS}/{id_}{action}")
    await ask("DELETE", f"{VMS}/{id_}")


async def _about_volumes(ask: Conversation, machine: int) -> None:
    await ask("GET", "/core/volume-types")
    order = {"name": "d", "environment_name": HOME, "size": 10, "volume_type": "Cloud-SSD"}
    volume = (await ask("POST", "/core/volumes", order))["volume"]["id"]
    await ask("POST", "/core/volumes", order)
    await ask("POST", "/core/volumes", {**order, "environment_name": "x"})
    await ask.served.advance(10)
    await ask("POST", f"{VMS}/{machine}/attach-volumes", {"volume_ids": [volume]})
    await ask("GET", f"{VMS}/{machine}")
    await ask("GET", "/core/volumes")
    await ask("GET", f"/core/volumes/{volume}")
    await ask("DELETE", f"/core/volumes/{volume}")
    await ask("POST", f"{VMS}/{machine}/detach-volumes", {"volume_ids": [volume]})
    await ask("POST", f"{VMS}/{machine}/detach-volumes", {"volume_ids": [volume]})
    await ask("DELETE", f"/core/volumes/{volume}")
    await ask("DELETE", f"/core/volumes/{volume}")


async def _about_money(ask: Conversation, machine: int) -> None:
    await ask("GET", "/auth/me")
    await ask("GET", "/auth/me/organizations")
    await ask("GET", "/billing/user-credit/credit")
    await ask("GET", f"/pricebook/calculate/resource/vm/{machine}")
    await ask("GET", "/pricebook/calculate/resource/vm/1")
    path = "/billing/billing/history/virtual-machine"
    await ask("GET", f"{path}?start_date=2020-01-01T00:00:00&per_page=5&page=1&search=job")
    await ask("GET", f"{path}?end_date=now")
    await ask("GET", f"/billing/billing/virtual-machine/{machine}/billing-events")
    for deleted in ("false", "true"):
        await ask("GET", f"/billing/billing/usage?deleted={deleted}")


async def _about_environments(ask: Conversation) -> None:
    body = {"name": "e", "region": "NORWAY-1"}
    made = await ask("POST", "/core/environments", body)
    path = f"/core/environments/{made['environment']['id']}"
    await ask("POST", "/core/environments", body)
    await ask("GET", "/core/environments?page=1&pageSize=5&search=e")
    await ask("GET", path)
    await ask("GET", f"{path}/vm-quota")
    await ask("DELETE", path)
    await ask("GET", path)
    await ask("DELETE", path)
    (key,) = (await ask("GET", "/core/keypairs?page=1&pageSize=5&search=k"))["keypairs"]
    body = {"name": "k", "environment_name": HOME, "public_key": PUBLIC}
    await ask("POST", "/core/keypairs", body)
    await ask("POST", "/core/keypairs", {**body, "public_key": "x"})
    await ask("DELETE", f"/core/keypair/{key['id']}")
    await ask("DELETE", f"/core/keypair/{key['id']}")


OFFERED = {
    "GET /auth/me", "GET /auth/me/organizations", "GET /core/flavors", "GET /pricebook",
    "GET /core/stocks", "GET /core/regions", "GET /core/images", "GET /core/environments",
    "POST /core/environments", "GET /core/environments/{id}", "DELETE /core/environments/{id}",
    "GET /core/environments/{id}/vm-quota", "GET /core/keypairs", "POST /core/keypairs",
    "DELETE /core/keypair/{id}", f"GET {VMS}", f"POST {VMS}",
    f"GET {VMS}/name-availability/{{name}}", f"GET {VMS}/{{vm_id}}", f"DELETE {VMS}/{{vm_id}}",
    f"GET {VMS}/{{vm_id}}/start", f"GET {VMS}/{{vm_id}}/stop",
    f"GET {VMS}/{{vm_id}}/hard-reboot", f"GET {VMS}/{{vm_id}}/hibernate",
    f"GET {VMS}/{{vm_id}}/hibernate-restore", f"POST {VMS}/{{vm_id}}/resize",
    f"PUT {VMS}/{{vm_id}}/label", f"POST {VMS}/{{vm_id}}/sg-rules",
    f"DELETE {VMS}/{{vm_id}}/sg-rules/{{sg_rule_id}}",
    f"POST {VMS}/{{vm_id}}/attach-floatingip", f"POST {VMS}/{{vm_id}}/detach-floatingip",
    f"POST {VMS}/{{vm_id}}/attach-volumes", f"POST {VMS}/{{vm_id}}/detach-volumes",
    "GET /core/volume-types", "GET /core/volumes", "POST /core/volumes",
    "GET /core/volumes/{volume_id}", "DELETE /core/volumes/{volume_id}",
    "GET /billing/user-credit/credit", "GET /pricebook/calculate/resource/{resource_type}/{id}",
    "GET /billing/billing/history/virtual-machine",
    "GET /billing/billing/virtual-machine/{vm_id}/billing-events",
    "GET /billing/billing/usage",
}  # fmt: skip
"""What the emulator has; the others are the document's own."""


async def test_answers_are_as_the_document_says_but_for_the_named_deviations(
    served: Served, document: Document
) -> None:
    ask = Conversation(served, document, ROOT, {"api_key": "key-of-the-judge"})
    await _about_machines(ask)
    await _about_environments(ask)
    ask.headers["api_key"] = "invalid-key"
    for call in OFFERED:
        method, path = call.split()
        await ask(method, path.replace("{", "").replace("}", ""))
    ask.agrees_but_for(DEVIATIONS)
    assert ask.succeeded == OFFERED
