"""An OpenAPI document of Verda's API by others, unknown fields closed, beside the emulator.

The vendor's own document could not be had, and this one is thinner than the vendor's own libraries:
where they differ, the libraries are right. Every difference is a row here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract.openapi import Conversation, Document

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

pytestmark = pytest.mark.judge
ROOT = "/verda/v1"
CLIENT = {
    "grant_type": "client_credentials",
    "client_id": "me",
    "client_secret": "secret-of-the-judge",
}
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
NOBODY = "00000000-0000-4000-8000-000000000000"
ORDER: dict[str, Any] = {
    "instance_type": "1H100.80S.30V",
    "image": "ubuntu-24.04-cuda-12.8-open-docker",
    "hostname": "gb-abc123",
    "description": "gb-abc123",
    "location_code": "FIN-03",
    "ssh_key_ids": [],
}

UNKNOWN: dict[str, tuple[str, ...]] = {
    "Instance": (
        "contract", "cpu", "description", "gpu", "gpu_memory", "is_spot", "jupyter_token",
        "location", "memory", "os_name", "os_volume_id", "pricing", "startup_script_id",
        "storage", "tags", "volume_ids",
    ),
    "InstanceType": (
        "best_for", "currency", "deploy_warning", "display_name", "dynamic_price", "gpu_memory",
        "manufacturer", "max_dynamic_price", "model", "p2p", "serverless_price",
        "serverless_spot_price", "spot_price", "supported_os",
    ),
    "Image": ("category", "is_cluster", "is_default"),
    "SSHKey": ("created_at", "key"),
    "Volume": (
        "base_hourly_cost", "contract", "currency", "deleted_at", "instances",
        "is_permanently_deleted", "location", "monthly_price", "ssh_key_ids",
    ),
}  # fmt: skip
"""Schema -> fields that the vendor's own libraries read and the document does not have."""

ANSWERS: dict[tuple[str, str], str] = {
    ("GET /instance-types 200", "price_per_hour"): "a text, as the libraries convert it",
    ("GET /instances 200", "ip"): "null until it is provisioned",
    ("GET /volumes 200", "instance_id"): "null while it is detached",
    ("GET /volumes 200", "target"): "null while it is detached",
    ("GET /volumes/trash 200", "instance_id"): "null while it is detached",
    ("GET /volumes/trash 200", "target"): "null while it is detached",
    ("GET /volumes/{volume_id} 200", "instance_id"): "null while it is detached",
    ("GET /volumes/{volume_id} 200", "target"): "null while it is detached",
    ("GET /scripts/{script_id} 200", ""): "a list of one, as the libraries read it",
    ("GET /sshkeys/{sshkey_id} 200", ""): "a list of one, as the libraries read it",
    ("POST /volumes 202", ""): "accepted, not created: the libraries' own tests say so",
    ("DELETE /volumes/{volume_id} 202", ""): "accepted: the libraries' own tests say so",
    ("PUT /instances 202", ""): "a row for each machine, as the libraries read it",
    ("PUT /volumes 202", ""): "an id for each volume: of clones the libraries read it",
    ("PUT /instances 207", ""): "some of several failed: the library for Go reads it",
    ("POST /instances 402", ""): "no money: the libraries' code of it",
    ("POST /instances 403", ""): "over quota; the document has no answer for it",
    ("POST /instances 503", ""): "sold out: as the vendor's command line shows it",
    ("GET /instances/{instance_id} 400", ""): "a text that is no id: Invalid instance id",
    ("GET /instances 400", ""): "an unknown status, in the usual form",
    ("GET /instances 500", ""): "the internal error, in the usual form",
    ("POST /oauth2/token 400", ""): "an incomplete request, in the usual form",
    ("POST /sshkeys 400", ""): "what is no key, in the usual form",
    ("POST /scripts 400", ""): "an incomplete request, in the usual form",
    ("POST /volumes 400", ""): "an impossible size, in the usual form",
    ("PUT /volumes 400", ""): "an action without its field, in the usual form",
    ("DELETE /volumes/{volume_id} 404", ""): "no such volume, in the usual form",
    ("DELETE /sshkeys 404", ""): "no such key, in the usual form",
    ("DELETE /scripts 404", ""): "no such script, in the usual form",
}
"""(operation and status, field): why the emulator says something else than the document."""

UNASKED = "container"
"""The other product: containers without servers are not emulated."""


@pytest.fixture
def document(closed: Callable[..., Document]) -> Document:
    return closed("verda/thirdparty-reconstruction-openapi.yml", UNKNOWN, refusal="Error")


