"""RunPod's calls: what each sends, and what each answer means."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.providers.scripted import ANY, START

from gpubroker.model.errors import (
    AuthFailed,
    BadResponse,
    BrokerError,
    Invalid,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    OutOfFunds,
    QuotaExceeded,
    RateLimited,
    Refused,
    Unavailable,
    Unsupported,
    WrongState,
)
from gpubroker.model.identity import Ref
from gpubroker.model.instance import Endpoint
from gpubroker.model.launch import LaunchSpec, RegistryAuth
from gpubroker.model.query import Query
from gpubroker.model.terms import Market, Resource, State
from gpubroker.providers.accounts import Account, Wiring
from gpubroker.providers.base import (
    MUTATIONS,
    READS,
    EndsByItself,
    HasBalance,
    KeyAttachable,
    Stoppable,
)
from gpubroker.providers.decorated import decorate
from gpubroker.providers.runpod import CAPABILITIES, Pod, RunPod, state_of
from gpubroker.providers.runpod_market import Asked, parse_offers, read_market

Row = Callable[..., dict[str, Any]]
POD = "/v2/pods/7h9k2m4n6p"
NAME = "gb-abcdef-abcdefghijklmnop"
KEYS = ("ssh-ed25519 AAAAC3Nza gb-abcdef", "ssh-ed25519 AAAAC3Nzb me")
GONE_TEXT = (
    "There are no longer any instances available with the requested specifications. "
    "Please refresh and try again."
)


def no(status: int, detail: str, *errors: str) -> dict[str, Any]:
    """A refusal of REST v2."""
    body = {"title": "Said No", "status": status, "detail": detail}
    return body | ({"errors": list(errors)} if errors else {})


def graph_no(message: str, code: str = "") -> dict[str, Any]:
    """A refusal of GraphQL: inside a 200."""
    error: dict[str, Any] = {"message": message, "path": ["podRentInterruptable"]}
    if code:
        error["extensions"] = {"code": code}
    return {"errors": [error], "data": {"podRentInterruptable": None}}


@pytest.fixture
def ref() -> Ref:
    return Ref("runpod", "default", "", "7h9k2m4n6p")


@pytest.fixture
def spec() -> LaunchSpec:
    return LaunchSpec(
        expires_at=START + timedelta(hours=2),
        disk_gb=30,
        env={"TOKEN": "sesame-sesame"},
        ssh_keys=KEYS,
    )


@pytest.fixture
def offer_of(gpu_type: Row, market_of: Row) -> Callable[..., Any]:
    """The offer of one type, two GPUs."""

    def make(market: Market = Market.ON_DEMAND, center: str = "US-KS-2", **changes: Any) -> Any:
        asked = (Asked("SECURE" if center else "COMMUNITY", 2, center),)
        answer = market_of(asked, [gpu_type(**changes)], lambda *_: {"stockStatus": "High"})
        told = read_market(json.dumps(answer).encode(), asked)
        rows, rejected = parse_offers(told, account="default", fetched_at=START)
        assert not rejected
        return next(offer for offer in rows if offer.market is market)

    return make


# Create


def script_of(args: str) -> str:
    """The text that a container's start line unpacks."""
    line = args.removeprefix("bash -c '").removesuffix("'")
    assert "'" not in line
    return base64.b64decode(line.split()[1]).decode()


async def test_create_on_demand_is_one_rest_request_that_carries_the_attempt(
    runpod: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any, pod: Row
) -> None:
    scripted.says("POST /v2/pods", pod(status="PROVISIONING", runtime={}), status=201)
    made = await runpod.create(spec, offer_of(), attempt, {})
    assert made == Ref("runpod", "default", "", "7h9k2m4n6p")
    (request,) = scripted.requests
    assert (request.method, request.url.path) == ("POST", "/v2/pods")
    body = scripted.body()
    script = script_of(body.pop("args"))
    # The vendor's image starts its SSH server.
    assert script.rstrip().endswith('exec "${GPUBROKER_ROOT-}/start.sh"')
    assert 'runpodctl remove pod "$RUNPOD_POD_ID"' in script
    assert "7200" in script
    assert body == {
        "name": NAME,
        "image": "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404",
        "gpu": {"id": "NVIDIA GeForce RTX 4090", "count": 2},
        "cloud": "SECURE",
        "dataCenterIds": ["US-KS-2"],
        "disk": 30,
        "ports": ["22/tcp"],
        "env": {"TOKEN": "sesame-sesame", "PUBLIC_KEY": "\n".join(KEYS)},
        "startSsh": True,
    }


