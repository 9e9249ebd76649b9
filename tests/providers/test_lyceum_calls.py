"""What Lyceum is asked, and what its answers mean."""

from __future__ import annotations

import json
from datetime import timedelta
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
    RateLimited,
    Unsupported,
    WrongState,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.query import Query
from gpubroker.model.terms import Availability, Resource, State
from gpubroker.providers.accounts import Account, Wiring
from gpubroker.providers.base import KeyAttachable, Stoppable
from gpubroker.providers.lyceum import Lyceum, Machine, instance_of, launch, parse_offers

FIXTURES = Path(__file__).parent / "fixtures" / "lyceum"
ATTEMPT = Attempt("abcdef", "abcdefghijklmnop", "l")
OWN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJxVJ1SPSM9vG2n2fSKZ0eiFO0Ptc1jD3dhKkq8bCQh9 gb-abcdef"
MINE = "ssh-rsa BBBB me"
SPEC = LaunchSpec(ssh_keys=(MINE, OWN), expires_at=START + timedelta(hours=1))
REF = Ref("lyceum", "default", "", "vm-abc123")
BELOW = "/api/v2/external"
STATUS, CREATE = f"GET {BELOW}/vms/vm-abc123/status", f"POST {BELOW}/vms/create"
DELETE = f"DELETE {BELOW}/vms/vm-abc123"
OFFER = parse_offers(
    (FIXTURES / "availability.json").read_bytes(), {}, account="default", fetched_at=START
)[0][1]


def told(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def machine(**changes: Any) -> Any:
    return instance_of(msgspec.convert(told("ready") | changes, Machine), "default")


@pytest.fixture
def lyceum(scripted: Scripted) -> Lyceum:
    return connected(Lyceum, scripted)


def test_a_create_names_the_brokers_key_and_always_the_instance_type() -> None:
    assert launch(SPEC, OFFER, ATTEMPT) == {
        "user_public_key": OWN,
        "hardware_profile": "a100",
        "instance_type": "on-demand",
        "instance_specs": {"gpu_count": 2},
        "display_name": ATTEMPT.name,
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"image": "ubuntu:24.04"}, "image"),
        ({"vm_image": "ubuntu-24"}, "vm_image"),
        ({"ports": ((80, "tcp"),)}, "ports"),
        ({"volumes": ((REF, "/data"),)}, "volumes"),
        ({"bid": 1}, "bid"),
        ({"disk_gb": 101}, "disk_gb"),
        ({"ssh_keys": ()}, "ssh_keys"),
    ],
    ids=str,
)
def test_what_the_vendor_would_not_take_is_refused_by_its_field(change: Any, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        launch(msgspec.structs.replace(SPEC, **change), OFFER, ATTEMPT)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, {"detail": "No capacity for a100"}, NoCapacity),
        (500, {"detail": "a100 is not available right now"}, OutcomeUnknown),
        (500, {"error": "No capacity for a100"}, OutcomeUnknown),
        (503, b"no capacity for this request", OutcomeUnknown),
        (503, b"<html><p>No capacity is available</p></html>", OutcomeUnknown),
        (400, {"error": "a100 is not available right now"}, NoCapacity),
        (409, {"detail": "out of capacity"}, NoCapacity),
        (402, {"detail": "Insufficient credits"}, OutOfFunds),
        (403, {"detail": "No access to this profile"}, AuthFailed),
        (401, {"detail": "Invalid token"}, AuthFailed),
        (422, {"detail": [{"loc": ["body"], "msg": "field required", "type": "x"}]}, Invalid),
        (409, {"detail": "busy"}, WrongState),
        (429, {"detail": "slow down"}, RateLimited),
        (503, b"Service Temporarily Unavailable", OutcomeUnknown),
        (504, b"", OutcomeUnknown),
        (404, {"detail": "Not Found"}, OutcomeUnknown),
        (200, {"vm_id": None}, OutcomeUnknown),
    ],
    ids=str,
)
async def test_a_refused_create_is_told_by_its_words(
    lyceum: Lyceum, scripted: Scripted, status: int, body: Any, error: type[BrokerError]
) -> None:
    scripted.says(CREATE, body, status=status)
    with pytest.raises(error) as refused:
        await lyceum.create(SPEC, OFFER, ATTEMPT, {})
    assert type(refused.value) is error
    assert len(scripted.requests) == 1


