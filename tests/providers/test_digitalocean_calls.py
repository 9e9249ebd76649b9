"""DigitalOcean's calls: what each sends, and what each answer means."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
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
    QuotaExceeded,
    RateLimited,
    Refused,
    Unavailable,
    Unsupported,
    WrongState,
)
from gpubroker.model.identity import Ref
from gpubroker.model.instance import Endpoint
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.query import Query
from gpubroker.model.terms import Market, Resource, State
from gpubroker.providers.accounts import Account, Wiring
from gpubroker.providers.base import HasBalance, HasQuotas, KeyAttachable, Stoppable
from gpubroker.providers.digitalocean import (
    CAPABILITIES,
    SHOWN,
    DigitalOcean,
    Machine,
    droplet,
    months,
    state_of,
)
from gpubroker.providers.digitalocean_market import parse_offers

FIXTURES = Path(__file__).parent / "fixtures" / "digitalocean"
DROPLETS, KEYS = "/v2/droplets", "/v2/account/keys"
ID = "3164444"
DROPLET = f"{DROPLETS}/{ID}"
NAME = "gb-abcdef-abcdefghijklmnop"
TEAM = "5df3e3004a17e242b7c20ca6c9fc25b701a47ece"
OWN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrokerKeyOfTheTestsNotReal000000000000000000 gb-abcdef"
MINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMyOwnKeyOfTheTestsNotReal0000000000000000000 me"
HAVE = {Resource.SSH_KEY: Ref("digitalocean", "default", "", "512189")}
VOLUME = Ref("digitalocean", "default", "", "506f78a4-e098-11e5-ad9f-000f53306ae1")
DEVICE = "/dev/disk/by-id/scsi-0DO_Volume_data-1"


def told(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def machine(**changes: Any) -> dict[str, Any]:
    return {"droplet": told("running")["droplet"] | changes}


def no(message: str, code: str = "unprocessable_entity") -> dict[str, Any]:
    return {"id": code, "message": message}


def page(name: str, rows: list[Any], total: int | None = None, **links: str) -> dict[str, Any]:
    pages = {"pages": links} if links else {}
    return {name: rows, "links": pages, "meta": {"total": len(rows) if total is None else total}}


@pytest.fixture
def account() -> Account:
    return Account("digitalocean", "default", {"DIGITALOCEAN_ACCESS_TOKEN": KEY}, "test")


@pytest.fixture
def ocean(scripted: Scripted, clock: Any) -> DigitalOcean:
    return connected(DigitalOcean, scripted, clock=clock)


@pytest.fixture
def offers(clock: Any) -> Any:
    body = (FIXTURES / "sizes.json").read_bytes()
    rows, _ = parse_offers(body, account="default", fetched_at=clock.now())
    return {row.key: row for row in rows}


@pytest.fixture
def offer(offers: Any) -> Any:
    return offers["gpu-h100x1-80gb:nyc2"]


@pytest.fixture
def amd(offers: Any) -> Any:
    return offers["gpu-mi300x1-192gb:atl1"]


@pytest.fixture
def spec() -> LaunchSpec:
    return LaunchSpec(expires_at=None, env={"TOKEN": "sesame-sesame"}, ssh_keys=(OWN, MINE))


@pytest.fixture
def ref() -> Ref:
    return Ref("digitalocean", "default", "", ID)


# Create


async def test_create_is_one_request_that_carries_the_attempt(
    ocean: Any, scripted: Any, spec: Any, offer: Any, attempt: Any, ref: Any
) -> None:
    scripted.says(f"POST {DROPLETS}", told("made"), status=202)
    assert await ocean.create(spec, offer, attempt, HAVE) == ref
    (request,) = scripted.requests
    assert (request.method, request.url.path) == ("POST", "/v2/droplets")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    body = scripted.body()
    assert body.pop("user_data").startswith("#!")
    assert body == {
        "name": NAME,
        "region": "nyc2",
        "size": "gpu-h100x1-80gb",
        "image": "gpu-h100x1-base",
        "ssh_keys": [512189],
        "tags": ["gpubroker-owner:abcdef", "gpubroker-attempt:abcdefghijklmnop"],
    }


def test_everything_that_can_be_asked_for_is_in_the_create(
    spec: Any, offer: Any, attempt: Any
) -> None:
    options = {"ipv6": True, "monitoring": False, "with_droplet_agent": True, "vpc_uuid": "76-ab"}
    everything = replace(
        spec,
        image="ubuntu:24.04",
        vm_image="ubuntu-24-04-x64",
        command="train now",
        startup_script="echo hi",
        ports=((8888, "tcp"), (53, "udp"), (8888, "tcp")),
        volumes=((VOLUME, DEVICE),),
        disk_gb=720,
        options=options,
    )
    body = droplet(everything, offer, attempt, HAVE)
    assert body["image"] == "ubuntu-24-04-x64"
    assert body["volumes"] == [VOLUME.id]
    assert body["tags"][-1] == "gpubroker-ports:53-udp_8888-tcp"
    assert {name: body[name] for name in options} == options
    assert len(body["user_data"]) > len(droplet(spec, offer, attempt, HAVE)["user_data"])


def test_the_image_is_of_the_gpus_maker_and_number(spec: Any, offers: Any, attempt: Any) -> None:
    images = {key: droplet(spec, one, attempt, HAVE)["image"] for key, one in offers.items()}
    assert images["gpu-h100x1-80gb:nyc2"] == "gpu-h100x1-base"
    assert images["gpu-h100x8-640gb:nyc2"] == "gpu-h100x8-base"
    assert images["gpu-mi300x1-192gb:atl1"] == "gpu-amd-base"


def test_an_image_of_the_account_is_named_by_its_number(
    spec: Any, offer: Any, attempt: Any
) -> None:
    assert droplet(replace(spec, vm_image="198567"), offer, attempt, HAVE)["image"] == 198567


def test_a_container_on_amd_gpus_needs_an_image_that_has_docker(
    spec: Any, amd: Any, attempt: Any
) -> None:
    container = replace(spec, image="rocm/pytorch")
    with pytest.raises(Invalid) as caught:
        droplet(container, amd, attempt, HAVE)
    assert caught.value.field == "image"
    text = droplet(replace(container, vm_image="198567"), amd, attempt, HAVE)["user_data"]
    assert "/dev/kfd" in text


def test_the_timer_powers_nothing_off_since_an_off_machine_bills(
    spec: Any, offer: Any, attempt: Any, clock: Any
) -> None:
    expiring = replace(spec, expires_at=clock.now() + timedelta(hours=1))
    with_expiry = droplet(expiring, offer, attempt, HAVE, 3600.0)["user_data"]
    assert "poweroff" not in with_expiry
    assert CAPABILITIES.expiry == "controller_only"


def incompressible(size: int) -> str:
    return "".join(hashlib.sha256(b"%d" % n).hexdigest() for n in range(size // 64))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"disk_gb": 721}, "disk_gb"),
        ({"startup_script": f"echo {incompressible(200_000)}"}, "startup_script"),
        ({"ports": ((0, "tcp"),)}, "ports"),
        ({"ports": ((80, "sctp"),)}, "ports"),
        ({"ports": tuple((port, "tcp") for port in range(1, 22))}, "ports"),
        ({"volumes": ((VOLUME, "/data"),)}, "volumes"),
        ({"volumes": ((Ref("digitalocean", "default", "", "../x"), DEVICE),)}, "volumes"),
        ({"options": {"backups": True}}, "options"),
        ({"options": {"ipv6": "yes"}}, "ipv6"),
        ({"options": {"vpc_uuid": "../x"}}, "vpc_uuid"),
    ],
    ids=lambda told: str(told)[:60],
)
async def test_what_the_vendor_would_not_take_is_refused_before_it_is_sent(
    ocean: Any, scripted: Any, spec: Any, offer: Any, attempt: Any, change: Any, field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await ocean.create(replace(spec, **change), offer, attempt, HAVE)
    assert caught.value.field == field
    assert scripted.requests == []


def test_as_many_ports_as_are_taken_fit_a_tag(spec: Any, offer: Any, attempt: Any) -> None:
    ports = tuple((65535 - at, "tcp") for at in range(20))
    tag = droplet(replace(spec, ports=ports), offer, attempt, HAVE)["tags"][-1]
    assert len(tag) <= 255


async def test_a_size_that_is_to_be_had_nowhere_is_not_asked_for(
    ocean: Any, scripted: Any, spec: Any, offers: Any, attempt: Any
) -> None:
    with pytest.raises(NoCapacity):
        await ocean.create(spec, offers["gpu-h200x1-141gb"], attempt, HAVE)
    assert scripted.requests == []


# Errors

GONE = told("missing")
OOPS = no("Unexpected server-side error", "server_error")
TOO_OFTEN = no("API rate limit exceeded.", "too_many_requests")
LIMIT = "creating this/these droplet(s) will exceed your droplet limit"
ERRORS: list[tuple[str, int, Any, type[BrokerError]]] = [
    ("whoami", 401, told("bad-key"), AuthFailed),
    ("create", 401, told("bad-key"), AuthFailed),
    ("offers", 401, told("bad-key"), AuthFailed),
    (
        "create",
        403,
        no("You are not authorized to perform this operation", "forbidden"),
        AuthFailed,
    ),
    ("create", 422, told("sold-out"), NoCapacity),
    ("create", 422, no("Size This size is unavailable"), NoCapacity),
    ("create", 422, no("Size This size is currently restricted please send a payment"), NoCapacity),
    ("create", 422, no("Region is not available"), NoCapacity),
    ("create", 422, no(LIMIT), QuotaExceeded),
    ("create", 422, no("You specified an invalid image for Droplet creation."), Invalid),
    ("create", 422, no("The image you specified is not available in the selected region"), Refused),
    ("create", 409, no("busy", "conflict"), WrongState),
    ("create", 429, TOO_OFTEN, RateLimited),
    ("create", 500, OOPS, OutcomeUnknown),
    ("create", 503, b"", OutcomeUnknown),
    ("create", 404, GONE, OutcomeUnknown),
    ("create", 202, b"garbage", OutcomeUnknown),
    ("create", 202, {"droplet": {}}, OutcomeUnknown),
    ("create", 202, {"droplet": {"id": 0}}, OutcomeUnknown),
    ("create", 202, {"droplets": [{"id": 1}]}, OutcomeUnknown),
    ("ensure", 422, no("SSH Key is already in use on your account"), Unavailable),
    ("ensure", 429, TOO_OFTEN, RateLimited),
    ("get", 404, GONE, NotFound),
    ("get", 404, b"<html>404</html>", BadResponse),
    ("get", 404, no("no Route matched with those values", ""), BadResponse),
    ("get", 200, machine(id=1), BadResponse),
    ("get", 200, b"garbage", BadResponse),
    ("get", 200, {"droplet": None}, BadResponse),
    ("get", 500, OOPS, Unavailable),
    ("get", 429, TOO_OFTEN, RateLimited),
    ("list", 200, {"droplets": []}, BadResponse),
    ("find", 503, OOPS, Unavailable),
    ("offers", 429, TOO_OFTEN, RateLimited),
    ("terminate", 404, b"<html>404</html>", OutcomeUnknown),
    ("terminate", 500, OOPS, OutcomeUnknown),
    ("terminate", 409, no("busy", "conflict"), WrongState),
    ("terminate", 422, no("Droplet already has a pending event."), WrongState),
    ("terminate", 429, TOO_OFTEN, RateLimited),
    ("billing", 404, GONE, BadResponse),
    ("bills", 500, OOPS, Unavailable),
    ("quotas", 401, told("bad-key"), AuthFailed),
    ("resources", 401, told("bad-key"), AuthFailed),
    ("discard", 409, no("in use", "conflict"), WrongState),
    ("discard", 422, no("The volume is attached to a Droplet."), WrongState),
    ("discard", 500, OOPS, OutcomeUnknown),
]


@pytest.mark.parametrize(
    ("operation", "status", "body", "kind"),
    ERRORS,
    ids=[f"{o}-{s}-{k.__name__}-{n}" for n, (o, s, _, k) in enumerate(ERRORS)],
)
async def test_the_error_table_row_by_row(
    ocean: Any, scripted: Any, spec: Any, offer: Any, attempt: Any, ref: Any,
    operation: str, status: int, body: Any, kind: type[BrokerError],
) -> None:  # fmt: skip
    scripted.says(ANY, body, status=status)
    with pytest.raises(BrokerError) as caught:
        await call(ocean, operation, spec, offer, attempt, ref)
    assert type(caught.value) is kind
    assert (caught.value.provider, caught.value.operation) == ("digitalocean", operation)
    assert len(scripted.requests) == 1


async def call(ocean: Any, operation: str, spec: Any, offer: Any, attempt: Any, ref: Any) -> Any:
    since = datetime(2026, 2, 1, tzinfo=UTC)
    calls: dict[str, Callable[[], Any]] = {
        "create": lambda: ocean.create(spec, offer, attempt, HAVE),
        "ensure": lambda: ocean.ensure(Resource.SSH_KEY, spec, offer, attempt, {}),
        "find": lambda: ocean.find(attempt, offer),
        "list": lambda: ocean.machines("list"),
        "whoami": ocean.whoami,
        "quotas": ocean.quotas,
        "resources": lambda: ocean.resources(""),
        "discard": lambda: ocean.discard(Resource.VOLUME, VOLUME),
        "billing": lambda: ocean.billing(ref, since, None),
        "bills": lambda: ocean.bills([(ref, since, None)]),
    }
    if operation == "offers":
        return [page async for page in ocean.offers(Query())]
    return await calls.get(operation, lambda: getattr(ocean, operation)(ref))()


@pytest.mark.parametrize(
    ("message", "scope", "code"),
    [
        ("Size is not available in this region.", "type_region", "size_unavailable"),
        ("Region is not available", "region", "region_unavailable"),
    ],
)
async def test_no_capacity_says_how_much_shares_the_cause(
    ocean: Any, scripted: Any, spec: Any, offer: Any, attempt: Any,
    message: str, scope: str, code: str,
) -> None:  # fmt: skip
    scripted.says(f"POST {DROPLETS}", no(message), status=422)
    with pytest.raises(NoCapacity) as caught:
        await ocean.create(spec, offer, attempt, HAVE)
    assert (caught.value.scope, caught.value.code) == (scope, code)
    assert message in str(caught.value)


async def test_a_burst_tells_when_to_come_again(ocean: Any, scripted: Any, ref: Any) -> None:
    scripted.says(f"GET {DROPLET}", TOO_OFTEN, status=429, retry_after="17")
    with pytest.raises(RateLimited) as caught:
        await ocean.get(ref)
    assert caught.value.retry_after_s == 17


@pytest.mark.parametrize("operation", ["create", "terminate"])
@pytest.mark.parametrize("reply", ["drop", "503", "307", "garbage"])
async def test_no_failure_makes_a_mutation_be_sent_twice(
    raw_server: Any, answered: Any, account: Any, spec: Any, offer: Any, attempt: Any, ref: Any,
    operation: str, reply: str,
) -> None:  # fmt: skip
    replies = {
        "drop": None,
        "503": answered("503 Busy", b"", "retry-after: 0"),
        "307": answered("307 Moved", b"", "location: /elsewhere"),
        "garbage": b"HTTP/1.1 two hundred\r\n\r\n",
    }
    async with raw_server() as server:
        server.replies = [replies[reply]]
        ocean = DigitalOcean.connect(
            account, Wiring(base_url=f"http://127.0.0.1:{server.port}", loopback_only=True)
        )
        with pytest.raises(OutcomeUnknown):
            await call(ocean, operation, spec, offer, attempt, ref)
        await ocean.aclose()
        assert len(server.received) == 1


async def test_an_id_of_another_form_never_becomes_a_path(ocean: Any, scripted: Any) -> None:
    for wrong in ("", "../account", "1 2", "1/2", "-1", "0"):
        with pytest.raises(Invalid):
            await ocean.get(Ref("digitalocean", "default", "", wrong))
        with pytest.raises(Invalid):
            await ocean.terminate(Ref("digitalocean", "default", "", wrong))
    assert scripted.requests == []


async def test_no_secret_is_in_an_error(
    ocean: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    said = no(f"bad sesame-sesame, token {KEY}") | {"user_data": "sesame-too"}
    scripted.says(f"POST {DROPLETS}", said, status=422)
    with pytest.raises(Invalid) as caught:
        await ocean.create(spec, offer, attempt, HAVE)
    shown = f"{caught.value} {caught.value.raw} {caught.value.code}"
    assert "sesame" not in shown
    assert "n0t-real" not in shown
    assert "bad ***" in caught.value.raw


def test_no_field_that_holds_a_secret_may_be_shown() -> None:
    assert SHOWN.isdisjoint({"user_data", "public_key", "email", "token", "private_key"})


async def test_without_a_key_nothing_is_sent(scripted: Any) -> None:
    ocean = connected(DigitalOcean, scripted, {})
    with pytest.raises(AuthFailed) as caught:
        _ = [page async for page in ocean.offers(Query())]
    assert "DIGITALOCEAN_ACCESS_TOKEN" in str(caught.value)
    assert scripted.requests == []


# What must be there before a machine


async def test_the_brokers_key_is_registered_under_the_owners_name(
    ocean: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    scripted.says(f"GET {KEYS}", told("keys")).says(f"POST {KEYS}", told("key-made"), status=201)
    key = await ocean.ensure(Resource.SSH_KEY, spec, offer, attempt, {})
    assert key.id == "512189"
    assert [(r.method, r.url.path) for r in scripted.requests] == [
        ("GET", "/v2/account/keys"),
        ("POST", "/v2/account/keys"),
    ]
    assert scripted.body() == {"name": "gb-abcdef", "public_key": OWN}


async def test_a_key_of_the_same_material_is_found_on_any_page_and_reused(
    ocean: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    there = {"id": 77, "name": "by hand", "public_key": OWN.rpartition(" ")[0] + " other"}
    following = "https://api.digitalocean.com/v2/account/keys?page=2&per_page=200"
    scripted.says(f"GET {KEYS}", page("ssh_keys", told("keys")["ssh_keys"], 2, next=following))
    scripted.then(f"GET {KEYS}", page("ssh_keys", [there], 2))
    key = await ocean.ensure(Resource.SSH_KEY, spec, offer, attempt, {})
    assert key.id == "77"
    assert [r.method for r in scripted.requests] == ["GET", "GET"]
    assert dict(scripted.requests[1].url.params) == {"per_page": "200", "page": "2"}
    assert {str(r.url.host) for r in scripted.requests} == {"vendor.test"}


async def test_a_name_that_holds_another_key_is_never_overwritten(
    ocean: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    scripted.says(
        f"GET {KEYS}", page("ssh_keys", [{"id": 7, "name": "gb-abcdef", "public_key": MINE}])
    )
    with pytest.raises(Refused) as caught:
        await ocean.ensure(Resource.SSH_KEY, spec, offer, attempt, {})
    assert (type(caught.value), caught.value.code) == (Refused, "name_taken")
    assert len(scripted.requests) == 1


async def test_what_is_shared_is_not_released_and_nothing_else_is_made(
    ocean: Any, scripted: Any, spec: Any, offer: Any, attempt: Any
) -> None:
    await ocean.release(Resource.SSH_KEY, HAVE[Resource.SSH_KEY])
    with pytest.raises(Unsupported):
        await ocean.ensure(Resource.FIREWALL, spec, offer, attempt, {})
    assert scripted.requests == []


# Machines

STATES = [
    ("new", State.PENDING, True),
    ("active", State.RUNNING, True),
    ("off", State.STOPPED, True),
    ("archive", State.UNKNOWN, False),
    ("sleeping", State.UNKNOWN, False),
]


@pytest.mark.parametrize(("word", "state", "healthy"), STATES)
async def test_each_word_of_the_vendor_is_a_state_and_each_bills(
    ocean: Any, scripted: Any, ref: Any, word: str, state: State, healthy: bool
) -> None:
    assert state_of(Machine(id=1, status=word)) is state
    scripted.says(f"GET {DROPLET}", machine(status=word))
    seen = await ocean.get(ref)
    assert (seen.state, seen.raw_state, seen.healthy) == (state, word, healthy)
    assert (seen.bills_compute, seen.bills_disk) == (True, False)


async def test_a_machine_is_read_with_its_owner_and_its_ports(
    ocean: Any, scripted: Any, ref: Any
) -> None:
    scripted.says(f"GET {DROPLET}", told("running"))
    seen = await ocean.get(ref)
    assert scripted.requests[0].url.path == f"/v2/droplets/{ID}"
    assert (seen.ref, seen.owner, seen.attempt, seen.name) == (
        ref, "abcdef", "abcdefghijklmnop", NAME
    )  # fmt: skip
    assert seen.ssh == Endpoint("203.0.113.5", 22, "root")
    assert seen.ports == {"53/udp": "203.0.113.5:53", "8888/tcp": "203.0.113.5:8888"}
    assert (seen.gpu, seen.gpu_count, seen.price) == ("nvidia_h100", 1, 3_390_000_000)
    assert (seen.region, seen.disk_gb) == ("nyc2", 720)
    assert seen.created_at == datetime(2026, 10, 1, 9, 30, tzinfo=UTC)


async def test_other_gpus_than_the_size_names_are_seen(ocean: Any, scripted: Any, ref: Any) -> None:
    scripted.says(f"GET {DROPLET}", machine(gpu_info={"count": 8, "model": "nvidia_l40s"}))
    seen = await ocean.get(ref)
    assert (seen.gpu, seen.gpu_count) == ("nvidia_l40s", 8)
    scripted.says(f"GET {DROPLET}", machine(gpu_info=None))
    seen = await ocean.get(ref)
    assert (seen.gpu, seen.gpu_count) == ("gpu-h100x1-80gb", 1)


async def test_a_machine_without_a_public_address_has_no_ssh_yet(
    ocean: Any, scripted: Any, ref: Any
) -> None:
    private = [{"ip_address": "10.108.0.2", "type": "private"}]
    scripted.says(f"GET {DROPLET}", machine(networks={"v4": private, "v6": []}))
    seen = await ocean.get(ref)
    assert (seen.ssh, seen.ports) == (None, {})


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({"tags": []}, True),
        ({"tags": ["gpubroker-owner:by-hand", "web"]}, True),
        ({"name": "renamed"}, True),
        ({"name": "renamed", "tags": []}, False),
        ({"name": None, "tags": ["gpubroker-owner:abcdef"]}, False),
    ],
    ids=str,
)
async def test_a_machine_is_ours_by_its_tags_else_by_its_name(
    ocean: Any, scripted: Any, attempt: Any, offer: Any, changes: Any, ours: bool
) -> None:
    scripted.says(f"GET {DROPLETS}", page("droplets", [machine(**changes)["droplet"]]))
    found = await ocean.find(attempt, offer)
    assert [one.owner for one in found] == (["abcdef"] if ours else [])


async def test_a_list_asks_for_gpu_droplets_and_holds_foreign_ones(
    ocean: Any, scripted: Any, clock: Any
) -> None:
    scripted.says("GET /v2/account", told("account")).says(f"GET {DROPLETS}", told("list"))
    listing = await ocean.list("")
    assert (listing.account_uid, listing.complete) == (TEAM, True)
    assert listing.asked_at == clock.now()
    assert [one.owner for one in listing.instances] == ["abcdef", None]
    assert dict(scripted.requests[1].url.params) == {"type": "gpus", "per_page": "200"}


async def test_all_pages_are_read_and_a_row_that_moved_makes_the_list_incomplete(
    ocean: Any, scripted: Any
) -> None:
    first, second = told("list")["droplets"]
    following = "https://api.digitalocean.com/v2/droplets?type=gpus&page=2&per_page=200"
    scripted.says(f"GET {DROPLETS}", page("droplets", [first], 2, next=following))
    scripted.then(f"GET {DROPLETS}", page("droplets", [second], 2))
    whole = await ocean.machines("list")
    assert (len(whole.rows), whole.complete) == (2, True)
    assert dict(scripted.requests[1].url.params) == {"type": "gpus", "per_page": "200", "page": "2"}
    scripted.says(f"GET {DROPLETS}", page("droplets", [first], 2, next=following))
    scripted.then(f"GET {DROPLETS}", page("droplets", [first], 2))
    whole = await ocean.machines("list")
    assert (len(whole.rows), whole.complete) == (1, False)


async def test_a_following_page_that_is_not_named_makes_the_list_incomplete(
    ocean: Any, scripted: Any
) -> None:
    rows = told("list")["droplets"][:1]
    scripted.says(f"GET {DROPLETS}", page("droplets", rows, 2, next="http://[broken?page=x"))
    assert not (await ocean.machines("list")).complete
    assert len(scripted.requests) == 1


async def test_the_uid_is_the_teams_and_else_the_users(ocean: Any, scripted: Any) -> None:
    scripted.says("GET /v2/account", told("account"))
    assert await ocean.whoami() == TEAM
    scripted.says(
        "GET /v2/account", {"account": {"uuid": "b6fr89db", "email": "somebody@example.com"}}
    )
    assert await ocean.whoami() == "b6fr89db"


# The end and the rest


async def test_terminate_is_one_delete(ocean: Any, scripted: Any, ref: Any) -> None:
    scripted.says(f"DELETE {DROPLET}", b"", status=204)
    await ocean.terminate(ref)
    (request,) = scripted.requests
    assert (request.method, request.url.path) == ("DELETE", f"/v2/droplets/{ID}")


async def test_a_machine_that_is_gone_is_terminated(ocean: Any, scripted: Any, ref: Any) -> None:
    scripted.says(f"DELETE {DROPLET}", GONE, status=404)
    await ocean.terminate(ref)


async def test_offers_are_one_page_of_all_pages_that_covers_everything(
    ocean: Any, scripted: Any
) -> None:
    sizes = told("sizes")["sizes"]
    following = "https://api.digitalocean.com/v2/sizes?page=2"
    scripted.says("GET /v2/sizes", page("sizes", sizes[:3], 6, next=following))
    scripted.then("GET /v2/sizes", page("sizes", sizes[3:], 6))
    (found,) = [page async for page in ocean.offers(Query(min_count=8))]
    assert (found.covers, found.complete, len(found.rows)) == (None, True, 6)


@pytest.mark.parametrize("answer", [page("sizes", []), page("sizes", told("sizes")["sizes"], 99)])
async def test_sizes_that_are_missing_are_no_evidence(
    ocean: Any, scripted: Any, answer: Any
) -> None:
    scripted.says("GET /v2/sizes", answer)
    (found,) = [page async for page in ocean.offers(Query())]
    assert not found.complete


async def test_nothing_is_reserved_and_no_option_is_passed_over(ocean: Any, scripted: Any) -> None:
    assert [page async for page in ocean.offers(Query(market=Market.RESERVED))] == []
    with pytest.raises(Invalid):
        _ = [page async for page in ocean.offers(Query(options=(("digitalocean", "x", "1"),)))]
    assert scripted.requests == []


def test_what_digitalocean_has_not_cannot_be_asked_for(ocean: Any) -> None:
    for protocol in (Stoppable, HasBalance, KeyAttachable):
        assert not isinstance(ocean, protocol)


def test_the_vendors_rates_are_kept_whatever_burst_comes() -> None:
    rates = {limit.bucket: limit for limit in CAPABILITIES.limits}
    for bucket, seconds, most in (("all", 60, 250), ("all", 3600, 5000), ("keys", 60, 10)):
        limit = rates[bucket]
        assert limit.burst + seconds / limit.interval_s <= most


async def test_the_quota_counts_droplets_of_both_kinds(ocean: Any, scripted: Any) -> None:
    assert isinstance(ocean, HasQuotas)
    scripted.says("GET /v2/account", told("account"))
    scripted.says(f"GET {DROPLETS}", page("droplets", [], 3))
    scripted.then(f"GET {DROPLETS}", page("droplets", [], 21))
    (quota,) = await ocean.quotas()
    assert (quota.bucket, quota.limit, quota.used, quota.unit) == (
        "droplet_limit", 25, 24, "machines"
    )  # fmt: skip
    assert [r.url.params["type"] for r in scripted.requests[1:]] == ["gpus", "droplets"]


async def test_a_key_that_is_not_told_the_limit_has_no_quota(ocean: Any, scripted: Any) -> None:
    scripted.says("GET /v2/account", {"account": {"uuid": "b6fr89db"}})
    assert await ocean.quotas() == ()


# What was charged


@pytest.fixture
def books() -> Callable[[httpx2.Request], httpx2.Response]:
    """The vendor's invoices: October's has items, November's preview has none yet."""
    october = told("invoices")["invoices"][0]["invoice_uuid"]

    def answer(request: httpx2.Request) -> httpx2.Response:
        below = request.url.path.removeprefix("/v2/customers/my/invoices")
        known = {"": told("invoices"), f"/{october}": told("items")}
        return httpx2.Response(200, json=known.get(below, page("invoice_items", [])))

    return answer