async def test_a_host_of_the_community_is_asked_for_a_public_address_which_rest_cannot(
    runpod: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any
) -> None:
    scripted.says("POST /graphql", {"data": {"podFindAndDeployOnDemand": {"id": "9z8y7x"}}})
    assert (await runpod.create(spec, offer_of(center=""), attempt, {})).id == "9z8y7x"
    assert scripted.requests[0].url.path == "/graphql"
    wanted = scripted.body()["variables"]["input"]
    assert (wanted["cloudType"], wanted["supportPublicIp"]) == ("COMMUNITY", True)
    assert wanted["terminateAfter"] == "2026-03-01T14:00:00Z"
    assert {"bidPerGpu", "dataCenterId"} & set(wanted) == set()


async def test_an_id_with_two_spaces_is_sent_as_the_vendor_spells_it(
    runpod: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any, pod: Row
) -> None:
    scripted.says("POST /v2/pods", pod(), status=201)
    await runpod.create(spec, offer_of(id="NVIDIA  RTX A4500", memoryInGb=20), attempt, {})
    assert scripted.body()["gpu"]["id"] == "NVIDIA  RTX A4500"


async def test_all_that_a_launch_can_ask_for_stands_in_the_body(
    runpod: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any, pod: Row
) -> None:
    scripted.says("POST /v2/pods", pod(), status=201)
    spec = replace(
        spec,
        image="ubuntu:24.04",
        command="train 'x'",
        startup_script="echo hi",
        ports=((9000, "tcp"), (22, "tcp")),
        volumes=((Ref("runpod", "default", "", "2q9m7x4c"), "/data"),),
        options={"min_cuda_version": "12.4", "http_ports": [8888]},
    )
    have = {Resource.SECRET: Ref("runpod", "default", "", "reg_1")}
    await runpod.create(spec, offer_of(), attempt, have)
    body = scripted.body()
    assert body["image"] == "ubuntu:24.04"
    assert body["ports"] == ["22/tcp", "9000/tcp", "8888/http"]
    assert body["mounts"] == {"network": [{"volumeId": "2q9m7x4c", "path": "/data"}]}
    assert body["gpu"]["minCudaVersion"] == "12.4"
    assert body["registry"] == "reg_1"
    script = script_of(body["args"])
    assert "openssh-server" in script  # an image that brings no SSH server is given one
    assert "/start.sh" not in script


async def test_a_persistent_disk_is_an_option(
    runpod: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any, pod: Row
) -> None:
    scripted.says("POST /v2/pods", pod(), status=201)
    spec = replace(spec, options={"persistent_gb": 50})
    await runpod.create(spec, offer_of(), attempt, {})
    assert scripted.body()["mounts"] == {"persistent": {"size": 50, "path": "/workspace"}}


async def test_without_keys_the_accounts_own_are_not_let_in(
    runpod: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any, pod: Row
) -> None:
    scripted.says("POST /v2/pods", pod(), status=201)
    await runpod.create(replace(spec, ssh_keys=()), offer_of(), attempt, {})
    assert scripted.body()["startSsh"] is False
    assert "PUBLIC_KEY" not in scripted.body()["env"]


async def test_a_bid_is_one_graphql_mutation_with_variables_and_the_vendors_own_expiry(
    runpod: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any
) -> None:
    scripted.says("POST /graphql", {"data": {"podRentInterruptable": {"id": "9z8y7x"}}})
    spec = replace(spec, bid=700_000_001, env={"A": 'x"y'}, options={"persistent_gb": 10})
    made = await runpod.create(spec, offer_of(Market.SPOT), attempt, {})
    assert made.id == "9z8y7x"
    (request,) = scripted.requests
    assert (request.method, request.url.path) == ("POST", "/graphql")
    sent = scripted.body()
    assert "$input: PodRentInterruptableInput!" in sent["query"]
    assert "x" + '"y' not in sent["query"]
    wanted = sent["variables"]["input"]
    assert script_of(wanted.pop("dockerArgs"))
    assert wanted == {
        "name": NAME,
        "imageName": "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404",
        "gpuTypeId": "NVIDIA GeForce RTX 4090",
        "gpuCount": 2,
        "cloudType": "SECURE",
        "dataCenterId": "US-KS-2",
        "bidPerGpu": 0.350000001,  # never below the bid in all
        "containerDiskInGb": 30,
        "volumeInGb": 10,
        "volumeMountPath": "/workspace",
        "ports": "22/tcp",
        "env": [{"key": "A", "value": 'x"y'}, {"key": "PUBLIC_KEY", "value": "\n".join(KEYS)}],
        "supportPublicIp": True,
        "startSsh": True,
        "terminateAfter": "2026-03-01T14:00:00Z",
    }


def test_what_the_vendor_ends_by_itself_is_known_through_the_layers(
    runpod: Any, spec: Any, offer_of: Any
) -> None:
    layered = decorate(runpod, [])
    assert isinstance(layered, EndsByItself)
    assert layered.ends_by_itself(spec, offer_of(Market.SPOT)) == spec.expires_at
    on_demand = replace(offer_of(Market.ON_DEMAND), tier="secure")
    assert layered.ends_by_itself(spec, on_demand) is None


