"""Thunder Compute's calls: what each sends, and what each answer means."""

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
    Unavailable,
    Unsupported,
    WrongState,
)
from gpubroker.model.identity import Ref
from gpubroker.model.instance import Endpoint
from gpubroker.model.launch import LaunchSpec, RegistryAuth
from gpubroker.model.offer import Offer
from gpubroker.model.query import Query
from gpubroker.model.terms import Market, State
from gpubroker.providers.base import BootsOverSsh, HasBalance, KeyAttachable, Stoppable
from gpubroker.providers.thunder_compute import (
    SHOWN,
    Machine,
    ThunderCompute,
    order,
    parse_offers,
    state_of,
)

FIXTURES = Path(__file__).parent / "fixtures" / "thunder_compute"
ID = "3f6c1d2e-8a4b-4c7d-9e1f-5b6a7c8d9e0f"
BLOB = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrokerKeyOfTheTestsNotReal000000000000000000"
OWN, MINE = f"{BLOB} gb-abcdef", f"{BLOB[:-4]}MINE me"
LIST, WHO = "GET /v1/instances/list", "GET /v1/auth/validate"
CREATE = "POST /v1/instances/create"
DELETE, ADD = f"POST /v1/instances/{ID}/delete", f"POST /v1/instances/{ID}/add_key"
AUTH = RegistryAuth("hub", "docker.io", "me", "sesame")


