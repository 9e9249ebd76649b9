"""TensorDock's calls: what each sends, and what each answer means."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.providers.scripted import KEY, Scripted, connected

from gpubroker.model.errors import (
    AuthFailed,
    BadResponse,
    BrokerError,
    Invalid,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    OutOfFunds,
    RateLimited,
    Unavailable,
    Unsupported,
)
from gpubroker.model.identity import Ref
from gpubroker.model.instance import Endpoint
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.offer import Offer
from gpubroker.model.query import Query
from gpubroker.model.terms import Market, State
from gpubroker.providers.base import HasBalance, HasResources, Stoppable
from gpubroker.providers.tensordock import (
    CAPABILITIES,
    SHOWN,
    Record,
    TensorDock,
    order,
    parse_offers,
    state_of,
)

FIXTURES = Path(__file__).parent / "fixtures" / "tensordock"
ID = "468b716a-7a1f-4b1e-9d3c-0c2f5e8d1a77"
OWN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrokerKeyOfTheTestsNotReal000000000000000000 gb-abcdef"
MINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMyOwnKeyOfTheTestsNotReal0000000000000000000 me"
LIST, ONE = "/api/v2/instances", f"/api/v2/instances/{ID}"
WHO, PLACES = "POST /api/v2/auth/test", "GET /api/v2/locations"


def told(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


@pytest.fixture
def dock(scripted: Scripted) -> TensorDock:
    return connected(TensorDock, scripted)


@pytest.fixture
def offers(clock: Any) -> tuple[Offer, ...]:
    body = (FIXTURES / "locations.json").read_bytes()
    return parse_offers(body, account="default", fetched_at=clock.now())[0]


@pytest.fixture
def offer(offers: tuple[Offer, ...]) -> Offer:
    return offers[0]


@pytest.fixture
def spec() -> LaunchSpec:
    return LaunchSpec(expires_at=None, env={"TOKEN": "sesame-sesame"}, ssh_keys=(MINE, OWN))


@pytest.fixture
def ref() -> Ref:
    return Ref("tensordock", "default", "", ID)


# Create


async def test_create_is_one_request_that_carries_the_attempt(
    dock: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    scripted.says(f"POST {LIST}", told("made"), status=201)
    assert (await dock.create(spec, offer, attempt, {})).id == ID
    (request,) = scripted.requests
    assert request.headers["authorization"] == f"Bearer {KEY}"
    body = scripted.body()
    (line,) = body["data"]["attributes"].pop("cloud_init")["runcmd"]
    assert body == {
        "data": {
            "type": "virtualmachine",
            "attributes": {
                "name": attempt.name,
                "type": "virtualmachine",
                "image": "ubuntu2404_ml_everything",
                "resources": {
                    "vcpu_count": 8,
                    "ram_gb": 32,
                    "storage_gb": 100,
                    "gpus": {"geforcertx4090-pcie-24gb": {"count": 1}},
                },
                "location_id": "1a779525-4c04-4f2c-aa45-58b47d54bb38",
                "ssh_key": OWN,
                "useDedicatedIp": True,
            },
        }
    }
    script = base64.b64decode(line.split()[1]).decode()
    assert script.startswith("#!/bin/bash")
    assert OWN in script
    assert MINE in script


def test_everything_that_can_be_asked_for_is_in_the_order(
    spec: Any, offers: Any, attempt: Any
) -> None:
    everything = replace(
        spec,
        image="ubuntu:24.04",
        vm_image="ubuntu2204",
        command="train now",
        startup_script="echo hi",
        ports=((8888, "tcp"), (22, "tcp"), (8888, "tcp")),
        disk_gb=250,
    )
    asked = order(everything, offers[-1], attempt, None)
    assert asked["image"] == "ubuntu2204"
    assert asked["resources"]["storage_gb"] == 250
    assert (asked["resources"]["vcpu_count"], asked["resources"]["ram_gb"]) == (6, 16)
    assert "useDedicatedIp" not in asked
    assert [one["internal_port"] for one in asked["port_forwards"]] == [22, 8888]
    plain = order(spec, offers[-1], attempt, None)
    assert [one["internal_port"] for one in plain["port_forwards"]] == [22]
    assert len(asked["cloud_init"]["runcmd"][0]) > len(plain["cloud_init"]["runcmd"][0])


def test_the_timer_only_warns_since_a_stopped_machine_costs_the_same(
    spec: Any, offer: Any, attempt: Any, clock: Any
) -> None:
    expiring = replace(spec, expires_at=clock.now() + timedelta(hours=1))
    (line,) = order(expiring, offer, attempt, 3600.0)["cloud_init"]["runcmd"]
    assert "poweroff" not in base64.b64decode(line.split()[1]).decode()
    assert (CAPABILITIES.expiry, CAPABILITIES.stop) == ("controller_only", "none")


def incompressible(size: int) -> str:
    return "".join(hashlib.sha256(b"%d" % n).hexdigest() for n in range(size // 64))


@pytest.mark.parametrize(
    ("change", "field", "at"),
    [
        ({"bid": 1}, "bid", 0),
        ({"disk_gb": 30_201}, "disk_gb", 0),
        ({"startup_script": f"echo {incompressible(200_000)}"}, "startup_script", 0),
        ({"ports": ((0, "tcp"),)}, "ports", 0),
        ({"ports": ((53, "udp"),)}, "ports", -1),
        ({"ports": tuple((port, "tcp") for port in range(1, 19))}, "ports", 0),
        ({"volumes": ((Ref("tensordock", "default", "", "1a"), "/data"),)}, "volumes", 0),
        ({"ssh_keys": ()}, "ssh_keys", 0),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_what_the_vendor_would_not_take_is_refused_before_it_is_sent(
    dock: Any, scripted: Scripted, spec: Any, offers: Any, attempt: Any,
    change: Any, field: str, at: int,
) -> None:  # fmt: skip
    with pytest.raises(Invalid) as caught:
        await dock.create(replace(spec, **change), offers[at], attempt, {})
    assert caught.value.field == field
    assert scripted.requests == []


async def test_options_are_refused_and_not_dropped(
    dock: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    with pytest.raises(Unsupported):
        await dock.create(replace(spec, options={"x": "sesame"}), offer, attempt, {})
    assert scripted.requests == []


# Errors


def inside(error: str) -> dict[str, Any]:
    return {"error": error, "status": 400}


ZOD = [{"code": "too_small", "message": "Min 100", "path": ["data", "attributes", "resources"]}]
API = {"errors": [{"status": "404", "title": "Not Found", "detail": "Instance not found"}]}
ERRORS: list[tuple[str, int, Any, type[BrokerError]]] = [
    ("whoami", 401, told("bad-key"), AuthFailed),
    ("whoami", 200, inside("Invalid API credentials"), AuthFailed),
    ("whoami", 200, {"success": True}, BadResponse),
    ("whoami", 200, {"organizationId": ""}, BadResponse),
    ("list", 403, told("bad-key"), AuthFailed),
    ("create", 401, told("bad-key"), AuthFailed),
    ("create", 200, told("no-nodes"), NoCapacity),
    ("create", 400, inside("Hostnode unavailable"), NoCapacity),
    ("create", 409, inside("Insufficient capacity on this host"), NoCapacity),
    ("create", 500, inside("No available nodes found"), OutcomeUnknown),
    ("create", 504, b"<html>Hostnode unavailable</html>", OutcomeUnknown),
    ("create", 502, {"error": "no available public ip"}, OutcomeUnknown),
    ("create", 500, inside("Invalid API credentials"), OutcomeUnknown),
    ("create", 200, inside("No available public IP"), NoCapacity),
    ("create", 200, inside("You need at least $1.00 to deploy"), OutOfFunds),
    ("create", 400, {"error": "Insufficient balance"}, OutOfFunds),
    ("create", 500, {"error": "Insufficient something"}, OutcomeUnknown),
    ("create", 200, inside("SSH port (22) must be forwarded for Ubuntu VMs"), Invalid),
    ("create", 200, inside("something else"), OutcomeUnknown),
    ("create", 400, ZOD, Invalid),
    ("create", 429, b"slow down", RateLimited),
    ("create", 502, b"<html>", OutcomeUnknown),
    ("create", 404, b"<html>", OutcomeUnknown),
    ("create", 200, b"garbage", OutcomeUnknown),
    ("create", 201, {"data": {"status": "queued"}}, OutcomeUnknown),
    ("get", 404, told("missing"), NotFound),
    ("get", 404, API, NotFound),
    ("get", 200, {"error": "Instance not found", "status": 404}, NotFound),
    ("get", 404, {"message": "no Route matched"}, BadResponse),
    ("get", 200, told("running") | {"id": "another"}, BadResponse),
    ("get", 200, {}, BadResponse),
    ("get", 500, {"error": "oops"}, Unavailable),
    ("list", 200, {"data": {}}, BadResponse),
    ("list", 200, {"data": [{"name": "x"}]}, BadResponse),
    ("find", 503, b"", Unavailable),
    ("offers", 429, b"", RateLimited),
    ("terminate", 404, b"<html>404</html>", OutcomeUnknown),
    ("terminate", 500, b"", OutcomeUnknown),
    ("terminate", 200, inside("Something is wrong"), OutcomeUnknown),
]
REQUESTS = {
    "whoami": WHO,
    "list": f"GET {LIST}",
    "find": f"GET {LIST}",
    "create": f"POST {LIST}",
    "get": f"GET {ONE}",
    "terminate": f"DELETE {ONE}",
    "offers": PLACES,
}


@pytest.mark.parametrize(
    ("operation", "status", "body", "kind"),
    ERRORS,
    ids=[f"{o}-{s}-{k.__name__}-{n}" for n, (o, s, _, k) in enumerate(ERRORS)],
)
async def test_the_error_table_row_by_row(
    dock: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any, ref: Any,
    operation: str, status: int, body: Any, kind: type[BrokerError],
) -> None:  # fmt: skip
    scripted.says(WHO, told("organisation"))
    scripted.says(f"GET {LIST}", told("list"))
    scripted.says(REQUESTS[operation], body, status=status)
    with pytest.raises(BrokerError) as caught:
        if operation == "offers":
            _ = [page async for page in dock.offers(Query())]
        else:
            arguments = {
                "create": (spec, offer, attempt, {}),
                "find": (attempt, offer),
                "list": ("",),
                "whoami": (),
            }
            await getattr(dock, operation)(*arguments.get(operation, (ref,)))
    assert type(caught.value) is kind
    assert (caught.value.provider, caught.value.operation) == ("tensordock", operation)
    assert scripted.asked().count(REQUESTS[operation]) == 1


async def test_capacity_is_of_the_type_there_and_addresses_are_of_one_offer(
    dock: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    scopes = []
    for words in ("No available nodes found", "no available public ip"):
        scripted.says(f"POST {LIST}", inside(words))
        with pytest.raises(NoCapacity) as caught:
            await dock.create(spec, offer, attempt, {})
        scopes.append(caught.value.scope)
    assert scopes == ["type_region", "offer"]


async def test_no_secret_is_in_an_error(
    dock: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    (line,) = order(spec, offer, attempt, None)["cloud_init"]["runcmd"]
    scripted.says(f"POST {LIST}", {"error": f"bad {line} sesame-sesame {KEY}"}, status=400)
    with pytest.raises(Invalid) as caught:
        await dock.create(spec, offer, attempt, {})
    shown = f"{caught.value} {caught.value.raw} {caught.value.code}"
    assert "sesame" not in shown
    assert KEY not in shown
    assert line not in shown
    assert SHOWN.isdisjoint({"cloud_init", "ssh_key", "runcmd", "value"})


async def test_an_id_of_another_form_never_becomes_a_path(dock: Any, scripted: Scripted) -> None:
    for wrong in ("", "../secrets", "a b", "a/b"):
        with pytest.raises(Invalid):
            await dock.get(Ref("tensordock", "default", "", wrong))
    assert scripted.requests == []


# Machines

STATES = [
    ("queued", State.PENDING, True, True),
    ("Provisioning", State.PENDING, True, True),
    ("running", State.RUNNING, True, True),
    ("online", State.RUNNING, True, True),
    ("stopping", State.STOPPING, True, True),
    ("Stopped", State.STOPPED, True, True),
    ("StoppedDisassociated", State.STOPPED, False, True),
    ("stopped_disassociated", State.STOPPED, False, True),
    ("deleting", State.TERMINATING, True, True),
    ("deleted", State.TERMINATED, False, False),
    ("error", State.FAILED, True, True),
    ("dreaming", State.UNKNOWN, True, True),
]


@pytest.mark.parametrize(("word", "state", "compute", "disk"), STATES)
async def test_each_word_of_the_vendor_is_a_state_and_says_what_it_costs(
    dock: Any, scripted: Scripted, ref: Any, word: str, state: State, compute: bool, disk: bool
) -> None:
    scripted.says(f"GET {ONE}", told("running") | {"status": word})
    seen = await dock.get(ref)
    assert (seen.state, seen.raw_state) == (state, word)
    assert (seen.bills_compute, seen.bills_disk) == (compute, disk)
    assert seen.healthy == (state not in {State.UNKNOWN, State.FAILED})


def test_running_without_an_address_is_still_pending() -> None:
    for address in (None, ""):
        assert state_of(Record(status="running", ip_address=address)) is State.PENDING


@pytest.mark.parametrize("wrap", ["flat", "data", "attributes"])
async def test_a_record_is_read_in_each_of_its_shapes(
    dock: Any, scripted: Scripted, ref: Any, wrap: str
) -> None:
    flat = told("running")
    inner = {name: value for name, value in flat.items() if name not in {"id", "type"}}
    shapes = {"flat": flat, "data": {"data": flat}}
    shapes["attributes"] = {"data": {"type": "VM", "id": ID, "attributes": inner}}
    scripted.says(f"GET {ONE}", shapes[wrap])
    seen = await dock.get(ref)
    assert (seen.name, seen.owner, seen.price) == (
        "gb-abcdef-abcdefghijklmnop",
        "abcdef",
        503_000_000,
    )
    assert seen.ssh == Endpoint("198.51.100.7", 20456, "user")
    assert seen.ports == {"8888/tcp": "198.51.100.7:20457"}


@pytest.mark.parametrize("wrap", ["flat", "instances", "attributes"])
async def test_a_list_is_read_in_each_of_its_shapes_with_the_organisation_beside_it(
    dock: Any, scripted: Scripted, clock: Any, wrap: str
) -> None:
    rows = told("list")["data"]
    below = [{"id": one["id"], "type": "VM", "attributes": one} for one in rows]
    shapes = {"flat": rows, "instances": {"instances": below}}
    shapes["attributes"] = {"type": "list", "attributes": {"instances": below}}
    scripted.says(WHO, told("organisation")).says(f"GET {LIST}", {"data": shapes[wrap]})
    listing = await dock.list("")
    assert listing.account_uid == told("organisation")["organizationId"]
    assert listing.complete
    assert [(one.owner, one.state) for one in listing.instances] == [
        ("abcdef", State.RUNNING),
        (None, State.STOPPED),
    ]


async def test_an_address_of_its_own_has_every_port_open(
    dock: Any, scripted: Scripted, ref: Any
) -> None:
    scripted.says(f"GET {ONE}", told("running") | {"portForwards": []})
    seen = await dock.get(ref)
    assert (seen.ssh, seen.ports) == (Endpoint("198.51.100.7", 22, "user"), {})


async def test_no_ssh_where_its_port_is_not_forwarded(
    dock: Any, scripted: Scripted, ref: Any
) -> None:
    forwards = [{"internal_port": 8888, "external_port": 20457}]
    scripted.says(f"GET {ONE}", told("running") | {"portForwards": forwards})
    assert (await dock.get(ref)).ssh is None


# The end and the rest


async def test_a_machine_that_is_gone_is_terminated(
    dock: Any, scripted: Scripted, ref: Any
) -> None:
    scripted.says(f"DELETE {ONE}", told("missing"), status=404)
    await dock.terminate(ref)
    assert scripted.asked() == [f"DELETE {ONE}"]


@pytest.mark.parametrize("body", [{"error": "Not found"}, None, {}], ids=str)
async def test_a_404_in_unknown_words_ends_nothing_unless_the_list_lacks_the_machine(
    dock: Any, scripted: Scripted, ref: Any, body: Any
) -> None:
    scripted.says(f"DELETE {ONE}", body, status=404)
    unsure: tuple[Any, ...] = (told("list"), {"data": {}}, b"<html>")
    for answer in unsure:
        scripted.says(f"GET {LIST}", answer)
        with pytest.raises((OutcomeUnknown, BadResponse)):
            await dock.terminate(ref)
    scripted.says(f"GET {LIST}", {"data": told("list")["data"][1:]})
    await dock.terminate(ref)
    assert CAPABILITIES.gone == "absent"


@pytest.mark.parametrize(("wanted", "sent"), [(20, 100), (99, 100), (101, 101)])
def test_a_smaller_disk_than_the_least_is_the_least(
    spec: Any, offer: Any, attempt: Any, wanted: int, sent: int
) -> None:
    asked = order(replace(spec, disk_gb=wanted), offer, attempt, None)
    assert asked["resources"]["storage_gb"] == sent


async def test_prices_are_told_without_a_key_and_cover_everything(scripted: Scripted) -> None:
    scripted.says(PLACES, told("locations"))
    keyless = connected(TensorDock, scripted, secrets={})
    (page,) = [page async for page in keyless.offers(Query(min_count=8))]
    assert (page.covers, page.complete, len(page.rows)) == (None, True, 9)
    assert "authorization" not in scripted.requests[0].headers
    with pytest.raises(AuthFailed):
        await keyless.whoami()


async def test_there_is_no_spot_and_an_empty_answer_is_not_complete(
    dock: Any, scripted: Scripted
) -> None:
    assert [page async for page in dock.offers(Query(market=Market.SPOT))] == []
    scripted.says(PLACES, {"data": {"locations": []}})
    (page,) = [page async for page in dock.offers(Query())]
    assert (page.rows, page.complete) == ((), False)


async def test_an_option_that_there_is_not_is_refused(dock: Any, scripted: Scripted) -> None:
    with pytest.raises(Invalid):
        _ = [page async for page in dock.offers(Query(options=(("tensordock", "x", "1"),)))]
    assert scripted.requests == []


def test_what_tensordock_has_not_cannot_be_asked_for(dock: Any) -> None:
    for protocol in (Stoppable, HasBalance, HasResources):
        assert not isinstance(dock, protocol)
