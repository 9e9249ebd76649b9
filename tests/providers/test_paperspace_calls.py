"""Paperspace's calls: what each sends, and what each answer means."""

from __future__ import annotations

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
    QuotaExceeded,
    RateLimited,
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
from gpubroker.providers.base import BootsOverSsh, HasBalance, HasQuotas, HasResources, Stoppable
from gpubroker.providers.paperspace import SHOWN, Paperspace, boot_of, order
from gpubroker.providers.paperspace_market import parse_offers

FIXTURES = Path(__file__).parent / "fixtures" / "paperspace"
ID = "psabc123"
OWN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJxVJ1SPSM9vG2n2fSKZ0eiFO0Ptc1jD3dhKkq8bCQh9 gb-abcdef"
WHO, LIST, ONE = "GET /v1/auth/session", "GET /v1/machines", f"/v1/machines/{ID}"
CREATE, EVENTS = "POST /v1/machines", "GET /v1/machine-events"
SCRIPTS, MAKE = "GET /v1/startup-scripts", "POST /v1/startup-scripts"
END, STOCK = "DELETE /v1/startup-scripts/sc123", "GET /v1/machine-availability"
AUTH = RegistryAuth("hub", "docker.io", "me", "sesame-login")
HAVE = {Resource.STARTUP_SCRIPT: Ref("paperspace", "default", "", "sc123")}