async def test_without_a_bid_the_lowest_is_offered_and_no_expiry_sets_none(
    runpod: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any
) -> None:
    scripted.says("POST /graphql", {"data": {"podRentInterruptable": {"id": "9z8y7x"}}})
    await runpod.create(replace(spec, expires_at=None), offer_of(Market.SPOT), attempt, {})
    wanted = scripted.body()["variables"]["input"]
    assert wanted["bidPerGpu"] == 0.35
    assert "terminateAfter" not in wanted
    assert "runpodctl" not in script_of(wanted["dockerArgs"])


INCOMPRESSIBLE = "".join(hashlib.sha256(b"%d" % n).hexdigest() for n in range(2000))
VOLUME = (Ref("runpod", "default", "", "v1"), "/data")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"disk_gb": 0}, "disk_gb"),
        ({"env": {"A": "x" * 40_000}}, "env"),
        ({"env": {f"V{n}": "x" for n in range(50)}}, "env"),
        ({"env": {"-p 22:22": "1"}}, "env"),
        ({"ports": ((53, "udp"),)}, "ports"),
        ({"ports": ((0, "tcp"),)}, "ports"),
        ({"ports": tuple((port, "tcp") for port in range(1, 30))}, "ports"),
        ({"volumes": (VOLUME, VOLUME)}, "volumes"),
        ({"volumes": ((VOLUME[0], "data"),)}, "volumes"),
        ({"options": {"persistent_gb": 9}}, "persistent_gb"),
        ({"options": {"persistent_gb": 20}, "volumes": (VOLUME,)}, "persistent_gb"),
        ({"options": {"min_cuda_version": "twelve"}}, "min_cuda_version"),
        ({"options": {"colour": "red"}}, "options"),
        ({"startup_script": INCOMPRESSIBLE},
         "startup_script"),
        ({"bid": 0}, "bid"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
async def test_what_the_vendor_would_not_take_is_refused_before_it_is_sent(
    runpod: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any, change: Any, field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await runpod.create(replace(spec, **change), offer_of(Market.SPOT), attempt, {})
    assert caught.value.field == field
    assert scripted.requests == []
    assert "xxxx" not in str(caught.value)


# Logins of private images


LOGIN = RegistryAuth(name="mine", server="ghcr.io", username="me", password="sesame-pass")


async def test_no_login_needs_no_request(
    runpod: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any, pod: Row
) -> None:
    need = await runpod.ensure(Resource.SECRET, spec, offer_of(), attempt, {})
    await runpod.release(Resource.SECRET, need)
    assert scripted.requests == []
    scripted.says("POST /v2/pods", pod(), status=201)
    await runpod.create(spec, offer_of(), attempt, {Resource.SECRET: need})
    assert "registry" not in scripted.body()


async def test_a_login_is_stored_once_under_the_attempts_name_and_removed_again(
    runpod: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any
) -> None:
    spec = replace(spec, registry_auth=LOGIN)
    scripted.says("GET /v2/registries", {"registries": [{"id": "r0", "name": "dockerhub"}]})
    scripted.says("POST /v2/registries", {"id": "r1", "name": NAME}, status=201)
    scripted.then("GET /v2/registries", {"registries": [{"id": "r1", "name": NAME}]})
    scripted.says("DELETE /v2/registries/r1", b"", status=204)
    needs = [await runpod.ensure(Resource.SECRET, spec, offer_of(), attempt, {}) for _ in "12"]
    assert [need.id for need in needs] == ["r1", "r1"]
    assert scripted.body(1) == {"name": NAME, "username": "me", "password": "sesame-pass"}
    await runpod.release(Resource.SECRET, needs[0])
    asked = [(request.method, request.url.path) for request in scripted.requests]
    assert asked == [
        ("GET", "/v2/registries"),
        ("POST", "/v2/registries"),
        ("GET", "/v2/registries"),
        ("DELETE", "/v2/registries/r1"),
    ]


async def test_a_login_that_is_gone_is_released_and_one_in_use_is_not(
    runpod: Any, scripted: Any
) -> None:
    need = Ref("runpod", "default", "", "r1")
    scripted.says("DELETE /v2/registries/r1", no(404, "registry not found"), status=404)
    await runpod.release(Resource.SECRET, need)
    scripted.says(
        "DELETE /v2/registries/r1",
        no(400, "Registry credential is in use by a pod and cannot be deleted"),
        status=400,
    )
    with pytest.raises(WrongState):
        await runpod.release(Resource.SECRET, need)
    with pytest.raises(Unsupported):
        await runpod.release(Resource.SSH_KEY, need)


async def test_no_secret_of_a_login_is_in_an_error(
    runpod: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any
) -> None:
    scripted.says("GET /v2/registries", {"registries": []})
    scripted.says("POST /v2/registries", no(422, "bad password sesame-pass"), status=422)
    with pytest.raises(Invalid) as caught:
        await runpod.ensure(
            Resource.SECRET, replace(spec, registry_auth=LOGIN), offer_of(), attempt, {}
        )
    assert "sesame" not in f"{caught.value} {caught.value.raw}"


async def test_a_sweep_is_told_of_logins_and_volumes_and_whose_they_are(
    runpod: Any, scripted: Any
) -> None:
    scripted.says("POST /graphql", {"data": {"myself": {"id": "u1", "clientBalance": 3.0}}})
    scripted.says(
        "GET /v2/registries",
        {"registries": [{"id": "r1", "name": NAME}, {"id": "r0", "name": "dockerhub"}]},
    )
    scripted.says(
        "GET /v2/network-volumes", {"networkVolumes": [{"id": "v1", "name": "data", "size": 50}]}
    )
    told = await runpod.resources("")
    assert (told.complete, told.account_uid) == (True, "u1")
    assert [(one.what, one.ref.id, one.owner, one.attempt) for one in told.resources] == [
        (Resource.SECRET, "r1", "abcdef", "abcdefghijklmnop"),
        (Resource.SECRET, "r0", None, None),
        (Resource.VOLUME, "v1", None, None),
    ]


@pytest.mark.parametrize(
    ("what", "path"),
    [(Resource.SECRET, "/v2/registries/x1"), (Resource.VOLUME, "/v2/network-volumes/x1")],
)
async def test_what_is_unused_is_deleted_once_and_may_be_gone(
    runpod: Any, scripted: Any, what: Resource, path: str
) -> None:
    scripted.says(f"DELETE {path}", b"", status=204)
    await runpod.discard(what, Ref("runpod", "default", "", "x1"))
    assert [(r.method, r.url.path) for r in scripted.requests] == [("DELETE", path)]
    scripted.says(f"DELETE {path}", no(404, "resource not found"), status=404)
    await runpod.discard(what, Ref("runpod", "default", "", "x1"))
    with pytest.raises(Unsupported):
        await runpod.discard(Resource.SSH_KEY, Ref("runpod", "default", "", "x1"))


# Errors

HOST_FULL = "There are not enough free GPUs on the host machine to start this pod."
HTML_404 = b"<html><title>404 Not Found</title></html>"
ERRORS: list[tuple[str, int, Any, type[BrokerError]]] = [
    ("create", 401, no(401, "missing bearer token"), AuthFailed),
    ("get", 401, no(401, "invalid token"), AuthFailed),
    ("list", 401, {"errors": [{"message": "Unauthorized"}]}, AuthFailed),
    ("whoami", 200, {"errors": [{"message": "Unauthorized"}], "data": None}, AuthFailed),
    ("whoami", 200, graph_no("no", "FORBIDDEN"), AuthFailed),
    ("get", 403, no(403, "access denied"), AuthFailed),
    ("create", 403, no(403, "access denied"), Refused),
    ("create", 400, no(400, GONE_TEXT), NoCapacity),
    ("create", 400, no(400, "This machine does not have the resources to deploy your pod"),
     NoCapacity),
    ("create", 400, no(400, "no instances currently available"), NoCapacity),
    ("create", 400, no(400, "a rule that nobody knows"), Refused),
    ("create", 402, no(402, "Your account balance is too low to rent a pod"), OutOfFunds),
    ("create", 400, no(400, "Your account balance is too low to rent a pod"), OutOfFunds),
    ("create", 400, no(400, "This would exceed your spend limit"), QuotaExceeded),
    ("create", 422, no(422, "Request validation failed.", "$: additional properties 'x'"), Invalid),
    ("create", 409, no(409, "conflict"), WrongState),
    ("create", 429, no(429, "slow down"), RateLimited),
    ("create", 500, no(500, GONE_TEXT), OutcomeUnknown),
    ("create", 502, b"<html>", OutcomeUnknown),
    ("create", 404, HTML_404, OutcomeUnknown),
    ("create", 201, {"name": "no id"}, OutcomeUnknown),
    ("create", 201, b"<html>", OutcomeUnknown),
    ("spot", 200, graph_no(GONE_TEXT, "SUPPLY_CONSTRAINT"), NoCapacity),
    ("spot", 200, graph_no("words that change", "SUPPLY_CONSTRAINT"), NoCapacity),
    ("spot", 200, graph_no(GONE_TEXT), NoCapacity),
    ("spot", 200, graph_no("Your account balance is too low to rent a pod"), OutOfFunds),
    ("spot", 200, graph_no("no", "INSUFFICIENT_BALANCE"), OutOfFunds),
    ("spot", 400, graph_no('Variable "$input" got invalid value', "BAD_USER_INPUT"), Invalid),
    ("spot", 200, graph_no("words of this candidate alone", "BAD_USER_INPUT"), Refused),
    ("spot", 200, graph_no("Something went wrong. Please try again later.",
                           "INTERNAL_SERVER_ERROR"), OutcomeUnknown),
    ("spot", 200, {"data": {"podRentInterruptable": None}}, OutcomeUnknown),
    ("community", 200, graph_no(GONE_TEXT, "SUPPLY_CONSTRAINT"), NoCapacity),
    ("community", 200, {"data": {"podFindAndDeployOnDemand": None}}, OutcomeUnknown),
    ("community", 200, {"data": {"podRentInterruptable": {"id": "x"}}}, OutcomeUnknown),
    ("spot", 200, {"data": None}, OutcomeUnknown),
    ("spot", 500, b"<html>", OutcomeUnknown),
    ("get", 404, no(404, "pod not found"), NotFound),
    ("get", 404, no(404, "resource not found"), NotFound),
    ("get", 404, HTML_404, BadResponse),
    ("get", 404, b"404 page not found", BadResponse),
    ("get", 404, b"", BadResponse),
    ("get", 500, no(500, "internal"), Unavailable),
    ("get", 200, {"id": "another"}, BadResponse),
    ("get", 200, b"<html>", BadResponse),
    ("terminate", 404, HTML_404, OutcomeUnknown),
    ("terminate", 409, no(409, "Pod belongs to a cluster"), WrongState),
    ("terminate", 500, no(500, "oops"), OutcomeUnknown),
    ("stop", 404, no(404, "pod not found"), NotFound),
    ("stop", 409, no(409, "action not valid for current pod status"), WrongState),
    ("start", 409, no(409, "action not valid for current pod status"), WrongState),
    ("start", 400, no(400, HOST_FULL), NoCapacity),
    ("start", 400, no(400, GONE_TEXT), NoCapacity),
    ("start", 400, no(400, "Cannot resume a spot pod as an on demand pod."), WrongState),
    ("start", 402, no(402, "Your account balance is too low"), OutOfFunds),
    ("start", 500, no(500, "oops"), OutcomeUnknown),
    ("list", 500, no(500, "oops"), Unavailable),
    ("find", 200, {"pods": None}, BadResponse),
    ("find", 200, {"pods": [{"name": "no id"}]}, BadResponse),
    ("billing", 404, no(404, "pod not found"), BadResponse),
    ("billing", 200, {"records": [{"podId": "7h9k2m4n6p"}]}, BadResponse),
    ("balance", 200, {"data": {"myself": {"id": "u1", "clientBalance": None}}}, BadResponse),
    ("whoami", 200, {"data": {"myself": None}}, BadResponse),
    ("offers", 500, b"", Unavailable),
    ("offers", 429, b"", RateLimited),
    ("offers", 400, {"errors": [{"message": "Cannot query field"}]}, Invalid),
]  # fmt: skip


@pytest.mark.parametrize(
    ("operation", "status", "body", "kind"),
    ERRORS,
    ids=[f"{o}-{s}-{k.__name__}-{n}" for n, (o, s, _, k) in enumerate(ERRORS)],
)
async def test_the_error_table_row_by_row(
    runpod: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any, ref: Any,
    operation: str, status: int, body: Any, kind: type[BrokerError],
) -> None:  # fmt: skip
    scripted.says(ANY, body, status=status)
    with pytest.raises(BrokerError) as caught:
        await call(runpod, operation, spec, offer_of, attempt, ref)
    assert type(caught.value) is kind
    assert caught.value.provider == "runpod"
    assert len(scripted.requests) == 1


async def call(
    runpod: Any, operation: str, spec: Any, offer_of: Any, attempt: Any, ref: Any
) -> Any:
    calls: dict[str, Callable[[], Any]] = {
        "create": lambda: runpod.create(spec, offer_of(), attempt, {}),
        "spot": lambda: runpod.create(spec, offer_of(Market.SPOT), attempt, {}),
        "community": lambda: runpod.create(spec, offer_of(center=""), attempt, {}),
        "find": lambda: runpod.find(attempt, offer_of()),
        "list": lambda: runpod.list(""),
        "billing": lambda: runpod.billing(ref, START, None),
        "whoami": runpod.whoami,
        "balance": runpod.balance,
        "release": lambda: runpod.release(Resource.SECRET, ref),
    }
    if operation == "offers":
        return [page async for page in runpod.offers(Query())]
    return await calls.get(operation, lambda: getattr(runpod, operation)(ref))()


async def test_codes_and_retry_after_are_kept(
    runpod: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any, ref: Any
) -> None:
    scripted.says("POST /graphql", graph_no("words", "SUPPLY_CONSTRAINT"))
    with pytest.raises(NoCapacity) as refused:
        await runpod.create(spec, offer_of(Market.SPOT), attempt, {})
    assert (refused.value.code, refused.value.scope) == ("supply_constraint", "offer")
    assert "words" in str(refused.value)
    scripted.says(f"GET {POD}", no(429, "slow down"), status=429, retry_after="7")
    with pytest.raises(RateLimited) as limited:
        await runpod.get(ref)
    assert limited.value.retry_after_s == 7


async def test_an_unknown_400_to_a_create_leaves_other_offers_to_be_tried(
    runpod: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any
) -> None:
    scripted.says("POST /v2/pods", no(400, "ports: at most 10"), status=400)
    with pytest.raises(Refused, match="ports: at most 10") as caught:
        await runpod.create(spec, offer_of(), attempt, {})
    assert not isinstance(caught.value, Invalid | NoCapacity)
    assert caught.value.code == "not_placed"


@pytest.mark.parametrize("operation", ["create", "spot", "terminate", "stop", "start", "release"])
@pytest.mark.parametrize("reply", ["drop", "500", "503", "408", "307", "garbage"])
async def test_no_failure_makes_a_mutation_be_sent_twice(
    raw_server: Any, answered: Any, spec: Any, offer_of: Any, attempt: Any, ref: Any,
    operation: str, reply: str,
) -> None:  # fmt: skip
    replies = {
        "drop": None,
        "500": answered("500 Oops", b""),
        "503": answered("503 Later", b"", "retry-after: 0"),
        "408": answered("408 Timeout", b""),
        "307": answered("307 Moved", b"", "location: /elsewhere"),
        "garbage": b"HTTP/1.1 two hundred\r\n\r\n",
    }
    account = Account("runpod", "default", {"RUNPOD_API_KEY": "k-e-y-of-tests"}, "test")
    async with raw_server() as server:
        server.replies = [replies[reply]]
        wiring = Wiring(base_url=f"http://127.0.0.1:{server.port}", loopback_only=True)
        runpod = RunPod.connect(account, wiring)
        with pytest.raises(OutcomeUnknown):
            await call(runpod, operation, spec, offer_of, attempt, ref)
        await runpod.aclose()
        assert len(server.received) == 1


@pytest.mark.parametrize("number", ["../registries/r1", "a/b", "", "a?b", ".", "a b"])
async def test_an_id_that_is_none_never_becomes_a_path(
    runpod: Any, scripted: Any, number: str
) -> None:
    for operation in (runpod.terminate, runpod.get, runpod.stop):
        with pytest.raises(Invalid):
            await operation(Ref("runpod", "default", "", number))
    assert scripted.requests == []


@pytest.mark.parametrize("market", [Market.ON_DEMAND, Market.SPOT])
async def test_no_secret_is_in_an_error_or_a_trace(
    runpod: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any, market: Market
) -> None:
    seen: list[Any] = []
    runpod.http._observers = (seen.append,)
    said = "bad value sesame-sesame for key k3y-0f-the-tests-n0t-real"
    body = graph_no(said, "BAD_USER_INPUT") | no(422, said) | {"env": {"TOKEN": "sesame-hidden"}}
    scripted.says(ANY, body, status=422 if market is Market.ON_DEMAND else 400)
    spec = replace(spec, startup_script="echo sesame-script")
    with pytest.raises(BrokerError) as caught:
        await runpod.create(spec, offer_of(market), attempt, {})
    shown = f"{caught.value} {caught.value.raw} {caught.value.code} {seen}"
    assert "bad value ***" in caught.value.raw
    assert "sesame" not in shown
    assert "k3y" not in shown
    sent = scripted.body()
    args = sent.get("args") or sent["variables"]["input"]["dockerArgs"]
    assert args.split()[3] not in shown
    assert NAME in shown  # what is no secret can be read


# Machines


async def test_a_machine_is_read_with_its_owner_its_ports_and_no_secret(
    runpod: Any, scripted: Any, ref: Any, pod: Row
) -> None:
    scripted.says(f"GET {POD}", pod())
    got = await runpod.get(ref)
    assert str(scripted.requests[0].url) == "https://vendor.test/v2/pods/7h9k2m4n6p"
    assert (got.owner, got.attempt, got.name) == ("abcdef", "abcdefghijklmnop", NAME)
    assert got.ssh == Endpoint(host="203.0.113.7", port=34446, user="root")
    assert got.ports == {
        "9000/tcp": "203.0.113.7:40900",
        "8888/http": "https://7h9k2m4n6p-8888.proxy.runpod.net",
    }
    assert (got.price, got.bills_compute, got.bills_disk) == (1_380_000_000, True, True)
    assert (got.gpu, got.gpu_count, got.disk_gb) == ("NVIDIA GeForce RTX 4090", 2, 20)
    assert got.created_at == START
    assert "sesame" not in repr(got)


async def test_ssh_is_read_from_the_ports_where_it_is_not_told(
    runpod: Any, scripted: Any, ref: Any, pod: Row
) -> None:
    proxy = pod()["ssh"]["proxy"]
    scripted.says(f"GET {POD}", pod(ssh={"proxy": proxy, "direct": None}))
    assert (await runpod.get(ref)).ssh == Endpoint(host="203.0.113.7", port=34446, user="root")


@pytest.mark.parametrize(
    "change",
    [
        {"ssh": {"proxy": {"host": "ssh.runpod.test", "port": 22, "username": "x"}, "direct": None},
         "runtime": None},
        {"ssh": None, "runtime": {}},
        {"ssh": None, "runtime": {"ports": [{"private": 22, "public": None, "ip": None}]}},
        {"status": "STARTING"},
        {"status": "EXITED"},
    ],
    ids=str,
)  # fmt: skip
async def test_the_vendors_proxy_is_no_way_in_for_more_than_a_person(
    runpod: Any, scripted: Any, ref: Any, pod: Row, change: dict[str, Any]
) -> None:
    scripted.says(f"GET {POD}", pod(**change))
    assert (await runpod.get(ref)).ssh is None


@pytest.mark.parametrize(
    ("status", "state", "compute", "healthy"),
    [
        ("PROVISIONING", State.PENDING, True, True),
        ("STARTING", State.PENDING, True, True),
        ("RUNNING", State.RUNNING, True, True),
        ("EXITED", State.STOPPED, False, True),
        ("ERROR", State.FAILED, True, False),
        ("TERMINATED", State.TERMINATED, False, True),
        ("TELEPORTING", State.UNKNOWN, True, False),
        (None, State.UNKNOWN, True, False),
    ],
)
async def test_every_state_of_the_vendors_table(
    runpod: Any, scripted: Any, ref: Any, pod: Row,
    status: str | None, state: State, compute: bool, healthy: bool,
) -> None:  # fmt: skip
    scripted.says(f"GET {POD}", pod(status=status))
    got = await runpod.get(ref)
    assert (got.state, got.bills_compute, got.healthy) == (state, compute, healthy)
    assert state_of(Pod(id="x", status=status)) is state


async def test_a_stopped_machine_costs_only_where_its_disk_persists(
    runpod: Any, scripted: Any, ref: Any, pod: Row
) -> None:
    scripted.says(f"GET {POD}", pod(status="EXITED", cost=0.0))
    got = await runpod.get(ref)
    assert (got.price, got.bills_compute, got.bills_disk) == (None, False, False)
    scripted.says(
        f"GET {POD}",
        pod(status="EXITED", cost=0.0, mounts={"persistent": {"size": 20, "path": "/workspace"}}),
    )
    assert (await runpod.get(ref)).bills_disk


async def test_find_takes_only_this_attempt_of_the_whole_list(
    runpod: Any, scripted: Any, attempt: Any, offer_of: Any, pod: Row
) -> None:
    others = [pod(id="b", name="gb-abcdef-aaaaaaaaaaaaaaaa"), pod(id="c"), pod(id="d", name=None)]
    scripted.says("GET /v2/pods", {"pods": [pod(), *others]})
    found = await runpod.find(attempt, offer_of())
    assert [one.ref.id for one in found] == ["7h9k2m4n6p", "c"]


async def test_the_list_holds_foreign_machines_and_those_of_clusters(
    runpod: Any, scripted: Any, pod: Row
) -> None:
    scripted.says("POST /graphql", {"data": {"myself": {"id": "user_1", "clientBalance": 3}}})
    scripted.says(
        "GET /v2/pods", {"pods": [pod(), pod(id="b", name="mine", cluster={"id": "k", "rank": 0})]}
    )
    listing = await runpod.list("")
    assert (listing.account_uid, listing.complete) == ("user_1", True)
    assert [one.owner for one in listing.instances] == ["abcdef", None]
    assert str(scripted.requests[1].url) == "https://vendor.test/v2/pods?includeClusterPods=true"


async def test_a_uid_asked_just_before_serves_one_list_and_no_later_one(
    runpod: Any, scripted: Any, clock: Any
) -> None:
    def me(uid: str) -> dict[str, Any]:
        return {"data": {"myself": {"id": uid, "clientBalance": 0}}}

    none: dict[str, Any] = {"pods": []}
    scripted.says("POST /graphql", me("one"), me("two")).says("GET /v2/pods", none)
    assert await runpod.whoami() == "one"
    assert [(await runpod.list("")).account_uid for _ in range(2)] == ["one", "two"]
    scripted.says("POST /graphql", me("three"), me("four"))
    await runpod.whoami()
    await clock.sleep(60)
    assert (await runpod.list("")).account_uid == "four"


async def test_terminate_sends_a_delete_and_takes_gone_for_done(
    runpod: Any, scripted: Any, ref: Any
) -> None:
    scripted.says(f"DELETE {POD}", b"", status=204)
    scripted.then(f"DELETE {POD}", no(404, "pod not found"), status=404)
    await runpod.terminate(ref)
    await runpod.terminate(ref)
    assert [(r.method, r.url.path) for r in scripted.requests] == [
        ("DELETE", "/v2/pods/7h9k2m4n6p")
    ] * 2


async def test_the_small_mutations(runpod: Any, scripted: Any, ref: Any, pod: Row) -> None:
    scripted.says(f"POST {POD}/action", pod())
    await runpod.stop(ref)
    await runpod.start(ref)
    sent = [(r.method, r.url.path, json.loads(r.content)) for r in scripted.requests]
    path = "/v2/pods/7h9k2m4n6p/action"
    assert sent == [("POST", path, {"action": "stop"}), ("POST", path, {"action": "start"})]


async def test_account_and_balance(runpod: Any, scripted: Any) -> None:
    scripted.says("POST /graphql", {"data": {"myself": {"id": "user_1", "clientBalance": -1.25}}})
    assert await runpod.whoami() == "user_1"
    assert await runpod.balance() == -1_250_000_000
    assert await runpod.scopes() == ("",)
    assert scripted.body() == {"query": "query Me { myself { id clientBalance } }"}


def test_it_keeps_the_protocols_that_its_capabilities_promise(runpod: Any) -> None:
    assert isinstance(runpod, Stoppable)
    assert isinstance(runpod, HasBalance)
    assert not isinstance(runpod, KeyAttachable)


def test_the_console_shows_the_machine(runpod: Any, ref: Any) -> None:
    assert runpod.console_url(ref) == "https://console.runpod.io/pods?id=7h9k2m4n6p"


@pytest.mark.parametrize(("seconds", "most"), [(60, 60), (3600, 3000), (86400, 50_000)])
def test_the_limits_keep_the_vendors_in_every_window(seconds: float, most: int) -> None:
    kept = [one for one in CAPABILITIES.limits if one.per == "account"]
    assert min(one.burst + seconds / one.interval_s for one in kept) <= most


def test_every_call_has_a_limit() -> None:
    limited = frozenset[str]().union(*(one.operations for one in CAPABILITIES.limits))
    calls = {name for name in READS | MUTATIONS if hasattr(RunPod, name)} - {"scopes"}
    assert calls == limited


# Bills


def charge(hour: int = 12, pod_id: str = "7h9k2m4n6p", **changes: Any) -> dict[str, Any]:
    row = {"startTime": f"2026-03-01T{hour}:00:00Z", "endTime": f"2026-03-01T{hour + 1}:00:00Z",
           "podId": pod_id, "totalAmount": 1.234, "gpuAmount": 1.134, "cpuAmount": 0,
           "diskAmount": 0.1}  # fmt: skip
    return row | changes


def charges(*rows: dict[str, Any], count: int | None = None) -> dict[str, Any]:
    counted = len(rows) if count is None else count
    return {"records": list(rows), "metadata": {"recordCount": counted, "query": {}, "totals": {}}}


async def test_a_bill_sums_the_hours_of_this_machine_only(
    runpod: Any, scripted: Any, clock: Any, ref: Any
) -> None:
    scripted.says(
        "GET /v2/billing/pods",
        charges(charge(10), charge(11, totalAmount=0.5), charge(11, "other")),
    )
    bill = await runpod.billing(ref, START - timedelta(hours=1, minutes=20), None)
    assert (bill.status, bill.amount) == ("running", 1_734_000_000)
    assert [line.item for line in bill.lines] == ["gpu", "disk", "gpu", "disk"]
    assert bill.complete_until == START
    assert dict(scripted.requests[0].url.params) == {
        "startTime": "2026-03-01T10:00:00Z",
        "endTime": "2026-03-01T13:00:00Z",
        "bucketSize": "hour",
        "podId": "7h9k2m4n6p",
    }


@pytest.mark.parametrize(
    ("hours_since_end", "rows", "status", "amount"),
    [
        (1, [charge(10)], "pending", 1_234_000_000),
        (1, [], "pending", None),
        (3, [charge(10)], "ended", 1_234_000_000),
        (3, [], "ended", 0),
    ],
)
async def test_a_bill_is_final_only_when_the_record_had_time(
    runpod: Any, scripted: Any, clock: Any, ref: Any,
    hours_since_end: float, rows: Any, status: str, amount: int | None,
) -> None:  # fmt: skip
    scripted.says("GET /v2/billing/pods", charges(*rows))
    until = clock.now() - timedelta(hours=hours_since_end)
    bill = await runpod.billing(ref, START - timedelta(hours=6), until)
    assert (bill.status, bill.amount) == (status, amount)


async def test_a_bill_with_a_lost_record_is_not_final(
    runpod: Any, scripted: Any, clock: Any, ref: Any
) -> None:
    scripted.says("GET /v2/billing/pods", charges(charge(10), count=2))
    bill = await runpod.billing(ref, START, clock.now() - timedelta(days=2))
    assert bill.status == "pending"
