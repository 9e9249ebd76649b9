"""Shadeform's own OpenAPI document, unknown fields closed, as the judge of the emulator.

There is no other judge. The vendor's only client is a command line in Go, told to be a beta: its
releases are binaries of GitHub, it is in no package registry for Python or JavaScript, and its
modules cannot be had where these tests run. A library by others has other fields than the API.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from tests.contract.openapi import Conversation, Document

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

pytestmark = pytest.mark.judge
ROOT = "/shadeform/v1"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
LEGACY = (
    "memory_in_gb", "storage_in_gb", "vcpus", "num_gpus", "gpu_type", "interconnect", "nvlink",
)  # fmt: skip
MORE = {
    # The older fields beside `configuration` (Shadeform docs, examples of cluster types).
    "InstanceType": LEGACY,
    # Spot is newer than this document: Shadeform docs, "Spot Instances".
    "Availability": ("rental_type", "hourly_price"),
    "Instance": ("rental_terms",),
    "InstanceInfoResponse": ("rental_terms",),
}
_NULL = "null before there is something to tell, as the API does; the document has no null"
DEVIATIONS = {
    (f"GET {path} 200", field): _NULL
    for path in ("/instances", "/instances/{id}/info")
    for field in ("ip", "ssh_port", "active_at", "deleted_at")
} | {
    (f"{call} {status}", ""): "a refusal, in the form that clients know; the document has none"
    for status, calls in {
        400: ("POST /instances/create",),
        404: ("GET /instances/{id}/info", "GET /volumes/{id}/info", "GET /sshkeys/{id}/info"),
        409: (
            "POST /instances/create", "POST /sshkeys/add", "POST /sshkeys/{id}/delete",
            "POST /volumes/{id}/delete",
        ),
    }.items()
    for call in calls
}  # fmt: skip
"""(call and status, field): why the emulator says something else than the document."""

DOCKER = {
    "image": "vllm/vllm-openai:latest",
    "args": "--model x",
    "shared_memory_in_gb": 8,
    "envs": [{"name": "A", "value": "b"}],
    "port_mappings": [{"host_port": 80, "container_port": 8000}],
    "volume_mounts": [{"host_path": "/a", "container_path": "/b"}],
    "registry_credentials": {"username": "u", "password": "p"},
}
SCRIPT = {
    "type": "script",
    "script_configuration": {"base64_script": base64.b64encode(b"true").decode()},
}
LIMIT = {"date_threshold": "2036-01-02T15:04:05-07:00", "spend_threshold": "3.14"}
SHARED: dict[str, Any] = {
    "auto_delete": LIMIT,
    "alert": LIMIT,
    "volume_mount": {"auto": True},
    "tags": ["tag1"],
    "envs": [{"name": "A", "value": "b"}],
}
TEMPLATE: dict[str, Any] = {
    **SHARED,
    "name": "t",
    "description": "d",
    "public": False,
    "launch_configuration": {"type": "docker", "docker_configuration": DOCKER},
    "networking": {
        "ufw_rules": [
            {"rule": "allow", "from_ip": None, "to_ip": None, "port": "80", "proto": "tcp"}
        ]
    },
}
ORDER: dict[str, Any] = {
    **SHARED,
    "cloud": "datacrunch",
    "region": "FIN-01",
    "shade_instance_type": "V100",
    "shade_cloud": True,
    "name": "job",
    "os": "ubuntu22.04_cuda12.6_shade_os",
    "launch_configuration": SCRIPT,
}
VOLUME = {"cloud": "datacrunch", "region": "FIN-01", "size_in_gb": 10, "name": "v"}
KEY = {"name": "k", "public_key": PUBLIC}


@pytest.fixture
def document(closed: Callable[..., Document]) -> Document:
    return closed("shadeform/openapi.yaml", MORE)


async def _about_instances(ask: Conversation) -> None:
    await ask("GET", "/instances/types")
    await ask("GET", "/instances/types?cloud=crusoe&num_gpus=10&available=true&sort=price")
    key = (await ask("POST", "/sshkeys/add", KEY))["id"]
    await ask("POST", "/sshkeys/add", KEY)
    volume = (await ask("POST", "/volumes/create", VOLUME))["id"]
    template = (await ask("POST", "/templates/save", TEMPLATE))["id"]
    whole = {**ORDER, "ssh_key_id": key, "volume_ids": [volume], "template_id": template}
    id_ = (await ask("POST", "/instances/create", whole))["id"]
    for path in ("/instances", f"/instances/{id_}/info"):
        await ask("GET", path)
    await ask.served.advance(10)
    for path in ("/instances", f"/instances/{id_}/info", "/volumes", f"/volumes/{volume}/info"):
        await ask("GET", path)
    await ask("POST", f"/volumes/{volume}/delete")
    await ask("POST", "/instances/create", {})
    await ask("POST", "/instances/create", {**ORDER, "region": "nowhere"})
    await ask.fault("create", "no_capacity")
    await ask("POST", "/instances/create", ORDER)
    change = {"name": "other", "auto_delete": LIMIT, "alert": LIMIT, "tags": ["a"]}
    await ask("POST", f"/instances/{id_}/update", change)
    await ask("POST", f"/instances/{id_}/restart")
    await ask("POST", f"/sshkeys/{key}/delete")
    await ask("POST", f"/instances/{id_}/delete")
    await ask.served.advance(10)
    await ask("GET", f"/instances/{id_}/info")
    await ask("POST", f"/volumes/{volume}/delete")
    await ask("GET", f"/volumes/{volume}/info")
    await ask("POST", f"/templates/{template}/update", {**TEMPLATE, "name": "u"})
    await ask("GET", f"/templates/{template}/info")
    for path in ("/templates", "/templates/featured", "/volumes/types", "/sshkeys"):
        await ask("GET", path)
    await ask("POST", f"/templates/{template}/delete")
    await ask("POST", f"/sshkeys/{key}/setdefault")
    await ask("GET", f"/sshkeys/{key}/info")
    (managed,) = [
        one for one in (await ask("GET", "/sshkeys"))["ssh_keys"] if not one["is_default"]
    ]
    await ask("POST", f"/sshkeys/{managed['id']}/setdefault")
    await ask("POST", f"/sshkeys/{key}/delete")
    await ask("GET", f"/sshkeys/{key}/info")


async def test_answers_are_as_the_document_says_but_for_the_named_deviations(
    served: Served, document: Document
) -> None:
    ask = Conversation(served, document, ROOT, {"X-API-KEY": "key-of-the-judge"})
    await _about_instances(ask)
    ask.agrees_but_for(DEVIATIONS)
    clusters = {call for call in document.calls() if " /clusters" in call}
    assert document.calls() - clusters == ask.succeeded


def _bodies() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, schema and a body with every field that the emulator takes there."""
    ids = {"ssh_key_id": "k", "volume_ids": ["v"], "template_id": "t"}
    yield "/instances/create", "CreateRequest", {**ORDER, **ids}
    change = {"name": "n", "auto_delete": LIMIT, "alert": LIMIT, "tags": ["a"]}
    yield "/instances/i/update", "UpdateRequest", change
    yield "/sshkeys/add", "AddSshKeyRequest", KEY
    yield "/volumes/create", "CreateVolumeRequest", VOLUME
    yield "/templates/save", "TemplateSaveRequest", TEMPLATE


def test_the_bodies_that_were_taken_are_whole_and_as_the_document_has_them(
    document: Document,
) -> None:
    schemas: Mapping[str, Any] = document.raw["components"]["schemas"]
    for path, name, body in _bodies():
        request = httpx2.Request("POST", f"http://sandbox{path}", json=body)
        assert list(document.faults_of_request(request, path)) == []
        assert set(body) == set(schemas[name]["properties"]), name
    assert set(DOCKER) == set(schemas["DockerConfiguration"]["properties"])


def test_a_field_that_the_document_does_not_know_is_found(document: Document) -> None:
    row = {"id": "1", "name": "x", "public_key": "y", "is_default": True, "shoe_size": 43}
    told = list(document.faults_of_answer("GET", "/sshkeys", 200, {"ssh_keys": [row]}))
    assert "shoe_size" in told[0][1]
