"""A stop or a start that was wished through us comes to be, whoever dies on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gpubroker.fleet.keeping import Keeper
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.model.errors import (
    AuthFailed,
    BrokerError,
    NoCapacity,
    OutOfFunds,
    Unsupported,
    WrongState,
)
from gpubroker.model.query import Query
from gpubroker.model.terms import Carrier, Market, State
from gpubroker.testing.fake_cloud import Crashed

House = Any
ON_DEMAND = LaunchRequest(disk_gb=20, query=Query(market=Market.ON_DEMAND))
STEPS = {
    State.STOPPED: ("stop wanted", "stop next", "stop sent", "stop reached"),
    State.RUNNING: ("start wanted", "start next", "start sent", "start reached"),
}


async def rounds(house: House, fleet: Any, count: int = 4, pause_s: float = 60.0) -> list[str]:
    """As a keeper's, and what could not be done in them."""
    problems: list[str] = []
    for _ in range(count):
        problems += (await Keeper(fleet.context, fleet).round()).problems
        house.cloud.clock.advance(pause_s)
    return problems


async def bring(fleet: Any, state: State) -> Any:
    verb = fleet.stop if state is State.STOPPED else fleet.start
    return await verb("train-1")


async def brought(house: House, state: State, request: LaunchRequest = ON_DEMAND) -> Any:
    """A machine that is to be brought to `state`, and is in the other one."""
    fleet = house.open()
    await house.launch(fleet, request)
    if state is State.RUNNING:
        await fleet.stop("train-1")
    return fleet


async def dies(house: House, state: State, step: str) -> None:
    def kill(reached: str) -> None:
        if reached == step:
            raise Crashed(step)

    house.on_boundary = kill
    with pytest.raises(Crashed):
        await bring(house.open(), state)
    house.on_boundary = lambda _: None


def stands(house: House) -> tuple[str, State]:
    """What is wanted, and how it is at the cloud."""
    house.cloud.settle()
    return house.fleet_row("train-1").wanted, house.cloud.machines[0].state


def due(house: House) -> int:
    return len(house.store.due(house.cloud.clock.now().timestamp()))


def calls(house: House) -> tuple[int, int]:
    return house.cloud.count("stop"), house.cloud.count("start")


SWITCHES = [
    {},
    {"resume_id": "new", "list_lag_s": 30.0, "gone": "404"},
    {"resume_id": "told", "carrier": Carrier.NAME, "create_deadline_s": 60.0},
    {"gone": "absent", "list_lag_s": 30.0},
    {"resume_id": "told", "gone": "tombstone"},
    {"stop": "loses_gpu", "stop_wipes": True, "boots_over_ssh": True},
]


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda one: "-".join(map(str, one.values())))
@pytest.mark.parametrize("state", STEPS)
async def test_every_step_of_it_can_be_the_last(
    make_house: Callable[..., House], state: State, switches: dict[str, Any]
) -> None:
    for step in STEPS[state]:
        house = make_house(**switches)
        await brought(house, state)
        await dies(house, state, step)
        fleet = house.open()
        assert await rounds(house, fleet, 6) == [], step
        assert stands(house) == (state.value, state), step
        assert due(house) == 0, step
        assert (await fleet.show("train-1")).state is state, step
        assert len(house.cloud.billed()) == 1, step
        await fleet.terminate("train-1")
        assert house.cloud.billed() == [], step


@pytest.mark.parametrize("state", STEPS)
async def test_every_step_can_be_the_last_on_postgresql(
    make_house: Callable[..., House], postgres: str, state: State
) -> None:
    for step in STEPS[state]:
        house = make_house(postgres=postgres)
        await brought(house, state)
        await dies(house, state, step)
        fleet = house.open()
        await rounds(house, fleet)
        assert stands(house) == (state.value, state), step
        assert due(house) == 0, step


@pytest.mark.parametrize("kind", ["crash_before", "crash_after"])
@pytest.mark.parametrize("state", STEPS)
async def test_a_crash_inside_the_call_is_gone_on_with_by_commands_alone(
    house: House, state: State, kind: Any
) -> None:
    await brought(house, state)
    house.cloud.script("stop" if state is State.STOPPED else "start", kind)
    with pytest.raises(Crashed):
        await bring(house.open(), state)
    fleet = house.open()
    for _ in range(8):
        assert await fleet.settle() == ()
        house.cloud.clock.advance(30)
    assert stands(house) == (state.value, state)
    assert due(house) == 0


async def test_once_it_is_so_nothing_is_asked_any_more(house: House) -> None:
    fleet = await brought(house, State.RUNNING)
    before = calls(house)
    await rounds(house, fleet)
    assert calls(house) == before
    await fleet.start("train-1")
    before = calls(house)
    await rounds(house, fleet)
    assert calls(house) == before


async def test_what_is_not_done_in_time_is_gone_on_with(house: House) -> None:
    fleet = await brought(house, State.STOPPED)
    house.cloud.script("stop", "ignored", times=12)
    with pytest.raises(BrokerError, match="still works on it"):
        await fleet.stop("train-1")
    await rounds(house, fleet, 8)
    assert stands(house) == ("stopped", State.STOPPED)


# What its cloud refuses


async def test_a_cloud_that_refuses_a_stop_is_not_asked_for_ever(house: House) -> None:
    await brought(house, State.STOPPED)
    await dies(house, State.STOPPED, "stop wanted")
    house.cloud.script("stop", "error", error=Unsupported, times=None)
    fleet = house.open()
    problems = await rounds(house, fleet)
    assert [one for one in problems if "train-1" in one] == ["train-1: scripted unsupported"]
    assert house.cloud.count("stop") == 1
    assert stands(house) == ("running", State.RUNNING)
    assert due(house) == 0


