"""What Jarvis Labs is asked, and what its answers mean."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.providers.scripted import START, Scripted, connected

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
    Unsupported,
    WrongState,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.offer import Offer
from gpubroker.model.query import Query
from gpubroker.model.terms import Kind, Resource, State
from gpubroker.providers.jarvislabs import JarvisLabs, Machine, instance_of, launch
from gpubroker.providers.jarvislabs_market import HOSTS, parse_offers

FIXTURES = Path(__file__).parent / "fixtures" / "jarvislabs"
ATTEMPT = Attempt("abcdef", "abcdefghijklmnop", "l")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJxVJ1SPSM9vG2n2fSKZ0eiFO0Ptc1jD3dhKkq8bCQh9 gb-abcdef"
SPEC = LaunchSpec(ssh_keys=(KEY,), expires_at=START + timedelta(hours=1))
ID = "india-noida-01/container/4711"
REF = Ref("jarvislabs", "default", "", ID)


def told(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def offers() -> dict[str, Offer]:
    body = (FIXTURES / "servers.json").read_bytes()
    rows, _ = parse_offers(body, account="default", fetched_at=START)
    return {row.key: row for row in rows}


CONTAINER = offers()["L4:india-noida-01:container:2"]
SPOT = offers()["L4:india-noida-01:container:1:spot"]
VM = offers()["A100-80GB:india-chennai-01:vm:1"]


@pytest.fixture
def jarvis(scripted: Scripted) -> JarvisLabs:
    return connected(JarvisLabs, scripted)


def machine(**changes: Any) -> Any:
    row = msgspec.convert(told("running")["instance"] | changes, Machine)
    return instance_of(row, "default")


# The end of a create


def test_a_create_sends_every_key_that_the_vendors_client_sends() -> None:
    assert launch(SPEC, CONTAINER, ATTEMPT) == {
        "gpu_type": "L4",
        "num_gpus": 2,
        "hdd": 50,
        "region": "india-noida-01",
        "name": ATTEMPT.name,
        "is_spot": False,
        "duration": "hour",
        "disk_type": "ssd",
        "http_ports": "",
        "script_id": None,
        "script_args": "",
        "fs_id": None,
        "arguments": "",
    }
    volume = (Ref("jarvislabs", "default", "", "5"), "/home/jl_fs")
    more = msgspec.structs.replace(
        SPEC, disk_gb=200, ports=((7860, "tcp"), (8080, "tcp")), volumes=(volume,)
    )
    body = launch(more, SPOT, ATTEMPT)
    assert (body["hdd"], body["http_ports"], body["fs_id"]) == (200, "7860,8080", 5)
    assert (body["is_spot"], body["num_gpus"]) == (True, 1)
    assert launch(SPEC, VM, ATTEMPT)["hdd"] == 100


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"image": "ubuntu:24.04"}, "image"),
        ({"bid": 1}, "bid"),
        ({"ports": ((53, "udp"),)}, "ports"),
        ({"disk_gb": 4096}, "disk_gb"),
        ({"vm_image": "vm"}, "vm_image"),
        ({"vm_image": "../ssh"}, "vm_image"),
        ({"volumes": ((Ref("jarvislabs", "default", "", "x"), "/home/jl_fs"),)}, "volumes"),
        ({"volumes": ((Ref("jarvislabs", "default", "", "5"), "/data"),)}, "volumes"),
    ],
    ids=str,
)
def test_what_the_vendor_would_not_take_is_refused_by_its_field(change: Any, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        launch(msgspec.structs.replace(SPEC, **change), CONTAINER, ATTEMPT)
    assert refused.value.field == field


async def test_a_template_makes_a_container_and_never_a_vm(
    jarvis: JarvisLabs, scripted: Scripted
) -> None:
    scripted.says("POST /templates/jax/create", {"machine_id": "4711"})
    spec = msgspec.structs.replace(SPEC, vm_image="jax")
    assert (await jarvis.create(spec, CONTAINER, ATTEMPT, {})).id == ID
    with pytest.raises(Invalid):
        await jarvis.create(spec, VM, ATTEMPT, {})
    scripted.says("POST /templates/vm/create", told("made"))
    made = await jarvis.create(SPEC, VM, ATTEMPT, {})
    assert made.id == "india-chennai-01/vm/4711"


async def test_what_changes_a_machine_goes_to_its_regions_host(scripted: Scripted) -> None:
    jarvis = connected(JarvisLabs, scripted, host=JarvisLabs.base_url)
    scripted.says("POST /templates/vm/create", told("made"))
    scripted.says("POST /templates/vm/cpu/destroy", told("done"))
    scripted.says("GET /users/fetch", told("list"))
    await jarvis.create(SPEC, VM, ATTEMPT, {})
    await jarvis.terminate(Ref("jarvislabs", "default", "", "europe-01/cpu/12"))
    await jarvis.find(ATTEMPT, VM)
    sent = [f"https://{request.url.host}" for request in scripted.requests]
    assert sent == [HOSTS["india-chennai-01"], HOSTS["europe-01"], HOSTS["india-noida-01"]]
    assert scripted.requests[1].url.params["machine_id"] == "12"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, {"success": False, "message": "Out of stock"}, NoCapacity),
        (200, {"sucess": "False", "error": "not enough capacity"}, NoCapacity),
        (400, {"detail": {"message": "L4 is not available"}}, NoCapacity),
        (409, {"error": "No capacity"}, NoCapacity),
        (402, {"detail": "pay"}, OutOfFunds),
        (403, {"message": "Insufficient balance"}, OutOfFunds),
        (403, {"message": "not yours"}, AuthFailed),
        (401, {"detail": "Invalid token"}, AuthFailed),
        (422, {"detail": [{"loc": ["body", "hdd"], "msg": "too small", "type": "x"}]}, Invalid),
        (429, {"detail": "slow down"}, RateLimited),
        (200, {"message": "we are working on it"}, OutcomeUnknown),
        (200, {"success": False, "message": "something"}, OutcomeUnknown),
        (200, {"machine_id": None}, OutcomeUnknown),
        (200, {"success": True, "message": "It will be available shortly"}, OutcomeUnknown),
        (200, {"message": "L4 is not available"}, OutcomeUnknown),
        (200, {"success": False, "message": "Out of stock", "machine_id": 4711}, OutcomeUnknown),
        (400, {"error": "No capacity", "machine_id": 4711}, OutcomeUnknown),
        (500, {"detail": "available soon"}, OutcomeUnknown),
        (404, {"detail": "Not Found"}, OutcomeUnknown),
    ],
    ids=str,
)
async def test_a_refused_create_is_told_by_its_words(
    jarvis: JarvisLabs, scripted: Scripted, status: int, body: Any, error: type[BrokerError]
) -> None:
    scripted.says("POST /templates/pytorch/create", body, status=status)
    with pytest.raises(error) as refused:
        await jarvis.create(SPEC, CONTAINER, ATTEMPT, {})
    assert type(refused.value) is error
    assert len(scripted.requests) == 1


async def test_options_that_there_are_not_are_refused(jarvis: JarvisLabs) -> None:
    with pytest.raises(Unsupported):
        await jarvis.create(
            msgspec.structs.replace(SPEC, options={"x": 1}), CONTAINER, ATTEMPT, {}
        )  # fmt: skip


def test_a_machines_start_goes_over_ssh_with_the_users_keys(jarvis: JarvisLabs) -> None:
    spec = msgspec.structs.replace(SPEC, env={"A": "b"}, ssh_keys=(KEY, "ssh-rsa BBBB me"))
    container = jarvis.after_boot(spec, CONTAINER, ATTEMPT, START)
    assert "ssh-rsa BBBB" in container
    assert "A=" in container
    assert jarvis.after_boot(spec, VM, ATTEMPT, START) != container


# Keys


async def test_the_brokers_key_is_registered_once_and_read_again_for_its_id(
    jarvis: JarvisLabs, scripted: Scripted
) -> None:
    scripted.says("GET /ssh/", [told("keys")[0]], told("keys"))
    scripted.says("POST /ssh/", told("done"))
    made = await jarvis.ensure(Resource.SSH_KEY, SPEC, VM, ATTEMPT, {})
    assert made.id == "k2"
    assert scripted.body(1) == {"ssh_key": KEY, "key_name": "gb-abcdef"}
    again = await jarvis.ensure(Resource.SSH_KEY, SPEC, VM, ATTEMPT, {})
    assert (again, scripted.asked().count("POST /ssh/")) == (made, 1)


async def test_a_key_that_is_not_listed_yet_is_no_key(
    jarvis: JarvisLabs, scripted: Scripted
) -> None:
    scripted.says("GET /ssh/", [])
    scripted.says("POST /ssh/", told("done"))
    with pytest.raises(OutcomeUnknown):
        await jarvis.ensure(Resource.SSH_KEY, SPEC, VM, ATTEMPT, {})


async def test_where_no_key_has_room_it_is_told_what_to_do(
    jarvis: JarvisLabs, scripted: Scripted
) -> None:
    scripted.says("GET /ssh/", [told("keys")[0]])
    scripted.says("POST /ssh/", {"sucess": False, "error": "Maximum of 10 SSH keys reached"})
    with pytest.raises(QuotaExceeded, match="Delete an SSH key"):
        await jarvis.ensure(Resource.SSH_KEY, SPEC, VM, ATTEMPT, {})


def test_no_word_of_the_vendor_says_that_a_machine_is_gone() -> None:
    assert JarvisLabs.capabilities.gone == "absent"


async def test_a_sweep_is_told_of_keys_and_scripts_and_ends_them_by_id(
    jarvis: JarvisLabs, scripted: Scripted
) -> None:
    scripted.says("GET /users/user_info", told("user"))
    scripted.says("GET /ssh/", told("keys"))
    scripted.says("GET /scripts/", {"script_meta": [{"script_id": 7, "script_name": "mine"}]})
    held = await jarvis.resources("")
    assert [(one.what, one.ref.id, one.owner) for one in held.resources] == [
        (Resource.SSH_KEY, "k1", None),
        (Resource.SSH_KEY, "k2", "abcdef"),
        (Resource.STARTUP_SCRIPT, "7", None),
    ]
    scripted.says("DELETE /ssh/k2", told("done")).says("DELETE /scripts/", told("done"))
    await jarvis.discard(Resource.SSH_KEY, held.resources[1].ref)
    await jarvis.discard(Resource.STARTUP_SCRIPT, held.resources[2].ref)
    assert scripted.requests[-1].url.params["script_id"] == "7"


# Machines


@pytest.mark.parametrize(
    ("status", "state", "bills"),
    [
        ("Creating", State.PENDING, True),
        ("Resuming", State.PENDING, True),
        ("Running", State.RUNNING, True),
        ("Pausing", State.STOPPING, True),
        ("Paused", State.STOPPED, False),
        ("Destroying", State.TERMINATING, True),
        ("Failed", State.FAILED, True),
        ("Dreaming", State.UNKNOWN, True),
    ],
)
def test_each_word_for_a_state_is_known(status: str, state: State, bills: bool) -> None:
    seen = machine(status=status)
    assert (seen.state, seen.bills_compute, seen.bills_disk) == (state, bills, True)
    assert seen.healthy is (state is not State.UNKNOWN)
    # Addresses are stale while it does not run.
    assert bool(seen.ssh) is (state is State.RUNNING)
    assert bool(seen.ports) is (state is State.RUNNING)


def test_a_machine_without_an_address_boots() -> None:
    assert machine(ssh_str=None).state is State.PENDING


def test_a_vm_is_reached_at_its_own_address() -> None:
    row = msgspec.convert(told("vm")["instance"], Machine)
    seen = instance_of(row, "default")
    assert seen.ref.id == "india-chennai-01/vm/4711"
    assert seen.ssh is not None
    assert (seen.ssh.host, seen.ssh.port, seen.ssh.user) == ("203.0.113.9", 22, "ubuntu")
    assert seen.ports == {"7860/tcp": "203.0.113.9:7860", "8080/tcp": "203.0.113.9:8080"}
    assert seen.disk_gb == 200
    shown = machine(ssh_str="ssh cloud@203.0.113.9", framework="vm")
    assert shown.ssh.user == "cloud"


def test_no_token_of_a_notebook_is_kept() -> None:
    assert "sesame" not in repr(machine())


async def test_a_404_is_no_absence_before_the_list_says_so(
    jarvis: JarvisLabs, scripted: Scripted
) -> None:
    scripted.says("GET /users/fetch/4711", told("nobody"), status=404)
    scripted.says("GET /users/fetch", told("nobody"), status=404)
    with pytest.raises(BadResponse):
        await jarvis.get(REF)
    scripted.says("GET /users/fetch", told("others"))
    with pytest.raises(NotFound):
        await jarvis.get(REF)


async def test_another_machine_in_the_answer_is_a_bad_response(
    jarvis: JarvisLabs, scripted: Scripted
) -> None:
    scripted.says("GET /users/fetch/4711", told("vm"))
    with pytest.raises(BadResponse):
        await jarvis.get(REF)


@pytest.mark.parametrize("id_", ["4711", "moon-01/vm/1", "india-noida-01/pod/1", f"{ID}/../1"])
async def test_an_id_of_another_form_is_asked_of_nobody(jarvis: JarvisLabs, id_: str) -> None:
    with pytest.raises(Invalid):
        await jarvis.terminate(Ref("jarvislabs", "default", "", id_))


@pytest.mark.parametrize(
    ("kind", "path"),
    [("container", "/misc"), ("vm", "/templates/vm"), ("cpu", "/templates/vm/cpu")],
)
async def test_each_kind_is_paused_and_ended_by_its_own_path(
    jarvis: JarvisLabs, scripted: Scripted, kind: str, path: str
) -> None:
    scripted.says(f"POST {path}/pause", told("done")).says(f"POST {path}/destroy", told("done"))
    ref = Ref("jarvislabs", "default", "", f"india-noida-01/{kind}/5")
    await jarvis.stop(ref)
    await jarvis.terminate(ref)
    assert [str(request.url.query, "ascii") for request in scripted.requests] == [
        "machine_id=5",
        "machine_id=5",
    ]


async def test_a_refused_end_is_held_against_the_machines_record(
    jarvis: JarvisLabs, scripted: Scripted
) -> None:
    scripted.says("POST /misc/destroy", {"success": False, "message": "busy"})
    row = told("running")
    scripted.says("GET /users/fetch/4711", {**row, "instance": row["instance"] | {
        "status": "Destroying"}})  # fmt: skip
    await jarvis.terminate(REF)
    scripted.says("GET /users/fetch/4711", row)
    with pytest.raises(OutcomeUnknown):
        await jarvis.terminate(REF)
    scripted.says("POST /misc/destroy", told("bad-key"), status=401)
    with pytest.raises(AuthFailed):
        await jarvis.terminate(REF)


async def test_a_resume_brings_all_that_the_machine_had_and_tells_its_new_id(
    jarvis: JarvisLabs, scripted: Scripted
) -> None:
    scripted.says("GET /users/fetch/4711", told("paused"))
    scripted.says("POST /templates/pytorch/resume", told("resumed"))
    assert (await jarvis.start(REF)).id == "india-noida-01/container/4712"
    assert scripted.body() == {
        "machine_id": 4711,
        "gpu_type": "L4",
        "num_gpus": 1,
        "is_spot": True,
        "hdd": 100,
        "name": ATTEMPT.name,
        "duration": "hour",
        "script_id": None,
        "http_ports": "7860",
        "script_args": "",
        "fs_id": 5,
        "arguments": "",
    }


@pytest.mark.parametrize(("status", "error"), [("Resuming", None), ("Destroying", WrongState)])
async def test_what_is_not_paused_is_not_resumed(
    jarvis: JarvisLabs, scripted: Scripted, status: str, error: Any
) -> None:
    row = told("paused")
    scripted.says("GET /users/fetch/4711", {**row, "instance": row["instance"] | {
        "status": status}})  # fmt: skip
    if error is None:
        assert await jarvis.start(REF) == REF
    else:
        with pytest.raises(error):
            await jarvis.start(REF)
    assert len(scripted.requests) == 1


# Money


async def test_an_indian_accounts_wallet_holds_no_dollars(
    jarvis: JarvisLabs, scripted: Scripted
) -> None:
    scripted.says("GET /misc/", {"success": True})
    with pytest.raises(Unsupported):
        await jarvis.balance()


async def test_the_currency_is_asked_for_where_the_offers_do_not_tell_it(
    jarvis: JarvisLabs, scripted: Scripted
) -> None:
    body = {name: value for name, value in told("servers").items() if name != "currency"}
    scripted.says("GET /misc/server_meta", body).says("GET /misc/", {"success": "True"})
    (page,) = [page async for page in jarvis.offers(Query())]
    assert {row.price.quoted for row in page.rows} == {"INR"}
    assert (page.covers, page.complete) == (None, True)


async def test_only_a_person_can_look_at_the_bill(jarvis: JarvisLabs) -> None:
    since = datetime(2026, 3, 1, tzinfo=UTC)
    bill = await jarvis.billing(REF, since, None)
    assert (bill.status, bill.amount) == ("manual", None)
    assert ID in bill.evidence


def test_what_is_rented_is_of_a_declared_kind() -> None:
    assert {offer.kind for offer in offers().values()} == {Kind.CONTAINER, Kind.VM}
