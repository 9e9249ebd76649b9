"""Lambda's calls: what each sends, and what each answer means."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.providers.scripted import ANY, KEY, Scripted, connected

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
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.query import Query
from gpubroker.model.terms import Market, Resource, State
from gpubroker.providers.accounts import Account, Wiring
from gpubroker.providers.base import HasBalance, KeyAttachable, Stoppable
from gpubroker.providers.lambda_labs import (
    CAPABILITIES,
    SHOWN,
    LambdaLabs,
    Machine,
    launch,
    ruleset,
    state_of,
)
from gpubroker.providers.lambda_labs_market import parse_offers

FIXTURES = Path(__file__).parent / "fixtures" / "lambda_labs"
V1 = "/api/v1"
KEYS = f"GET {V1}/ssh-keys"
LAUNCH, TERMINATE = (f"POST {V1}/instance-operations/{word}" for word in ("launch", "terminate"))
ID = "0920582c7ff041399e34823a0be62549"
MACHINE = f"{V1}/instances/{ID}"
NAME = "gb-abcdef-abcdefghijklmnop"
OWN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrokerKeyOfTheTestsNotReal000000000000000000 gb-abcdef"
MINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMyOwnKeyOfTheTestsNotReal0000000000000000000 me"
ENV = {"TOKEN": "sesame-sesame"}
HAVE = {
    Resource.SSH_KEY: Ref("lambda_labs", "default", "", "gb-abcdef/0d3f5a1c"),
    Resource.FIREWALL: Ref("lambda_labs", "default", "", "c4d291f4"),
}


def told(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def machine(**changes: Any) -> dict[str, Any]:
    return {"data": told("running")["data"] | changes}


def no(code: str, message: str = "Something is wrong.") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "suggestion": "Try again later."}}


@pytest.fixture
def account() -> Account:
    return Account("lambda_labs", "default", {"LAMBDA_API_KEY": KEY}, "LAMBDA_API_KEY")


@pytest.fixture
def labs(scripted: Scripted, clock: Any) -> LambdaLabs:
    return connected(LambdaLabs, scripted, clock=clock)


@pytest.fixture
def offer(clock: Any) -> Any:
    body = (FIXTURES / "types.json").read_bytes()
    rows, _ = parse_offers(body, account="default", fetched_at=clock.now())
    return rows[0]


@pytest.fixture
def spec() -> LaunchSpec:
    return LaunchSpec(expires_at=None, env=ENV, ssh_keys=(OWN, MINE))


@pytest.fixture
def ref() -> Ref:
    return Ref("lambda_labs", "default", "", ID)


# Create


async def test_create_is_one_request_that_carries_the_attempt(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    scripted.says(LAUNCH, told("launched"))
    made = await labs.create(spec, offer, attempt, HAVE)
    assert made == Ref("lambda_labs", "default", "", ID)
    (request,) = scripted.requests
    assert (request.method, request.url.path) == ("POST", "/api/v1/instance-operations/launch")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    body = scripted.body()
    text = body.pop("user_data")
    assert body == {
        "region_name": "us-east-3",
        "instance_type_name": "gpu_1x_gh200",
        "ssh_key_names": ["gb-abcdef"],
        "name": NAME,
        "tags": [
            {"key": "gpubroker-owner", "value": "abcdef"},
            {"key": "gpubroker-attempt", "value": "abcdefghijklmnop"},
        ],
    }
    assert text.startswith("#!")


def test_everything_that_can_be_asked_for_is_in_the_launch(
    spec: Any, offer: Any, attempt: Any
) -> None:
    everything = replace(
        spec,
        image="ubuntu:24.04",
        vm_image="lambda-stack-24-04",
        command="train now",
        startup_script="echo hi",
        ports=((8888, "tcp"), (53, "udp"), (8888, "tcp")),
        volumes=((Ref("lambda_labs", "default", "", "398578a2336b4907"), "/data/x"),),
        disk_gb=100,
    )
    body = launch(everything, offer, attempt, HAVE)
    assert body["image"] == {"family": "lambda-stack-24-04"}
    assert body["file_system_mounts"] == [
        {"file_system_id": "398578a2336b4907", "mount_point": "/data/x"}
    ]
    assert body["firewall_rulesets"] == [{"id": "c4d291f4"}]
    assert body["tags"][-1] == {"key": "gpubroker-ports", "value": "53/udp,8888/tcp"}
    assert len(body["user_data"]) > len(launch(spec, offer, attempt, HAVE)["user_data"])


def test_an_image_may_be_named_by_its_id(spec: Any, offer: Any, attempt: Any) -> None:
    body = launch(replace(spec, vm_image="c" * 32), offer, attempt, HAVE)
    assert body["image"] == {"id": "c" * 32}


def test_no_timer_is_set_since_only_a_terminate_ends_the_billing(
    spec: Any, offer: Any, attempt: Any, clock: Any
) -> None:
    expiring = replace(spec, expires_at=clock.now() + timedelta(hours=1))
    with_expiry = launch(expiring, offer, attempt, HAVE)["user_data"]
    assert with_expiry == launch(spec, offer, attempt, HAVE)["user_data"]
    assert CAPABILITIES.expiry == "controller_only"


def incompressible(size: int) -> str:
    return "".join(hashlib.sha256(b"%d" % n).hexdigest() for n in range(size // 64))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"disk_gb": 4097}, "disk_gb"),
        ({"startup_script": f"echo {incompressible(3_000_000)}"}, "startup_script"),
        ({"ports": ((0, "tcp"),)}, "ports"),
        ({"ports": ((80, "sctp"),)}, "ports"),
        ({"ports": tuple((port, "tcp") for port in range(1, 14))}, "ports"),
        ({"volumes": ((Ref("lambda_labs", "default", "", "1a"), "/mnt/x"),)}, "volumes"),
        (
            {"volumes": ((Ref("lambda_labs", "default", "", "1a"), "/data/" + 300 * "x"),)},
            "volumes",
        ),
        ({"volumes": ((Ref("lambda_labs", "default", "", "../x"), "/data"),)}, "volumes"),
    ],
    ids=lambda told: str(told)[:60],
)
async def test_what_the_vendor_would_not_take_is_refused_before_it_is_sent(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any, change: Any, field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await labs.create(replace(spec, **change), offer, attempt, HAVE)
    assert caught.value.field == field
    assert scripted.requests == []


async def test_options_of_other_clouds_are_refused_and_not_dropped(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    with pytest.raises(Unsupported) as caught:
        await labs.create(replace(spec, options={"image_login": "sesame"}), offer, attempt, HAVE)
    assert "image_login" in str(caught.value)
    assert "sesame" not in str(caught.value)
    assert scripted.requests == []


async def test_a_type_that_is_sold_out_everywhere_is_not_asked_for(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    nowhere = replace(offer, key="gpu_1x_gh200", region="")
    with pytest.raises(NoCapacity):
        await labs.create(spec, nowhere, attempt, HAVE)
    assert scripted.requests == []


# Errors

MISSING = no("global/object-does-not-exist", "Specified instance does not exist.")
DOWN = no("provider/internal-unavailable", "Provider unavailable")
INTERNAL = no("global/internal-error", "An internal server error occurred.")
CAPACITY = "Not enough capacity to fulfill launch request."
ERRORS: list[tuple[str, int, Any, type[BrokerError]]] = [
    ("whoami", 401, told("bad-key"), AuthFailed),
    ("create", 401, told("bad-key"), AuthFailed),
    ("offers", 401, told("bad-key"), AuthFailed),
    ("terminate", 401, b"<html>", AuthFailed),
    ("list", 403, no("global/account-inactive", "Your account is inactive."), AuthFailed),
    ("create", 403, no("global/account-inactive", "Your account is inactive."), AuthFailed),
    ("create", 403, no("global/invalid-address", "Your billing address is invalid."), OutOfFunds),
    ("create", 403, b"<html>blocked</html>", AuthFailed),
    ("create", 400, told("sold-out"), NoCapacity),
    ("create", 400, no("global/insufficient-capacity", CAPACITY), NoCapacity),
    ("create", 400, no("global/quota-exceeded", "Quota exceeded."), QuotaExceeded),
    ("create", 400, no("global/object-does-not-exist", "No such region."), NotFound),
    ("create", 404, no("global/object-does-not-exist", "No such SSH key."), NotFound),
    ("create", 400, no("instance-operations/launch/file-system-in-wrong-region"), Refused),
    ("create", 400, no("global/invalid-parameters", "Invalid request data."), Invalid),
    ("create", 500, INTERNAL, OutcomeUnknown),
    ("create", 409, INTERNAL, OutcomeUnknown),
    ("create", 503, DOWN, OutcomeUnknown),
    ("create", 400, DOWN, OutcomeUnknown),
    ("create", 400, no("provider/quota", CAPACITY), OutcomeUnknown),
    ("create", 502, b"<html>", OutcomeUnknown),
    ("create", 404, b"<html>not here</html>", OutcomeUnknown),
    ("create", 200, b"garbage", OutcomeUnknown),
    ("create", 200, {"data": {}}, OutcomeUnknown),
    ("create", 200, {"data": {"instance_ids": []}}, OutcomeUnknown),
    ("create", 200, {"data": {"instance_ids": [ID, "5b1d3c0f"]}}, OutcomeUnknown),
    ("create", 429, b"Too many requests", RateLimited),
    ("ensure", 400, no("global/quota-exceeded", "Quota exceeded."), QuotaExceeded),
    ("ensure", 400, no("global/duplicate", "There is one of this name."), Unavailable),
    ("ensure", 400, no("global/invalid-parameters", "Invalid request data."), Invalid),
    ("ensure", 409, INTERNAL, OutcomeUnknown),
    ("get", 404, MISSING, NotFound),
    ("get", 404, b"<html>404</html>", BadResponse),
    ("get", 404, {"error": {"code": "not-found", "message": "No route"}}, BadResponse),
    ("get", 200, machine(id="5b1d3c0f"), BadResponse),
    ("get", 200, b"garbage", BadResponse),
    ("get", 200, {"data": None}, BadResponse),
    ("get", 500, INTERNAL, Unavailable),
    ("get", 503, DOWN, Unavailable),
    ("get", 409, DOWN, Unavailable),
    ("get", 429, b"slow down", RateLimited),
    ("list", 200, {"data": {}}, BadResponse),
    ("find", 503, DOWN, Unavailable),
    ("offers", 429, b"", RateLimited),
    ("offers", 503, DOWN, Unavailable),
    ("terminate", 404, b"<html>404</html>", OutcomeUnknown),
    ("terminate", 404, no("not-found"), OutcomeUnknown),
    ("terminate", 500, INTERNAL, OutcomeUnknown),
    ("terminate", 409, DOWN, OutcomeUnknown),
    ("terminate", 429, b"", RateLimited),
    ("terminate", 400, no("instance-operations/x", "vm-has-not-launched"), WrongState),
    ("terminate", 409, no("global/invalid-parameters", "Not available now."), WrongState),
    ("terminate", 200, {"data": {"terminated_instances": []}}, WrongState),
    ("terminate", 200, b"garbage", OutcomeUnknown),
]


@pytest.mark.parametrize(
    ("operation", "status", "body", "kind"),
    ERRORS,
    ids=[f"{o}-{s}-{k.__name__}-{n}" for n, (o, s, _, k) in enumerate(ERRORS)],
)
async def test_the_error_table_row_by_row(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any, ref: Any,
    operation: str, status: int, body: Any, kind: type[BrokerError],
) -> None:  # fmt: skip
    scripted.says(ANY, body, status=status)
    with pytest.raises(BrokerError) as caught:
        await call(labs, operation, spec, offer, attempt, ref)
    assert type(caught.value) is kind
    assert (caught.value.provider, caught.value.operation) == ("lambda_labs", operation)
    assert len(scripted.requests) == 1


async def call(labs: Any, operation: str, spec: Any, offer: Any, attempt: Any, ref: Any) -> Any:
    calls: dict[str, Callable[[], Any]] = {
        "create": lambda: labs.create(spec, offer, attempt, HAVE),
        "ensure": lambda: labs.ensure(Resource.SSH_KEY, spec, offer, attempt, {}),
        "find": lambda: labs.find(attempt, offer),
        "list": lambda: labs.list(""),
        "whoami": labs.whoami,
    }
    if operation == "offers":
        return [page async for page in labs.offers(Query())]
    return await calls.get(operation, lambda: getattr(labs, operation)(ref))()


async def test_the_vendors_code_sentence_and_scope_are_kept(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    scripted.says(LAUNCH, told("sold-out"), status=400)
    with pytest.raises(NoCapacity) as caught:
        await labs.create(spec, offer, attempt, HAVE)
    assert caught.value.code == "instance-operations/launch/insufficient-capacity"
    assert caught.value.scope == "type_region"
    assert CAPACITY in str(caught.value)


async def test_words_in_a_message_are_no_code(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    scripted.says(
        LAUNCH,
        no("global/invalid-parameters", "insufficient-capacity global/quota-exceeded"),
        status=400,
    )
    with pytest.raises(Invalid):
        await labs.create(spec, offer, attempt, HAVE)


@pytest.mark.parametrize("operation", ["create", "terminate"])
@pytest.mark.parametrize("reply", ["drop", "500", "307", "garbage"])
async def test_no_failure_makes_a_mutation_be_sent_twice(
    raw_server: Any, answered: Any, account: Any, spec: Any, offer: Any, attempt: Any, ref: Any,
    operation: str, reply: str,
) -> None:  # fmt: skip
    replies = {
        "drop": None,
        "500": answered("500 Oops", b""),
        "307": answered("307 Moved", b"", "location: /elsewhere"),
        "garbage": b"HTTP/1.1 two hundred\r\n\r\n",
    }
    async with raw_server() as server:
        server.replies = [replies[reply]]
        labs = LambdaLabs.connect(
            account, Wiring(base_url=f"http://127.0.0.1:{server.port}", loopback_only=True)
        )
        with pytest.raises(OutcomeUnknown):
            await call(labs, operation, spec, offer, attempt, ref)
        await labs.aclose()
        assert len(server.received) == 1


async def test_an_id_of_another_form_never_becomes_a_path(labs: Any, scripted: Any) -> None:
    for wrong in ("", "../ssh-keys", "a b", "a/b"):
        with pytest.raises(Invalid):
            await labs.get(Ref("lambda_labs", "default", "", wrong))
    assert scripted.requests == []


async def test_no_secret_is_in_an_error(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    said = no("global/invalid-parameters", f"bad sesame-sesame, key {KEY}")
    said["error"]["jupyter_token"] = "sesame-jupyter"
    scripted.says(LAUNCH, said, status=400)
    with pytest.raises(Invalid) as caught:
        await labs.create(spec, offer, attempt, HAVE)
    shown = f"{caught.value} {caught.value.raw} {caught.value.code}"
    assert "sesame" not in shown
    assert "n0t-real" not in shown
    assert "bad ***" in caught.value.raw


def test_no_field_that_holds_a_secret_may_be_shown() -> None:
    assert SHOWN.isdisjoint({"user_data", "jupyter_token", "jupyter_url", "private_key", "value"})


async def test_without_a_key_nothing_is_sent(scripted: Any, ref: Any) -> None:
    labs = connected(LambdaLabs, scripted, {})
    with pytest.raises(AuthFailed) as caught:
        _ = [page async for page in labs.offers(Query())]
    assert "LAMBDA_API_KEY" in str(caught.value)
    assert scripted.requests == []


# What must be there before a machine


async def test_the_brokers_key_is_registered_under_the_owners_name(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    scripted.says(KEYS, told("keys")).says(f"POST {V1}/ssh-keys", told("key-made"))
    key = await labs.ensure(Resource.SSH_KEY, spec, offer, attempt, {})
    assert key.id == "gb-abcdef/0d3f5a1c9b2e4f6a8c7d6e5f4a3b2c1d"
    assert [(r.method, r.url.path) for r in scripted.requests] == [
        ("GET", "/api/v1/ssh-keys"),
        ("POST", "/api/v1/ssh-keys"),
    ]
    assert scripted.body() == {"name": "gb-abcdef", "public_key": OWN}


@pytest.mark.parametrize("name", ["gb-abcdef", "put here by hand", "with/slash"])
async def test_a_key_of_the_same_material_is_found_under_any_name_and_reused(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any, name: str
) -> None:
    same = {"id": "77aa", "name": name, "public_key": OWN.rpartition(" ")[0] + " other comment"}
    scripted.says(KEYS, {"data": [*told("keys")["data"], same]})
    scripted.says(LAUNCH, told("launched"))
    key = await labs.ensure(Resource.SSH_KEY, spec, offer, attempt, {})
    await labs.create(spec, offer, attempt, {Resource.SSH_KEY: key})
    assert [r.method for r in scripted.requests] == ["GET", "POST"]
    assert scripted.body()["ssh_key_names"] == [name]


async def test_a_name_that_holds_another_key_is_never_overwritten(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    scripted.says(KEYS, {"data": [{"id": "77aa", "name": "gb-abcdef", "public_key": MINE}]})
    with pytest.raises(Refused) as caught:
        await labs.ensure(Resource.SSH_KEY, spec, offer, attempt, {})
    assert (type(caught.value), caught.value.code) == (Refused, "name_taken")
    assert len(scripted.requests) == 1


async def test_a_name_that_stands_for_two_keys_is_not_used(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    twins = [{"id": n, "name": "both", "public_key": line} for n, line in (("1", OWN), ("2", MINE))]
    scripted.says(KEYS, {"data": twins})
    scripted.says(f"POST {V1}/ssh-keys", told("key-made"))
    key = await labs.ensure(Resource.SSH_KEY, spec, offer, attempt, {})
    assert key.id.startswith("gb-abcdef/")


async def test_without_ports_the_accounts_own_rules_hold_and_nothing_is_asked(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    have = await labs.ensure(Resource.FIREWALL, spec, offer, attempt, {})
    assert scripted.requests == []
    body = launch(spec, offer, attempt, HAVE | {Resource.FIREWALL: have})
    assert "firewall_rulesets" not in body


async def test_ports_are_opened_by_a_ruleset_of_the_owner_that_holds_ssh_too(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    spec = replace(spec, ports=((8888, "tcp"), (53, "udp")))
    wanted = ruleset(spec, offer, attempt)
    made = {"id": "c4d2", "region": {"name": "us-east-3", "description": ""}, "instance_ids": []}
    scripted.says(f"GET {V1}/firewall-rulesets", {"data": []})
    scripted.says(f"POST {V1}/firewall-rulesets", {"data": wanted | made})
    have = await labs.ensure(Resource.FIREWALL, spec, offer, attempt, {})
    assert have.id == "c4d2"
    sent = scripted.body()
    assert sent["name"].startswith("gb-abcdef-")
    assert sent["region"] == "us-east-3"
    assert [(rule["protocol"], rule["port_range"]) for rule in sent["rules"]] == [
        ("tcp", [22, 22]),
        ("udp", [53, 53]),
        ("tcp", [8888, 8888]),
    ]
    scripted.says(f"GET {V1}/firewall-rulesets", {"data": [wanted | made]})
    assert await labs.ensure(Resource.FIREWALL, spec, offer, attempt, {}) == have
    assert [r.method for r in scripted.requests] == ["GET", "POST", "GET"]


def test_other_ports_and_other_owners_have_other_rulesets(spec: Any, offer: Any) -> None:
    def name(owner: str, *ports: tuple[int, str]) -> str:
        told = ruleset(replace(spec, ports=ports), offer, Attempt(owner, "x" * 16, ""))
        return str(told["name"])

    web = name("abcdef", (80, "tcp"), (443, "tcp"))
    assert web == name("abcdef", (443, "tcp"), (80, "tcp"), (22, "tcp"))
    assert len({web, name("abcdef", (80, "tcp")), name("zzzzzz", (80, "tcp"), (443, "tcp"))}) == 3


async def test_a_ruleset_that_somebody_changed_is_not_used_and_not_overwritten(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    spec = replace(spec, ports=((8888, "tcp"),))
    changed = ruleset(spec, offer, attempt) | {"id": "c4d2", "region": {"name": "us-east-3"}}
    changed["rules"] = changed["rules"][1:]
    scripted.says(f"GET {V1}/firewall-rulesets", {"data": [changed]})
    with pytest.raises(Refused) as caught:
        await labs.ensure(Resource.FIREWALL, spec, offer, attempt, {})
    assert caught.value.code == "name_taken"
    assert len(scripted.requests) == 1


async def test_ports_are_refused_where_the_vendor_has_no_firewall_rules(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    texas = replace(offer, region="us-south-1", key="gpu_1x_gh200:us-south-1")
    with pytest.raises(Unsupported):
        await labs.ensure(
            Resource.FIREWALL, replace(spec, ports=((80, "tcp"),)), texas, attempt, {}
        )
    assert scripted.requests == []


async def test_what_is_shared_is_not_released_and_nothing_else_is_made(
    labs: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    for what, made in HAVE.items():
        await labs.release(what, made)
    with pytest.raises(Unsupported):
        await labs.ensure(Resource.DISK, spec, offer, attempt, {})
    assert scripted.requests == []


# Machines

STATES = [
    ("booting", State.PENDING, True, True),
    ("active", State.RUNNING, True, True),
    ("unhealthy", State.RUNNING, False, True),
    ("terminating", State.TERMINATING, True, True),
    ("terminated", State.TERMINATED, True, False),
    ("preempted", State.PREEMPTED, True, False),
    ("sleeping", State.UNKNOWN, False, True),
]


@pytest.mark.parametrize(("word", "state", "healthy", "bills"), STATES)
async def test_each_word_of_the_vendor_is_a_state(
    labs: Any, scripted: Any, ref: Any, word: str, state: State, healthy: bool, bills: bool
) -> None:
    assert state_of(Machine(id="1", status=word)) is state
    scripted.says(f"GET {MACHINE}", machine(status=word))
    seen = await labs.get(ref)
    assert (seen.state, seen.raw_state, seen.healthy) == (state, word, healthy)
    assert (seen.bills_compute, seen.bills_disk) == (bills, False)
    assert (seen.ssh is None) == (state in {State.TERMINATED, State.PREEMPTED})


async def test_a_machine_is_read_with_its_owner_its_ports_and_no_secret(
    labs: Any, scripted: Any, ref: Any
) -> None:
    scripted.says(f"GET {MACHINE}", told("running"))
    seen = await labs.get(ref)
    assert scripted.requests[0].url.path == f"/api/v1/instances/{ID}"
    assert (seen.ref, seen.owner, seen.attempt, seen.name) == (
        ref, "abcdef", "abcdefghijklmnop", NAME
    )  # fmt: skip
    assert seen.ssh == Endpoint("198.51.100.2", 22, "ubuntu")
    assert seen.ports == {"53/udp": "198.51.100.2:53", "8888/tcp": "198.51.100.2:8888"}
    assert (seen.gpu, seen.gpu_count, seen.price) == ("GH200 (96 GB)", 1, 2_290_000_000)
    assert (seen.created_at, seen.disk_gb) == (None, 4096)
    assert "sesame" not in repr(seen)


async def test_a_machine_that_boots_is_ours_by_its_tags_and_has_no_address_yet(
    labs: Any, scripted: Any, ref: Any
) -> None:
    scripted.says(f"GET {MACHINE}", told("booting"))
    seen = await labs.get(ref)
    assert (seen.state, seen.name, seen.attempt) == (State.PENDING, None, "abcdefghijklmnop")
    assert (seen.ssh, seen.ports) == (None, {})
    assert seen.raw["terminate"] == "vm-has-not-launched"


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({"tags": []}, True),
        ({"tags": [{"key": "gpubroker-owner", "value": "by-hand"}]}, True),
        ({"name": "renamed"}, True),
        ({"name": "renamed", "tags": []}, False),
        ({"name": None, "tags": []}, False),
        ({"name": "gb-abcdef-short", "tags": []}, False),
    ],
    ids=str,
)
async def test_a_machine_is_ours_by_its_tags_else_by_its_name(
    labs: Any, scripted: Any, attempt: Any, offer: Any, changes: Any, ours: bool
) -> None:
    scripted.says(f"GET {V1}/instances", {"data": [machine(**changes)["data"]]})
    found = await labs.find(attempt, offer)
    assert [one.owner for one in found] == (["abcdef"] if ours else [])


async def test_a_list_holds_foreign_machines_and_is_bound_to_the_key(
    labs: Any, scripted: Any, clock: Any
) -> None:
    scripted.says(f"GET {V1}/instances", told("list"))
    listing = await labs.list("")
    assert (listing.scope, listing.complete, listing.asked_at) == ("", True, clock.now())
    assert [one.owner for one in listing.instances] == ["abcdef", None]
    assert listing.instances[1].name == "notebook of a colleague"
    assert len(scripted.requests) == 1
    scripted.says(KEYS, told("keys"))
    assert await labs.whoami() == listing.account_uid


async def test_a_row_that_comes_twice_is_one_machine(labs: Any, scripted: Any) -> None:
    rows = told("list")["data"]
    scripted.says(f"GET {V1}/instances", {"data": [*rows, rows[0]]})
    assert len((await labs.list("")).instances) == 2


async def test_the_uid_is_the_keys_fingerprint_and_not_told_before_the_key_was_taken(
    labs: Any, scripted: Any, account: Any
) -> None:
    scripted.says(KEYS, told("bad-key"), status=401)
    with pytest.raises(AuthFailed):
        await labs.whoami()
    scripted.says(KEYS, told("keys"))
    uid = await labs.whoami()
    assert uid.startswith("key-")
    assert KEY not in uid
    other = Account("lambda_labs", "default", {"LAMBDA_API_KEY": "another"})
    assert await LambdaLabs(other, labs.http).whoami() != uid


# The end and the rest


async def test_terminate_names_one_machine(labs: Any, scripted: Any, ref: Any) -> None:
    scripted.says(TERMINATE, told("terminated"))
    await labs.terminate(ref)
    (request,) = scripted.requests
    assert (request.method, request.url.path) == ("POST", "/api/v1/instance-operations/terminate")
    assert scripted.body() == {"instance_ids": [ID]}


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, MISSING), (400, MISSING), (400, no("x", "Refused: vm-is-terminating."))],
)
async def test_a_machine_that_is_gone_or_going_is_terminated(
    labs: Any, scripted: Any, ref: Any, status: int, body: Any
) -> None:
    scripted.says(TERMINATE, body, status=status)
    await labs.terminate(ref)


async def test_only_a_person_can_look_at_the_bill(labs: Any, scripted: Any, ref: Any) -> None:
    since = datetime(2026, 3, 1, 12, tzinfo=UTC)
    bill = await labs.billing(ref, since, since + timedelta(hours=2))
    assert (bill.status, bill.amount) == ("manual", None)
    for part in ("https://cloud.lambda.ai/usage", ID, "2026-03-01 12:00", "14:00 UTC"):
        assert part in bill.evidence
    assert scripted.requests == []


async def test_offers_are_one_page_that_covers_everything(labs: Any, scripted: Any) -> None:
    scripted.says(f"GET {V1}/instance-types", told("types"))
    (page,) = [page async for page in labs.offers(Query(min_count=8))]
    assert (page.covers, page.complete, len(page.rows)) == (None, True, 5)
    assert [r.url.path for r in scripted.requests] == ["/api/v1/instance-types"]


async def test_there_is_no_spot(labs: Any, scripted: Any) -> None:
    assert [page async for page in labs.offers(Query(market=Market.SPOT))] == []
    assert scripted.requests == []


async def test_an_answer_without_any_type_is_not_complete(labs: Any, scripted: Any) -> None:
    scripted.says(f"GET {V1}/instance-types", {"data": {}})
    (page,) = [page async for page in labs.offers(Query())]
    assert (page.rows, page.complete) == ((), False)


async def test_an_option_that_there_is_not_is_refused(labs: Any, scripted: Any) -> None:
    with pytest.raises(Invalid):
        _ = [page async for page in labs.offers(Query(options=(("lambda_labs", "x", "1"),)))]
    assert scripted.requests == []


def test_what_lambda_has_not_cannot_be_asked_for(labs: Any) -> None:
    for protocol in (Stoppable, HasBalance, KeyAttachable):
        assert not isinstance(labs, protocol)


def test_a_create_keeps_the_launch_rate_and_all_calls_one_a_second() -> None:
    by_bucket = {limit.bucket: limit for limit in CAPABILITIES.limits}
    assert by_bucket["all"].interval_s == 1
    assert by_bucket["launch"].interval_s == 12
    assert by_bucket["launch"].operations <= by_bucket["all"].operations


# What stands beside machines


async def test_a_sweep_is_told_of_keys_and_rulesets_and_whose_they_are(
    labs: Any, scripted: Any
) -> None:
    keys = [
        {"id": "1a", "name": "gb-abcdef", "public_key": OWN},
        {"id": "2b", "name": "my laptop", "public_key": MINE},
    ]
    place = {"name": "us-east-3", "description": "Washington DC, USA"}
    rules = [{"id": "c4", "name": "gb-abcdef-0123456789ab", "region": place, "rules": []}]
    scripted.says(KEYS, {"data": keys})
    scripted.says(f"GET {V1}/firewall-rulesets", {"data": rules})
    told = await labs.resources("")
    assert (told.complete, told.account_uid) == (True, await _uid(labs, scripted))
    assert [(one.what, one.ref.id, one.owner, one.attempt) for one in told.resources] == [
        (Resource.SSH_KEY, "gb-abcdef/1a", "abcdef", None),
        (Resource.SSH_KEY, "my laptop/2b", None, None),
        (Resource.FIREWALL, "c4", "abcdef", None),
    ]
    assert [request.url.path for request in scripted.requests[:2]] == [
        "/api/v1/ssh-keys",
        "/api/v1/firewall-rulesets",
    ]


async def _uid(labs: Any, scripted: Any) -> str:
    scripted.says(KEYS, {"data": []})
    return str(await labs.whoami())


@pytest.mark.parametrize(
    ("what", "id_", "path"),
    [
        (Resource.SSH_KEY, "gb-abcdef/1a", "/api/v1/ssh-keys/1a"),
        (Resource.SSH_KEY, "with/slash/1a", "/api/v1/ssh-keys/1a"),
        (Resource.FIREWALL, "c4", "/api/v1/firewall-rulesets/c4"),
    ],
)
async def test_what_is_unused_is_deleted_by_its_id_once(
    labs: Any, scripted: Any, what: Resource, id_: str, path: str
) -> None:
    scripted.says(f"DELETE {path}", {"data": {}})
    await labs.discard(what, Ref("lambda_labs", "default", "", id_))
    assert [(r.method, r.url.path) for r in scripted.requests] == [("DELETE", path)]
    scripted.says(f"DELETE {path}", no("global/object-does-not-exist"), status=404)
    await labs.discard(what, Ref("lambda_labs", "default", "", id_))


async def test_a_ruleset_in_use_stays_and_the_accounts_own_is_never_touched(
    labs: Any, scripted: Any
) -> None:
    scripted.says(
        f"DELETE {V1}/firewall-rulesets/c4",
        no("firewall-rulesets/firewall-ruleset-in-use"),
        status=400,
    )
    with pytest.raises(WrongState):
        await labs.discard(Resource.FIREWALL, Ref("lambda_labs", "default", "", "c4"))
    with pytest.raises(Unsupported):
        await labs.discard(Resource.FIREWALL, Ref("lambda_labs", "default", "", "global"))
    assert len(scripted.requests) == 1