async def _with_a_token(ask: Conversation) -> None:
    token = (await ask("POST", "/oauth2/token", CLIENT))["access_token"]
    ask.headers["Authorization"] = f"Bearer {token}"


async def _about_the_account(ask: Conversation) -> None:
    await ask("POST", "/oauth2/token", {**CLIENT, "client_secret": "invalid-key"})
    await ask("POST", "/oauth2/token", {"grant_type": "client_credentials"})
    for path in ("/balance", "/instances"):
        await ask("GET", path)
    await ask("POST", "/instances", ORDER)
    await ask("PUT", "/instances", {"id": NOBODY, "action": "delete"})
    await _with_a_token(ask)
    for path in (
        "/balance", "/locations", "/instance-types", "/instance-availability",
        "/instance-availability/1H100.80S.30V", "/images", "/images/cluster", "/volume-types",
    ):  # fmt: skip
        await ask("GET", path)
    for path, name, text in (("/sshkeys", "key", PUBLIC), ("/scripts", "script", "true")):
        await ask("POST", path, {"name": "x"})
        id_ = await ask("POST", path, {"name": "x", name: text})
        await ask("GET", path)
        await ask("GET", f"{path}/{id_}")
        await ask("GET", f"{path}/{NOBODY}")
        await ask("DELETE", path, {f"{name}s": [id_]})
        await ask("DELETE", path, {f"{name}s": [id_]})


async def _about_instances(ask: Conversation) -> None:
    whole = {
        **ORDER,
        "os_volume": {"name": "os", "size": 60},
        "volumes": [{"name": "data", "size": 100, "type": "NVMe"}],
        "tags": [{"key": "owner", "value": "me"}],
    }
    id_ = await ask("POST", "/instances", whole)
    await ask("GET", "/instances")
    await ask.served.advance(10)
    await ask("GET", f"/instances/{id_}")
    await ask("GET", "/instances?status=running")
    await ask("GET", "/instances?status=happy")
    for missing in (NOBODY, "nothing"):
        await ask("GET", f"/instances/{missing}")
    await ask("POST", "/instances", {**ORDER, "image": "windows"})
    for kind in ("quota", "no_capacity"):
        await ask.fault("create", kind)
        await ask("POST", "/instances", ORDER)
    await ask.fault("list", "server_error")
    await ask("GET", "/instances")
    for ids in ([NOBODY], [id_], id_):
        await ask("PUT", "/instances", {"id": ids, "action": "delete"})
    await ask("GET", f"/instances/{id_}")


async def _about_volumes(ask: Conversation) -> None:
    order = {"type": "NVMe", "name": "d", "size": 100, "location_code": "FIN-03"}
    id_ = await ask("POST", "/volumes", order)
    await ask("POST", "/volumes", {**order, "size": 0})
    await ask("GET", "/volumes")
    await ask("GET", f"/volumes/{id_}")
    await ask("GET", f"/volumes/{NOBODY}")
    await ask("PUT", "/volumes", {"id": id_, "action": "rename", "name": "e"})
    await ask("PUT", "/volumes", {"id": id_, "action": "rename"})
    await ask("DELETE", f"/volumes/{id_}?is_permanent=false")
    await ask("GET", "/volumes/trash")
    await ask("DELETE", f"/volumes/{id_}", {"is_permanent": True})
    await ask("DELETE", f"/volumes/{id_}")


async def _without_money(ask: Conversation) -> None:
    await ask("POST", "/instances", {**ORDER, "instance_type": "8H100.80S.176V"})
    await ask.served.advance(300 * 86_400)
    await _with_a_token(ask)
    await ask("POST", "/instances", ORDER)


async def test_answers_are_as_the_document_says_but_for_the_named_deviations(
    served: Served, document: Document
) -> None:
    ask = Conversation(served, document, ROOT, {})
    for about in (_about_the_account, _about_instances, _about_volumes, _without_money):
        await about(ask)
    ask.agrees_but_for(ANSWERS)
    every = {call for call in document.calls() if UNASKED not in call}
    assert every == ask.succeeded, "each operation of the document succeeded once"


def test_a_field_that_the_document_does_not_know_is_found(document: Document) -> None:
    def faults(status: int, body: Any) -> list[tuple[str, str]]:
        return list(document.faults_of_answer("GET", "/balance", status, body))

    (wrong,) = faults(200, {"amount": 1.0, "currency": "usd", "shoe_size": 43})
    assert "shoe_size" in wrong[1]
    assert faults(302, {})
    assert len(faults(500, {"shoe_size": 43})) > 1
