"""The loop for ever: one look an account, work shared by processes, nothing closed on a hunch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gpubroker.fleet import ending
from gpubroker.fleet.context import Work
from gpubroker.fleet.keeping import Keeper, Round
from gpubroker.fleet.leases import held
from gpubroker.fleet.observing import observe
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.model.terms import Expiry
from gpubroker.store.errors import LeaseLost, StoreError

House = Any


async def machines(house: House, count: int) -> Any:
    fleet = house.open()
    for number in range(count):
        await house.launch(fleet, name=f"m-{number}")
    return fleet


async def looked(house: House, fleet: Any) -> tuple[str, ...]:
    house.cloud.clock.advance(120)
    found: tuple[str, ...] = await observe(fleet.context)
    return found


async def test_one_list_call_serves_all_machines_of_an_account(house: House) -> None:
    fleet = await machines(house, 12)
    before = house.cloud.count("list"), house.cloud.count("get")
    assert await looked(house, fleet) == ()
    assert (house.cloud.count("list"), house.cloud.count("get")) == (before[0] + 1, before[1])


async def test_an_account_is_looked_at_once_a_cadence_by_whichever_process(house: House) -> None:
    fleet = await machines(house, 2)
    store = house.another_store()
    other = house.fleet_on(store)
    house.cloud.clock.advance(120)
    before = house.cloud.count("list")
    await asyncio.gather(observe(fleet.context), observe(other.context))
    assert house.cloud.count("list") == before + 1
    store.close()


async def test_a_machine_that_went_by_itself_is_closed_with_its_witnesses(house: House) -> None:
    fleet = await machines(house, 3)
    lost = house.cloud.machines[1]
    house.cloud.end(lost)
    house.cloud.clock.advance(60)
    for _ in range(4):
        await looked(house, fleet)
    rows = house.store.launches(include_ended=True)
    ended = {row.name: row.error_code for row in rows if row.ended_at is not None}
    assert ended == {"m-1": "lost"}
    assert house.leaks() == []


@pytest.mark.parametrize("fault", ["partial_list", "empty_list"])
async def test_a_list_that_lacks_machines_closes_none_that_the_cloud_shows(
    house: House, fault: Any
) -> None:
    fleet = await machines(house, 5)
    house.cloud.script("list", fault, times=None)
    for _ in range(4):
        await looked(house, fleet)
    assert [row.name for row in house.store.launches()] == [f"m-{n}" for n in range(5)]
    assert len(house.cloud.billed()) == 5


async def test_another_accounts_list_closes_nothing_and_freezes(house: House) -> None:
    fleet = await machines(house, 2)
    house.cloud.answer_as("default", "somebody-else")
    [problem] = await looked(house, fleet)
    assert "somebody-else" in problem
    assert len(house.store.launches()) == 2
    assert house.store.account("fake", "default").frozen


async def test_a_cloud_in_trouble_is_told_and_costs_the_others_nothing(house: House) -> None:
    fleet = await machines(house, 1)
    house.cloud.script("list", "unavailable", times=None)
    [problem] = await looked(house, fleet)
    assert problem.startswith("fake/default:")
    assert house.fleet_row("m-0").ended_at is None


async def test_a_spot_machine_that_was_taken_is_recorded(make_house: Callable[..., House]) -> None:
    house = make_house()
    fleet = await machines(house, 1)
    house.cloud.preempt(house.cloud.machines[0])
    await looked(house, fleet)
    kinds = [event.kind for event in house.store.events(house.fleet_row("m-0").id)]
    assert "preempted" in kinds


async def test_a_keeper_ends_what_expired_and_stops_when_told(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, LaunchRequest(disk_gb=20, ttl=timedelta(hours=1)))
    rounds: list[Round] = []

    def stop_when_ended(done: Round) -> None:
        rounds.append(done)
        if not house.store.launches() or len(rounds) > 400:
            keeper.stop()

    keeper = Keeper(fleet.context, fleet, on_round=stop_when_ended)
    await keeper.run()
    assert house.cloud.billed() == []
    assert house.leaks() == []
    hours = (house.cloud.machines[0].ended_at - house.cloud.machines[0].created_at) / timedelta(
        hours=1
    )
    assert 1.0 <= hours < 1.02
    # It sleeps until the expiry: it does not ask every two seconds for an hour.
    assert len(rounds) < 80


async def test_a_store_that_is_gone_for_a_while_is_waited_for(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = await machines(house, 1)
    answers = iter([StoreError("the server went away"), None])
    due = house.store.due

    def sometimes(now: float) -> Any:
        if error := next(answers, None):
            raise error
        return due(now)

    monkeypatch.setattr(house.store, "due", sometimes)
    rounds: list[Round] = []

    def stop_soon(done: Round) -> None:
        rounds.append(done)
        if len(rounds) == 2:
            keeper.stop()

    keeper = Keeper(fleet.context, fleet, on_round=stop_soon)
    await keeper.run()
    assert rounds[0].problems == ("the server went away",)
    assert rounds[1].problems == ()


async def test_what_was_made_for_a_lost_machine_is_released(
    make_house: Callable[..., House],
) -> None:
    from gpubroker.model.terms import Resource

    house = make_house(needs=(Resource.STARTUP_SCRIPT, Resource.ADDRESS))
    fleet = await machines(house, 1)
    house.cloud.end(house.cloud.machines[0])
    house.cloud.clock.advance(60)
    keeper = Keeper(fleet.context, fleet)
    for _ in range(6):
        house.cloud.clock.advance(120)
        await keeper.round()
    assert house.leaks() == []
    [launch] = house.store.launches(include_ended=True)
    assert launch.error_code == "lost"


async def test_a_keeper_gives_signs_of_life_and_takes_them_back(house: House) -> None:
    fleet = await machines(house, 1)
    store, clock = house.store, house.cloud.clock

    def now() -> float:
        return float(clock.now().timestamp())

    seen: list[tuple[str, ...]] = []

    def look(_: Round) -> None:
        seen.append(store.expiries.keepers(now()))
        if len(seen) == 5:
            keeper.stop()

    assert store.expiries.keepers(now()) == ()
    keeper = Keeper(fleet.context, fleet, on_round=look, host="workstation")
    await keeper.run()
    assert seen == [("workstation",)] * 5
    assert store.expiries.keepers(now()) == ()


async def test_one_round_counts_as_a_keeper_until_the_next_is_overdue(house: House) -> None:
    fleet = await machines(house, 1)
    store, clock = house.store, house.cloud.clock
    await Keeper(fleet.context, fleet, host="workstation").run(rounds=1)
    clock.advance(120)
    assert store.expiries.keepers(clock.now().timestamp()) == ("workstation",)
    clock.advance(90)
    assert store.expiries.keepers(clock.now().timestamp()) == ()


async def test_a_machine_that_does_not_end_delays_no_others_end(
    make_house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    house = make_house(expiry=Expiry.CONTROLLER_ONLY)
    fleet = house.open()
    await house.launch(fleet, name="stuck")
    await house.launch(fleet, LaunchRequest(disk_gb=20, ttl=timedelta(minutes=10)), name="short")
    _, short = house.cloud.machines
    end = house.cloud.end

    def ends_the_short_one_first(machine: Any) -> None:
        if machine is short or short.ended_at is not None:
            end(machine)

    monkeypatch.setattr(house.cloud, "end", ends_the_short_one_first)
    house.store.want(house.fleet_row("stuck").id, "gone", house.cloud.clock.now().timestamp(), "")
    rounds: list[Round] = []

    def stop_when_both_have_ended(done: Round) -> None:
        rounds.append(done)
        if not house.store.launches() or len(rounds) > 2000:
            keeper.stop()

    keeper = Keeper(fleet.context, fleet, on_round=stop_when_both_have_ended)
    await keeper.run()
    assert house.cloud.billed() == []
    assert short.ended_at - short.created_at < timedelta(minutes=11)


async def test_a_machine_that_went_ends_no_launch_that_has_another(
    make_house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    house = make_house(expiry=Expiry.CONTROLLER_ONLY)
    fleet = house.open()
    await house.launch(fleet)
    [attempt] = house.store.attempts(house.fleet_row("train-1").id)
    async with held(fleet.context, attempt.launch_id) as work:
        columns = {"id": "z" * 16, "seq": 2, "provider": "fake", "account": "default"}
        columns |= {"offer": attempt.offer, "price": 1, "price_stopped": 0, "status": "made"}
        columns |= {"created_at": 1.0, "phase_since": 1.0, "ref_id": "m-9", "wanted": "gone"}
        with work.writing() as write:
            write.add_attempt(**columns)
        ending.close_lost(fleet.context, work, work.fresh(attempt))
    assert house.fleet_row("train-1").ended_at is None
    assert [row.name for row in house.store.due(house.cloud.clock.now().timestamp())] == ["train-1"]


async def test_a_create_is_not_sent_when_another_process_had_its_turn_meanwhile(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = house.open()
    renew = Work.renew

    def after_a_long_pause(work: Work) -> None:
        other = house.another_store()
        house.store.release(work.lease)
        other.release(other.acquire(work.launch.id))
        other.close()
        renew(work)

    monkeypatch.setattr(Work, "renew", after_a_long_pause)
    with pytest.raises(LeaseLost, match="taken over"):
        await house.launch(fleet)
    assert house.cloud.count("create") == 0
