"""Vast.ai's calls: what each sends, and what each answer means."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.providers.scripted import ANY, connected

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
    Refused,
    Unavailable,
    Unsupported,
)
from gpubroker.model.identity import Ref
from gpubroker.model.instance import Endpoint
from gpubroker.model.launch import RegistryAuth
from gpubroker.model.query import Query
from gpubroker.model.terms import Expiry, Market, Resource, State
from gpubroker.providers.accounts import Wiring
from gpubroker.providers.base import Biddable, HasBalance, KeyAttachable, Stoppable
from gpubroker.providers.vast_ai import Contract, VastAi, state_of

Row = Callable[..., dict[str, Any]]
LABEL = "gb-abcdef-abcdefghijklmnop"
ASK, MACHINE = "/api/v0/asks/4711/", "/api/v0/instances/901/"


def no(code: str, message: str = "") -> dict[str, Any]:
    return {"success": False, "error": code, "msg": message}


# Create


async def test_create_is_one_request_that_carries_the_attempt(
    vast: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any
) -> None:
    scripted.says(f"PUT {ASK}", {"success": True, "new_contract": 77, "instance_api_key": "sesame"})
    ref = await vast.create(spec, offer_of(), attempt, {})
    assert ref == Ref("vast_ai", "default", "", "77")
    (request,) = scripted.requests
    assert (request.method, request.url.path) == ("PUT", "/api/v0/asks/4711/")
    body = scripted.body()
    assert """'TOKEN="sesame-sesame"'""" in body.pop("onstart")
    assert body == {
        "client_id": "me",
        "image": "nvidia/cuda:12.4.1-runtime-ubuntu22.04",
        "disk": 20,
        "label": LABEL,
        "runtype": "ssh_direct",
        "env": {"TOKEN": "sesame-sesame"},
        "target_state": "running",
        "cancel_unavail": True,
    }


async def test_ports_scripts_and_the_bid_go_in_the_vendors_form(
    vast: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any
) -> None:
    import msgspec

    scripted.says(f"PUT {ASK}", {"success": True, "new_contract": 77})
    spec = msgspec.structs.replace(
        spec, ports=((8888, "tcp"), (53, "udp")), startup_script="echo hi", command="train 'x'"
    )
    await vast.create(spec, offer_of(Market.SPOT), attempt, {})
    body = scripted.body()
    assert body["env"]["-p 8888:8888"] == body["env"]["-p 53:53/udp"] == "1"
    assert body["price"] == 0.31
    assert "echo hi" in body["onstart"]
    assert len(body["onstart"]) <= 4096


async def test_variables_that_the_vendor_cannot_hold_come_by_the_boots_text_alone(
    vast: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any
) -> None:
    import msgspec

    scripted.says(f"PUT {ASK}", {"success": True, "new_contract": 77})
    env = {"A": "1", "LINES": "one\ntwo", "LONG": "x" * 256}
    await vast.create(msgspec.structs.replace(spec, env=env), offer_of(), attempt, {})
    body = scripted.body()
    assert body["env"] == {"A": "1"}
    for value in ("one\ntwo", "x" * 256):
        assert value in body["onstart"]


async def test_what_the_boots_text_cannot_hold_comes_over_ssh(
    vast: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any
) -> None:
    import hashlib

    import msgspec

    scripted.says(f"PUT {ASK}", {"success": True, "new_contract": 77})
    noise = (hashlib.sha256(bytes([n])).hexdigest() for n in range(256))
    script = "#!/bin/sh\n# " + "".join(noise)
    spec = msgspec.structs.replace(spec, startup_script=script)
    await vast.create(spec, offer_of(), attempt, {})
    assert len(scripted.body()["onstart"]) <= 4096
    after = vast.after_boot(spec, offer_of(), attempt, vast.http.clock.now())
    assert script.splitlines()[1] in after


async def test_the_timer_on_the_machine_destroys_its_own_contract(
    vast: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any
) -> None:
    import msgspec

    scripted.says(f"PUT {ASK}", {"success": True, "new_contract": 77})
    expires_at = vast.http.clock.now() + timedelta(hours=2)
    spec = msgspec.structs.replace(spec, expires_at=expires_at)
    await vast.create(spec, offer_of(), attempt, {})
    onstart = scripted.body()["onstart"]
    assert "echo 7200 >" in onstart
    assert "-X DELETE" in onstart
    assert f"{vast.http.base_url}/api/v0/instances/$CONTAINER_ID/" in onstart
    assert vast.capabilities.expiry is Expiry.MACHINE_ENDS_BILLING


async def test_a_private_images_login_goes_in_the_vendors_form(
    vast: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any
) -> None:
    import msgspec

    scripted.says(f"PUT {ASK}", {"success": True, "new_contract": 77})
    auth = RegistryAuth("mine", "ghcr.io", "me", "sesame-s3same")
    await vast.create(msgspec.structs.replace(spec, registry_auth=auth), offer_of(), attempt, {})
    assert scripted.body()["image_login"] == "-u me -p sesame-s3same ghcr.io"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"disk_gb": 7}, "disk_gb"),
        ({"disk_gb": 901}, "disk_gb"),
        ({"env": {"-p 22:22": "1"}}, "env"),
        ({"env": {"--privileged": ""}}, "env"),
        ({"registry_auth": RegistryAuth("a", "b", "c", "p w")}, "registry_auth"),
        ({"ports": tuple((port, "tcp") for port in range(1, 66))}, "ports"),
        ({"ports": ((0, "tcp"),)}, "ports"),
        ({"ports": ((80, "sctp"),)}, "ports"),
        ({"bid": 0}, "bid"),
        ({"bid": 129_000_000_000}, "bid"),
        ({"volumes": ((Ref("vast_ai", "default", "", "../../asks/1"), "/data"),)}, "volumes"),
    ],
    ids=str,
)
async def test_what_the_vendor_would_not_take_is_refused_before_it_is_sent(
    vast: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any, change: Any, field: str
) -> None:
    import msgspec

    with pytest.raises(Invalid) as caught:
        await vast.create(
            msgspec.structs.replace(spec, **change), offer_of(Market.SPOT), attempt, {}
        )
    assert caught.value.field == field
    assert scripted.requests == []
    assert "xxxx" not in str(caught.value)


ERRORS: list[tuple[str, int, Any, type[BrokerError]]] = [
    ("create", 401, no("auth_error"), AuthFailed),
    ("create", 403, no("auth_error", "This action requires login."), AuthFailed),
    ("create", 404, no("auth_error", "Invalid user key"), AuthFailed),
    ("get", 404, no("auth_error", "Invalid user key"), AuthFailed),
    ("get", 404, {"msg": "Invalid user key"}, AuthFailed),
    ("terminate", 404, no("auth_error", "Invalid user key"), AuthFailed),
    ("list", 404, no("auth_error", "Invalid user key"), AuthFailed),
    ("offers", 404, no("auth_error", "Invalid user key"), AuthFailed),
    ("get", 403, no("forbidden"), AuthFailed),
    ("create", 403, no("invalid_args", "error 403/3586: Offer 1 is not your own."), Refused),
    ("create", 404, no("invalid_args", "error 404/3603: no_such_ask Instance type"), NoCapacity),
    ("create", 410, no("no_such_ask", "error 410/3907: no_such_ask"), NoCapacity),
    ("create", 400, no("no_such_ask"), NoCapacity),
    ("create", 200, no("no_such_ask"), NoCapacity),
    ("create", 400, no("insufficient_credit", "Your account lacks credit"), OutOfFunds),
    ("create", 400, {"msg": "Your account lacks credit; see the billing page."}, OutOfFunds),
    ("create", 400, no("insufficient_balance"), OutOfFunds),
    ("create", 400, no("missing_billing"), OutOfFunds),
    ("create", 400, no("invalid_args", "error 400/3467: Invalid args"), Invalid),
    ("create", 400, no("invalid_price"), Invalid),
    ("create", 400, no("label_too_long"), Invalid),
    ("create", 400, no("no_ssh_key_for_vm"), Invalid),
    ("create", 429, b"API requests too frequent: endpoint threshold=4.5", RateLimited),
    ("create", 500, b"oops", OutcomeUnknown),
    ("create", 502, b"<html>", OutcomeUnknown),
    ("create", 404, b"<html>not here</html>", OutcomeUnknown),
    ("create", 200, no("something_new"), OutcomeUnknown),
    ("create", 200, no("resources_unavailable"), OutcomeUnknown),
    ("create", 200, {"success": True}, OutcomeUnknown),
    ("create", 200, {"success": True, "new_contract": "77"}, OutcomeUnknown),
    ("create", 200, b"garbage", OutcomeUnknown),
    ("create", 400, no("invalid_price", "bid too low") | {"new_contract": 78}, OutcomeUnknown),
    ("create", 200, no("bid", "too low") | {"new_contract": 78}, OutcomeUnknown),
    ("start", 200, no("resources_unavailable", "Required resources are"), NoCapacity),
    ("start", 404, no("no_such_instance"), NotFound),
    ("stop", 404, no("no_such_instance"), NotFound),
    ("bid", 400, no("invalid_args", "Please set a bid price >= 0.001."), Invalid),
    ("bid", 404, no("no_such_instance"), NotFound),
    ("attach_key", 404, no("no_such_instance"), NotFound),
    ("attach_key", 500, b"", OutcomeUnknown),
    ("get", 404, no("no_such_instance"), NotFound),
    ("get", 404, no("not_found", "Instance not found"), NotFound),
    ("get", 200, {"instances": None}, NotFound),
    ("get", 404, b"<html>404</html>", BadResponse),
    ("get", 404, {"detail": "Not Found"}, BadResponse),
    ("get", 200, {"instances": {"id": 902}}, BadResponse),
    ("get", 200, b"garbage", BadResponse),
    ("get", 500, b"", Unavailable),
    ("terminate", 404, b"<html>404</html>", OutcomeUnknown),
    ("terminate", 503, b"", OutcomeUnknown),
    ("terminate", 429, no("rate_limit_exceeded"), RateLimited),
    ("list", 400, no("invalid_token"), BadResponse),
    ("list", 429, {"detail": "API requests too frequent endpoint threshold=1.0"}, RateLimited),
    ("offers", 429, no("search_quota_exceeded"), RateLimited),
    ("offers", 503, b"", Unavailable),
    ("billing", 400, no("invalid_token"), BadResponse),
    ("whoami", 401, no("auth_error"), AuthFailed),
]


@pytest.mark.parametrize(
    ("operation", "status", "body", "kind"),
    ERRORS,
    ids=[f"{o}-{s}-{k.__name__}-{n}" for n, (o, s, _, k) in enumerate(ERRORS)],
)
async def test_the_error_table_row_by_row(
    vast: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any, ref: Any,
    operation: str, status: int, body: Any, kind: type[BrokerError],
) -> None:  # fmt: skip
    scripted.says(ANY, body, status=status)
    with pytest.raises(BrokerError) as caught:
        await call(vast, operation, spec, offer_of(), attempt, ref)
    assert type(caught.value) is kind
    assert (caught.value.provider, caught.value.operation) == ("vast_ai", operation)
    assert len(scripted.requests) == 1


async def call(vast: Any, operation: str, spec: Any, offer: Any, attempt: Any, ref: Any) -> Any:
    now = datetime.now(UTC)
    calls: dict[str, Callable[[], Any]] = {
        "create": lambda: vast.create(spec, offer, attempt, {}),
        "find": lambda: vast.find(attempt, offer),
        "list": lambda: vast.list(""),
        "billing": lambda: vast.billing(ref, now, None),
        "whoami": vast.whoami,
        "balance": vast.balance,
        "attach_key": lambda: vast.attach_key(ref, "ssh-ed25519 AAAA x"),
        "bid": lambda: vast.bid(ref, 200_000_000),
    }
    if operation == "offers":
        return [page async for page in vast.offers(Query(market=Market.ON_DEMAND))]
    return await calls.get(operation, lambda: getattr(vast, operation)(ref))()


async def test_the_quota_of_searches_is_told_apart_and_retry_after_is_kept(
    vast: Any, scripted: Any, ref: Any
) -> None:
    scripted.says("POST /api/v0/bundles/", no("search_quota_exceeded"), status=429)
    with pytest.raises(RateLimited) as caught:
        _ = [page async for page in vast.offers(Query())]
    assert caught.value.code == "search_quota_exceeded"
    scripted.says(f"GET {MACHINE}", b"slow down", status=429, retry_after="7")
    with pytest.raises(RateLimited) as limited:
        await vast.get(ref)
    assert limited.value.retry_after_s == 7


MUTATING = ["create", "terminate", "attach_key", "stop", "start", "bid"]


@pytest.mark.parametrize("operation", MUTATING)
@pytest.mark.parametrize("reply", ["drop", "500", "503", "408", "307", "garbage"])
async def test_no_failure_makes_a_mutation_be_sent_twice(
    raw_server: Any, answered: Any, account: Any, spec: Any, offer_of: Any, attempt: Any, ref: Any,
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
    async with raw_server() as server:
        server.replies = [replies[reply]]
        vast = VastAi.connect(
            account, Wiring(base_url=f"http://127.0.0.1:{server.port}", loopback_only=True)
        )
        with pytest.raises(OutcomeUnknown):
            await call(vast, operation, spec, offer_of(), attempt, ref)
        await vast.aclose()
        assert len(server.received) == 1


async def test_an_id_that_is_no_number_never_becomes_a_path(vast: Any, scripted: Any) -> None:
    with pytest.raises(Invalid):
        await vast.terminate(Ref("vast_ai", "default", "", "1/../../users"))
    assert scripted.requests == []


async def test_no_secret_is_in_an_error(
    vast: Any, scripted: Any, spec: Any, offer_of: Any, attempt: Any
) -> None:
    scripted.says(
        f"PUT {ASK}",
        {
            "success": False,
            "error": "invalid_args",
            "msg": "bad value sesame-sesame for key k3y-0f-the-tests-n0t-real",
            "instance_api_key": "sesame-hidden",
        },
        status=400,
    )
    with pytest.raises(Invalid) as caught:
        await vast.create(spec, offer_of(), attempt, {})
    shown = f"{caught.value} {caught.value.raw} {caught.value.code}"
    assert "sesame" not in shown
    assert "k3y" not in shown
    assert "bad value ***" in caught.value.raw


# Machines


async def test_loading_is_told_as_the_image_being_fetched(
    vast: Any, scripted: Any, ref: Any, machine: Row
) -> None:
    scripted.says(f"GET {MACHINE}", {"instances": machine(actual_status="loading")})
    assert (await vast.get(ref)).pulling
    scripted.says(f"GET {MACHINE}", {"instances": machine(actual_status="created")})
    assert not (await vast.get(ref)).pulling


async def test_a_machine_is_read_with_its_owner_its_ports_and_no_secret(
    vast: Any, scripted: Any, ref: Any, machine: Row
) -> None:
    scripted.says(f"GET {MACHINE}", {"instances": machine()})
    got = await vast.get(ref)
    assert str(scripted.requests[0].url) == "https://vendor.test/api/v0/instances/901/?owner=me"
    assert (got.owner, got.attempt, got.name) == ("abcdef", "abcdefghijklmnop", LABEL)
    assert got.ssh == Endpoint(host="203.0.113.7", port=40022, user="root")
    assert got.ports == {"8888/tcp": "203.0.113.7:40888"}
    assert (got.price, got.bills_compute, got.bills_disk) == (730_000_000, True, True)
    assert got.created_at == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert "sesame" not in repr(got)


@pytest.mark.parametrize("ports", [None, {}, {"22/tcp": None}, {"22/tcp": []}])
async def test_without_a_published_port_ssh_goes_by_the_vendors_proxy(
    vast: Any, scripted: Any, ref: Any, machine: Row, ports: Any
) -> None:
    scripted.says(f"GET {MACHINE}", {"instances": machine(ports=ports)})
    got = await vast.get(ref)
    assert got.ssh == Endpoint(host="ssh1.vast.test", port=10022, user="root")


STATES = [
    ({"actual_status": None, "cur_state": None}, State.PENDING),
    ({"actual_status": "creating"}, State.PENDING),
    ({"actual_status": "loading"}, State.PENDING),
    ({"actual_status": "rebooting"}, State.PENDING),
    ({"actual_status": "created"}, State.PENDING),
    ({"actual_status": "created", "status_msg": "x OCI runtime create failed y"}, State.FAILED),
    ({"actual_status": "running"}, State.RUNNING),
    ({"actual_status": "running", "intended_status": "stopped"}, State.STOPPING),
    ({"actual_status": "frozen", "intended_status": "frozen"}, State.RUNNING),
    ({"actual_status": "stopped", "intended_status": "stopped"}, State.STOPPED),
    ({"actual_status": "exited", "intended_status": "stopped"}, State.STOPPED),
    ({"actual_status": None, "intended_status": "stopped", "cur_state": "stopped"}, State.STOPPED),
    ({"actual_status": "stopped", "cur_state": "stopped", "is_bid": True}, State.PREEMPTED),
    ({"actual_status": "exited", "cur_state": "stopped", "is_bid": True}, State.PREEMPTED),
    ({"actual_status": "exited"}, State.FAILED),
    ({"actual_status": "exited", "is_bid": True}, State.FAILED),
    ({"actual_status": "offline"}, State.UNKNOWN),
    ({"actual_status": "unknown"}, State.UNKNOWN),
    ({"actual_status": "teleporting"}, State.UNKNOWN),
    ({"actual_status": "loading", "cur_state": "unloaded"}, State.TERMINATED),
    ({"actual_status": None, "cur_state": "stopped"}, State.PENDING),
    ({"actual_status": "stopped", "cur_state": "stopped"}, State.PENDING),
]


@pytest.mark.parametrize(("fields", "state"), STATES, ids=str)
def test_every_state_of_the_vendors_table(fields: dict[str, Any], state: State) -> None:
    usual = {"intended_status": "running", "cur_state": "running"}
    assert state_of(Contract(id=1, **(usual | fields))) is state


async def test_find_asks_by_label_and_takes_only_this_attempt(
    vast: Any, scripted: Any, attempt: Any, offer_of: Any, machine: Row
) -> None:
    page = [machine(), machine(id=902, label="gb-abcdef-aaaaaaaaaaaaaaaa"), machine(id=903)]
    scripted.says(
        "GET /api/v1/instances/", {"instances": page, "next_token": None, "total_instances": 3}
    )
    found = await vast.find(attempt, offer_of())
    assert [one.ref.id for one in found] == ["901", "903"]
    params = scripted.requests[0].url.params
    assert json.loads(params["select_filters"]) == {"label": {"in": [LABEL]}}
    assert params["limit"] == "25"


async def listed(vast: Any, scripted: Any, *pages: dict[str, Any]) -> Any:
    scripted.says("GET /api/v0/users/current", {"id": 42, "credit": 3.5})
    for page in pages:
        scripted.then("GET /api/v1/instances/", {"success": True, "next_token": None, **page})
    return await vast.list("")


async def test_a_list_of_all_pages_with_equal_counts_is_complete(
    vast: Any, scripted: Any, machine: Row
) -> None:
    listing = await listed(
        vast, scripted,
        {"instances": [machine(id=1), machine(id=2)], "next_token": "t", "total_instances": 3},
        {"instances": [machine(id=3, label=None)], "total_instances": 3},
    )  # fmt: skip
    assert (listing.account_uid, listing.complete) == ("42", True)
    assert [one.ref.id for one in listing.instances] == ["1", "2", "3"]
    assert listing.instances[2].owner is None
    assert scripted.requests[2].url.params["after_token"] == "t"


async def test_a_uid_asked_just_before_serves_one_list_and_no_later_one(
    vast: Any, scripted: Any, clock: Any
) -> None:
    none = {"instances": [], "total_instances": 0, "next_token": None}
    scripted.says("GET /api/v0/users/current", {"id": 42}, {"id": 43})
    scripted.says("GET /api/v1/instances/", none)
    assert await vast.whoami() == "42"
    assert [(await vast.list("")).account_uid for _ in range(2)] == ["42", "43"]
    scripted.says("GET /api/v0/users/current", {"id": 42}, {"id": 43})
    await vast.whoami()
    await clock.sleep(60)
    assert (await vast.list("")).account_uid == "43"


@pytest.mark.parametrize("total", [2, 4])
async def test_a_list_whose_counts_differ_is_not_complete(
    vast: Any, scripted: Any, machine: Row, total: int
) -> None:
    page = {"instances": [machine(id=n) for n in (1, 2, 3)], "total_instances": total}
    assert not (await listed(vast, scripted, page)).complete


async def test_a_machine_on_two_pages_is_listed_once(
    vast: Any, scripted: Any, machine: Row
) -> None:
    listing = await listed(
        vast, scripted,
        {"instances": [machine(id=1), machine(id=2)], "next_token": "t", "total_instances": 3},
        {"instances": [machine(id=2), machine(id=3)], "total_instances": 3},
    )  # fmt: skip
    assert [one.ref.id for one in listing.instances] == ["1", "2", "3"]
    assert listing.complete


async def test_a_token_that_comes_again_ends_the_list_incomplete(
    vast: Any, scripted: Any, machine: Row
) -> None:
    page = {"instances": [machine(id=1)], "next_token": "t", "total_instances": 1}
    assert not (await listed(vast, scripted, page)).complete


async def test_terminate_sends_a_delete_and_takes_gone_for_done(
    vast: Any, scripted: Any, ref: Any
) -> None:
    scripted.says(f"DELETE {MACHINE}", {"success": True})
    scripted.then(f"DELETE {MACHINE}", no("no_such_instance"), status=404)
    await vast.terminate(ref)
    await vast.terminate(ref)
    assert [(r.method, r.url.path, r.content) for r in scripted.requests] == [
        ("DELETE", "/api/v0/instances/901/", b"{}")
    ] * 2


async def test_the_small_mutations(vast: Any, scripted: Any, ref: Any) -> None:
    scripted.says(ANY, {"success": True})
    await vast.stop(ref)
    await vast.start(ref)
    await vast.bid(ref, 250_000_000)
    await vast.attach_key(ref, "ssh-ed25519 AAAA me")
    sent = [(r.method, r.url.path, json.loads(r.content)) for r in scripted.requests]
    assert sent == [
        ("PUT", "/api/v0/instances/901/", {"state": "stopped"}),
        ("PUT", "/api/v0/instances/901/", {"state": "running"}),
        ("PUT", "/api/v0/instances/bid_price/901/", {"client_id": "me", "price": 0.25}),
        ("POST", "/api/v0/instances/901/ssh/", {"ssh_key": "ssh-ed25519 AAAA me"}),
    ]


async def test_account_and_balance(vast: Any, scripted: Any) -> None:
    scripted.says(
        "GET /api/v0/users/current",
        {"id": 42, "credit": -1.25, "balance": 9.0, "api_key": "sesame"},
    )
    assert await vast.whoami() == "42"
    assert await vast.balance() == -1_250_000_000
    assert await vast.scopes() == ("",)
    assert scripted.requests[0].url.path == "/api/v0/users/current"


async def test_there_is_nothing_to_ensure_or_release(vast: Any, ref: Any) -> None:
    with pytest.raises(Unsupported):
        await vast.release(Resource.SSH_KEY, ref)


def test_it_keeps_the_protocols_that_its_capabilities_promise(vast: Any) -> None:
    assert isinstance(vast, Stoppable)
    assert isinstance(vast, HasBalance)
    assert isinstance(vast, Biddable)
    assert isinstance(vast, KeyAttachable)


async def test_without_a_key_only_the_search_is_asked(scripted: Any, ref: Any, ask: Row) -> None:
    vast = connected(VastAi, scripted, {})
    scripted.says("POST /api/v0/bundles/", {"offers": [ask()]})
    (page,) = [page async for page in vast.offers(Query(market=Market.SPOT))]
    assert page.rows
    assert "authorization" not in scripted.requests[0].headers
    with pytest.raises(AuthFailed) as caught:
        await vast.get(ref)
    assert caught.value.code == "no_key"
    assert len(scripted.requests) == 1


# Bills

START = datetime(2026, 3, 1, 6, tzinfo=UTC)


def charge(source: str = "instance-901", amount: float = 1.234, **changes: Any) -> dict[str, Any]:
    items = [{"type": "gpu", "amount": amount - 0.1, "start": 1772366400, "end": 1772370000},
             {"type": "disk", "amount": 0.1}]  # fmt: skip
    row = {"start": 1772323200, "end": 1772409600, "source": source, "amount": amount,
           "type": "instance", "items": items}  # fmt: skip
    return row | changes


async def test_a_bill_sums_the_rows_of_this_contract_only(
    vast: Any, scripted: Any, clock: Any, ref: Any
) -> None:
    rows = [charge(), charge("instance-9010"), charge(amount=0.5, start=1772409600), charge()]
    scripted.says(
        "GET /api/v0/charges/", {"success": True, "results": rows, "total": 3, "next_token": None}
    )
    bill = await vast.billing(ref, START, None)
    assert bill.status == "running"
    assert bill.amount == 1_734_000_000
    assert [line.item for line in bill.lines] == ["gpu", "disk", "gpu", "disk"]
    assert bill.complete_until == clock.now()
    params = scripted.requests[0].url.params
    days = json.loads(params["select_filters"])["day"]
    assert days["gte"] == int(datetime(2026, 3, 1, tzinfo=UTC).timestamp())
    assert days["lte"] > clock.now().timestamp()


@pytest.mark.parametrize(
    ("hours_since_end", "rows", "status", "amount"),
    [
        (1, [charge()], "pending", 1_234_000_000),
        (1, [], "pending", None),
        (9, [charge()], "ended", 1_234_000_000),
        (9, [], "ended", 0),
    ],
)
async def test_a_bill_is_final_only_when_the_record_had_time(
    vast: Any, scripted: Any, clock: Any, ref: Any,
    hours_since_end: float, rows: Any, status: str, amount: int | None,
) -> None:  # fmt: skip
    scripted.says(
        "GET /api/v0/charges/",
        {"success": True, "results": rows, "total": len(rows), "next_token": None},
    )
    until = clock.now() - timedelta(hours=hours_since_end)
    bill = await vast.billing(ref, START, until)
    assert (bill.status, bill.amount) == (status, amount)


async def test_a_bill_with_a_lost_page_is_not_final(
    vast: Any, scripted: Any, clock: Any, ref: Any
) -> None:
    scripted.says(
        "GET /api/v0/charges/",
        {"success": True, "results": [charge()], "total": 2, "next_token": None},
    )
    bill = await vast.billing(ref, START, clock.now() - timedelta(days=2))
    assert bill.status == "pending"