@pytest.mark.parametrize("error", [Unsupported, WrongState])
async def test_what_a_person_was_told_is_refused_does_not_happen_later(
    house: House, error: Any
) -> None:
    fleet = await brought(house, State.STOPPED)
    house.cloud.script("stop", "error", error=error)
    with pytest.raises(error):
        await fleet.stop("train-1")
    await rounds(house, fleet)
    assert house.cloud.count("stop") == 1
    assert stands(house) == ("running", State.RUNNING)


@pytest.mark.parametrize("error", [NoCapacity, OutOfFunds])
async def test_a_start_that_is_refused_is_over_and_it_stays_stopped(
    house: House, error: Any
) -> None:
    await brought(house, State.RUNNING)
    await dies(house, State.RUNNING, "start wanted")
    house.cloud.script("start", "error", error=error)
    fleet = house.open()
    assert len(await rounds(house, fleet)) == 1
    assert house.cloud.count("start") == 1
    assert stands(house) == ("stopped", State.STOPPED)
    assert due(house) == 0


async def test_a_process_whose_key_is_refused_asks_now_and_then(house: House) -> None:
    await brought(house, State.STOPPED)
    await dies(house, State.STOPPED, "stop wanted")
    house.cloud.script("stop", "error", error=AuthFailed, times=3)
    fleet = house.open()
    await rounds(house, fleet, 120, 2.0)
    assert 2 <= house.cloud.count("stop") <= 5
    await rounds(house, fleet, 60, 4.0)
    assert stands(house) == ("stopped", State.STOPPED)


@pytest.mark.parametrize("state", STEPS)
async def test_a_machine_in_the_making_is_neither_stopped_nor_started(
    house: House, state: State
) -> None:
    fleet = house.open()
    await house.launch(fleet, ON_DEMAND, wait=False)
    house.cloud.clock.advance(60)
    with pytest.raises(WrongState, match="train-1 is not ready yet"):
        await bring(fleet, state)
    await rounds(house, fleet)
    assert stands(house) == ("running", State.RUNNING)
    assert (calls(house), house.cloud.count("create")) == ((0, 0), 1)


async def test_trouble_delays_it(house: House) -> None:
    await brought(house, State.STOPPED)
    await dies(house, State.STOPPED, "stop wanted")
    house.cloud.script("stop", "unavailable", times=2)
    house.cloud.script("get", "unavailable", times=2)
    fleet = house.open()
    await rounds(house, fleet, 8)
    assert stands(house) == ("stopped", State.STOPPED)


# By somebody's hand, at the vendor's console


async def test_what_was_wished_stopped_is_stopped_again(house: House) -> None:
    fleet = await brought(house, State.RUNNING)
    house.cloud.resume(house.cloud.machines[0])
    house.cloud.clock.advance(120)
    await rounds(house, fleet, 5)
    assert stands(house) == ("stopped", State.STOPPED)
    assert calls(house) == (2, 0)


async def test_what_was_stopped_by_hand_is_left_as_it_is(house: House) -> None:
    """Nobody wished for a start: it would cost more."""
    fleet = await brought(house, State.STOPPED)
    house.cloud.halt(house.cloud.machines[0])
    await rounds(house, fleet)
    assert stands(house) == ("running", State.STOPPED)
    assert calls(house) == (0, 0)
    assert due(house) == 0
    assert (await fleet.show("train-1")).state is State.STOPPED


async def test_a_start_that_was_had_says_nothing_of_a_later_stop_by_hand(house: House) -> None:
    fleet = await brought(house, State.RUNNING)
    await fleet.start("train-1")
    house.cloud.halt(house.cloud.machines[0])
    await rounds(house, fleet)
    assert stands(house) == ("running", State.STOPPED)
    assert calls(house) == (1, 1)


# Beside what else decides about a machine


async def test_a_machine_that_was_taken_away_follows_its_policy(house: House) -> None:
    fleet = await brought(house, State.STOPPED, LaunchRequest(disk_gb=20, on_preempt="give-up"))
    house.cloud.preempt(house.cloud.machines[0])
    await rounds(house, fleet)
    await rounds(house, fleet)
    assert house.cloud.billed() == []
    assert calls(house) == (0, 0)


async def test_a_start_of_one_that_was_taken_away_is_gone_on_with(house: House) -> None:
    fleet = await brought(house, State.STOPPED, LaunchRequest(disk_gb=20))
    house.cloud.halt(house.cloud.machines[0])
    house.cloud.clock.advance(10)
    await rounds(house, fleet, 2)
    assert (await fleet.show("train-1")).state is State.PREEMPTED
    assert calls(house) == (0, 0)
    await dies(house, State.RUNNING, "start wanted")
    await rounds(house, house.open())
    assert stands(house) == ("running", State.RUNNING)
    assert calls(house) == (0, 1)


async def test_an_end_comes_before_it(house: House) -> None:
    await brought(house, State.STOPPED)
    await dies(house, State.STOPPED, "stop wanted")
    fleet = house.open()
    await fleet.terminate("train-1")
    assert house.cloud.billed() == []
    assert house.cloud.count("stop") == 0


async def test_two_processes_do_not_both_ask(house: House) -> None:
    await brought(house, State.STOPPED)
    await dies(house, State.STOPPED, "stop wanted")
    house.open()
    for _ in range(2):
        assert await house.fleet_on(house.store).settle() == ()
    assert house.cloud.count("stop") == 1
