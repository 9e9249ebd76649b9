"""The emulator's answers against Vast.ai's own OpenAPI document, unknown fields closed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import (  # type: ignore[import-untyped]  # it ships no types
    Draft202012Validator,
)

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

pytestmark = pytest.mark.judge
V0, V1 = "/vast_ai/api/v0", "/vast_ai/api/v1"
A_KEY = "ssh-ed25519 AAAAC3Nza me"
GUIDE = "Vast.ai guides and client 1.9.1"

ANSWERS: dict[tuple[str, str], str] = {
    ("POST /bundles 404", "success"): "one form for a bad key everywhere, as the other paths say",
    ("GET /v1/instances 400", "success"): "the bad cursor's form of charges and invoices",
    ("GET /volumes 200", "label"): f"the name that the client prints ({GUIDE})",
    ("GET /users/current 200", "credit"): f"what can be spent ({GUIDE})",
    ("PUT /asks/{id} 200", "instance_api_key"): f"answered in practice ({GUIDE})",
    ("PUT /asks/{id} 400", "new_contract"): "a bid too low leaves an instance behind",
    ("PUT /asks/{id} 400", "error"): "the enum lacks insufficient_credit and label_too_long",
    ("GET /instances/{id} 200", "instances"): "null for an unknown or destroyed id",
    ("GET /instances/{id} 200", "extra_env"): f"pairs: the client takes [0] and [1] ({GUIDE})",
    ("GET /instances/{id} 200", "ports"): f"an object as in the v1 list ({GUIDE})",
    ("GET /instances/{id} 200", "driver_version"): "named in the guides' example of an instance",
    ("GET /instances/{id} 200", "cuda_max_good"): "as driver_version",
    ("GET /instances/{id} 200", "inet_up"): "as driver_version",
    ("GET /instances/{id} 200", "inet_down"): "as driver_version",
    ("GET /instances/{id} 200", "inet_up_cost"): "as driver_version",
    ("GET /instances/{id} 200", "inet_down_cost"): "as driver_version",
    ("GET /instances/{id} 200", "volume_info"): "a column of the client's table",
    ("GET /v1/instances 200", "driver_version"): "the single record's fields are the list's",
    ("GET /v1/instances 200", "cuda_max_good"): "as driver_version",
    ("GET /v1/instances 200", "bundle_id"): "as driver_version",
    ("GET /v1/instances 200", "hosting_type"): "as driver_version",
    ("GET /v1/instances 200", "inet_up"): "as driver_version",
    ("GET /v1/instances 200", "inet_down"): "as driver_version",
    ("GET /v1/instances 200", "inet_up_cost"): "as driver_version",
    ("GET /v1/instances 200", "inet_down_cost"): "as driver_version",
}
"""(operation and status, field): why the emulator says something else than the document."""


def closed(schema: Any) -> Any:
    """The schema with every object that lists its properties closed to others."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tight = {name: closed(value) for name, value in schema.items() if name != "example"}
    if isinstance(tight.get("properties"), dict) and tight["properties"]:
        tight.setdefault("additionalProperties", False)
    return tight


def faults_in(document: dict[str, Any], operation: str, body: Any) -> Iterator[tuple[str, str]]:
    """(field, what is wrong) of an answer; `operation` is `GET /ssh 200`."""
    method, path, status = operation.split()
    full = f"/api{path}" if path.startswith("/v1") else f"/api/v0{path}"
    answers = document["paths"][full][method.lower()]["responses"]
    schema = answers[status]["content"]["application/json"]["schema"]
    root = {**closed(schema), "components": closed(document["components"])}
    for error in Draft202012Validator(root).iter_errors(body):
        if error.validator == "additionalProperties":
            known = error.schema.get("properties", {})
            for name in set(error.instance) - set(known):
                yield name, "is not in the document"
        else:
            named = [str(part) for part in error.absolute_path if not isinstance(part, int)]
            yield named[-1] if named else "", error.message


