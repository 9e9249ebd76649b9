"""Vast.ai's own OpenAPI document, unknown fields closed, as the judge of both sides.

Of the emulator's answers and of our client's requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import (  # type: ignore[import-untyped]  # it ships no types
    Draft202012Validator,
)
from msgspec.structs import replace

from gpubroker.model.identity import Attempt, new_attempt_id
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import nanos
from gpubroker.model.query import GpuWanted, Query
from gpubroker.model.terms import Market, State
from gpubroker.providers import vast_ai_market

if TYPE_CHECKING:
    from tests.sandbox.conftest import Heard, Served

    from gpubroker.providers.vast_ai import VastAi

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
    yield from _faults(document, schema, body)


def _faults(document: dict[str, Any], schema: Any, body: Any) -> Iterator[tuple[str, str]]:
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


# --- our client's requests ----------------------------------------------------------------

CLIENT = "as the vendor's client 1.9.1 sends it"
REQUESTS: dict[tuple[str, str], str] = {
    ("*", "/"): f"part of the paths {CLIENT}, and in the guides' examples",
    ("POST /bundles", "type"): f"`on-demand` {CLIENT}; the enum spells it without the hyphen",
    ("POST /bundles", "order"): f"one pair {CLIENT}; the document's limits are those of a pair",
    ("POST /bundles", "gte"): "in the document's text on num_gpus; its schema lists `in` alone",
    ("POST /bundles", "lte"): "as gte",
    ("PUT /asks/{id}", "env"): f"an object {CLIENT}; of the guides' two forms the unambiguous one",
    ("PUT /asks/{id}", "client_id"): f"`me` {CLIENT}",
    ("GET /instances/{id}", "owner"): f"`me` {CLIENT}",
    ("DELETE /instances/{id}", "body"): f"an empty object {CLIENT}",
}
"""(operation, field): why our client sends something else than the document says. * is any."""
EVERYTHING = Query(
    gpus=(GpuWanted("RTX 4090"),),
    min_count=1,
    max_count=2,
    min_vram_gb=20,
    max_vram_gb=30,
    min_vcpus=1,
    min_ram_gb=1,
    min_disk_gb=10,
    disk_gb=20,
    min_reliability=0.1,
    min_compute_capability=7.0,
    min_down_mbps=1,
    min_up_mbps=1,
    min_hours=1,
    options=tuple(
        ("vast_ai", name, "1" if name.startswith(("min_", "machine", "host")) else "true")
        for name in vast_ai_market.OPTIONS
    ),
)
OF_ONE_LIFE = {
    "POST /bundles",
    "PUT /asks/{id}",
    "GET /v1/instances",
    "GET /instances/{id}",
    "PUT /instances/{id}",
    "DELETE /instances/{id}",
    "PUT /instances/bid_price/{id}",
    "POST /instances/{id}/ssh",
    "GET /charges",
    "GET /users/current",
}


def operation_of(document: dict[str, Any], heard: Heard) -> str:
    """`GET /ssh`, as in the document; KeyError where it knows no such path or method."""
    path = heard.path.removeprefix("/vast_ai").rstrip("/")
    for full, methods in document["paths"].items():
        pattern = re.sub(r"\\\{\w+\\\}", r"\\d+", re.escape(full))
        if heard.method.lower() in methods and re.fullmatch(pattern, path):
            short = full.removeprefix("/api/v0").removeprefix("/api")
            return f"{heard.method} {short}"
    raise KeyError(f"{heard.method} {path}")


def faults_in_request(
    document: dict[str, Any], operation: str, heard: Heard
) -> Iterator[tuple[str, str]]:
    """(field, what is wrong) of a request."""
    method, _, path = operation.partition(" ")
    full = f"/api{path}" if path.startswith("/v1") else f"/api/v0{path}"
    known = document["paths"][full][method.lower()]
    if heard.path.endswith("/"):
        yield "/", "the path ends in a slash"
    if not heard.key.startswith("Bearer "):
        yield "authorization", "is no bearer token"
    parameters = {row["name"]: row for row in known.get("parameters", ()) if row["in"] == "query"}
    for name, value in heard.query:
        if name not in parameters:
            yield name, "is not in the document"
        else:
            schema = parameters[name]["schema"]
            read = value if schema["type"] == "string" else json.loads(value)
            for error in Draft202012Validator(schema).iter_errors(read):
                yield name, error.message
    sent = dict(heard.query)
    for name, row in parameters.items():
        if row.get("required") and name not in sent:
            yield name, "is missing"
    if "requestBody" in known:
        schema = known["requestBody"]["content"]["application/json"]["schema"]
        yield from _faults(document, schema, json.loads(heard.body or b"null"))
    elif heard.body:
        yield "body", "the document has none"


async def _one_life(ours: VastAi, served: Served) -> None:
    """Everything that our client can ask, of a machine on demand and of one for a bid."""
    for query in (Query(), EVERYTHING):
        assert [page async for page in ours.offers(query)]
    cheap = Query(gpus=(GpuWanted("RTX 4090"),), max_count=1)
    (on_demand,) = [page async for page in ours.offers(replace(cheap, market=Market.ON_DEMAND))]
    (spot,) = [page async for page in ours.offers(replace(cheap, market=Market.SPOT))]
    (again,) = [
        page
        async for page in ours.offers(Query(keys=(on_demand.rows[0].key,), market=Market.ON_DEMAND))
    ]
    assert [offer.key for offer in again.rows] == [on_demand.rows[0].key]
    spec = LaunchSpec(
        image="ubuntu:22.04",
        env={"WORD": "hi"},
        ports=((8888, "tcp"), (9000, "udp")),
        startup_script="echo hello",
        command="sleep 5",
        disk_gb=20,
        options={"image_login": "-u me -p secret docker.io"},
        expires_at=None,
    )
    begun = datetime.fromtimestamp(served.sandbox.clock.now(), UTC)
    assert await ours.whoami()
    assert await ours.balance() > 0
    for offer, more in ((on_demand.rows[0], {}), (spot.rows[-1], {"bid": nanos(0.5)})):
        attempt = Attempt("abcdef", new_attempt_id(), "launch")
        ref = await ours.create(replace(spec, **more), offer, attempt, {})
        await served.advance(10)
        (found,) = await ours.find(attempt, offer)
        assert found.ref == ref
        assert (await ours.get(ref)).state == State.RUNNING
        assert ref in {machine.ref for machine in (await ours.list("")).instances}
        await ours.attach_key(ref, A_KEY)
        if more:
            await ours.bid(ref, nanos(0.6))
        await ours.stop(ref)
        await ours.start(ref)
        await served.advance(3600)
        await ours.terminate(ref)
        await served.advance(3600)
        now = datetime.fromtimestamp(served.sandbox.clock.now(), UTC)
        assert (await ours.billing(ref, begun, now)).lines


async def test_our_requests_are_as_the_document_says_but_for_the_named_deviations(
    ours: VastAi, served: Served, specification: dict[str, Any]
) -> None:
    await _one_life(ours, served)
    heard = [row for row in served.ear.heard if row.path.startswith("/vast_ai/")]
    asked = {operation_of(specification, row) for row in heard}
    assert asked == OF_ONE_LIFE
    found = {
        ("*" if field == "/" else operation, field): wrong
        for row in heard
        for operation in [operation_of(specification, row)]
        for field, wrong in faults_in_request(specification, operation, row)
    }
    unexplained = {key: wrong for key, wrong in found.items() if key not in REQUESTS}
    assert not unexplained, "\n".join(f"{key}: {wrong}" for key, wrong in unexplained.items())
    assert set(REQUESTS) - set(found) == set(), "no deviation any more"


def test_a_request_that_the_document_does_not_know_is_found(specification: dict[str, Any]) -> None:
    from tests.sandbox.conftest import Heard

    row = Heard(
        method="PUT",
        path="/vast_ai/api/v0/instances/1",
        query=[("colour", "red")],
        key="",
        body=b'{"state": "frozen", "shoe_size": 43}',
    )
    operation = operation_of(specification, row)
    assert operation == "PUT /instances/{id}"
    assert {field for field, _ in faults_in_request(specification, operation, row)} == {
        "colour", "authorization", "state", "shoe_size"
    }  # fmt: skip
    with pytest.raises(KeyError):
        operation_of(specification, replace(row, path="/vast_ai/api/v0/machines-of-others/1/"))
