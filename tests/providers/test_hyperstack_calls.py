"""Hyperstack's calls: what each sends, and what each answer means."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import convert
from msgspec.structs import replace
from tests.providers.scripted import KEY, START, Scripted, connected

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
    Unavailable,
    Unsupported,
    WrongState,
)
from gpubroker.model.identity import Ref
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.terms import Resource, State
from gpubroker.providers.hyperstack import (
    LONGEST_USER_DATA,
    Hyperstack,
    Machine,
    instance_of,
    launch,
)
from gpubroker.providers.hyperstack_market import Images, images_of, parse_offers, prices_of

FIXTURES = Path(__file__).parent / "fixtures" / "hyperstack"
NAME = "gb-abcdef-abcdefghijklmnop"
OWN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrokerKeyOfTheTestsNotReal000000000000000000 gb-abcdef"
VMS = "/v1/core/virtual-machines"
ENVIRONMENTS, KEYS = "/v1/core/environments", "/v1/core/keypairs"
HAVE = {
    Resource.NAMESPACE: Ref("hyperstack", "default", "", "default-CANADA-1/4"),
    Resource.SSH_KEY: Ref("hyperstack", "default", "", "gb-abcdef-CANADA-1/7"),
}


def told(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def no(message: str, reason: str = "bad_request") -> dict[str, Any]:
    return {"status": False, "message": message, "error_reason": reason}


@pytest.fixture
def cloud(scripted: Scripted) -> Hyperstack:
    return connected(Hyperstack, scripted)


@pytest.fixture
def offer() -> Any:
    def read(name: str) -> bytes:
        return (FIXTURES / f"{name}.json").read_bytes()

    rows, _ = parse_offers(
        read("flavors"),
        account="default",
        fetched_at=START,
        prices=prices_of(read("pricebook")),
        images=images_of(convert(told("images")["images"], tuple[Images, ...])),
    )
    return rows[0]


@pytest.fixture
def spec() -> LaunchSpec:
    return LaunchSpec(expires_at=None, env={"TOKEN": "sesame-sesame"}, ssh_keys=(OWN,))


@pytest.fixture
def ref() -> Ref:
    return Ref("hyperstack", "default", "", "731")


# Create


async def test_create_is_one_request_with_all_that_is_asked_for(
    cloud: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any, ref: Any
) -> None:
    scripted.says(f"POST {VMS}", told("made"))
    asked = replace(spec, ports=((8888, "tcp"), (53, "udp"), (22, "tcp")))
    assert await cloud.create(asked, offer, attempt, HAVE) == ref
    (request,) = scripted.requests
    assert request.headers["api_key"] == KEY
    assert "authorization" not in request.headers
    body = scripted.body()
    rules = body.pop("security_rules")
    assert [(rule["port_range_min"], rule["protocol"]) for rule in rules] == [
        (22, "tcp"), (53, "udp"), (8888, "tcp"),
    ]  # fmt: skip
    assert rules[0] == {
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": "tcp",
        "remote_ip_prefix": "0.0.0.0/0",
        "port_range_min": 22,
        "port_range_max": 22,
    }
    assert body.pop("user_data").startswith("#!")
    assert body == {
        "name": NAME,
        "environment_name": "default-CANADA-1",
        "image_name": "Ubuntu Server 22.04 LTS R535 CUDA 12.2 with Docker",
        "flavor_name": "n3-H100x1",
        "key_name": "gb-abcdef-CANADA-1",
        "count": 1,
        "assign_floating_ip": True,
        "enable_port_randomization": False,
        "labels": [NAME],
    }


def test_another_image_may_be_named(spec: Any, offer: Any, attempt: Any) -> None:
    body = launch(replace(spec, vm_image="mine"), offer, attempt, HAVE)
    assert body["image_name"] == "mine"


def test_what_is_too_long_for_the_create_goes_over_ssh(
    cloud: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    assert cloud.after_boot(spec, offer, attempt, START) == ""
    digests = (hashlib.sha256(b"%d" % number).hexdigest() for number in range(1000))
    long = replace(spec, startup_script="\n".join(digests))
    assert len(launch(long, offer, attempt, HAVE)["user_data"]) <= LONGEST_USER_DATA
    assert cloud.after_boot(long, offer, attempt, START)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"disk_gb": 101}, "disk_gb"),
        ({"ports": ((0, "tcp"),)}, "ports"),
        ({"ports": tuple((port, "tcp") for port in range(1, 22))}, "ports"),
        ({"volumes": ((Ref("hyperstack", "default", "", "1"), "/data"),)}, "volumes"),
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


def test_without_a_known_image_one_must_be_named(spec: Any, offer: Any, attempt: Any) -> None:
    with pytest.raises(Invalid) as caught:
        launch(spec, replace(offer, launch={}), attempt, HAVE)
    assert caught.value.field == "vm_image"


# Errors

MISSING = told("missing")
BUSY = no(
    "The virtual machine is currently being created and cannot be deleted yet. Please wait until "
    "the creation process is finished."
)
ERRORS: list[tuple[str, int, Any, type[BrokerError]]] = [
    ("whoami", 401, told("bad-key"), AuthFailed),
    ("whoami", 403, no("Forbidden", "forbidden"), AuthFailed),
    ("whoami", 429, b"slow", RateLimited),
    ("create", 400, told("sold-out"), NoCapacity),
    ("create", 409, no("Not enough stock"), NoCapacity),
    ("create", 400, no("Insufficient resources"), NoCapacity),
    ("create", 400, no("Insufficient credit"), OutOfFunds),
    ("create", 400, no("Insufficient balance"), OutOfFunds),
    ("create", 402, no("Insufficient balance to create the resource"), OutcomeUnknown),
    ("start", 402, no("Payment required"), OutOfFunds),
    ("create", 400, no("VM quota exceeded"), QuotaExceeded),
    ("create", 400, no("Image x is not available"), Invalid),
    ("create", 400, no("user_data is wrong"), Invalid),
    ("create", 409, no("A VM of this name exists already", "conflict"), OutcomeUnknown),
    ("create", 409, no("VM name is not available", "conflict"), OutcomeUnknown),
    ("create", 404, no("Environment not found", "not_found"), NotFound),
    ("create", 200, no("Something"), OutcomeUnknown),
    ("create", 200, {"status": True, "instances": []}, OutcomeUnknown),
    ("create", 500, b"", OutcomeUnknown),
    ("get", 404, MISSING, NotFound),
    ("get", 404, no("Not found", "not_found"), BadResponse),
    ("get", 404, b"<html>", BadResponse),
    ("get", 200, no("Something"), BadResponse),
    ("get", 500, b"", Unavailable),
    ("terminate", 400, BUSY, WrongState),
    ("terminate", 404, no("Not found", "not_found"), OutcomeUnknown),
    ("terminate", 200, no("Something"), OutcomeUnknown),
    ("ensure", 409, no("There is one", "conflict"), Unavailable),
]
CALLS = {
    "whoami": f"GET {ENVIRONMENTS}",
    "create": f"POST {VMS}",
    "get": f"GET {VMS}/731",
    "terminate": f"DELETE {VMS}/731",
    "start": f"GET {VMS}/731/hibernate-restore",
    "ensure": f"POST {ENVIRONMENTS}",
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
    scripted.says(f"GET {ENVIRONMENTS}", {"environments": [], "count": 0})
    scripted.says(f"GET {VMS}/731", told("hibernated"))
    scripted.says(CALLS[operation], body, status=status)
    calls = {
        "whoami": cloud.whoami,
        "create": lambda: cloud.create(spec, offer, attempt, HAVE),
        "ensure": lambda: cloud.ensure(Resource.NAMESPACE, spec, offer, attempt, {}),
    }
    with pytest.raises(BrokerError) as caught:
        await calls.get(operation, lambda: getattr(cloud, operation)(ref))()
    assert type(caught.value) is kind
    assert caught.value.operation == operation


async def test_no_secret_is_in_an_error(
    cloud: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    scripted.says(f"POST {VMS}", no(f"bad sesame-sesame, key {KEY}"), status=400)
    with pytest.raises(Invalid) as caught:
        await cloud.create(spec, offer, attempt, HAVE)
    shown = f"{caught.value} {caught.value.raw}"
    assert "sesame" not in shown
    assert KEY not in shown


# The environment and the key


def environment(name: str, region: str = "CANADA-1") -> dict[str, Any]:
    return {"id": 4, "name": name, "region": region}


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (["default-CANADA-1", "gb-abcdef-CANADA-1"], "default-CANADA-1/4"),
        (["gb-abcdef-CANADA-1", "mine"], "gb-abcdef-CANADA-1/4"),
    ],
)
async def test_an_environment_that_is_there_is_taken(
    cloud: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any, there: Any, found: str
) -> None:
    rows = [environment(name) for name in there]
    for number, row in enumerate(rows):
        row["id"] = 4 if row["name"] == found.partition("/")[0] else 50 + number
    scripted.says(f"GET {ENVIRONMENTS}", {"environments": rows, "count": len(rows)})
    ref = await cloud.ensure(Resource.NAMESPACE, spec, offer, attempt, {})
    assert ref.id == found


async def test_one_of_another_region_is_not_taken_and_one_is_made_under_the_owners_name(
    cloud: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    elsewhere = environment("default-NORWAY-1", "NORWAY-1")
    scripted.says(f"GET {ENVIRONMENTS}", {"environments": [elsewhere], "count": 1})
    made = environment("gb-abcdef-CANADA-1") | {"id": 9}
    scripted.says(f"POST {ENVIRONMENTS}", {"environment": made})
    ref = await cloud.ensure(Resource.NAMESPACE, spec, offer, attempt, {})
    assert ref.id == "gb-abcdef-CANADA-1/9"
    assert scripted.body() == {"name": "gb-abcdef-CANADA-1", "region": "CANADA-1"}


async def test_the_key_is_looked_for_in_its_environment_alone(
    cloud: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    key = {"id": 5, "name": "k", "public_key": OWN, "environment": environment("other")}
    scripted.says(f"GET {KEYS}", {"keypairs": [key], "count": 1})
    scripted.says(f"POST {KEYS}", told("key-made"))
    ref = await cloud.ensure(Resource.SSH_KEY, spec, offer, attempt, HAVE)
    assert ref.id == "gb-abcdef-CANADA-1/7"
    assert scripted.body() == {
        "name": "gb-abcdef-CANADA-1",
        "environment_name": "default-CANADA-1",
        "public_key": OWN,
    }
    key["environment"] = environment("default-CANADA-1")
    scripted.says(f"GET {KEYS}", {"keypairs": [key], "count": 1})
    assert (await cloud.ensure(Resource.SSH_KEY, spec, offer, attempt, HAVE)).id == "k/5"


async def test_a_sweep_finds_what_the_owner_left_and_ends_it(
    cloud: Any, scripted: Scripted
) -> None:
    rows = [environment("default-CANADA-1"), environment("gb-abcdef-CANADA-1") | {"id": 9}]
    scripted.says(f"GET {ENVIRONMENTS}", {"environments": rows, "count": 2})
    scripted.says(f"GET {KEYS}", told("key-made") | {"keypairs": [told("key-made")["keypair"]]})
    held = (await cloud.resources("")).resources
    assert [(one.what, one.ref.id, one.owner) for one in held] == [
        (Resource.NAMESPACE, "default-CANADA-1/4", None),
        (Resource.NAMESPACE, "gb-abcdef-CANADA-1/9", "abcdef"),
        (Resource.SSH_KEY, "gb-abcdef-CANADA-1/7", "abcdef"),
    ]
    scripted.says(f"DELETE {ENVIRONMENTS}/9", told("accepted"))
    await cloud.discard(Resource.NAMESPACE, held[1].ref)
    scripted.says("DELETE /v1/core/keypair/7", no("Keypair not found", "not_found"), status=404)
    await cloud.discard(Resource.SSH_KEY, held[2].ref)
    scripted.says(f"DELETE {ENVIRONMENTS}/9", no("It has virtual machines"), status=400)
    with pytest.raises(WrongState):
        await cloud.discard(Resource.NAMESPACE, held[1].ref)


# Machines


async def test_lists_follow_their_pages_and_are_whole_only_with_all(
    cloud: Any, scripted: Scripted
) -> None:
    row = told("running")["instance"]
    first = [row | {"id": number} for number in range(1, 101)]
    last = [row | {"id": 101}]
    scripted.says(f"GET {VMS}", *({"instances": rows, "count": 101} for rows in (first, last)))
    listing = await cloud.list("")
    assert (len(listing.instances), listing.complete) == (101, True)
    assert [r.url.params["page"] for r in scripted.requests if r.url.path == VMS] == ["1", "2"]
    scripted.says(f"GET {VMS}", {"instances": last, "count": 3})
    assert not (await cloud.list("")).complete


async def test_pages_that_the_vendor_makes_smaller_are_followed_to_the_last(
    cloud: Any, scripted: Scripted
) -> None:
    row = told("running")["instance"]
    pages = [[row | {"id": 10 * page + n} for n in range(1, size + 1)] for page, size in
             enumerate((10, 10, 3))]  # fmt: skip
    scripted.says(f"GET {VMS}", *({"instances": rows, "page_size": 10} for rows in pages))
    listing = await cloud.list("")
    assert (len(listing.instances), listing.complete) == (23, True)


STATES = {
    State.PENDING: "CREATING BUILD STARTING REBOOTING HARD_REBOOT RESTORING REBUILD RESIZE",
    State.RUNNING: "ACTIVE",
    State.STOPPING: "STOPPING HIBERNATING",
    State.STOPPED: "SHUTOFF HIBERNATED STOPPED PAUSED SUSPENDED SHELVED",
    State.TERMINATING: "DELETING",
    State.TERMINATED: "DELETED SOFT_DELETED",
    State.FAILED: "ERROR",
    State.UNKNOWN: "UNKNOWN SOMETHING",
}
BILLED = "ACTIVE SHUTOFF STOPPED PAUSED SUSPENDED SHELVED REBUILD RESIZE DELETING UNKNOWN SOMETHING"


@pytest.mark.parametrize(("state", "words"), STATES.items(), ids=str)
def test_each_word_for_a_state_and_what_it_costs(state: State, words: str) -> None:
    for word in words.split():
        seen = instance_of(Machine(1, word), "default")
        assert (seen.state, seen.bills_compute) == (state, word in BILLED.split()), word
        assert seen.bills_disk == (word == "HIBERNATED")


def test_a_machine_is_reached_once_its_address_is_attached() -> None:
    row = convert(told("running")["instance"], Machine)
    seen = instance_of(row, "default")
    assert seen.ports == {"8888/tcp": "198.51.100.2:8888"}
    row.floating_ip_status = "ATTACHING"
    early = instance_of(row, "default")
    assert (early.ssh, early.ports) == (None, {})


def test_an_opening_without_ports_is_read_and_told_as_none() -> None:
    told_row = told("running")["instance"]
    ping = {"direction": "ingress", "protocol": "icmp", "port_range_min": -1, "port_range_max": -1}
    rules = [*told_row["security_rules"], ping]
    row = convert(told_row | {"security_rules": rules}, Machine)
    assert set(instance_of(row, "default").ports) == {"8888/tcp"}


def test_a_machine_whose_name_has_a_suffix_is_known_by_its_label() -> None:
    row = convert(told("running")["instance"] | {"name": f"{NAME}-1"}, Machine)
    assert instance_of(row, "default").attempt == "abcdefghijklmnop"


# Stop and start


async def test_a_stop_hibernates_with_the_address_kept(
    cloud: Any, scripted: Scripted, ref: Any
) -> None:
    scripted.says(f"GET {VMS}/731", told("running")).says(f"GET {VMS}/731/hibernate", {})
    await cloud.stop(ref)
    assert dict(scripted.requests[-1].url.params) == {"retain_ip": "true"}


async def test_a_stop_that_would_bill_on_is_refused(
    cloud: Any, scripted: Scripted, ref: Any
) -> None:
    row = told("running")
    row["instance"]["flavor"]["gpu"] = "RTX-A4000"
    scripted.says(f"GET {VMS}/731", row)
    with pytest.raises(Unsupported, match="hibernation"):
        await cloud.stop(ref)
    assert len(scripted.requests) == 1


@pytest.mark.parametrize(
    ("file", "action"),
    [
        ("hibernated", "hibernate-restore"),
        ("shutoff", "start"),
        ("running", None),
        ("creating", None),
    ],
)
async def test_a_start_is_what_the_state_needs(
    cloud: Any, scripted: Scripted, ref: Any, file: str, action: str | None
) -> None:
    scripted.says(f"GET {VMS}/731", told(file)).says(f"GET {VMS}/731/{action}", {})
    await cloud.start(ref)
    paths = [f"GET {VMS}/731", *([f"GET {VMS}/731/{action}"] if action else [])]
    assert scripted.asked() == paths


@pytest.mark.parametrize("word", ["STARTING", "RESTORING", "REBOOTING"])
async def test_one_that_is_on_its_way_up_is_not_started_again(
    cloud: Any, scripted: Scripted, ref: Any, word: str
) -> None:
    row = told("hibernated")
    row["instance"]["status"] = word
    scripted.says(f"GET {VMS}/731", row)
    await cloud.start(ref)
    assert scripted.asked() == [f"GET {VMS}/731"]


async def test_one_that_is_shut_off_costs_in_full_and_is_not_stopped(
    cloud: Any, scripted: Scripted, ref: Any
) -> None:
    scripted.says(f"GET {VMS}/731", told("shutoff"))
    with pytest.raises(WrongState, match=r"SHUTOFF.*terminate"):
        await cloud.stop(ref)
    assert scripted.asked() == [f"GET {VMS}/731"]
    scripted.says(f"GET {VMS}/731", told("hibernated"))
    await cloud.stop(ref)


async def test_no_hardware_for_a_start_is_no_capacity(
    cloud: Any, scripted: Scripted, ref: Any
) -> None:
    scripted.says(f"GET {VMS}/731", told("hibernated"))
    scripted.says(f"GET {VMS}/731/hibernate-restore", no("Not enough stock"), status=400)
    with pytest.raises(NoCapacity):
        await cloud.start(ref)