@pytest.mark.parametrize(
    ("until", "now", "status"),
    [
        (datetime(2026, 10, 2, tzinfo=UTC), datetime(2026, 10, 3, 23, tzinfo=UTC), "pending"),
        (datetime(2026, 10, 2, tzinfo=UTC), datetime(2026, 10, 4, 1, tzinfo=UTC), "ended"),
        (None, datetime(2026, 10, 4, tzinfo=UTC), "running"),
    ],
)
async def test_a_bill_is_final_two_days_after_the_end(
    books: Any, clock: Any, ref: Any, until: Any, now: datetime, status: str
) -> None:
    clock.at = now
    bill = await connected(DigitalOcean, books, clock=clock).billing(
        ref, datetime(2026, 10, 1, tzinfo=UTC), until
    )
    assert (bill.status, bill.amount) == (status, 33_950_000_000)
    assert [line.item for line in bill.lines] == ["Droplets", "Droplet Snapshots"]


async def test_one_walk_through_the_invoices_tells_many_bills(
    books: Any, clock: Any, ref: Any
) -> None:
    clock.at = datetime(2026, 11, 20, tzinfo=UTC)
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> Any:
        asked.append(request)
        return books(request)

    ocean = connected(DigitalOcean, answer, clock=clock)
    began, ended = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    others = [Ref("digitalocean", "default", "", id_) for id_ in ("3164999", "42")]
    bills = await ocean.bills([(one, began, ended) for one in (ref, *others)])
    assert [bill.amount for bill in bills] == [33_950_000_000, 47_460_000_000, 0]
    assert [bill.status for bill in bills] == ["ended"] * 3
    assert len(asked) == 3


