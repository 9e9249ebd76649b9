"""Verda's calls: the token, what each sends, and what each answer means."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.providers.scripted import Scripted, connected

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
from gpubroker.model.instance import Endpoint
from gpubroker.model.launch import LaunchSpec, RegistryAuth
from gpubroker.model.query import Query
from gpubroker.model.terms import Availability, Market, Resource, State
from gpubroker.providers.base import BootsOverSsh, HasBalance, Stoppable
from gpubroker.providers.fingerprint import is_fingerprint
from gpubroker.providers.verda import (
    NO_SCRIPT,
    Machine,
    Verda,
    instance_of,
    launch,
    state_of,
)

FIXTURES = Path(__file__).parent / "fixtures" / "verda"
CLIENT, SECRET, TOKEN = "client-id-0123456789", "s3cret-0f-the-tests", "access-token-of-the-tests"
ID, DISK = "11111111-2222-4333-8444-555555555555", "33333333-2222-4333-8444-555555555555"
KEY_ID, SCRIPT_ID = (
    "22222222-2222-4333-8444-555555555555",
    "44444444-2222-4333-8444-555555555555",
)
NAME = "gb-abcdef-abcdefghijklmnop"
OWN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrokerKeyOfTheTestsNotReal000000000000000000 gb-abcdef"
HAVE = {
    Resource.SSH_KEY: Ref("verda", "default", "", KEY_ID),
    Resource.STARTUP_SCRIPT: Ref("verda", "default", "", SCRIPT_ID),
}


def told(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def no(message: str, code: str = "invalid_request") -> dict[str, Any]:
    return {"code": code, "message": message}


@pytest.fixture
def cloud(scripted: Scripted) -> Scripted:
    """It gives out its token."""
    return scripted.says("POST /v1/oauth2/token", told("token"))


@pytest.fixture
def verda(cloud: Scripted, clock: Any) -> Verda:
    secrets = {"VERDA_CLIENT_ID": CLIENT, "VERDA_CLIENT_SECRET": SECRET}
    return connected(Verda, cloud, secrets, clock)


@pytest.fixture
def ref() -> Ref:
    return Ref("verda", "default", "", ID)


@pytest.fixture
def spec(clock: Any) -> LaunchSpec:
    return LaunchSpec(ssh_keys=(OWN,), expires_at=clock.now() + timedelta(hours=2))


async def found(verda: Verda, cloud: Scripted) -> list[Any]:
    for path, file in {
        "instance-types": "types",
        "instance-availability": "free",
        "locations": "locations",
        "volume-types": "volume-types",
    }.items():
        cloud.says(f"GET /v1/{path}", told(file))
    return [row async for page in verda.offers(Query()) for row in page.rows]


@pytest.fixture
async def offer(verda: Verda, cloud: Scripted) -> Any:
    rows = await found(verda, cloud)
    cloud.requests.clear()
    return rows[0]


# The token


async def test_one_token_is_had_for_id_and_secret_and_used_by_all(
    verda: Verda, cloud: Scripted
) -> None:
    cloud.says("GET /v1/instances", [])
    await asyncio.gather(verda.machines("list"), verda.machines("list"))
    assert cloud.asked() == ["POST /v1/oauth2/token", *["GET /v1/instances"] * 2]
    assert cloud.body(0) == {
        "grant_type": "client_credentials",
        "client_id": CLIENT,
        "client_secret": SECRET,
    }
    assert "authorization" not in cloud.requests[0].headers
    assert cloud.requests[1].headers["authorization"] == f"Bearer {TOKEN}"


async def test_a_token_is_had_anew_before_it_ends(
    verda: Verda, cloud: Scripted, clock: Any
) -> None:
    cloud.says("GET /v1/instances", [])
    await verda.machines("list")
    await clock.sleep(3560)
    await verda.machines("list")
    assert cloud.asked().count("POST /v1/oauth2/token") == 1
    await clock.sleep(15)
    await verda.machines("list")
    assert cloud.asked().count("POST /v1/oauth2/token") == 2


async def test_a_token_that_is_refused_is_not_used_again(verda: Verda, cloud: Scripted) -> None:
    cloud.says("GET /v1/instances", no("Unauthorized", "unauthorized_request"), status=401)
    with pytest.raises(AuthFailed):
        await verda.machines("list")
    cloud.says("GET /v1/instances", [])
    assert (await verda.machines("list")).complete
    assert cloud.asked().count("POST /v1/oauth2/token") == 2


@pytest.mark.parametrize("status", [400, 401])
async def test_a_client_that_is_not_known_is_no_key_and_nothing_else_is_asked(
    verda: Verda, cloud: Scripted, status: int
) -> None:
    cloud.says("POST /v1/oauth2/token", told("bad-client"), status=status)
    with pytest.raises(AuthFailed):
        await verda.whoami()
    assert cloud.asked() == ["POST /v1/oauth2/token"]


async def test_neither_secret_nor_token_stands_in_an_error(
    verda: Verda, cloud: Scripted, ref: Ref
) -> None:
    words = f"no {SECRET} or {TOKEN} here"
    cloud.says(f"GET /v1/instances/{ID}", no(words), status=400)
    with pytest.raises(BrokerError) as raised:
        await verda.get(ref)
    shown = f"{raised.value} {raised.value.raw}"
    assert "here" in shown
    assert SECRET not in shown
    assert TOKEN not in shown


async def test_the_account_is_known_by_the_id_of_its_client_alone(
    verda: Verda, cloud: Scripted, clock: Any
) -> None:
    cloud.says("GET /v1/balance", told("balance"))
    uid = await verda.whoami()
    assert is_fingerprint(uid)
    assert "GET /v1/balance" in cloud.asked()
    renewed = {"VERDA_CLIENT_ID": CLIENT, "VERDA_CLIENT_SECRET": "another"}
    assert await connected(Verda, cloud, renewed, clock).uid("list") == uid
    other = {"VERDA_CLIENT_ID": "another", "VERDA_CLIENT_SECRET": SECRET}
    assert await connected(Verda, cloud, other, clock).uid("list") != uid


# Offers


async def test_a_search_asks_for_usd_both_markets_places_and_disks(
    verda: Verda, cloud: Scripted
) -> None:
    rows = await found(verda, cloud)
    assert rows[0].availability is Availability.YES
    queries = [(r.url.path, r.url.query.decode()) for r in cloud.requests[1:]]
    assert queries == [
        ("/v1/instance-types", "currency=usd"),
        ("/v1/instance-availability", "is_spot=false"),
        ("/v1/instance-availability", "is_spot=true"),
        ("/v1/locations", ""),
        ("/v1/volume-types", ""),
    ]


async def test_without_a_key_only_the_prices_are_asked_for(cloud: Scripted, clock: Any) -> None:
    rows = await found(connected(Verda, cloud, {}, clock), cloud)
    assert cloud.asked() == ["GET /v1/instance-types"]
    assert "authorization" not in cloud.requests[0].headers
    assert {row.availability for row in rows} == {Availability.UNKNOWN}


async def test_an_empty_answer_is_no_whole_one(verda: Verda, cloud: Scripted) -> None:
    await found(verda, cloud)
    cloud.says("GET /v1/instance-types", [])
    pages = [page async for page in verda.offers(Query())]
    assert [page.complete for page in pages] == [False]
    assert [page async for page in verda.offers(Query(market=Market.RESERVED))] == []


# What must exist before


async def test_the_owners_key_is_registered_once(
    verda: Verda, cloud: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    cloud.says("GET /v1/ssh-keys", told("keys"))
    cloud.says("POST /v1/ssh-keys", KEY_ID.encode(), status=201)
    assert (await verda.ensure(Resource.SSH_KEY, spec, offer, attempt, {})).id == KEY_ID
    assert cloud.body() == {"name": "gb-abcdef", "key": OWN}
    there = {"id": KEY_ID, "name": "gb-abcdef", "key": OWN}
    cloud.says("GET /v1/ssh-keys", [*told("keys"), there])
    cloud.requests.clear()
    assert (await verda.ensure(Resource.SSH_KEY, spec, offer, attempt, {})).id == KEY_ID
    assert cloud.asked() == ["GET /v1/ssh-keys"]


async def test_a_script_is_made_once_an_attempt(
    verda: Verda, cloud: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    cloud.says("GET /v1/scripts", [{"id": SCRIPT_ID, "name": "another", "script": "x"}])
    cloud.says("POST /v1/scripts", f'"{SCRIPT_ID}"\n'.encode(), status=201)
    what = Resource.STARTUP_SCRIPT
    assert (await verda.ensure(what, spec, offer, attempt, {})).id == SCRIPT_ID
    assert cloud.body()["name"] == NAME
    assert cloud.body()["script"].startswith("#!")
    cloud.says("GET /v1/scripts", [{"id": SCRIPT_ID, "name": NAME}])
    cloud.requests.clear()
    assert (await verda.ensure(what, spec, offer, attempt, {})).id == SCRIPT_ID
    assert cloud.asked() == ["GET /v1/scripts"]


LOGIN = RegistryAuth("r", "ghcr.io", "me", "sesame-sesame")


@pytest.mark.parametrize(
    "secret",
    [{"env": {"TOKEN": "sesame-sesame"}}, {"image": "ghcr.io/me/x:1", "registry_auth": LOGIN}],
)
async def test_nothing_secret_lies_in_a_script_it_goes_over_ssh(
    verda: Verda, cloud: Scripted, spec: Any, offer: Any, attempt: Any, clock: Any, secret: Any
) -> None:
    spec = replace(spec, **secret)
    made = await verda.ensure(Resource.STARTUP_SCRIPT, spec, offer, attempt, {})
    assert made.id == NO_SCRIPT
    assert cloud.requests == []
    assert isinstance(verda, BootsOverSsh)
    assert verda.after_boot(spec, offer, attempt, clock.now())
    body = launch(spec, offer, attempt, {**HAVE, Resource.STARTUP_SCRIPT: made})
    assert "startup_script_id" not in body
    assert "sesame" not in json.dumps(body)
    await verda.release(Resource.STARTUP_SCRIPT, made)
    assert cloud.requests == []


def test_without_secrets_nothing_is_left_for_ssh(
    verda: Verda, spec: Any, offer: Any, attempt: Any, clock: Any
) -> None:
    assert verda.after_boot(spec, offer, attempt, clock.now()) == ""


async def test_a_script_is_released_and_gone_already_is_fine(verda: Verda, cloud: Scripted) -> None:
    script = HAVE[Resource.STARTUP_SCRIPT]
    for status, body in ((200, b""), (404, json.dumps(no("x", "not_found")).encode())):
        cloud.says(f"DELETE /v1/scripts/{SCRIPT_ID}", body, status=status)
        await verda.release(Resource.STARTUP_SCRIPT, script)
    cloud.requests.clear()
    await verda.release(Resource.SSH_KEY, HAVE[Resource.SSH_KEY])
    assert cloud.requests == []


# Create


async def test_create_is_one_request_that_carries_the_attempt(
    verda: Verda, cloud: Scripted, spec: Any, offer: Any, attempt: Any, ref: Ref
) -> None:
    cloud.says("POST /v1/instances", ID.encode(), status=202)
    assert await verda.create(spec, offer, attempt, HAVE) == ref
    assert cloud.asked() == ["POST /v1/instances"]
    assert cloud.body() == {
        "instance_type": "1H100.80S.30V",
        "image": "ubuntu-24.04-cuda-12.8-open-docker",
        "hostname": NAME,
        "description": NAME,
        "location_code": "FIN-03",
        "ssh_key_ids": [KEY_ID],
        "startup_script_id": SCRIPT_ID,
        "is_spot": False,
        "contract": "PAY_AS_YOU_GO",
        "pricing": "FIXED_PRICE",
        "os_volume": {"name": NAME, "size": 50},
        "tags": [
            {"key": "gpubroker-owner", "value": "abcdef"},
            {"key": "gpubroker-attempt", "value": "abcdefghijklmnop"},
        ],
    }


def test_a_spot_machine_takes_its_disk_with_it(spec: Any, offer: Any, attempt: Any) -> None:
    spot = replace(offer, market=Market.SPOT, key="1H100.80S.30V:spot:FIN-03")
    wanted = replace(spec, disk_gb=250, vm_image="ubuntu-22.04", ports=((8888, "tcp"),))
    body = launch(wanted, spot, attempt, HAVE)
    assert (body["is_spot"], body["contract"]) == (True, "SPOT")
    assert body["os_volume"] == {
        "name": NAME,
        "size": 250,
        "on_spot_discontinue": "delete_permanently",
    }
    assert body["image"] == "ubuntu-22.04"


def test_a_disk_has_as_much_as_the_vendors_images_need(spec: Any, offer: Any, attempt: Any) -> None:
    sizes = {
        asked: launch(replace(spec, disk_gb=asked), offer, attempt, HAVE)["os_volume"]["size"]
        for asked in (None, 20, 50, 51)
    }
    assert sizes == {None: 50, 20: 50, 50: 50, 51: 51}


@pytest.mark.parametrize(
    "answer",
    [ID, f'"{ID}"', f"{ID}\n", f' "{ID}" \n', json.dumps({"id": ID})],
)
async def test_an_id_is_read_in_every_form(
    verda: Verda, cloud: Scripted, spec: Any, offer: Any, attempt: Any, answer: str
) -> None:
    cloud.says("POST /v1/instances", answer.encode(), status=202)
    assert (await verda.create(spec, offer, attempt, HAVE)).id == ID


@pytest.mark.parametrize(
    "answer", [b"", ID[:18].encode(), b"ok", b"{}", b'{"id": 17}', b"<html>", b"null", b"[]"]
)
async def test_an_answer_without_an_id_may_have_made_a_machine(
    verda: Verda, cloud: Scripted, spec: Any, offer: Any, attempt: Any, answer: bytes
) -> None:
    cloud.says("POST /v1/instances", answer, status=202)
    with pytest.raises(OutcomeUnknown):
        await verda.create(spec, offer, attempt, HAVE)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"disk_gb": 0}, "disk_gb"),
        ({"volumes": ((Ref("verda", "default", "", DISK), "/data"),)}, "volumes"),
        ({"bid": 1}, "bid"),
        ({"ports": ((0, "tcp"),)}, "ports"),
    ],
)
async def test_what_it_does_not_take_is_refused_before_a_byte_is_sent(
    verda: Verda, cloud: Scripted, spec: Any, offer: Any, attempt: Any, changes: Any, field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await verda.ensure(Resource.SSH_KEY, replace(spec, **changes), offer, attempt, {})
    assert refused.value.field == field
    with pytest.raises(Invalid):
        await verda.create(replace(spec, **changes), offer, attempt, HAVE)
    assert cloud.requests == []


async def test_a_type_without_an_image_with_docker_needs_one_named(
    verda: Verda, spec: Any, offer: Any, attempt: Any
) -> None:
    bare = replace(offer, launch={"image": ""})
    with pytest.raises(Invalid) as refused:
        await verda.create(spec, bare, attempt, HAVE)
    assert refused.value.field == "vm_image"
    named = replace(spec, vm_image="ubuntu-24.04")
    assert launch(named, bare, attempt, HAVE)["image"] == "ubuntu-24.04"


async def test_unknown_options_and_offers_without_a_place_are_refused(
    verda: Verda, cloud: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    with pytest.raises(Unsupported, match="coupon"):
        await verda.create(replace(spec, options={"coupon": "x"}), offer, attempt, HAVE)
    with pytest.raises(NoCapacity):
        await verda.create(spec, replace(offer, region=""), attempt, HAVE)
    assert cloud.requests == []


# Errors

REFUSALS = [
    (503, no("Not enough resources to deploy a 1 GPU instance type 1V100.6V in FIN-03",
             "service_unavailable"), NoCapacity),
    (402, no("Payment required", ""), OutOfFunds),
    (400, no("Top up your account", "insufficient_funds"), OutOfFunds),
    (403, no("Instance limit exceeded", "forbidden_action"), QuotaExceeded),
    (400, no("GPU quota reached"), QuotaExceeded),
    (400, no("Operating system is not valid for this instance type"), Invalid),
    (404, no("Script not found", "not_found"), NotFound),
    (403, no("Not for you", "forbidden_action"), AuthFailed),
    (429, no("Slow down", ""), RateLimited),
    (503, no("Service unavailable", "service_unavailable"), OutcomeUnknown),
    (500, no("Oops", "server_error"), OutcomeUnknown),
    (404, {}, OutcomeUnknown),
    (502, {}, OutcomeUnknown),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "error"), REFUSALS)
async def test_each_refusal_of_a_create_is_what_it_means(
    verda: Verda, cloud: Scripted, spec: Any, offer: Any, attempt: Any,
    status: int, body: Any, error: type[BrokerError],
) -> None:  # fmt: skip
    cloud.says("POST /v1/instances", body, status=status)
    with pytest.raises(error) as raised:
        await verda.create(spec, offer, attempt, HAVE)
    assert type(raised.value) is error
    if isinstance(raised.value, NoCapacity):
        assert raised.value.scope == "type_region"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, no("Invalid instance id"), NotFound),
        (404, no("Invalid instance id"), NotFound),
        (404, no("Instance not found", "not_found"), NotFound),
        (404, no("Not found", "not_found"), BadResponse),
        (404, {}, BadResponse),
        (400, no("Invalid request"), Invalid),
        (503, no("Later", "service_unavailable"), Unavailable),
        (200, {"id": ID}, BadResponse),
        (200, told("running") | {"id": DISK}, BadResponse),
    ],
)
async def test_a_machine_is_gone_by_the_vendors_own_words_alone(
    verda: Verda, cloud: Scripted, ref: Ref, status: int, body: Any, error: type[BrokerError]
) -> None:
    cloud.says(f"GET /v1/instances/{ID}", body, status=status)
    with pytest.raises(error) as raised:
        await verda.get(ref)
    assert type(raised.value) is error


# Machines


@pytest.mark.parametrize(
    ("status", "state", "costs"),
    [
        *((word, State.PENDING, True) for word in
          ("new", "ordered", "pending", "provisioning", "validating", "restoring")),
        ("running", State.RUNNING, True),
        ("offline", State.STOPPED, True),
        ("starting_hibernation", State.STOPPING, True),
        ("hibernating", State.STOPPING, True),
        ("deleting", State.TERMINATING, True),
        ("discontinued", State.TERMINATED, False),
        ("notfound", State.TERMINATED, False),
        ("not_found", State.TERMINATED, False),
        ("deleted", State.TERMINATED, False),
        ("error", State.FAILED, True),
        ("no_capacity", State.FAILED, False),
        ("unknown", State.UNKNOWN, True),
        ("brand_new_word", State.UNKNOWN, True),
    ],
)  # fmt: skip
def test_each_word_for_a_state_is_known(status: str, state: State, costs: bool) -> None:
    row = Machine(id=ID, status=status, ip="198.51.100.7", os_volume_id=DISK)
    assert state_of(row) is state
    machine = instance_of(row, "default")
    assert machine.bills_compute is costs
    assert machine.healthy is (state is not State.UNKNOWN)
    assert (machine.ssh is None) is (state is State.TERMINATED)


async def test_a_machine_is_read_without_its_secrets(
    verda: Verda, cloud: Scripted, ref: Ref
) -> None:
    cloud.says(f"GET /v1/instances/{ID}", told("running"))
    machine = await verda.get(ref)
    assert (machine.owner, machine.attempt, machine.name) == ("abcdef", "abcdefghijklmnop", NAME)
    assert machine.ssh == Endpoint(host="198.51.100.7", port=22, user="root")
    assert (machine.gpu, machine.gpu_count, machine.price) == ("H100 SXM5 80GB", 1, None)
    assert "jupyter" not in str(machine)


def test_a_machine_is_found_by_its_description_where_it_has_no_tags() -> None:
    machine = instance_of(Machine(id=ID, status="running", description=NAME), "default")
    assert (machine.owner, machine.attempt) == ("abcdef", "abcdefghijklmnop")
    assert instance_of(Machine(id=ID, status="running", hostname="x"), "default").owner is None


# The end


async def test_the_end_names_the_systems_disk_which_is_read_once(
    verda: Verda, cloud: Scripted, ref: Ref
) -> None:
    cloud.says(f"GET /v1/instances/{ID}", told("running"))
    cloud.says("PUT /v1/instances", told("ended"), b"", status=202)
    await verda.terminate(ref)
    await verda.terminate(ref)
    assert cloud.asked()[1:] == [
        f"GET /v1/instances/{ID}",
        "PUT /v1/instances",
        "PUT /v1/instances",
    ]
    assert cloud.body() == {
        "id": [ID],
        "action": "delete",
        "volume_ids": [DISK],
        "delete_permanently": True,
    }


async def test_a_machine_without_a_disk_yet_is_ended_without_one(
    verda: Verda, cloud: Scripted, ref: Ref
) -> None:
    cloud.says(f"GET /v1/instances/{ID}", told("ordered"))
    cloud.says("PUT /v1/instances", b"", status=204)
    await verda.terminate(ref)
    assert cloud.body() == {"id": [ID], "action": "delete"}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (207, told("ended-before"), None),
        (400, no("Can't discontinue a discontinued instance"), None),
        (400, no("Invalid instance id"), None),
        (404, no("Instance not found", "not_found"), None),
        (207, told("still-provisioning"), WrongState),
        (400, no("Can't discontinue a provisioning instance"), WrongState),
        (207, [{"instanceId": ID, "status": "error", "error": "x", "statusCode": 500}],
         OutcomeUnknown),
        (207, [{"instanceId": DISK, "status": "error", "error": "x"}], None),
        (202, b"<html>", OutcomeUnknown),
        (404, {}, OutcomeUnknown),
        (503, no("Later", "service_unavailable"), OutcomeUnknown),
    ],
)  # fmt: skip
async def test_each_answer_to_a_terminate_is_what_it_means(
    verda: Verda, cloud: Scripted, ref: Ref, status: int, body: Any, error: type[BrokerError] | None
) -> None:
    cloud.says(f"GET /v1/instances/{ID}", told("running"))
    cloud.says("PUT /v1/instances", body, status=status)
    if error is None:
        await verda.terminate(ref)
        return
    with pytest.raises(error) as raised:
        await verda.terminate(ref)
    assert type(raised.value) is error


def test_there_is_no_stop_since_a_machine_that_is_off_costs_as_much(verda: Verda) -> None:
    assert not isinstance(verda, Stoppable)


# Money, and what is held


async def test_the_balance_is_told_in_usd_alone(verda: Verda, cloud: Scripted) -> None:
    assert isinstance(verda, HasBalance)
    cloud.says("GET /v1/balance", {"amount": -0.5, "currency": "USD"})
    assert await verda.balance() == -500_000_000
    cloud.says("GET /v1/balance", {"amount": 3, "currency": "eur"})
    with pytest.raises(Unsupported, match="eur"):
        await verda.balance()


async def test_keys_scripts_and_volumes_are_held_and_the_deleted_are_not(
    verda: Verda, cloud: Scripted
) -> None:
    cloud.says("GET /v1/ssh-keys", [{"id": KEY_ID, "name": "gb-abcdef", "key": OWN}])
    cloud.says("GET /v1/scripts", [{"id": SCRIPT_ID, "name": NAME, "script": "sesame"}])
    disk = {"id": DISK, "name": NAME, "status": "detached", "is_os_volume": True}
    gone = [disk | {"id": ID, "status": word} for word in ("deleted", "deleting")]
    cloud.says("GET /v1/volumes", [disk, *gone, disk | {"id": KEY_ID, "name": "theirs"}])
    held = (await verda.resources("")).resources
    assert [(one.what, one.ref.id, one.owner, one.attempt) for one in held] == [
        (Resource.SSH_KEY, KEY_ID, "abcdef", None),
        (Resource.STARTUP_SCRIPT, SCRIPT_ID, "abcdef", "abcdefghijklmnop"),
        (Resource.DISK, DISK, "abcdef", "abcdefghijklmnop"),
        (Resource.DISK, KEY_ID, None, None),
    ]


async def test_a_disk_is_discarded_for_good_and_only_where_no_machine_has_it(
    verda: Verda, cloud: Scripted
) -> None:
    ref, path = Ref("verda", "default", "", DISK), f"/v1/volumes/{DISK}"
    disk = {"id": DISK, "name": NAME, "status": "attached", "instance_id": ID}
    cloud.says(f"GET {path}", disk)
    with pytest.raises(WrongState):
        await verda.discard(Resource.DISK, ref)
    cloud.says(f"GET {path}", disk | {"status": "detached", "instance_id": None})
    cloud.says(f"DELETE {path}", b"", status=202)
    await verda.discard(Resource.DISK, ref)
    assert cloud.body() == {"is_permanent": True}
    cloud.says(f"GET {path}", no("Volume not found", "not_found"), status=404)
    await verda.discard(Resource.DISK, ref)
    with pytest.raises(Unsupported):
        await verda.discard(Resource.NETWORK, ref)


async def test_keys_and_scripts_are_discarded(verda: Verda, cloud: Scripted) -> None:
    for what, path in ((Resource.SSH_KEY, "ssh-keys"), (Resource.STARTUP_SCRIPT, "scripts")):
        cloud.says(f"DELETE /v1/{path}/{KEY_ID}", b"")
        await verda.discard(what, Ref("verda", "default", "", KEY_ID))
        assert cloud.asked()[-1] == f"DELETE /v1/{path}/{KEY_ID}"


async def test_what_a_machine_cost_is_left_to_the_balance_or_a_person(
    verda: Verda, cloud: Scripted, ref: Ref, clock: Any
) -> None:
    bill = await verda.billing(ref, clock.now(), None)
    assert (bill.status, bill.amount) == ("manual", None)
    assert "console.verda.com" in bill.evidence
    assert cloud.requests == []
