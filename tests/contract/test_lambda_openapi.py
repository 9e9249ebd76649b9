"""Lambda's own OpenAPI document 1.8.3, unknown fields closed, as the judge of the emulator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import (  # type: ignore[import-untyped]  # it ships no types
    Draft202012Validator,
)

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

pytestmark = pytest.mark.judge
V1 = "/lambda_labs/api/v1"
KEY = "secret_judge_0123456789abcdef.tokentokentoken"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"

ANSWERS: dict[tuple[str, str], str] = {
    ("POST /instance-operations/terminate 400", ""): (
        "refused while `actions` say so; the document names no answer"
    ),
    ("POST /instance-operations/restart 400", ""): "as terminate",
    ("PUT /firewall-rules 400", ""): "an invalid rule, in the usual form; the document has none",
    ("PATCH /firewall-rulesets/{id} 400", ""): "as PUT /firewall-rules",
    ("PATCH /firewall-rulesets/global 400", ""): "as PUT /firewall-rules",
    ("GET /instances 400", ""): "an unknown parameter, in the usual form",
    ("GET /instances 500", ""): "the internal error of other paths",
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
    """(field, what is wrong) of an answer; `operation` is `GET /ssh-keys 200`."""
    method, path, status = operation.split()
    answers = document["paths"][f"/api/v1{path}"][method.lower()]["responses"]
    if status not in answers:
        yield "", f"HTTP {status} is not in the document"
        return
    schema = answers[status]["content"]["application/json"]["schema"]
    root = {**closed(schema), "components": closed(document["components"])}
    checked = Draft202012Validator(root, format_checker=Draft202012Validator.FORMAT_CHECKER)
    for error in checked.iter_errors(body):
        named = [str(part) for part in error.absolute_path if not isinstance(part, int)]
        yield named[-1] if named else "", error.message


class Conversation:
    """Calls of the emulator, each with the document's name for its path."""

    def __init__(self, served: Served, document: dict[str, Any]) -> None:
        self.served, self.document = served, document
        self.said: list[tuple[str, Any]] = []

    async def __call__(
        self, method: str, path: str, body: Any = None, *, key: str | None = KEY
    ) -> Any:
        """What is under `data`, or the error."""
        await self.served.advance(12)
        answer = await self.served.ask(method, f"{V1}{path}", body, key=key)
        named = f"{method} {self._name(path.partition('?')[0], method)} {answer.status_code}"
        self.said.append((named, answer.json()))
        return answer.json().get("data")

    def _name(self, path: str, method: str) -> str:
        known = [
            full.removeprefix("/api/v1")
            for full, methods in self.document["paths"].items()
            if method.lower() in methods
        ]
        fits = [n for n in known if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", n), path)]
        return str(min(fits, key=lambda name: "{" in name))


LAUNCH = "/instance-operations/launch"
A10: dict[str, Any] = {
    "region_name": "us-west-1",
    "instance_type_name": "gpu_1x_a10",
    "ssh_key_names": ["mine"],
}


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
    fault = {"provider": "lambda_labs", "operation": "create", "kind": "quota", "times": 1}
    await ask.served.control("POST", "faults", fault)
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
    fault = {"provider": "lambda_labs", "operation": "list", "kind": "server_error", "times": 1}
    await ask.served.control("POST", "faults", fault)
    await ask("GET", "/instances")
    for path in ask.document["paths"]:
        for method in ask.document["paths"][path]:
            plain = path.removeprefix("/api/v1").replace("{id}", "nothing")
            await ask(method.upper(), plain, key="invalid-key")


async def test_answers_are_as_the_document_says_but_for_the_named_deviations(
    served: Served, lambda_specification: dict[str, Any]
) -> None:
    ask = Conversation(served, lambda_specification)
    await _about_instances(ask)
    await _about_the_account(ask)
    found = {
        (operation, field): wrong
        for operation, body in ask.said
        for field, wrong in faults_in(lambda_specification, operation, body)
    }
    unexplained = {key: wrong for key, wrong in found.items() if key not in ANSWERS}
    assert not unexplained, "\n".join(f"{key}: {wrong}" for key, wrong in unexplained.items())
    assert set(ANSWERS) - set(found) == set(), "no deviation any more"
    succeeded = {said.rpartition(" ")[0] for said, _ in ask.said if said.endswith(" 200")}
    every = {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, methods in lambda_specification["paths"].items()
        for method in methods
    }
    assert every - succeeded == set(), "each operation of the document succeeded once"


def test_a_field_that_the_document_does_not_know_is_found(
    lambda_specification: dict[str, Any],
) -> None:
    row = {"id": "1", "name": "x", "public_key": "y", "shoe_size": 43}
    (wrong,) = faults_in(lambda_specification, "GET /ssh-keys 200", {"data": [row]})
    assert "shoe_size" in wrong[1]
    assert dict(faults_in(lambda_specification, "GET /ssh-keys 302", {}))