async def test_options_that_there_are_not_are_refused(lyceum: Lyceum) -> None:
    with pytest.raises(Unsupported):
        await lyceum.create(msgspec.structs.replace(SPEC, options={"x": 1}), OFFER, ATTEMPT, {})


def test_a_create_may_take_as_long_as_the_vendors_client_waits() -> None:
    account = Account("lyceum", "default", {"LYCEUM_API_KEY": "lk_not_real_at_all"})
    assert Lyceum.connect(account, Wiring()).http.deadline_s("create") == 150
    patient = Lyceum.connect(account, Wiring(deadlines={"create": 5.0}))
    assert patient.http.deadline_s("create") == 5


def test_what_a_create_does_not_take_goes_over_ssh(lyceum: Lyceum) -> None:
    spec = msgspec.structs.replace(SPEC, env={"A": "b"}, startup_script="echo hello")
    script = lyceum.after_boot(spec, OFFER, ATTEMPT, START)
    for part in (MINE, "A=", "echo hello"):
        assert part in script


@pytest.mark.parametrize(
    ("status", "state", "bills"),
    [
        ("pending", State.PENDING, True),
        ("provisioning", State.PENDING, True),
        ("running", State.RUNNING, True),
        ("ready", State.RUNNING, True),
        ("stopped", State.STOPPED, True),
        ("terminated", State.TERMINATED, False),
        ("failed", State.FAILED, True),
        ("error", State.FAILED, True),
        ("dreaming", State.UNKNOWN, True),
    ],
)
def test_each_word_for_a_state_is_known(status: str, state: State, bills: bool) -> None:
    seen = machine(status=status)
    assert (seen.state, seen.bills_compute) == (state, bills)
    assert seen.healthy is (state is not State.UNKNOWN)


@pytest.mark.parametrize("status", ["running", "ready"])
def test_a_machine_without_an_address_boots(status: str) -> None:
    assert machine(status=status, ip_address=None).state is State.PENDING


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("203.0.113.9", "203.0.113.9", 22),
        ("203.0.113.9:2222", "203.0.113.9", 2222),
        ("2001:db8::7", "2001:db8::7", 22),
    ],
)
def test_an_address_may_carry_a_port(address: str, host: str, port: int) -> None:
    ssh = machine(ip_address=address).ssh
    assert (ssh.host, ssh.port, ssh.user) == (host, port, "lyceum")


async def test_a_list_asks_for_all_and_says_when_it_is_not_whole(
    lyceum: Lyceum, scripted: Scripted
) -> None:
    scripted.says(f"GET {BELOW}/user/org", told("org"))
    scripted.says(f"GET {BELOW}/vms/list", told("list"), told("list") | {"total": 3})
    assert (await lyceum.list("")).complete
    assert set(scripted.requests[-1].url.params.values()) == {"true"}
    assert len(scripted.requests[-1].url.params) == 4
    assert not (await lyceum.list("")).complete


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"detail": "VM not found"}, NotFound),
        ({"detail": "Not Found"}, BadResponse),
        (b"Cannot GET /api/v2/external/vms/vm-abc123/status", BadResponse),
        (b"", BadResponse),
    ],
    ids=str,
)
async def test_only_the_vendors_words_say_that_there_is_no_such_machine(
    lyceum: Lyceum, scripted: Scripted, body: Any, error: type[BrokerError]
) -> None:
    scripted.says(STATUS, body, status=404)
    with pytest.raises(error):
        await lyceum.get(REF)
    scripted.says(DELETE, body, status=404)
    if error is NotFound:
        await lyceum.terminate(REF)
    else:
        with pytest.raises(OutcomeUnknown):
            await lyceum.terminate(REF)


async def test_another_machine_in_the_answer_is_a_bad_response(
    lyceum: Lyceum, scripted: Scripted
) -> None:
    scripted.says(STATUS, told("ready") | {"vm_id": "vm-other"})
    with pytest.raises(BadResponse):
        await lyceum.get(REF)


@pytest.mark.parametrize(
    ("older", "newer", "amount"), [(0.5, 1.25, 1.25), (0.5, None, 0.5), (None, 0.0, 0.0)]
)
async def test_the_newer_figure_of_what_was_charged_counts(
    lyceum: Lyceum, scripted: Scripted, older: Any, newer: Any, amount: float
) -> None:
    scripted.says(STATUS, told("ended") | {"billed": older, "croesus_billed": newer})
    bill = await lyceum.billing(REF, START - timedelta(hours=9), START - timedelta(hours=2))
    assert (bill.status, bill.amount) == ("ended", amount * 10**9)
    early = await lyceum.billing(REF, START - timedelta(hours=9), START)
    assert early.status == "pending"


