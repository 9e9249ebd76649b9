"""Shadeform's calls: what each sends, and what each answer means."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from msgspec import convert
from msgspec.structs import replace
from tests.providers.scripted import KEY, START, Scripted, connected

from gpubroker.catalog.gpus import resolve
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
from gpubroker.model.launch import LaunchSpec, RegistryAuth
from gpubroker.model.terms import Resource, State
from gpubroker.providers.base import Extendable, HasBalance, Stoppable
from gpubroker.providers.boot import secrets_of
from gpubroker.providers.shadeform import (
    CAPABILITIES,
    Machine,
    Shadeform,
    instance_of,
    order,
    parse_offers,
)

FIXTURES = Path(__file__).parent / "fixtures" / "shadeform"
ID = "d290f1ee-6c54-4b01-90e6-d701748f0851"
OWN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrokerKeyOfTheTestsNotReal000000000000000000 gb-abcdef"
HAVE = {Resource.SSH_KEY: Ref("shadeform", "default", "", "26bedfa2")}


def told(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


@pytest.fixture
def cloud(scripted: Scripted) -> Shadeform:
    return connected(Shadeform, scripted)


@pytest.fixture
def offer() -> Any:
    body = (FIXTURES / "types.json").read_bytes()
    rows, _ = parse_offers(body, account="default", fetched_at=START)
    return rows[0]


@pytest.fixture
def spec() -> LaunchSpec:
    return LaunchSpec(expires_at=None, env={"TOKEN": "sesame-sesame"}, ssh_keys=(OWN,))


@pytest.fixture
def ref() -> Ref:
    return Ref("shadeform", "default", "", ID)


# Create


async def test_create_is_one_request_that_carries_the_attempt_and_its_end(
    cloud: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any, ref: Any
) -> None:
    scripted.says("POST /v1/instances/create", told("made"))
    ends = datetime(2026, 3, 2, 9, 30, 0, 5, tzinfo=timezone(timedelta(hours=2)))
    assert await cloud.create(replace(spec, expires_at=ends), offer, attempt, HAVE) == ref
    (request,) = scripted.requests
    assert request.headers["x-api-key"] == KEY
    assert "authorization" not in request.headers
    body = scripted.body()
    launch = body.pop("launch_configuration")
    script = base64.b64decode(launch["script_configuration"]["base64_script"])
    assert (launch["type"], script[:2]) == ("script", b"#!")
    assert body == {
        "cloud": "massedcompute",
        "region": "kansascity-usa-1",
        "shade_instance_type": "A6000",
        "shade_cloud": True,
        "name": "gb-abcdef-abcdefghijklmnop",
        "os": "ubuntu22.04_cuda12.6_shade_os",
        "ssh_key_id": "26bedfa2",
        "tags": ["gpubroker-owner=abcdef", "gpubroker-attempt=abcdefghijklmnop"],
        "auto_delete": {"date_threshold": "2026-03-02T07:30:00Z"},
    }


def test_without_an_end_none_is_sent_and_another_system_may_be_named(
    spec: Any, offer: Any, attempt: Any
) -> None:
    body = order(replace(spec, vm_image="ubuntu24.04_shade_os"), offer, attempt, HAVE)
    assert "auto_delete" not in body
    assert body["os"] == "ubuntu24.04_shade_os"
    assert "os" not in order(spec, replace(offer, launch={}), attempt, HAVE)


def script_of(body: Any) -> str:
    text = body["launch_configuration"]["script_configuration"]["base64_script"]
    return base64.b64decode(text).decode()


SECRETS = [
    {"env": {"TOKEN": "sesame"}},
    {"registry_auth": RegistryAuth("hub", "docker.io", "me", "sesame"), "image": "me/mine"},
    {"startup_script": "login sesame"},
    {"command": "train --key sesame"},
]


@pytest.mark.parametrize("secret", SECRETS, ids=str)
def test_what_may_be_secret_is_in_no_record_and_goes_over_ssh(
    cloud: Any, offer: Any, attempt: Any, secret: Any
) -> None:
    spec = replace(LaunchSpec(expires_at=None, ssh_keys=(OWN,)), **secret)
    script = script_of(order(spec, offer, attempt, HAVE))
    assert OWN in script
    for one in secrets_of(spec):
        assert one not in script
        assert one in cloud.after_boot(spec, offer, attempt, START)


def test_without_a_secret_all_goes_by_the_create(cloud: Any, offer: Any, attempt: Any) -> None:
    spec = LaunchSpec(expires_at=None, ssh_keys=(OWN,), image="ubuntu:24.04")
    assert cloud.after_boot(spec, offer, attempt, START) == ""
    assert "ubuntu:24.04" in script_of(order(spec, offer, attempt, HAVE))


@pytest.mark.parametrize(("gpu", "handed"), [("A6000", "--gpus all"), ("MI300X", "/dev/kfd")])
def test_docker_gets_the_gpus_of_their_maker(
    spec: Any, offer: Any, attempt: Any, cloud: Any, gpu: str, handed: str
) -> None:
    asked, there = replace(spec, image="ubuntu:24.04"), replace(offer, gpu=resolve(gpu))
    over_ssh = cloud.after_boot(asked, there, attempt, START)
    by_create = script_of(order(replace(asked, env={}), there, attempt, HAVE))
    for text in (over_ssh, by_create):
        assert handed in text
        assert ("--gpus all" in text) == (handed == "--gpus all")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"disk_gb": 257}, "disk_gb"),
        ({"ports": ((0, "tcp"),)}, "ports"),
        ({"volumes": ((Ref("shadeform", "default", "", "1"), "/data"),)}, "volumes"),
        ({"bid": 1}, "bid"),
    ],
    ids=str,
)
async def test_what_the_vendor_would_not_take_is_refused_before_it_is_sent(
    cloud: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any, change: Any, field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await cloud.create(replace(spec, **change), offer, attempt, HAVE)
    assert caught.value.field == field
    with pytest.raises(Unsupported):
        await cloud.create(replace(spec, options={"x": 1}), offer, attempt, HAVE)
    assert scripted.requests == []


# Errors

ERRORS: list[tuple[str, int, Any, type[BrokerError]]] = [
    ("whoami", 401, told("bad-key"), AuthFailed),
    ("whoami", 403, {"message": "account mismatch"}, AuthFailed),
    ("whoami", 429, b"", RateLimited),
    ("whoami", 500, b"", Unavailable),
    ("create", 409, told("sold-out"), NoCapacity),
    ("create", 409, {"error_code": "X", "error": "Insufficient wallet balance"}, OutOfFunds),
    ("create", 402, {"message": "Your wallet is empty"}, OutOfFunds),
    ("create", 409, {"error_code": "X", "error": "Quota exceeded"}, QuotaExceeded),
    ("create", 409, {"error_code": "REGION", "error": "No such region"}, Refused),
    ("create", 400, {"message": "os is wrong"}, Invalid),
    ("create", 500, b"", OutcomeUnknown),
    ("create", 200, b"", OutcomeUnknown),
    ("ensure", 400, {"message": "name must be unique"}, Unavailable),
    ("get", 404, told("missing"), NotFound),
    ("get", 404, b"<html>", BadResponse),
    ("get", 404, {"message": "Not found"}, BadResponse),
    ("get", 404, {"message": f"Cannot GET /v1/instances/{ID}/info"}, BadResponse),
    ("get", 404, b"Cannot GET /v1/instances", BadResponse),
    ("terminate", 404, b"", OutcomeUnknown),
    ("terminate", 409, {"error": "busy"}, WrongState),
    ("extend", 404, told("missing"), NotFound),
]
CALLS = {
    "whoami": "GET /v1/sshkeys",
    "create": "POST /v1/instances/create",
    "ensure": "POST /v1/sshkeys/add",
    "get": f"GET /v1/instances/{ID}/info",
    "terminate": f"POST /v1/instances/{ID}/delete",
    "extend": f"POST /v1/instances/{ID}/update",
}


@pytest.mark.parametrize(
    ("operation", "status", "body", "kind"),
    ERRORS,
    ids=[f"{o}-{s}-{k.__name__}-{n}" for n, (o, s, _, k) in enumerate(ERRORS)],
)
async def test_the_error_table_row_by_row(
    cloud: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any, ref: Any,
    operation: str, status: int, body: Any, kind: type[BrokerError],
) -> None:  # fmt: skip
    scripted.says("GET /v1/sshkeys", told("keys"))
    scripted.says("GET /v1/instances", told("list"))
    scripted.says(CALLS[operation], body, status=status)
    calls = {
        "whoami": cloud.whoami,
        "create": lambda: cloud.create(spec, offer, attempt, HAVE),
        "ensure": lambda: cloud.ensure(Resource.SSH_KEY, spec, offer, attempt, {}),
        "extend": lambda: cloud.extend(ref, START),
    }
    with pytest.raises(BrokerError) as caught:
        await calls.get(operation, lambda: getattr(cloud, operation)(ref))()
    assert type(caught.value) is kind
    assert caught.value.operation == operation


async def test_no_secret_is_in_an_error(
    cloud: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    def refuse(request: Any) -> Any:
        scripted.requests.append(request)
        sent = json.loads(request.content)["launch_configuration"]["script_configuration"]
        return type(scripted)().says(
            "POST /v1/instances/create",
            {"message": f"bad sesame-sesame {KEY} {sent['base64_script']}"},
            status=400,
        )(request)

    with pytest.raises(Invalid) as caught:
        await connected(Shadeform, refuse).create(spec, offer, attempt, HAVE)
    shown = f"{caught.value} {caught.value.raw}"
    sent = scripted.body()["launch_configuration"]["script_configuration"]["base64_script"]
    for secret in ("sesame", KEY, sent[:40]):
        assert secret not in shown


# Keys


async def test_the_brokers_key_is_registered_once(
    cloud: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    scripted.says("GET /v1/sshkeys", told("keys")).says("POST /v1/sshkeys/add", told("key-made"))
    ref = await cloud.ensure(Resource.SSH_KEY, spec, offer, attempt, {})
    assert ref.id == told("key-made")["id"]
    assert scripted.body() == {"name": "gb-abcdef", "public_key": OWN}
    ours = {"id": "77aa", "name": "gb-abcdef", "public_key": OWN}
    scripted.says("GET /v1/sshkeys", {"ssh_keys": [*told("keys")["ssh_keys"], ours]})
    assert (await cloud.ensure(Resource.SSH_KEY, spec, offer, attempt, {})).id == "77aa"


async def test_a_sweep_finds_the_owners_key_and_ends_it(cloud: Any, scripted: Scripted) -> None:
    ours = {"id": "77aa", "name": "gb-abcdef", "public_key": OWN}
    scripted.says("GET /v1/sshkeys", {"ssh_keys": [*told("keys")["ssh_keys"], ours]})
    held = (await cloud.resources("")).resources
    assert [(one.name, one.owner) for one in held] == [("mine", None), ("gb-abcdef", "abcdef")]
    scripted.says("POST /v1/sshkeys/77aa/delete", None)
    await cloud.discard(Resource.SSH_KEY, held[1].ref)
    scripted.says("POST /v1/sshkeys/77aa/delete", {"message": "in use"}, status=400)
    with pytest.raises(WrongState):
        await cloud.discard(Resource.SSH_KEY, held[1].ref)


# Machines

STATES = {
    State.PENDING: "creating pending_provider pending",
    State.RUNNING: "active",
    State.FAILED: "error",
    State.TERMINATING: "deleting",
    State.TERMINATED: "deleted",
    State.UNKNOWN: "resting",
}


@pytest.mark.parametrize(("state", "words"), STATES.items(), ids=str)
def test_each_word_for_a_state_and_what_it_costs(state: State, words: str) -> None:
    for word in words.split():
        seen = instance_of(Machine("1", word), "default")
        free = state in {State.TERMINATING, State.TERMINATED}
        assert (seen.state, seen.bills_compute) == (state, not free)


def test_ssh_and_ports_are_those_that_the_cloud_behind_maps() -> None:
    row = convert(told("running"), Machine)
    row.ssh_port, row.ssh_user = 20022, "root"
    seen = instance_of(row, "default")
    assert seen.ssh is not None
    assert (seen.ssh.host, seen.ssh.port, seen.ssh.user) == ("198.51.100.7", 20022, "root")
    assert seen.ports == {"8888/tcp": "198.51.100.7:20888"}
    row.status = "pending"
    assert instance_of(row, "default").ssh is None


@pytest.mark.parametrize(
    ("ending", "moment"),
    [
        ({"date_threshold": "2026-09-01T00:00:00Z"}, datetime(2026, 9, 1, tzinfo=UTC)),
        ({"date_threshold": "2026-09-01T00:00:00"}, datetime(2026, 9, 1, tzinfo=UTC)),
        ({"date_threshold": ""}, None),
        ({}, None),
        (None, None),
    ],
    ids=str,
)
def test_the_end_that_the_cloud_holds_is_told(ending: Any, moment: Any) -> None:
    row = convert(told("running") | {"auto_delete": ending}, Machine)
    assert instance_of(row, "default").expires_at == moment


@pytest.mark.parametrize("body", [None, {"message": "Not found"}], ids=str)
async def test_a_404_in_unknown_words_ends_nothing_unless_the_list_lacks_the_machine(
    cloud: Any, scripted: Scripted, ref: Any, body: Any
) -> None:
    scripted.says(f"POST /v1/instances/{ID}/delete", body, status=404)
    unsure: tuple[Any, ...] = (told("list"), {}, b"<html>")
    for answer in unsure:
        scripted.says("GET /v1/instances", answer)
        with pytest.raises((OutcomeUnknown, BadResponse)):
            await cloud.terminate(ref)
    scripted.says("GET /v1/instances", {"instances": []})
    await cloud.terminate(ref)
    assert CAPABILITIES.gone == "absent"


async def test_an_end_is_moved_and_nothing_else(cloud: Any, scripted: Scripted, ref: Any) -> None:
    scripted.says(f"POST /v1/instances/{ID}/update", None)
    await cloud.extend(ref, datetime(2026, 9, 1, tzinfo=UTC))
    assert scripted.body() == {"auto_delete": {"date_threshold": "2026-09-01T00:00:00Z"}}


def test_types_are_asked_for_once_a_minute() -> None:
    (limit,) = [one for one in CAPABILITIES.limits if "offers" in one.operations]
    assert (limit.interval_s, limit.burst) == (60, 2)


def test_it_offers_what_it_can_do_and_no_more(cloud: Any) -> None:
    assert isinstance(cloud, Extendable)
    assert not isinstance(cloud, Stoppable | HasBalance)
