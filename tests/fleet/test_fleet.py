"""From intent to a machine that is proven gone, on one imaginary cloud."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from gpubroker.fleet.context import Probed
from gpubroker.fleet.errors import AccountChanged, NothingToBeHad, StillThere, UnknownName
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.fleet.warned import recent
from gpubroker.model.errors import (
    AuthFailed,
    BrokerError,
    Invalid,
    NoCapacity,
    OutOfFunds,
    PriceChanged,
    QuotaExceeded,
    RateLimited,
    Refused,
    Unavailable,
    Unsupported,
)
from gpubroker.model.instance import Endpoint
from gpubroker.model.money import nanos, usd
from gpubroker.model.offer import Offer
from gpubroker.model.query import Query
from gpubroker.model.terms import Carrier, State
from gpubroker.providers.calling import Call, check_before_sending
from gpubroker.providers.decorated import decorate
from gpubroker.store.errors import LeaseLost
from gpubroker.store.store import Lease
from gpubroker.testing.fake_cloud import Crashed

House = Any


async def test_a_launch_is_one_create_and_ends_with_proof_and_bill(house: House) -> None:
    fleet = house.open()
    machine = await house.launch(fleet)
    assert (machine.state, machine.phase) == (State.RUNNING, "ready")
    assert usd(machine.price) == pytest.approx(0.204)
    assert house.cloud.count("create") == 1
    assert len(house.cloud.billed()) == 1
    house.cloud.clock.advance(3600)
    ended = await fleet.terminate("train-1")
    assert ended.state is State.TERMINATED
    assert house.cloud.billed() == []
    assert ended.bill.status == "ended"
    [truth] = house.cloud.machines
    assert ended.bill.amount == house.cloud.charged(truth)
    # Our meter ends when the absence is proven, a look later than the cloud's own.
    assert 0 <= ended.cost_so_far - house.cloud.charged(truth) < machine.price * 30 // 3600
    assert house.forgotten == [machine.host_key_alias]


async def test_the_same_name_again_ends_nothing_twice(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    await fleet.terminate("train-1")
    asked = house.cloud.count("terminate")
    assert (await fleet.terminate("train-1")).state is State.TERMINATED
    assert house.cloud.count("terminate") == asked


async def test_an_unknown_name_tells_the_nearest(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    with pytest.raises(UnknownName, match="Did you mean train-1"):
        await fleet.terminate("tain-1")


@pytest.mark.parametrize(
    ("refusal", "creates", "ready"),
    [
        (NoCapacity, 2, True),  # this offer only: the next one
        (PriceChanged, 2, True),
        (AuthFailed, 1, False),  # the same key everywhere at this cloud
        (OutOfFunds, 1, False),
        (QuotaExceeded, 1, False),
        (Invalid, 1, False),  # the request itself
        (RateLimited, 2, True),  # surely not made: the same attempt again
    ],
)
async def test_failover_goes_by_the_cause(
    house: House, refusal: type[Refused], creates: int, ready: bool
) -> None:
    house.cloud.script("create", "error", error=refusal)
    fleet = house.open()
    if ready:
        machine = await house.launch(fleet)
        assert machine.state is State.RUNNING
        assert len(house.cloud.billed()) == 1
    else:
        alike = refusal in {AuthFailed, OutOfFunds, QuotaExceeded}
        with pytest.raises(refusal if alike else NothingToBeHad, match="scripted"):
            await house.launch(fleet)
        assert house.cloud.billed() == []
    assert house.cloud.count("create") == creates


async def test_no_capacity_is_remembered_by_the_next_launch(house: House) -> None:
    house.cloud.sell_out("4090-spot")
    fleet = house.open()
    await house.launch(fleet)
    machine = await house.launch(fleet, name="train-2")
    assert [one.outcome for one in machine.tries] == ["created"]
    assert house.cloud.count("create") == 3


async def test_every_offer_tried_and_none_had_leaves_nothing(house: House) -> None:
    for key in house.cloud.stock:
        house.cloud.sell_out(key)
    fleet = house.open()
    with pytest.raises(NothingToBeHad) as caught:
        await house.launch(fleet)
    assert [one.outcome for one in caught.value.tries] == ["refused"] * 3
    assert house.leaks() == []
    assert house.store.names() == set()


@pytest.mark.parametrize("carrier", list(Carrier))
async def test_a_lost_answer_never_makes_a_second_machine(
    make_house: Callable[..., House], carrier: Carrier
) -> None:
    house = make_house(carrier=carrier, list_lag_s=10.0)
    house.cloud.script("create", "unknown_after")
    fleet = house.open()
    machine = await house.launch(fleet)
    assert machine.state is State.RUNNING
    assert len(house.cloud.billed()) == 1
    assert len(machine.tries) == 1


@pytest.mark.parametrize("carrier", list(Carrier))
async def test_a_create_that_never_arrived_is_proven_absent_or_sent_again(
    make_house: Callable[..., House], carrier: Carrier
) -> None:
    house = make_house(carrier=carrier, list_lag_s=10.0)
    house.cloud.script("create", "unknown_before")
    fleet = house.open()
    machine = await house.launch(fleet)
    assert machine.state is State.RUNNING
    assert len(house.cloud.billed()) == 1
    resent = carrier in {Carrier.TOKEN, Carrier.UNIQUE_NAME}
    assert len(machine.tries) == (1 if resent else 2)


async def test_a_create_that_arrives_late_is_waited_for(
    make_house: Callable[..., House],
) -> None:
    house = make_house(carrier=Carrier.NAME, create_deadline_s=60.0, list_lag_s=30.0)
    house.cloud.script("create", "unknown_late")
    fleet = house.open()
    machine = await house.launch(fleet)
    assert len(machine.tries) == 1
    assert len(house.cloud.billed()) == 1


@pytest.mark.parametrize("kind", ["boot_failure", "late_failure", "stuck_pending"])
async def test_a_machine_that_does_not_come_up_is_given_back_and_the_next_is_taken(
    house: House, kind: Any
) -> None:
    house.cloud.script("create", kind)
    fleet = house.open()
    machine = await house.launch(fleet)
    assert [one.outcome for one in machine.tries] == ["failed", "created"]
    await fleet.settle()
    assert house.leaks() == []
    assert len(house.cloud.billed()) == 1


async def test_a_dearer_machine_than_its_offer_is_given_back(house: House) -> None:
    house.cloud.script("create", "price_drift", factor=1.5)
    machine = await house.launch(house.open())
    assert machine.tries[0].outcome == "failed"
    assert "price moved from $0.204" in machine.tries[0].reason
    accepted = LaunchRequest(disk_gb=20, max_price_increase=0.6)
    house.cloud.script("create", "price_drift", factor=1.5)
    twin = await house.launch(house.open(), accepted, name="train-2")
    assert [one.outcome for one in twin.tries] == ["created"]


async def test_a_machine_with_other_gpus_than_rented_is_given_back(house: House) -> None:
    async def probe(endpoint: Endpoint, alias: str, offer: Offer) -> Probed:
        assert alias.startswith("gb-")
        wrong = house.cloud.machines[-1].gpu_reported
        return Probed(answers=True, detail="seen", problems=(wrong,) if wrong else ())

    house.probe = probe
    house.cloud.script("create", "wrong_gpu")
    machine = await house.launch(house.open())
    assert [one.outcome for one in machine.tries] == ["failed", "created"]


async def test_keys_are_given_one_by_one_where_the_made_machine_takes_them(
    make_house: Callable[..., House],
) -> None:
    house = make_house(ssh_keys="attached")
    house.cloud.script("attach_key", "unknown_before", skip=1)
    await house.launch(house.open())
    [machine] = house.cloud.machines
    assert len(machine.admitted) == 2


async def test_a_terminate_that_is_ignored_is_sent_again_until_the_machine_is_gone(
    house: House,
) -> None:
    fleet = house.open()
    await house.launch(fleet)
    house.cloud.script("terminate", "ignored", times=2)
    await fleet.terminate("train-1")
    assert house.cloud.billed() == []
    assert house.cloud.count("terminate") == 3


@pytest.mark.parametrize("gone", ["404", "tombstone", "absent"])
async def test_an_empty_or_partial_list_closes_nothing(
    make_house: Callable[..., House], gone: str
) -> None:
    house = make_house(gone=gone)
    fleet = house.open()
    await house.launch(fleet)
    house.cloud.script("list", "partial_list", times=None)
    house.cloud.script("find", "empty_list", times=None)
    report = await fleet.sweep(fix=True, owner=None)
    assert report.ghosts == ()
    assert "not complete" in report.errors["fake/default"]
    assert len(house.cloud.billed()) == 1
    assert house.store.launches()[0].ended_at is None


async def test_a_key_of_another_account_freezes_and_ends_nothing(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    house.cloud.answer_as("default", "somebody-else")
    with pytest.raises(AccountChanged, match="Nothing was read, ended or closed"):
        await fleet.terminate("train-1")
    report = await fleet.sweep(fix=True, owner=None)
    assert "belongs to account somebody-else" in report.errors["fake/default"]
    assert len(house.cloud.billed()) == 1
    house.cloud.answer_as("default", "fake-default")
    assert await fleet.settle() == ()
    assert house.cloud.billed() == []


async def test_an_expired_machine_is_ended_by_the_next_command(
    make_house: Callable[..., House],
) -> None:
    from gpubroker.model.terms import Expiry

    house = make_house(expiry=Expiry.CONTROLLER_ONLY)
    request = LaunchRequest(disk_gb=20, ttl=timedelta(hours=1))
    await house.launch(house.open(), request)
    house.cloud.clock.advance(3601)
    fleet = house.open()
    assert len(house.cloud.billed()) == 1
    assert await fleet.settle() == ()
    assert house.cloud.billed() == []
    [row] = house.store.launches(include_ended=True)
    assert [event.kind for event in house.store.events(row.id)].count("expired") == 1


async def test_a_machine_that_vanished_is_recorded_as_lost(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    [machine] = house.cloud.machines
    house.cloud.end(machine)
    shown = await fleet.show("train-1")
    assert shown.error_code == "lost"
    assert house.store.names() == set()


async def test_a_machine_that_is_made_and_never_shown_is_told_of(house: House) -> None:
    # As where the key was another account's for this one call.
    elsewhere: list[Any] = []

    def take_away(boundary: str) -> None:
        if boundary == "created recorded" and not elsewhere:
            elsewhere.append(house.cloud.machines.pop())

    house.on_boundary = take_away
    fleet = house.open()
    machine = await house.launch(fleet)
    assert len(elsewhere) == 1
    assert machine.state is State.RUNNING
    [told] = [event for event in house.events if event.kind == "never_seen"]
    assert told.data["provider_id"] == elsewhere[0].id
    [warning] = recent(house.store, house.cloud.clock.now().timestamp())
    assert (warning.kind, warning.severity) == ("never_seen", "critical")
    assert "look whether another account of yours has it" in warning.text


async def test_a_look_that_fails_leaves_the_last_known_state(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    house.cloud.script("get", "unavailable", times=None)
    shown = await fleet.show("train-1")
    assert (shown.state, shown.stale) == (State.RUNNING, True)


@pytest.mark.parametrize("resume_id", ["same", "new"])
async def test_stop_keeps_a_disk_that_costs_and_start_brings_the_machine_back(
    make_house: Callable[..., House], resume_id: str
) -> None:
    house = make_house(resume_id=resume_id)
    fleet = house.open()
    before = await house.launch(fleet)
    stopped = await fleet.stop("train-1")
    assert stopped.state is State.STOPPED
    assert usd(stopped.price_stopped) == pytest.approx(0.006)
    started = await fleet.start("train-1")
    assert started.state is State.RUNNING
    assert (started.provider_id == before.provider_id) is (resume_id == "same")
    await fleet.terminate("train-1")
    assert house.cloud.billed() == []


async def test_a_start_without_capacity_says_so_and_stays_stopped(
    make_house: Callable[..., House],
) -> None:
    house = make_house(stop="loses_gpu")
    fleet = house.open()
    await house.launch(fleet)
    await fleet.stop("train-1")
    house.cloud.sell_out("4090-spot")
    with pytest.raises(NoCapacity):
        await fleet.start("train-1")
    assert house.store.launches()[0].wanted == "stopped"


async def test_what_a_cloud_cannot_do_is_said_and_nothing_is_asked(
    make_house: Callable[..., House],
) -> None:
    house = make_house(stop="none")
    fleet = house.open()
    await house.launch(fleet)
    with pytest.raises(Unsupported, match="cannot stop"):
        await fleet.stop("train-1")
    assert house.store.launches()[0].wanted == "running"


async def test_a_sweep_ends_our_orphan_closes_our_ghost_and_leaves_the_rest(
    house: House,
) -> None:
    fleet = house.open()
    await house.launch(fleet)
    await house.launch(fleet, name="ghost")
    house.cloud.end(house.cloud.machines[1])
    orphan = house.cloud.plant(owner=house.store.owner, attempt="a" * 16, name="gb-x")
    foreign = house.cloud.plant()
    other = house.cloud.plant(owner="zzzzzz", attempt="b" * 16)
    house.cloud.clock.advance(120)
    looked = await fleet.sweep(fix=False, owner=None)
    assert [one.name for one in looked.ours] == ["train-1"]
    assert [one.ref.id for one in looked.orphans] == [orphan.id]
    assert [one.name for one in looked.ghosts] == ["ghost"]
    assert {one.ref.id for one in looked.foreign} == {foreign.id, other.id}
    assert len(house.cloud.billed()) == 4
    fixed = await fleet.sweep(fix=True, owner=None)
    assert fixed.errors == {}
    assert {machine.id for machine in house.cloud.billed()} == {
        house.cloud.machines[0].id,
        foreign.id,
        other.id,
    }
    assert house.store.names() == {"train-1"}


async def test_another_owner_is_swept_only_when_named(house: House) -> None:
    fleet = house.open()
    other = house.cloud.plant(owner="zzzzzz", attempt="b" * 16)
    await fleet.sweep(fix=True, owner=None)
    assert house.cloud.billed() == [other]
    await fleet.sweep(fix=True, owner="zzzzzz")
    assert house.cloud.billed() == []


async def test_a_machine_of_a_closed_attempt_is_owed_a_delete_whenever_it_appears(
    make_house: Callable[..., House],
) -> None:
    house = make_house(carrier=Carrier.NAME)
    house.cloud.script("create", "unknown_before")
    fleet = house.open()
    machine = await house.launch(fleet)
    late = house.cloud.plant(owner=house.store.owner, attempt=machine.tries[0].attempt, name="late")
    report = await fleet.sweep(fix=True, owner=None)
    assert [one.ref.id for one in report.orphans] == [late.id]
    assert len(house.cloud.billed()) == 1


async def test_secrets_are_nowhere_in_the_store(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    house.close()
    for path in house._folder.iterdir():
        assert b"very-secret" not in path.read_bytes()


async def test_a_spot_machine_that_stops_unasked_was_preempted(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    [machine] = house.cloud.machines
    house.cloud.halt(machine)
    house.cloud.clock.advance(10)
    shown = await fleet.show("train-1")
    assert shown.state is State.PREEMPTED
    [row] = house.store.launches()
    assert "preempted" in [event.kind for event in house.store.events(row.id)]
    back = await fleet.start("train-1")
    assert back.state is State.RUNNING


async def test_an_interrupted_create_is_looked_for_from_then_on(house: House) -> None:
    fleet = house.open()
    house.cloud.script("create", "slow", delay_s=30.0)
    launching = asyncio.create_task(house.launch(fleet))
    while not house.cloud.count("create"):
        await asyncio.sleep(0)
    launching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launching
    [row] = house.store.launches()
    [attempt] = house.store.attempts(row.id)
    assert attempt.status == "unknown"
    assert attempt.absent_after - house.cloud.clock.now().timestamp() < 60
    assert await house.open().settle() == ()
    assert len(house.cloud.billed()) == 1
    assert house.leaks() == []


async def test_a_machine_above_the_price_cap_is_given_back_whatever_the_tolerance(
    house: House,
) -> None:
    house.cloud.script("create", "price_drift", factor=1.5)
    query = Query(max_price=nanos(0.25))
    request = LaunchRequest(query=query, disk_gb=20, max_price_increase=5.0)
    with pytest.raises(NothingToBeHad, match=r"moved from \$0.204 to \$0.304"):
        await house.launch(house.open(), request)
    assert house.cloud.billed() == []


async def test_of_two_verbs_at_once_the_later_waits_and_one_machine_was_made_and_ended(
    house: House,
) -> None:
    one = house.open()
    second = house.another_store()
    two = house.fleet_on(second)
    house.cloud.script("create", "slow", delay_s=5.0)
    launching = asyncio.create_task(house.launch(one))
    while not house.cloud.count("create"):
        await asyncio.sleep(0)
    ended = await two.terminate("train-1")
    launched = await launching
    assert (launched.launch_id, launched.wanted) == (ended.launch_id, "gone")
    assert ended.state is State.TERMINATED
    assert house.cloud.count("create") == 1
    assert house.cloud.billed() == []
    second.close()


async def test_a_process_that_was_overtaken_writes_nothing_more(house: House) -> None:
    one = house.open()
    house.cloud.script("create", "slow", delay_s=5.0)
    launching = asyncio.create_task(house.launch(one))
    while not house.cloud.count("create"):
        await asyncio.sleep(0)
    second = house.another_store()
    [row] = second.launches()
    # As if the first were suspended for longer than its lease.
    second._db.execute("UPDATE launches SET lease_until = 0")
    second.acquire(row.id)
    with pytest.raises(LeaseLost):
        await launching
    [attempt] = second.attempts(row.id)
    assert attempt.status == "sending"
    assert await house.fleet_on(second).settle() == ()
    assert len(house.cloud.billed()) == 1
    assert house.leaks() == []
    second.close()


async def test_a_create_whose_turn_comes_after_its_lease_is_not_sent(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = house.open()
    provider = fleet.context.clouds.provider("fake", "default")
    suspended: list[str] = []

    async def turn(call: Call, proceed: Callable[[], Awaitable[Any]]) -> Any:
        if call.operation == "create" and not suspended:
            suspended.append(call.operation)
            with monkeypatch.context() as asleep:
                asleep.setattr(Lease, "left_s", lambda _: 0.0)
                check_before_sending()
        return await proceed()

    monkeypatch.setattr(fleet.context.clouds, "provider", lambda *_: decorate(provider, [turn]))
    machine = await house.launch(fleet)
    assert suspended == ["create"]
    assert machine.state is State.RUNNING
    assert house.cloud.count("create") == 1
    assert [one.outcome for one in machine.tries] == ["created"]


async def test_a_machine_whose_name_the_cloud_lost_is_still_ours(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    [machine] = house.cloud.machines
    machine.owner = machine.attempt = machine.name = None
    report = await fleet.sweep(fix=True, owner=None)
    assert [one.name for one in report.ours] == ["train-1"]
    assert report.orphans == report.foreign == ()
    await fleet.terminate("train-1")
    assert house.cloud.billed() == []


async def test_a_delete_that_has_no_effect_is_alerted_once_however_often_it_is_sent(
    house: House,
) -> None:
    fleet = house.open()
    await house.launch(fleet)
    house.cloud.script("terminate", "ignored", times=None)
    with pytest.raises(StillThere):
        await fleet.terminate("train-1")
    [row] = house.store.launches()
    kinds = [event.kind for event in house.store.events(row.id)]
    assert kinds.count("delete_overdue") == 1
    assert kinds.count("terminate_accepted") > 10
    house.cloud.heal()
    await fleet.terminate("train-1")
    assert house.cloud.billed() == []


@pytest.mark.parametrize("carrier", [Carrier.TOKEN, Carrier.UNIQUE_NAME])
@pytest.mark.parametrize("again", [NoCapacity, Unavailable])
async def test_what_becomes_of_sending_again_proves_nothing_of_the_first_request(
    make_house: Callable[..., House], carrier: Carrier, again: type[BrokerError]
) -> None:
    house = make_house(carrier=carrier, create_deadline_s=60.0, list_lag_s=10.0)
    house.cloud.script("create", "unknown_late")
    house.cloud.script("create", "error", error=again)
    machine = await house.launch(house.open())
    assert [one.outcome for one in machine.tries] == ["created"]
    assert len(house.cloud.billed()) == 1
    assert house.leaks() == []


@pytest.mark.parametrize("carrier", [Carrier.TOKEN, Carrier.UNIQUE_NAME])
async def test_killed_while_sending_again_and_then_ended_the_first_machine_is_found(
    make_house: Callable[..., House], carrier: Carrier
) -> None:
    house = make_house(carrier=carrier, create_deadline_s=60.0, list_lag_s=10.0)
    house.cloud.script("create", "unknown_late")
    house.cloud.script("create", "crash_before")
    with pytest.raises(Crashed):
        await house.launch(house.open())
    fleet = house.open()
    await fleet.terminate("train-1")
    house.cloud.clock.advance(600)
    assert len(house.cloud.machines) == 1
    assert house.cloud.billed() == []


async def test_delayed_sends_do_not_count_as_lists_that_lack_the_machine(
    make_house: Callable[..., House],
) -> None:
    house = make_house(carrier=Carrier.NAME)
    house.cloud.script("create", "unavailable", times=2)
    house.cloud.script("create", "unknown_before")
    house.cloud.sell_out("4090-south")
    house.cloud.sell_out("4090-north")
    with pytest.raises(NothingToBeHad):
        await house.launch(house.open())
    assert house.cloud.count("list") == 2
