"""SaladCloud's own OpenAPI document, unknown fields closed, beside the emulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract.openapi import Conversation

if TYPE_CHECKING:
    from tests.contract.openapi import Document
    from tests.sandbox.conftest import Served

pytestmark = pytest.mark.judge
ORG = "/organizations/acme"
GROUPS = f"{ORG}/projects/default/containers"
GROUP = f"{GROUPS}/broker-ab12"
CARD = "ed563892-aacd-40f5-80b7-90c9be6c759b"
NOBODY = "00000000-0000-4000-8000-000000000000"
MERGE = {"content-type": "application/merge-patch+json"}
ORDER: dict[str, Any] = {
    "name": "broker-ab12",
    "replicas": 1,
    "autostart_policy": True,
    "restart_policy": "always",
    "country_codes": ["us"],
    "container": {
        "image": "ubuntu:24.04",
        "command": ["sleep", "infinity"],
        "environment_variables": {"A": "1"},
        "image_caching": True,
        "priority": "low",
        "resources": {"cpu": 4, "memory": 8192, "gpu_classes": [CARD]},
    },
    "networking": {"protocol": "http", "port": 8080, "auth": True},
    "readiness_probe": {
        "failure_threshold": 3, "initial_delay_seconds": 0, "period_seconds": 1,
        "success_threshold": 1, "timeout_seconds": 1, "tcp": {"port": 8080},
    },
}  # fmt: skip
DEVIATIONS: dict[tuple[str, str], str] = {
    (f"GET {GROUP} 500", ""): "a web page, as the vendor's docs say of errors",
}
UNASKED = ("/queues", "/inference-endpoints", "/webhook-secret-key")
"""Of other products than container groups."""


async def _about_the_organization(ask: Conversation) -> None:
    for path in ("gpu-classes", "quotas"):
        await ask("GET", f"{ORG}/{path}")
    availability = f"{ORG}/availability/sce-gpu-availability"
    await ask("POST", availability, {"gpu_classes": [CARD], "cpu": 4, "memory": 8192})
    await ask("POST", availability, {"gpu_classes": [NOBODY]})
    await ask("POST", f"{ORG}/availability/sce-cpu-availability", {"cpu": 4})


async def _about_groups(ask: Conversation) -> None:
    await ask("POST", GROUPS, ORDER)
    for wrong in (ORDER, {"name": "other"}):
        await ask("POST", GROUPS, wrong)
    await ask.fault("create", "quota")
    await ask("POST", GROUPS, {**ORDER, "name": "over-quota"})
    for seconds in (0, 1, 1, 1, 1):
        await ask.served.advance(seconds)
        await ask("GET", GROUP)
        await ask("GET", f"{GROUP}/instances")
    await ask("GET", GROUPS)
    await ask("GET", f"{GROUPS}/nobody")
    await ask("GET", f"{GROUPS}/nobody/instances")
    await ask("PATCH", GROUP, {"replicas": 2}, headers=MERGE)
    await ask("PATCH", GROUP, {"replicas": -1}, headers=MERGE)
    await ask("GET", f"{GROUP}/system-logs")
    times = {"start_time": "2026-01-01T00:00:00Z", "end_time": "2099-01-01T00:00:00Z"}
    await ask("POST", f"{ORG}/log-entries", {**times, "query": "", "page_size": 10})
    await ask("POST", f"{ORG}/log-entries", {"query": ""})


async def _about_instances(ask: Conversation) -> None:
    (row, *_) = (await ask("GET", f"{GROUP}/instances"))["instances"]
    one = f"{GROUP}/instances/{row['id']}"
    await ask("GET", one)
    await ask("GET", f"{GROUP}/instances/{NOBODY}")
    await ask("PATCH", one, {"deletion_cost": 10}, headers=MERGE)
    await ask("PATCH", one, {"deletion_cost": -1}, headers=MERGE)
    for what in ("restart", "recreate", "reallocate"):
        await ask("POST", f"{one}/{what}", {})
        await ask.served.advance(10)
    await ask("POST", f"{one}/restart", {})


async def _about_the_end(ask: Conversation) -> None:
    for what in ("stop", "start"):
        await ask("POST", f"{GROUP}/{what}", {})
        await ask("GET", GROUP)
    for kind in ("rate_limit", "server_error"):
        await ask.fault("get", kind)
        await ask("GET", GROUP)
    await ask("DELETE", GROUP, {})
    await ask("DELETE", f"{GROUPS}/nobody", {})
    ask.headers["Salad-Api-Key"] = "invalid-key"
    await ask("GET", GROUPS)


async def test_answers_are_as_the_document_says_but_for_the_named_deviations(
    served: Served, closed: Callable[..., Document]
) -> None:
    document = closed("salad/salad-cloud.yaml")
    ask = Conversation(served, document, "/salad/api/public", {"Salad-Api-Key": "my-key"})
    for about in (_about_the_organization, _about_groups, _about_instances, _about_the_end):
        await about(ask)
    known = document.path_of("GET", GROUP)
    ask.agrees_but_for(
        {(key[0].replace(GROUP, known), key[1]): why for key, why in DEVIATIONS.items()}
    )
    missed = document.calls() - ask.succeeded
    assert {call for call in missed if not any(part in call for part in UNASKED)} == set()


def test_a_field_that_the_document_does_not_know_is_found(closed: Callable[..., Document]) -> None:
    document = closed("salad/salad-cloud.yaml")
    body = {"available_cpu_batch": 0, "on_call_cpu": 0, "shoe_size": 43}
    path = f"{ORG}/availability/sce-cpu-availability"
    (wrong,) = document.faults_of_answer("POST", path, 200, body)
    assert "shoe_size" in wrong[1]