async def test_a_month_whose_invoice_is_not_there_leaves_the_bill_open(
    books: Any, clock: Any, ref: Any
) -> None:
    clock.at = datetime(2026, 12, 20, tzinfo=UTC)
    began, ended = datetime(2026, 11, 30, tzinfo=UTC), datetime(2026, 12, 2, tzinfo=UTC)
    bill = await connected(DigitalOcean, books, clock=clock).billing(ref, began, ended)
    assert (bill.status, bill.amount) == ("pending", None)


def test_months_go_over_the_year() -> None:
    told = months(datetime(2026, 11, 30, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    assert list(told) == ["2026-11", "2026-12", "2027-01"]


# What stands beside machines


async def test_a_sweep_is_told_of_keys_and_volumes_and_whose_they_are(
    ocean: Any, scripted: Any
) -> None:
    keys = [
        {"id": 1, "name": "gb-abcdef", "public_key": OWN},
        {"id": 2, "name": "my laptop", "public_key": MINE},
    ]
    scripted.says("GET /v2/account", told("account"))
    scripted.says(f"GET {KEYS}", page("ssh_keys", keys))
    scripted.says("GET /v2/volumes", page("volumes", [{"id": VOLUME.id, "name": "data-1"}]))
    held = await ocean.resources("")
    assert (held.complete, held.account_uid) == (True, TEAM)
    assert [(one.what, one.ref.id, one.owner, one.attempt) for one in held.resources] == [
        (Resource.SSH_KEY, "1", "abcdef", None),
        (Resource.SSH_KEY, "2", None, None),
        (Resource.VOLUME, VOLUME.id, None, None),
    ]


@pytest.mark.parametrize(
    ("what", "ref", "path"),
    [
        (Resource.SSH_KEY, HAVE[Resource.SSH_KEY], "/v2/account/keys/512189"),
        (Resource.VOLUME, VOLUME, f"/v2/volumes/{VOLUME.id}"),
    ],
)
async def test_what_is_unused_is_deleted_once_and_gone_already_is_fine(
    ocean: Any, scripted: Any, what: Resource, ref: Ref, path: str
) -> None:
    scripted.says(f"DELETE {path}", b"", status=204)
    await ocean.discard(what, ref)
    assert [(r.method, r.url.path) for r in scripted.requests] == [("DELETE", path)]
    scripted.says(f"DELETE {path}", GONE, status=404)
    await ocean.discard(what, ref)
    with pytest.raises(Unsupported):
        await ocean.discard(Resource.FIREWALL, ref)