@pytest.mark.parametrize(("until", "status"), [(None, "running"), (START, "pending")])
async def test_a_machine_without_a_figure_cost_nobody_knows_what(
    lyceum: Lyceum, scripted: Scripted, until: Any, status: str
) -> None:
    scripted.says(STATUS, told("ended") | {"billed": None, "croesus_billed": None})
    bill = await lyceum.billing(REF, START - timedelta(days=9), until)
    assert (bill.status, bill.amount) == (status, None)


@pytest.mark.parametrize("odd", [{"croesus_billed": -1}, {"billed": "1.25"}, {"vm_id": "vm-other"}])
async def test_a_record_that_cannot_be_is_no_bill(
    lyceum: Lyceum, scripted: Scripted, odd: dict[str, Any]
) -> None:
    scripted.says(STATUS, told("ended") | odd)
    with pytest.raises(BadResponse):
        await lyceum.billing(REF, START - timedelta(days=9), START)


def test_a_time_that_not_every_zone_knows_is_none() -> None:
    assert machine(created_at="9999-12-31T23:59:59-23:59").created_at is None


async def test_the_bill_of_a_machine_that_is_told_no_more_is_not_known(
    lyceum: Lyceum, scripted: Scripted
) -> None:
    scripted.says(STATUS, told("missing"), status=404)
    assert (await lyceum.billing(REF, START, START)).status == "unknown"


@pytest.mark.parametrize(("told_", "left"), [("123.45", 123.45), (7, 7), (-1.5, -1.5)])
async def test_a_balance_is_text_or_a_number(
    lyceum: Lyceum, scripted: Scripted, told_: Any, left: float
) -> None:
    scripted.says(f"GET {BELOW}/user/org", told("org"))
    scripted.says(f"GET {BELOW}/orgs/acme/balance", {"balance": told_})
    assert await lyceum.balance() == left * 10**9


@pytest.mark.parametrize("odd", ["much", "nan", "1e300"])
async def test_a_balance_that_is_no_number_is_a_bad_response(
    lyceum: Lyceum, scripted: Scripted, odd: str
) -> None:
    scripted.says(f"GET {BELOW}/user/org", told("org"))
    scripted.says(f"GET {BELOW}/orgs/acme/balance", {"balance": odd})
    with pytest.raises(BadResponse):
        await lyceum.balance()


async def test_an_older_gateway_has_no_price_list_and_nothing_free_is_an_answer(
    lyceum: Lyceum, scripted: Scripted
) -> None:
    scripted.says(f"GET {BELOW}/pricing", {"detail": "Not Found"}, status=404)
    availability = f"GET {BELOW}/vms/availability"
    scripted.says(availability, told("availability"), {"available_instance_variants": []})
    (page,) = [page async for page in lyceum.offers(Query())]
    assert {row.availability for row in page.rows} == {Availability.YES}
    (page,) = [page async for page in lyceum.offers(Query())]
    assert (page.rows, page.complete, page.covers) == ((), True, None)
    scripted.says(f"GET {BELOW}/pricing", {"detail": "oops"}, status=500)
    with pytest.raises(BrokerError):
        _ = [page async for page in lyceum.offers(Query())]


async def test_a_sweep_is_told_of_volumes_and_ends_one_by_its_id(
    lyceum: Lyceum, scripted: Scripted
) -> None:
    scripted.says(f"GET {BELOW}/user/org", told("org"))
    volume = {"volume_id": "v1", "name": "data", "size_gb": 100}
    scripted.says(f"GET {BELOW}/storage/block", {"volumes": [volume]})
    (held,) = (await lyceum.resources("")).resources
    assert (held.what, held.ref.id, held.owner) == (Resource.VOLUME, "v1", None)
    scripted.says(f"DELETE {BELOW}/storage/block/v1", {"message": "ok"})
    await lyceum.discard(Resource.VOLUME, held.ref)


def test_what_lyceum_has_not_cannot_be_asked_for(lyceum: Lyceum) -> None:
    for protocol in (Stoppable, KeyAttachable):
        assert not isinstance(lyceum, protocol)