class Conversation:
    """Calls of the emulator, each with the document's name for its path."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.said: list[tuple[str, Any]] = []

    async def __call__(
        self, spec_path: str, method: str, path: str, body: Any = None, **more: Any
    ) -> Any:
        await self.served.advance(30)
        answer = await self.served.ask(method, path, body, **more)
        self.said.append((f"{method} {spec_path} {answer.status_code}", answer.json()))
        return answer.json()


async def _about_instances(ask: Conversation) -> None:
    offers = await ask("/bundles", "POST", f"{V0}/bundles/", {"gpu_name": {"eq": "H200"}})
    await ask("/bundles", "POST", f"{V0}/bundles/", {"colour": {}})
    await ask("/bundles", "POST", f"{V0}/bundles/", {}, key="invalid-key")
    await ask("/ssh", "POST", f"{V0}/ssh/", {"ssh_key": A_KEY})
    number = offers["offers"][0]["id"]
    made = await ask(
        "/asks/{id}", "PUT", f"{V0}/asks/{number}/",
        {"image": "ubuntu", "runtype": "ssh_direct", "env": {"A": "1", "-p 80:80": "1"}},
    )  # fmt: skip
    other = offers["offers"][1]["id"]
    await ask.served.fault("create", "quota", times=1)
    await ask("/asks/{id}", "PUT", f"{V0}/asks/{other}/", {"image": "ubuntu"})
    for id_, wrong in (
        (other, {"price": 0.001}),
        (number, {}),
        (1, {"price": 1.0}),
        (other, {"disk": 1}),
    ):
        await ask("/asks/{id}", "PUT", f"{V0}/asks/{id_}/", {"image": "ubuntu", **wrong})
    mine = f"{V0}/instances/{made['new_contract']}/"
    await ask("/instances/{id}", "GET", mine)
    await ask("/instances/{id}", "GET", f"{V0}/instances/1/")
    await ask("/v1/instances", "GET", f"{V1}/instances/")
    await ask("/v1/instances", "GET", f"{V1}/instances/", params={"after_token": "x"})
    await ask("/instances/{id}/ssh", "POST", f"{mine}ssh/", {"ssh_key": A_KEY + "2"})
    keys = await ask("/instances/{id}/ssh", "GET", f"{mine}ssh/")
    attached = json.loads(keys["ssh_keys"])[-1]["id"]
    detach = "/instances/{id}/ssh/{ssh_key_id}"
    await ask(detach, "DELETE", f"{mine}ssh/{attached}/", {})
    await ask(detach, "DELETE", f"{mine}ssh/{attached}/", {})
    await ask("/instances/{id}", "PUT", mine, {"label": "x"})
    await ask("/instances/{id}", "PUT", mine, {})
    await ask("/instances/reboot/{id}", "PUT", mine.replace("instances", "instances/reboot"), {})
    await ask("/instances/recycle/{id}", "PUT", mine.replace("instances", "instances/recycle"), {})
    logs = mine.replace("instances", "instances/request_logs")
    await ask("/instances/request_logs/{id}", "PUT", logs, {"tail": "10"})
    await ask("/instances/balance/{id}", "GET", mine.replace("instances", "instances/balance"))
    await ask("/instances/{id}", "DELETE", mine, {})
    await ask("/instances/{id}", "DELETE", mine, {})


async def _about_the_account(ask: Conversation) -> None:
    day = {"day": {"gte": 0, "lte": 4e9}}
    when = {"when": {"gte": 0, "lte": 4e9}}
    (key,) = await ask("/ssh", "GET", f"{V0}/ssh/")
    await ask("/ssh/{id}", "PUT", f"{V0}/ssh/{key['id']}/", {"ssh_key": A_KEY})
    await ask("/ssh/{id}", "DELETE", f"{V0}/ssh/{key['id']}/", {})
    await ask("/ssh/{id}", "DELETE", f"{V0}/ssh/{key['id']}/", {})
    volumes = await ask("/volumes/search", "POST", f"{V0}/volumes/search/", {"limit": 2})
    volume = volumes["offers"][0]["id"]
    await ask("/volumes", "PUT", f"{V0}/volumes/", {"id": volume, "size": 10})
    rented = await ask("/volumes", "GET", f"{V0}/volumes/")
    await ask("/volumes", "DELETE", f"{V0}/volumes/", {"id": rented["volumes"][0]["id"]})
    await ask("/volumes", "DELETE", f"{V0}/volumes/", {"id": 1})
    await ask("/users/current", "GET", f"{V0}/users/current")
    await ask.served.advance(600)
    await ask("/charges", "GET", f"{V0}/charges/", params={"select_filters": json.dumps(day)})
    await ask("/charges", "GET", f"{V0}/charges/")
    await ask("/charges", "GET", f"{V0}/charges/", key=None)
    await ask("/charges", "GET", f"{V0}/charges/", key="invalid-key")
    await ask("/v1/invoices", "GET", f"{V1}/invoices/", params={"select_filters": json.dumps(when)})


async def test_answers_are_as_the_document_says_but_for_the_named_deviations(
    served: Served, specification: dict[str, Any]
) -> None:
    ask = Conversation(served)
    await _about_instances(ask)
    await _about_the_account(ask)
    found = {
        (operation, field): wrong
        for operation, body in ask.said
        for field, wrong in faults_in(specification, operation, body)
    }
    unexplained = {key: wrong for key, wrong in found.items() if key not in ANSWERS}
    assert not unexplained, "\n".join(f"{key}: {wrong}" for key, wrong in unexplained.items())
    assert set(ANSWERS) - set(found) == set(), "no deviation any more"


def test_a_field_that_the_document_does_not_know_is_found(specification: dict[str, Any]) -> None:
    wrong = dict(faults_in(specification, "GET /users/current 200", {"id": 1, "shoe_size": 43}))
    assert wrong == {"shoe_size": "is not in the document"}
    wrong = dict(faults_in(specification, "GET /users/current 200", {"id": "one"}))
    assert set(wrong) == {"id"}
