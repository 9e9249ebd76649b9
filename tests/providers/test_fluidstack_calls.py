"""FluidStack's calls: what each sends, and what each answer means."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
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
from gpubroker.model.offer import Offer
from gpubroker.model.query import Query
from gpubroker.model.terms import Market, Resource, State
from gpubroker.providers.base import BootsOverSsh, HasBalance, HasResources, Stoppable
from gpubroker.providers.fluidstack import SHOWN, FluidStack, Machine, parse_offers, state_of

FIXTURES = Path(__file__).parent / "fixtures" / "fluidstack"
ID = "i-1234567890"
BLOB = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJxVJ1SPSM9vG2n2fSKZ0eiFO0Ptc1jD3dhKkq8bCQh9"
OWN, MINE = f"{BLOB} gb-abcdef", f"{BLOB[:-4]}MINE me"
LIST, CREATE, KEYS = "GET /instances", "POST /instances", "GET /ssh_keys"
WHO = "GET /list_available_os_templates"
ONE = f"/instances/{ID}"
AUTH = RegistryAuth("hub", "docker.io", "me", "sesame")
HAVE = {Resource.SSH_KEY: Ref("fluidstack", "default", "", "gb-abcdef")}


def told(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


@pytest.fixture
def fluid(scripted: Scripted) -> FluidStack:
    scripted.says(KEYS, told("keys")).says(WHO, told("templates"))
    return connected(FluidStack, scripted)


@pytest.fixture
def offer(clock: Any) -> Offer:
    body = (FIXTURES / "configurations.json").read_bytes()
    return parse_offers(body, account="default", fetched_at=clock.now())[0][2]


@pytest.fixture
def spec() -> LaunchSpec:
    return LaunchSpec(expires_at=None, env={"TOKEN": "sesame-sesame"}, ssh_keys=(MINE, OWN))


@pytest.fixture
def ref() -> Ref:
    return Ref("fluidstack", "default", "", ID)


# Create


async def test_create_is_one_request_under_the_attempts_name(
    fluid: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    scripted.says(CREATE, told("made"), status=202)
    assert (await fluid.create(spec, offer, attempt, HAVE)).id == ID
    assert scripted.asked() == [CREATE]
    assert scripted.requests[0].headers["api-key"] == KEY
    assert "authorization" not in scripted.requests[0].headers
    assert scripted.body() == {
        "name": attempt.name,
        "gpu_type": "RTX_A5000_24GB",
        "gpu_count": 2,
        "region": "NORWAY",
        "operating_system_label": "ubuntu_22_04_lts_nvidia",
        "ssh_key": "gb-abcdef",
    }


async def test_another_template_and_what_fits_the_disk_can_be_asked_for(
    fluid: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    scripted.says(CREATE, told("made"), status=202)
    asked = replace(spec, vm_image="ubuntu_20_04_lts_nvidia", disk_gb=400, ports=((80, "tcp"),))
    await fluid.create(asked, offer, attempt, HAVE)
    assert scripted.body()["operating_system_label"] == "ubuntu_20_04_lts_nvidia"


async def test_all_but_the_key_goes_over_ssh(
    fluid: Any, spec: Any, offer: Any, attempt: Any, clock: Any
) -> None:
    expiring = replace(
        spec,
        expires_at=clock.now() + timedelta(hours=1),
        startup_script="echo from-the-script",
        command="echo from-the-command",
    )
    script = fluid.after_boot(expiring, offer, attempt, clock.now())
    for part in (MINE, "sesame-sesame", "from-the-script", "from-the-command"):
        assert part in script
    assert "poweroff" not in script


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"image": "ubuntu:24.04"}, "image"),
        ({"registry_auth": AUTH}, "registry_auth"),
        ({"volumes": ((Ref("fluidstack", "default", "", "1a"), "/data"),)}, "volumes"),
        ({"disk_gb": 401}, "disk_gb"),
        ({"ports": ((70000, "tcp"),)}, "ports"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_what_the_vendor_would_not_take_is_refused_before_it_is_sent(
    fluid: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any, change: Any, field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await fluid.create(replace(spec, **change), offer, attempt, HAVE)
    assert caught.value.field == field
    assert scripted.requests == []


async def test_options_are_refused_and_not_dropped(
    fluid: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    with pytest.raises(Unsupported):
        await fluid.create(replace(spec, options={"x": "sesame"}), offer, attempt, HAVE)
    assert scripted.requests == []


# The key


async def test_a_registered_key_is_found_by_its_material_and_a_missing_one_made(
    fluid: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    ensure: Any = (Resource.SSH_KEY, spec, offer, attempt, {})
    assert (await fluid.ensure(*ensure)).id == "gb-abcdef"
    scripted.says(KEYS, [{"name": "old", "public_key": f"{BLOB} comment"}])
    assert (await fluid.ensure(*ensure)).id == "old"
    scripted.says(KEYS, [{"name": "old", "public_key": None}])
    scripted.says("POST /ssh_keys", {"name": "gb-abcdef", "public_key": OWN})
    assert (await fluid.ensure(*ensure)).id == "gb-abcdef"
    assert scripted.body() == {"name": "gb-abcdef", "public_key": OWN}


async def test_a_name_that_stands_for_another_key_is_never_overwritten(
    fluid: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    scripted.says(KEYS, [{"name": "gb-abcdef", "public_key": MINE}])
    with pytest.raises(Refused, match="another SSH key"):
        await fluid.ensure(Resource.SSH_KEY, spec, offer, attempt, {})
    with pytest.raises(Unsupported):
        await fluid.ensure(Resource.FIREWALL, spec, offer, attempt, {})
    await fluid.release(Resource.SSH_KEY, HAVE[Resource.SSH_KEY])
    assert scripted.asked() == [KEYS]


async def test_keys_are_swept_by_their_names(fluid: Any, scripted: Scripted) -> None:
    holdings = await fluid.resources("")
    assert [(one.ref.id, one.owner) for one in holdings.resources] == [
        ("colleague", None),
        ("gb-abcdef", "abcdef"),
    ]
    gone = "DELETE /ssh_keys/gb-abcdef"
    scripted.says(gone, {"message": "ok"}).then(gone, {"message": "SSH key not found"}, 404)
    await fluid.discard(Resource.SSH_KEY, HAVE[Resource.SSH_KEY])
    await fluid.discard(Resource.SSH_KEY, HAVE[Resource.SSH_KEY])
    assert scripted.asked()[2:] == [gone, gone]


# Errors

FAULTY = {"detail": [{"loc": ["body", "gpu_type"], "msg": "not a type", "type": "enum"}]}
ERRORS: list[tuple[str, int, Any, type[BrokerError]]] = [
    ("whoami", 401, told("bad-key"), AuthFailed),
    ("whoami", 200, {"message": "hello"}, BadResponse),
    ("whoami", 200, [], BadResponse),
    ("list", 401, told("bad-key"), AuthFailed),
    ("list", 200, {}, BadResponse),
    ("list", 200, [{"id": ""}], BadResponse),
    ("find", 500, b"", Unavailable),
    ("get", 404, told("missing"), NotFound),
    ("get", 404, {"detail": "Not Found"}, BadResponse),
    ("get", 404, b"", BadResponse),
    ("get", 200, {"id": "i-another"}, BadResponse),
    ("get", 429, b"", RateLimited),
    ("offers", 422, FAULTY, Invalid),
    ("offers", 502, b"<html>", Unavailable),
    ("create", 401, told("bad-key"), AuthFailed),
    ("create", 400, told("sold-out"), NoCapacity),
    ("create", 422, {"error": "No available servers"}, NoCapacity),
    ("create", 403, {"message": "Instance quota reached"}, QuotaExceeded),
    ("create", 402, {"message": "Insufficient balance"}, OutOfFunds),
    ("create", 422, FAULTY, Invalid),
    ("create", 404, {"message": "SSH key not found"}, Invalid),
    ("create", 429, b"", RateLimited),
    ("create", 500, {"message": "no capacity"}, OutcomeUnknown),
    ("create", 404, b"<html>", OutcomeUnknown),
    ("create", 202, {"name": "gb-x"}, OutcomeUnknown),
    ("create", 202, b"garbage", OutcomeUnknown),
    ("terminate", 404, {"detail": "Not Found"}, OutcomeUnknown),
    ("terminate", 500, b"", OutcomeUnknown),
    ("stop", 400, {"message": "Instance is not running"}, WrongState),
    ("stop", 409, b"", WrongState),
    ("start", 422, {"detail": "wrong status"}, WrongState),
    ("start", 404, told("missing"), NotFound),
    ("ensure", 409, {"message": "Key already exists"}, Unavailable),
    ("discard", 409, {"message": "Key is in use"}, WrongState),
]
REQUESTS = {
    "whoami": WHO,
    "list": LIST,
    "find": LIST,
    "get": f"GET {ONE}",
    "create": CREATE,
    "terminate": f"DELETE {ONE}",
    "stop": f"PUT {ONE}/stop",
    "start": f"PUT {ONE}/start",
    "ensure": "POST /ssh_keys",
    "discard": f"DELETE /ssh_keys/{ID}",
    "offers": "GET /list_available_configurations",
}


@pytest.mark.parametrize(
    ("operation", "status", "body", "kind"),
    ERRORS,
    ids=[f"{o}-{s}-{k.__name__}-{n}" for n, (o, s, _, k) in enumerate(ERRORS)],
)
async def test_the_error_table_row_by_row(
    fluid: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any, ref: Any,
    operation: str, status: int, body: Any, kind: type[BrokerError],
) -> None:  # fmt: skip
    scripted.says(KEYS, []).says(REQUESTS[operation], body, status=status)
    arguments = {
        "create": (spec, offer, attempt, HAVE),
        "ensure": (Resource.SSH_KEY, spec, offer, attempt, {}),
        "discard": (Resource.SSH_KEY, ref),
        "find": (attempt, offer),
        "list": ("",),
        "whoami": (),
    }
    with pytest.raises(BrokerError) as caught:
        if operation == "offers":
            _ = [page async for page in fluid.offers(Query())]
        else:
            await getattr(fluid, operation)(*arguments.get(operation, (ref,)))
    assert type(caught.value) is kind
    assert (caught.value.provider, caught.value.operation) == ("fluidstack", operation)
    assert scripted.asked().count(REQUESTS[operation]) == 1


async def test_no_key_and_no_address_of_a_person_is_in_an_error(
    fluid: Any, scripted: Scripted, ref: Any
) -> None:
    body = {"message": f"no instance for {KEY}", "user_email": "sesame@example.com"}
    scripted.says(f"GET {ONE}", body, status=404)
    with pytest.raises(NotFound) as caught:
        await fluid.get(ref)
    assert KEY not in f"{caught.value} {caught.value.raw}"
    assert "sesame" not in f"{caught.value} {caught.value.raw}"
    assert SHOWN.isdisjoint({"public_key", "user_email"})


async def test_an_id_of_another_form_never_becomes_a_path(fluid: Any, scripted: Scripted) -> None:
    for wrong in ("", "../keys", "a b", "a/b"):
        with pytest.raises(Invalid):
            await fluid.terminate(Ref("fluidstack", "default", "", wrong))
    assert scripted.requests == []


# Machines

STATES = [
    *((word, State.PENDING) for word in ("pending", "provisioning", "starting")),
    ("running", State.RUNNING),
    ("stopping", State.STOPPING),
    ("stopped", State.STOPPED),
    ("failed", State.FAILED),
    ("terminated", State.TERMINATED),
    ("dreaming", State.UNKNOWN),
]


@pytest.mark.parametrize(("word", "state"), STATES)
async def test_each_word_of_the_vendor_is_a_state(
    fluid: Any, scripted: Scripted, ref: Any, word: str, state: State
) -> None:
    scripted.says(f"GET {ONE}", told("machine") | {"status": word})
    seen = await fluid.get(ref)
    assert (seen.state, seen.raw_state) == (state, word)
    assert seen.healthy == (state not in {State.UNKNOWN, State.FAILED})
    assert seen.bills_compute == (state not in {State.STOPPED, State.TERMINATED})
    assert seen.bills_disk == (state is State.STOPPED)
    assert (seen.ssh is None) == (state is not State.RUNNING)


def test_running_without_an_address_is_still_pending() -> None:
    for address in (None, ""):
        assert state_of(Machine(id="1", status="running", ip_address=address)) is State.PENDING


@pytest.mark.parametrize(("cost", "billed"), [(0, False), (0.55, True), (None, True)])
async def test_a_failed_machine_costs_unless_the_vendor_says_that_it_does_not(
    fluid: Any, scripted: Scripted, ref: Any, cost: Any, billed: bool
) -> None:
    row = told("machine") | {"status": "failed", "current_gpu_hr_cost": cost}
    scripted.says(f"GET {ONE}", row)
    assert (await fluid.get(ref)).bills_compute == billed


@pytest.mark.parametrize(("port", "read"), [("22", 22), (2222, 2222), (None, 22), ("ssh", None)])
async def test_the_ssh_port_is_a_text_or_a_number(
    fluid: Any, scripted: Scripted, ref: Any, port: Any, read: int | None
) -> None:
    scripted.says(f"GET {ONE}", told("machine") | {"ssh_port": port, "username": None})
    expected = Endpoint("192.0.2.10", read, "ubuntu") if read else None
    assert (await fluid.get(ref)).ssh == expected


async def test_a_price_is_of_all_gpus_and_a_time_without_offset_is_utc(
    fluid: Any, scripted: Scripted, ref: Any
) -> None:
    row = told("machine") | {"created_at": "2026-06-19T21:01:42.660889"}
    scripted.says(f"GET {ONE}", row, {"id": ID})
    seen = await fluid.get(ref)
    assert seen.price == 1_100_000_000
    assert seen.created_at == datetime(2026, 6, 19, 21, 1, 42, 660889, tzinfo=UTC)
    bare = await fluid.get(ref)
    assert (bare.state, bare.price, bare.gpu, bare.owner) == (State.PENDING, None, None, None)


# Lists


async def test_a_list_goes_on_until_a_page_has_nothing_new(fluid: Any, scripted: Scripted) -> None:
    page = told("list")
    scripted.says(LIST, page[:2], page[1:], page[1:])
    listing = await fluid.list("")
    assert (listing.complete, len(listing.instances)) == (True, 3)
    asked = [request.url.params for request in scripted.requests[1:]]
    assert [params["page"] for params in asked] == ["1", "2", "3"]
    assert {params["include_failed_instances"] for params in asked} == {"true"}


async def test_an_empty_list_counts_only_where_the_key_was_taken_beside_it(
    fluid: Any, scripted: Scripted
) -> None:
    scripted.says(LIST, [])
    listing = await fluid.list("")
    assert (listing.complete, listing.instances) == (True, ())
    assert listing.account_uid.startswith("key-")
    assert KEY not in listing.account_uid
    assert scripted.asked() == [WHO, LIST]
    scripted.says(WHO, [])
    with pytest.raises(BadResponse):
        await fluid.list("")


# The end and the rest


async def test_an_end_is_accepted_with_and_without_words_and_twice(
    fluid: Any, scripted: Scripted, ref: Any
) -> None:
    request = f"DELETE {ONE}"
    scripted.says(request, told("ended")).then(request, None, 204)
    scripted.then(request, told("missing"), 404)
    scripted.then(request, {"message": "Machine is already terminated"}, 400)
    for _ in range(4):
        await fluid.terminate(ref)
    assert scripted.asked() == [request] * 4


async def test_stop_and_start_are_one_request_each(
    fluid: Any, scripted: Scripted, ref: Any
) -> None:
    scripted.says(f"PUT {ONE}/stop", told("stopped")).says(f"PUT {ONE}/start", told("pending"))
    await fluid.stop(ref)
    assert await fluid.start(ref) is None
    assert scripted.asked() == [f"PUT {ONE}/stop", f"PUT {ONE}/start"]


async def test_offers_cover_everything_and_there_is_no_spot(fluid: Any, scripted: Scripted) -> None:
    scripted.says(REQUESTS["offers"], told("configurations"))
    (page,) = [page async for page in fluid.offers(Query(min_count=8))]
    assert (page.covers, page.complete, len(page.rows)) == (None, True, 11)
    assert [page async for page in fluid.offers(Query(market=Market.SPOT))] == []
    with pytest.raises(Invalid):
        _ = [p async for p in fluid.offers(Query(options=(("fluidstack", "x", "1"),)))]
    assert len(scripted.requests) == 1


def test_what_fluidstack_has_and_has_not(fluid: Any) -> None:
    for protocol in (BootsOverSsh, HasResources, Stoppable):
        assert isinstance(fluid, protocol)
    assert not isinstance(fluid, HasBalance)


@pytest.mark.parametrize("told_at", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
async def test_a_time_that_not_every_zone_knows_is_none(
    fluid: Any, scripted: Scripted, ref: Any, told_at: str
) -> None:
    scripted.says(f"GET {ONE}", told("machine") | {"created_at": told_at})
    assert (await fluid.get(ref)).created_at is None