def told(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def no(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message}


def offers(clock: Any) -> dict[str, Offer]:
    rows, _ = parse_offers(told("templates")["items"], account="default", fetched_at=clock.now())
    return {row.key: row for row in rows}


@pytest.fixture
def space(scripted: Scripted) -> Paperspace:
    scripted.says(WHO, told("session")).says(SCRIPTS, told("no-scripts"))
    scripted.says(STOCK, told("in-stock")).says(MAKE, told("script"))
    return connected(Paperspace, scripted)


@pytest.fixture
def offer(clock: Any) -> Offer:
    return offers(clock)["A4000:NY2"]


@pytest.fixture
def spec() -> LaunchSpec:
    return LaunchSpec(expires_at=None, ssh_keys=(OWN,))


@pytest.fixture
def ref() -> Ref:
    return Ref("paperspace", "default", "", ID)


# Create


async def test_create_is_one_request_under_the_attempts_name(
    space: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    scripted.says(CREATE, told("made"))
    assert (await space.create(spec, offer, attempt, HAVE)).id == ID
    assert scripted.asked() == [CREATE]
    assert scripted.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert scripted.body() == {
        "name": attempt.name,
        "machineType": "A4000",
        "templateId": "tmlbox22",
        "region": "East Coast (NY2)",
        "diskSize": 100,
        "publicIpType": "dynamic",
        "startOnCreate": True,
        "startupScriptId": "sc123",
        "autoSnapshotEnabled": False,
        "takeInitialSnapshot": False,
        "emailPassword": False,
    }


@pytest.mark.parametrize(
    ("wanted", "size"), [(None, 100), (10, 100), (101, 250), (501, 1000), (2000, 2000)]
)
def test_a_disk_is_the_next_larger_of_six_sizes(
    spec: Any, offer: Any, attempt: Any, wanted: int | None, size: int
) -> None:
    assert order(replace(spec, disk_gb=wanted), offer, attempt, "s")["diskSize"] == size


def test_another_template_may_be_asked_for_and_runs_an_image(
    spec: Any, attempt: Any, clock: Any
) -> None:
    bare = offers(clock)["P6000:NY2"]
    asked = replace(spec, vm_image="tcustom1", image="ubuntu:24.04")
    assert order(asked, bare, attempt, "s")["templateId"] == "tcustom1"
    with pytest.raises(Invalid, match="vm_image"):
        order(spec, bare, attempt, "s")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"volumes": ((Ref("paperspace", "default", "", "1a"), "/data"),)}, "volumes"),
        ({"options": {"x": "sesame"}}, "options"),
        ({"disk_gb": 2001}, "disk_gb"),
        ({"ports": ((70000, "tcp"),)}, "ports"),
        ({"ssh_keys": ()}, "ssh_keys"),
        ({"vm_image": "../x"}, "vm_image"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_what_the_vendor_would_not_take_is_refused_before_it_is_sent(
    space: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any, change: Any, field: str
) -> None:
    asked = replace(spec, **change)
    for call in (
        space.create(asked, offer, attempt, HAVE),
        space.ensure(Resource.STARTUP_SCRIPT, asked, offer, attempt, {}),
    ):
        with pytest.raises(Invalid) as caught:
            await call
        assert caught.value.field == field
    assert scripted.requests == []


async def test_an_image_runs_only_where_the_template_has_docker(
    spec: Any, offer: Any, attempt: Any, clock: Any
) -> None:
    asked = replace(spec, image="ubuntu:24.04")
    assert order(asked, offer, attempt, "s")
    with pytest.raises(Invalid) as caught:
        order(asked, offers(clock)["P4000:NY2"], attempt, "s")
    assert caught.value.field == "image"


# The script


async def test_the_script_is_the_attempts_own_and_is_found_again(
    space: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    ensure: Any = (Resource.STARTUP_SCRIPT, spec, offer, attempt, {})
    assert (await space.ensure(*ensure)).id == "sc123"
    assert scripted.asked() == [SCRIPTS, STOCK, MAKE]
    asked = dict(scripted.requests[1].url.params)
    assert asked == {"machineType": "A4000", "region": "East Coast (NY2)"}
    sent = scripted.body()
    assert (sent["name"], sent["isRunOnce"]) == (attempt.name, False)
    assert sent["script"].startswith("#!")
    assert OWN in sent["script"]
    page = {"hasMore": False, "items": [told("script")]}
    scripted.says(SCRIPTS, page)
    assert (await space.ensure(*ensure)).id == "sc123"
    assert scripted.asked()[3:] == [SCRIPTS]
    with pytest.raises(Unsupported):
        await space.ensure(Resource.SSH_KEY, *ensure[1:])


async def test_a_type_that_is_sold_out_is_refused_before_anything_is_made(
    space: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    scripted.says(STOCK, told("out-of-stock"))
    with pytest.raises(NoCapacity) as caught:
        await space.ensure(Resource.STARTUP_SCRIPT, spec, offer, attempt, {})
    assert caught.value.scope == "type_region"
    assert MAKE not in scripted.asked()


@pytest.mark.parametrize("answer", [(404, b"<html>"), (500, b""), (200, [])], ids=str)
async def test_silence_on_stock_is_no_word_against_it(
    space: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any, answer: Any
) -> None:
    scripted.says(STOCK, answer[1], status=answer[0])
    assert await space.ensure(Resource.STARTUP_SCRIPT, spec, offer, attempt, {})


@pytest.mark.parametrize(
    "change",
    [{"env": {"TOKEN": "sesame-sesame"}}, {"image": "me/private", "registry_auth": AUTH}],
    ids=["variables", "login"],
)
async def test_what_is_secret_goes_over_ssh_and_never_into_the_script(
    space: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any, clock: Any, change: Any
) -> None:
    asked = replace(spec, startup_script="echo hello", **change)
    await space.ensure(Resource.STARTUP_SCRIPT, asked, offer, attempt, {})
    sent = scripted.body()["script"]
    assert OWN in sent
    assert "sesame" not in sent
    after = space.after_boot(asked, offer, attempt, clock.now())
    assert "sesame" in after
    assert "echo hello" in after


def test_without_secrets_all_is_in_the_script_as_long_as_it_fits(spec: Any, clock: Any) -> None:
    small = boot_of(replace(spec, startup_script="echo hello"), None)
    assert "echo hello" in small.text
    assert not small.after
    noise = "".join(f"echo {hash((n, 'x'))}\n" for n in range(5000))
    large = boot_of(replace(spec, startup_script=noise), 60.0)
    assert OWN in large.text
    assert len(large.text) <= 16_384
    assert noise[:100] in large.after


def test_the_machine_powers_itself_off_at_its_end(spec: Any, clock: Any) -> None:
    ending = replace(spec, expires_at=clock.now() + timedelta(hours=1))
    assert "poweroff" in boot_of(ending, 3600.0).text
    assert "poweroff" in boot_of(replace(ending, env={"A": "b"}), 3600.0).text


async def test_the_script_ends_with_the_machine_and_is_swept(
    space: Any, scripted: Scripted
) -> None:
    gone = told("script") | {"id": "sc9", "dtDeleted": "2026-10-01T09:30:00Z"}
    first = {"hasMore": True, "nextPage": "two", "items": [told("script"), gone]}
    other = told("script") | {"id": "sc2", "name": "setup"}
    scripted.says(SCRIPTS, first, {"hasMore": False, "items": [other]})
    held = (await space.resources("")).resources
    assert [(one.ref.id, one.owner, one.attempt) for one in held] == [
        ("sc123", "abcdef", "abcdefghijklmnop"),
        ("sc2", None, None),
    ]
    scripted.says(END, told("script")).then(END, no("NOT_FOUND", "Startup script not found"), 404)
    await space.release(Resource.STARTUP_SCRIPT, HAVE[Resource.STARTUP_SCRIPT])
    await space.discard(Resource.STARTUP_SCRIPT, HAVE[Resource.STARTUP_SCRIPT])
    assert scripted.asked()[-2:] == [END, END]


# Errors

GONE = told("missing")
BUSY = no("BAD_REQUEST", "This machine is currently starting.")
ERRORS: list[tuple[str, int, Any, type[BrokerError]]] = [
    ("whoami", 200, None, BadResponse),
    ("whoami", 200, {"team": {}}, BadResponse),
    ("whoami", 401, told("bad-key"), AuthFailed),
    ("list", 200, told("bad-key"), AuthFailed),
    ("list", 200, {"items": []}, BadResponse),
    ("list", 200, {"hasMore": False, "items": [{"id": ID}]}, BadResponse),
    ("find", 500, no("INTERNAL_SERVER_ERROR", "oops"), Unavailable),
    ("get", 404, GONE, NotFound),
    ("get", 200, GONE, NotFound),
    ("get", 404, no("NOT_FOUND", "No such path"), BadResponse),
    ("get", 404, b"", BadResponse),
    ("get", 200, told("machine") | {"id": "other"}, BadResponse),
    ("get", 429, no("TOO_MANY_REQUESTS", "Slow down"), RateLimited),
    ("offers", 502, b"<html>", Unavailable),
    ("create", 401, told("bad-key"), AuthFailed),
    ("create", 400, told("sold-out"), NoCapacity),
    ("create", 412, no("PRECONDITION_FAILED", "higher than normal demand"), NoCapacity),
    ("create", 200, told("sold-out"), NoCapacity),
    ("create", 403, no("FORBIDDEN", "Request access to this machine type"), QuotaExceeded),
    ("create", 403, no("FORBIDDEN", "Machine limit reached"), QuotaExceeded),
    ("create", 412, no("PRECONDITION_FAILED", "Account is not in good standing"), OutOfFunds),
    ("create", 400, no("BAD_REQUEST", "Invalid template"), Invalid),
    ("create", 200, no("PARSE_ERROR", "Unexpected token"), Invalid),
    ("create", 429, no("TOO_MANY_REQUESTS", "Slow down"), RateLimited),
    ("create", 500, no("INTERNAL_SERVER_ERROR", "no capacity"), OutcomeUnknown),
    ("create", 200, no("TIMEOUT", "Timed out"), OutcomeUnknown),
    ("create", 404, b"<html>", OutcomeUnknown),
    ("create", 200, {"event": {}}, OutcomeUnknown),
    ("terminate", 400, BUSY, WrongState),
    ("terminate", 409, no("CONFLICT", "Try again"), WrongState),
    ("terminate", 404, b"", OutcomeUnknown),
    ("stop", 400, BUSY, WrongState),
    ("start", 400, told("sold-out"), NoCapacity),
    ("start", 404, GONE, NotFound),
    ("ensure", 400, no("BAD_REQUEST", "Script is too long"), Invalid),
    ("ensure", 200, {}, OutcomeUnknown),
    ("release", 500, b"", OutcomeUnknown),
    ("quotas", 403, no("FORBIDDEN", "No"), AuthFailed),
]
REQUESTS = {
    "whoami": WHO,
    "quotas": WHO,
    "list": LIST,
    "find": LIST,
    "get": f"GET {ONE}",
    "create": CREATE,
    "terminate": f"DELETE {ONE}",
    "stop": f"PATCH {ONE}/stop",
    "start": f"PATCH {ONE}/start",
    "ensure": MAKE,
    "release": END,
    "offers": "GET /v1/os-templates",
}


@pytest.mark.parametrize(
    ("operation", "status", "body", "kind"),
    ERRORS,
    ids=[f"{o}-{s}-{k.__name__}-{n}" for n, (o, s, _, k) in enumerate(ERRORS)],
)
async def test_the_error_table_row_by_row(
    space: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any, ref: Any,
    operation: str, status: int, body: Any, kind: type[BrokerError],
) -> None:  # fmt: skip
    scripted.says(REQUESTS[operation], body, status=status)
    arguments = {
        "create": (spec, offer, attempt, HAVE),
        "ensure": (Resource.STARTUP_SCRIPT, spec, offer, attempt, {}),
        "release": (Resource.STARTUP_SCRIPT, HAVE[Resource.STARTUP_SCRIPT]),
        "find": (attempt, offer),
        "list": ("",),
        "whoami": (),
        "quotas": (),
    }
    with pytest.raises(BrokerError) as caught:
        if operation == "offers":
            _ = [page async for page in space.offers(Query())]
        else:
            await getattr(space, operation)(*arguments.get(operation, (ref,)))
    assert type(caught.value) is kind
    assert (caught.value.provider, caught.value.operation) == ("paperspace", operation)
    assert scripted.asked().count(REQUESTS[operation]) == 1


async def test_a_key_that_is_not_taken_has_a_session_that_is_null(
    space: Any, scripted: Scripted
) -> None:
    scripted.says(WHO, b"null")
    with pytest.raises(AuthFailed):
        await space.whoami()


async def test_no_secret_is_in_an_error(
    space: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    asked = replace(spec, startup_script="echo sesame-script")
    text = boot_of(asked, None).text
    scripted.says(MAKE, no("BAD_REQUEST", f"{KEY} sent {text}"), status=400)
    with pytest.raises(Invalid) as caught:
        await space.ensure(Resource.STARTUP_SCRIPT, asked, offer, attempt, {})
    shown = f"{caught.value} {caught.value.raw}"
    assert "sesame" not in shown
    assert KEY not in shown
    assert SHOWN.isdisjoint({"script", "user", "email"})


async def test_an_id_of_another_form_never_becomes_a_path(space: Any, scripted: Scripted) -> None:
    for wrong in ("", "../scripts", "a b", "a/b"):
        with pytest.raises(Invalid):
            await space.terminate(Ref("paperspace", "default", "", wrong))
    assert scripted.requests == []


# Machines

STATES = [
    *((word, State.PENDING) for word in ("provisioning", "starting", "restarting", "upgrading")),
    ("serviceready", State.RUNNING),
    ("ready", State.RUNNING),
    ("stopping", State.STOPPING),
    ("off", State.STOPPED),
    ("dreaming", State.UNKNOWN),
]


@pytest.mark.parametrize(("word", "state"), STATES)
async def test_each_word_of_the_vendor_is_a_state(
    space: Any, scripted: Scripted, ref: Any, word: str, state: State
) -> None:
    scripted.says(f"GET {ONE}", told("machine") | {"state": word}).says(EVENTS, told("done"))
    seen = await space.get(ref)
    assert (seen.state, seen.raw_state) == (state, word)
    assert seen.healthy == (state is not State.UNKNOWN)
    assert (seen.bills_compute, seen.bills_disk) == (state is not State.STOPPED, True)
    assert (seen.ssh is None) == (state is not State.RUNNING)


async def test_ready_without_an_address_is_still_pending_and_a_deleted_one_is_gone(
    space: Any, scripted: Scripted, ref: Any
) -> None:
    row = told("machine")
    scripted.says(f"GET {ONE}", row | {"publicIp": None}, row | {"dtDeleted": row["dtCreated"]})
    assert (await space.get(ref)).state is State.PENDING
    gone = await space.get(ref)
    assert (gone.state, gone.bills_compute, gone.bills_disk) == (State.TERMINATED, False, False)


@pytest.mark.parametrize(("event", "state"), [("create", State.FAILED), ("start", State.STOPPED)])
async def test_why_a_machine_is_off_is_told_by_its_last_event(
    space: Any, scripted: Scripted, ref: Any, event: str, state: State
) -> None:
    page = told("no-capacity")
    page["items"][0]["name"] = event
    scripted.says(f"GET {ONE}", told("off")).says(EVENTS, page)
    seen = await space.get(ref)
    assert seen.state is state
    assert "insufficient capacity" in seen.reason
    assert dict(scripted.requests[-1].url.params) == {
        "machineId": ID,
        "orderBy": "dtCreated",
        "order": "desc",
        "limit": "1",
    }
    scripted.says(EVENTS, told("no-scripts"))
    assert (await space.get(ref)).reason == ""


async def test_lists_follow_their_pages_and_find_asks_by_name(
    space: Any, scripted: Scripted, attempt: Any, offer: Any
) -> None:
    scripted.says(LIST, told("list"), told("list-2"))
    listing = await space.list("")
    assert (listing.account_uid, listing.complete) == ("te123", True)
    assert [one.owner for one in listing.instances] == ["abcdef", None]
    assert listing.instances[0].ssh == Endpoint("198.51.100.7", 22, "paperspace")
    assert scripted.requests[-1].url.params["after"] == "cursor-2"
    scripted.says(LIST, told("list"), told("list-2"))
    (found,) = await space.find(attempt, offer)
    assert found.ref.id == ID
    assert {request.url.params["name"] for request in scripted.requests[-2:]} == {attempt.name}


async def test_a_page_that_should_go_on_and_does_not_makes_a_list_incomplete(
    space: Any, scripted: Scripted
) -> None:
    scripted.says(LIST, told("list") | {"nextPage": None})
    assert not (await space.list("")).complete


# The end and the rest


async def test_an_end_a_stop_and_a_start_are_one_request_each(
    space: Any, scripted: Scripted, ref: Any
) -> None:
    delete = f"DELETE {ONE}"
    scripted.says(delete, told("ended")).then(delete, GONE, 404)
    await space.terminate(ref)
    await space.terminate(ref)
    scripted.says(f"PATCH {ONE}/stop", told("stopping"))
    scripted.says(f"PATCH {ONE}/start", told("starting"))
    await space.stop(ref)
    assert scripted.body() == {}
    await space.start(ref)
    assert scripted.body() == {}
    assert scripted.asked() == [delete, delete, f"PATCH {ONE}/stop", f"PATCH {ONE}/start"]


async def test_the_teams_limit_is_a_quota(space: Any, scripted: Scripted) -> None:
    scripted.says(LIST, told("list"), told("list-2"))
    (quota,) = await space.quotas()
    assert (quota.limit, quota.used, quota.unit) == (5, 2, "machines")


async def test_offers_cover_everything_and_there_is_no_spot(space: Any, scripted: Scripted) -> None:
    scripted.says(REQUESTS["offers"], told("templates"))
    (page,) = [page async for page in space.offers(Query(min_count=8))]
    assert (page.covers, page.complete, len(page.rows)) == (None, True, 16)
    assert [page async for page in space.offers(Query(market=Market.SPOT))] == []
    with pytest.raises(Invalid):
        _ = [p async for p in space.offers(Query(options=(("paperspace", "x", "1"),)))]
    assert len(scripted.requests) == 1


def test_what_paperspace_has_and_has_not(space: Any) -> None:
    for protocol in (BootsOverSsh, HasQuotas, HasResources, Stoppable):
        assert isinstance(space, protocol)
    assert not isinstance(space, HasBalance)


@pytest.mark.parametrize("told_at", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
async def test_a_time_that_not_every_zone_knows_is_none(
    space: Any, scripted: Scripted, ref: Any, told_at: str
) -> None:
    scripted.says(f"GET {ONE}", told("machine") | {"dtCreated": told_at})
    assert (await space.get(ref)).created_at is None