def told(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def no(error: str, message: str = "", code: int = 400) -> dict[str, Any]:
    return {"code": code, "error": error, "message": message}


@pytest.fixture
def thunder(scripted: Scripted) -> ThunderCompute:
    return connected(ThunderCompute, scripted.says(WHO, told("valid")))


@pytest.fixture
def offer(clock: Any) -> Offer:
    catalog = told("specs")["specs"], told("pricing")["pricing"], told("status")["specs"]
    return parse_offers(*catalog, account="default", fetched_at=clock.now())[0][1]


@pytest.fixture
def spec() -> LaunchSpec:
    return LaunchSpec(expires_at=None, env={"TOKEN": "sesame-sesame"}, ssh_keys=(MINE, OWN))


@pytest.fixture
def ref() -> Ref:
    return Ref("thunder_compute", "default", "", ID)


# Create


async def test_create_is_one_request_and_the_keys_comment_carries_the_attempt(
    thunder: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    scripted.says(CREATE, told("made"), status=201)
    assert (await thunder.create(spec, offer, attempt, {})).id == ID
    assert scripted.asked() == [CREATE]
    assert scripted.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert scripted.body() == {
        "cpu_cores": 8,
        "disk_size_gb": 100,
        "gpu_type": "a6000",
        "num_gpus": 1,
        "template": "base",
        "public_key": f"{BLOB} {attempt.name}",
    }


def test_a_snapshot_or_template_and_a_larger_disk_can_be_asked_for(
    spec: Any, offer: Any, attempt: Any
) -> None:
    asked = order(replace(spec, vm_image="my-snapshot", disk_gb=600), offer, attempt)
    assert (asked["template"], asked["disk_size_gb"]) == ("my-snapshot", 600)


@pytest.mark.parametrize(("wanted", "sent"), [(20, 100), (99, 100), (101, 101)])
def test_a_smaller_disk_than_the_least_is_the_least(
    spec: Any, offer: Any, attempt: Any, wanted: int, sent: int
) -> None:
    assert order(replace(spec, disk_gb=wanted), offer, attempt)["disk_size_gb"] == sent


async def test_all_but_the_key_goes_over_ssh(
    thunder: Any, spec: Any, offer: Any, attempt: Any, clock: Any
) -> None:
    expiring = replace(
        spec,
        expires_at=clock.now() + timedelta(hours=1),
        startup_script="echo from-the-script",
        command="echo from-the-command",
    )
    script = thunder.after_boot(expiring, offer, attempt, clock.now())
    for part in (OWN, MINE, "sesame-sesame", "from-the-script", "from-the-command"):
        assert part in script
    assert "poweroff" not in script


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"image": "ubuntu:24.04"}, "image"),
        ({"registry_auth": AUTH}, "registry_auth"),
        ({"ports": ((8888, "tcp"),)}, "ports"),
        ({"volumes": ((Ref("thunder_compute", "default", "", "1a"), "/data"),)}, "volumes"),
        ({"bid": 1}, "bid"),
        ({"disk_gb": 1001}, "disk_gb"),
        ({"ssh_keys": ()}, "ssh_keys"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_what_the_vendor_would_not_take_is_refused_before_it_is_sent(
    thunder: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any, change: Any, field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await thunder.create(replace(spec, **change), offer, attempt, {})
    assert caught.value.field == field
    assert scripted.requests == []


async def test_options_are_refused_and_not_dropped(
    thunder: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    with pytest.raises(Unsupported):
        await thunder.create(replace(spec, options={"x": "sesame"}), offer, attempt, {})
    assert scripted.requests == []


# Errors

GONE = no("not_found", "instance not found", 404)
ERRORS: list[tuple[str, int, Any, type[BrokerError]]] = [
    ("whoami", 401, told("bad-key"), AuthFailed),
    ("whoami", 403, b"<html>error code: 1010</html>", AuthFailed),
    ("whoami", 200, {"valid": False}, AuthFailed),
    ("whoami", 200, {}, BadResponse),
    ("list", 401, told("bad-key"), AuthFailed),
    ("list", 200, [], BadResponse),
    ("list", 200, {"0": {"status": "RUNNING"}}, BadResponse),
    ("list", 200, {"0": {"uuid": ""}}, BadResponse),
    ("find", 500, no("internal_error", "oops", 500), Unavailable),
    ("get", 200, {}, BadResponse),
    ("get", 200, told("others"), BadResponse),
    ("get", 404, GONE, BadResponse),
    ("get", 502, b"<html>", Unavailable),
    ("get", 429, b"", RateLimited),
    ("offers", 500, b"", Unavailable),
    ("offers", 200, {"specs": []}, BadResponse),
    ("create", 401, told("bad-key"), AuthFailed),
    ("create", 400, told("sold-out"), NoCapacity),
    ("create", 409, no("conflict", "No capacity for h100"), NoCapacity),
    ("create", 400, no("temporarily_disabled", "switched off"), NoCapacity),
    ("create", 403, no("forbidden", "Instance quota reached"), QuotaExceeded),
    ("create", 400, no("invalid_request", "limit of 2 instances"), QuotaExceeded),
    ("create", 402, no("payment_required", "Add a payment method"), OutOfFunds),
    ("create", 400, no("invalid_request", "bad gpu_type"), Invalid),
    ("create", 500, no("internal_error", "no capacity"), OutcomeUnknown),
    ("create", 429, no("rate_limited"), RateLimited),
    ("create", 404, b"<html>", OutcomeUnknown),
    ("create", 201, {"identifier": 0, "key": ""}, OutcomeUnknown),
    ("create", 200, b"garbage", OutcomeUnknown),
    ("terminate", 404, {"message": "instance not found"}, OutcomeUnknown),
    ("terminate", 404, b"", OutcomeUnknown),
    ("terminate", 409, no("conflict", "being modified", 409), WrongState),
    ("terminate", 500, b"", OutcomeUnknown),
    ("attach_key", 404, GONE, NotFound),
    ("attach_key", 409, no("conflict", "instance not RUNNING", 409), WrongState),
]
REQUESTS = {
    "whoami": WHO,
    "list": LIST,
    "find": LIST,
    "get": LIST,
    "create": CREATE,
    "terminate": DELETE,
    "attach_key": ADD,
    "offers": "GET /v2/specs",
}


@pytest.mark.parametrize(
    ("operation", "status", "body", "kind"),
    ERRORS,
    ids=[f"{o}-{s}-{k.__name__}-{n}" for n, (o, s, _, k) in enumerate(ERRORS)],
)
async def test_the_error_table_row_by_row(
    thunder: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any, ref: Any,
    operation: str, status: int, body: Any, kind: type[BrokerError],
) -> None:  # fmt: skip
    for name in ("pricing", "status"):
        scripted.says(f"GET /v2/{name}", told(name))
    scripted.says(REQUESTS[operation], body, status=status)
    with pytest.raises(BrokerError) as caught:
        if operation == "offers":
            _ = [page async for page in thunder.offers(Query())]
        else:
            arguments = {
                "create": (spec, offer, attempt, {}),
                "attach_key": (ref, MINE),
                "find": (attempt, offer),
                "list": ("",),
                "whoami": (),
            }
            await getattr(thunder, operation)(*arguments.get(operation, (ref,)))
    assert type(caught.value) is kind
    assert (caught.value.provider, caught.value.operation) == ("thunder_compute", operation)
    assert scripted.asked().count(REQUESTS[operation]) == 1


async def test_no_secret_is_in_an_error_nor_a_private_key_that_the_vendor_made(
    thunder: Any, scripted: Scripted, spec: Any, offer: Any, attempt: Any
) -> None:
    made = {"key": "-----BEGIN OPENSSH PRIVATE KEY-----\nsesame\n", "identifier": 0}
    scripted.says(CREATE, made | {"message": KEY}, status=201)
    with pytest.raises(OutcomeUnknown) as caught:
        await thunder.create(spec, offer, attempt, {})
    shown = f"{caught.value} {caught.value.raw}"
    assert "sesame" not in shown
    assert KEY not in shown
    assert SHOWN.isdisjoint({"key", "public_key", "sshPublicKeys"})


@pytest.mark.parametrize("words", ["instance not found", "Instance 3f6c not found", ""])
async def test_one_that_is_gone_already_is_told_by_the_vendors_code_in_whatever_words(
    thunder: Any, scripted: Scripted, ref: Any, words: str
) -> None:
    scripted.says(DELETE, no("not_found", words, 404), status=404)
    await thunder.terminate(ref)
    assert scripted.asked() == [DELETE]


async def test_an_id_of_another_form_never_becomes_a_path(thunder: Any, scripted: Scripted) -> None:
    for wrong in ("", "../keys", "a b", "a/b"):
        with pytest.raises(Invalid):
            await thunder.terminate(Ref("thunder_compute", "default", "", wrong))
    assert scripted.requests == []


# Machines

STATES = [
    *((word, State.PENDING) for word in ("PROVISIONING", "QUEUED", "STARTING", "RESTORING")),
    *((word, State.RUNNING) for word in ("RUNNING", "running", "MODIFYING", "SNAPPING")),
    ("STOPPING", State.STOPPING),
    ("STOPPED", State.STOPPED),
    ("DELETING", State.TERMINATING),
    ("DELETED", State.TERMINATED),
    ("FAILED", State.FAILED),
    ("UNKNOWN", State.UNKNOWN),
    ("DREAMING", State.UNKNOWN),
]


@pytest.mark.parametrize(("word", "state"), STATES)
async def test_each_word_of_the_vendor_is_a_state(
    thunder: Any, scripted: Scripted, ref: Any, word: str, state: State
) -> None:
    scripted.says(LIST, {"0": told("list")["1"] | {"status": word}})
    seen = await thunder.get(ref)
    assert (seen.state, seen.raw_state) == (state, word)
    assert seen.healthy == (state not in {State.UNKNOWN, State.FAILED})
    assert (seen.bills_compute, seen.bills_disk) == (state is not State.TERMINATED, False)
    assert (seen.ssh is None) == (state is not State.RUNNING)


def test_running_without_an_address_is_still_pending() -> None:
    for address in (None, ""):
        assert state_of(Machine(uuid="1", status="RUNNING", ip=address)) is State.PENDING


async def test_a_machine_is_known_by_its_uuid_wherever_it_stands_in_the_list(
    thunder: Any, scripted: Scripted, ref: Any
) -> None:
    row = told("list")["1"]
    scripted.says(LIST, {"7": row, "0": told("list")["0"]})
    seen = await thunder.get(ref)
    assert (seen.owner, seen.attempt) == ("abcdef", "abcdefghijklmnop")
    assert seen.ssh == Endpoint("198.51.100.7", 31995, "ubuntu")
    assert seen.ports == {"8888/tcp": f"https://{ID}-8888.thundercompute.net"}
    assert seen.created_at == datetime(2026, 8, 15, 14, 27, 25, tzinfo=UTC)
    assert scripted.requests[-1].url.params["update_ips"] == "true"


@pytest.mark.parametrize("count", ["4", 4, None, "four"])
async def test_numbers_come_as_texts_too(
    thunder: Any, scripted: Scripted, ref: Any, count: Any
) -> None:
    scripted.says(LIST, {"0": told("list")["1"] | {"numGpus": count}})
    assert (await thunder.get(ref)).gpu_count == (4 if count in ("4", 4) else None)


@pytest.mark.parametrize(
    ("keys", "ours"),
    [
        ([MINE, f"{BLOB} gb-abcdef-abcdefghijklmnop"], True),
        ([OWN], False),
        ([BLOB], False),
        ([], False),
        (None, False),
    ],
    ids=str,
)
async def test_a_machine_is_ours_by_the_comment_of_one_of_its_keys(
    thunder: Any, scripted: Scripted, attempt: Any, offer: Any, keys: Any, ours: bool
) -> None:
    scripted.says(LIST, {"0": told("list")["1"] | {"sshPublicKeys": keys}})
    assert len(await thunder.find(attempt, offer)) == ours
    (seen,) = (await thunder.list("")).instances
    assert seen.owner == ("abcdef" if ours else None)


async def test_an_empty_list_counts_only_where_the_key_was_taken_beside_it(
    thunder: Any, scripted: Scripted
) -> None:
    scripted.says(LIST, {})
    listing = await thunder.list("")
    assert (listing.complete, listing.instances) == (True, ())
    assert listing.account_uid.startswith("key-")
    assert KEY not in listing.account_uid
    assert scripted.asked() == [WHO, LIST]
    scripted.says(WHO, {})
    with pytest.raises(BadResponse):
        await thunder.list("")


async def test_a_row_that_comes_twice_is_one_machine(thunder: Any, scripted: Scripted) -> None:
    row = told("list")["1"]
    scripted.says(LIST, {"0": row, "1": row})
    assert len((await thunder.list("")).instances) == 1


# The end and the rest


async def test_terminate_is_one_request_by_the_uuid_and_gone_already_is_fine(
    thunder: Any, scripted: Scripted, ref: Any
) -> None:
    scripted.says(DELETE, {"message": "Success"}).then(DELETE, GONE, 404)
    await thunder.terminate(ref)
    await thunder.terminate(ref)
    assert scripted.asked() == [DELETE, DELETE]


async def test_a_key_is_given_to_a_made_machine(thunder: Any, scripted: Scripted, ref: Any) -> None:
    scripted.says(ADD, {"success": True, "uuid": ID})
    await thunder.attach_key(ref, MINE)
    assert scripted.body() == {"public_key": MINE}


async def test_prices_are_told_without_a_key_and_cover_everything(scripted: Scripted) -> None:
    for name in ("pricing", "status", "specs"):
        scripted.says(f"GET /v2/{name}", told(name))
    keyless = connected(ThunderCompute, scripted, secrets={})
    (page,) = [page async for page in keyless.offers(Query(min_count=8))]
    assert (page.covers, page.complete, len(page.rows)) == (None, True, 7)
    with pytest.raises(AuthFailed):
        await keyless.whoami()


async def test_there_is_no_spot_and_an_option_that_there_is_not_is_refused(
    thunder: Any, scripted: Scripted
) -> None:
    assert [page async for page in thunder.offers(Query(market=Market.SPOT))] == []
    with pytest.raises(Invalid):
        _ = [p async for p in thunder.offers(Query(options=(("thunder_compute", "x", "1"),)))]
    assert scripted.requests == []


def test_what_thunder_compute_has_and_has_not(thunder: Any) -> None:
    assert isinstance(thunder, BootsOverSsh)
    assert isinstance(thunder, KeyAttachable)
    for protocol in (Stoppable, HasBalance):
        assert not isinstance(thunder, protocol)
