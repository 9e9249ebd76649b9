"""A stop or a start that was wished through us comes to be, whoever dies on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gpubroker.fleet import watching
from gpubroker.fleet.errors import StillThere
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
from gpubroker.providers.calling import Call, check_before_sending
from gpubroker.providers.decorated import decorate
from gpubroker.store.errors import LeaseLost
from gpubroker.store.store import Lease
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


@pytest.mark.parametrize("waits", [True, False])
async def test_a_start_is_had_once_it_runs_though_nobody_can_log_in_yet(
    house: House, *, waits: bool
) -> None:
    """What is stopped by hand from then on is not started again, and not paid for."""
    fleet = await brought(house, State.RUNNING)
    machine = house.cloud.machines[0]
    machine.answers_ssh = False
    if waits:
        with pytest.raises(StillThere):
            await fleet.start("train-1")
    else:
        await dies(house, State.RUNNING, "start wanted")
        fleet = house.open()
        await rounds(house, fleet)
    assert stands(house) == ("running", State.RUNNING)
    assert due(house) == 0
    house.cloud.halt(machine)
    await rounds(house, fleet)
    assert stands(house) == ("running", State.STOPPED)
    assert house.cloud.count("start") == 1


# Beside what another process wishes meanwhile


OTHER = {State.STOPPED: State.RUNNING, State.RUNNING: State.STOPPED}


async def bring_elsewhere(house: House, state: State) -> None:
    """By another process, as if this one were suspended for longer than its lease."""
    other = house.another_store()
    other._db.execute("UPDATE launches SET lease_until = 0")
    await bring(house.fleet_on(other), state)
    other.close()


def end_elsewhere(house: House) -> None:
    other = house.another_store()
    at = house.cloud.clock.now().timestamp()
    other.want(house.fleet_row("train-1").id, "gone", at, "asked")
    other.close()


def while_it_pauses(
    house: House, monkeypatch: pytest.MonkeyPatch, deed: Callable[[], Awaitable[None]]
) -> None:
    """That happens in its first pause between two looks."""
    clock = house.cloud.clock
    sleep = clock.sleep

    async def paused(seconds: float) -> None:
        if seconds == watching.LOOK_S:
            monkeypatch.setattr(clock, "sleep", sleep)
            await deed()
        await sleep(seconds)

    monkeypatch.setattr(clock, "sleep", paused)


@pytest.mark.parametrize("state", STEPS)
async def test_who_was_overtaken_in_its_wait_leaves_the_later_wish_alone(
    house: House, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    fleet = await brought(house, state)
    verb, undone = ("stop", "start") if state is State.STOPPED else ("start", "stop")
    house.cloud.script(verb, "ignored")
    sent = house.cloud.count(verb)

    async def overtaken() -> None:
        await bring_elsewhere(house, OTHER[state])
        house.cloud.clock.advance(300)

    while_it_pauses(house, monkeypatch, overtaken)
    with pytest.raises(LeaseLost, match="taken over"):
        await bring(fleet, state)
    assert house.cloud.count(verb) == sent + 1
    await rounds(house, house.open())
    assert stands(house) == (OTHER[state].value, OTHER[state]), undone
    # A stop that was had holds on; of a start nothing is left to be seen to.
    assert house.fleet_row("train-1").power_at == (0.0 if state is State.RUNNING else None)


async def test_a_refusal_that_comes_after_a_later_wish_takes_nothing_of_it_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = await brought(house, State.RUNNING)
    provider = fleet.context.clouds.provider("fake", "default")

    async def refused_late(call: Call, proceed: Callable[[], Awaitable[Any]]) -> Any:
        if call.operation == "start":
            await bring_elsewhere(house, State.STOPPED)
            raise NoCapacity("all taken")
        return await proceed()

    layered = decorate(provider, [refused_late])
    monkeypatch.setattr(fleet.context.clouds, "provider", lambda *_: layered)
    with pytest.raises(LeaseLost):
        await fleet.start("train-1")
    assert house.fleet_row("train-1").power_at == 0.0  # it is stopped again, should it run


@pytest.mark.parametrize("switches", [{}, {"resume_id": "told", "carrier": Carrier.NAME}])
@pytest.mark.parametrize("state", STEPS)
async def test_nothing_is_sent_once_the_end_is_wished(
    make_house: Callable[..., House], state: State, switches: dict[str, Any]
) -> None:
    house = make_house(**switches)
    await brought(house, state)
    before = calls(house)

    def ended(reached: str) -> None:
        if reached == STEPS[state][1]:
            end_elsewhere(house)

    house.on_boundary = ended
    with pytest.raises(LeaseLost, match="train-1 is to be ended by now"):
        await bring(house.open(), state)
    assert calls(house) == before
    house.on_boundary = lambda _: None
    await rounds(house, house.open())
    assert house.cloud.billed() == []
    assert house.leaks() == []


@pytest.mark.parametrize("state", STEPS)
async def test_nothing_is_sent_where_the_end_is_wished_while_it_waits_for_its_turn(
    house: House, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    await brought(house, state)
    await dies(house, state, STEPS[state][0])
    fleet = house.open()
    provider = fleet.context.clouds.provider("fake", "default")

    async def turn(call: Call, proceed: Callable[[], Awaitable[Any]]) -> Any:
        if call.operation in {"stop", "start"}:
            end_elsewhere(house)
            check_before_sending()
        return await proceed()

    layered = decorate(provider, [turn])
    monkeypatch.setattr(fleet.context.clouds, "provider", lambda *_: layered)
    before = calls(house)
    assert await rounds(house, fleet) == []
    assert calls(house) == before
    assert house.cloud.billed() == []


async def test_a_stop_whose_turn_comes_after_its_lease_is_not_sent(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await brought(house, State.STOPPED)

    def asleep(reached: str) -> None:
        if reached == "stop next":
            monkeypatch.setattr(Lease, "left_s", lambda _: 0.0)

    house.on_boundary = asleep
    with pytest.raises(LeaseLost, match="too late"):
        await house.open().stop("train-1")
    assert house.cloud.count("stop") == 0
    monkeypatch.undo()
    house.on_boundary = lambda _: None
    await rounds(house, house.open())
    assert stands(house) == ("stopped", State.STOPPED)


@pytest.mark.parametrize("state", STEPS)
async def test_an_end_that_is_wished_in_its_wait_is_made_way_for(
    house: House, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    fleet = await brought(house, state)
    house.cloud.script("stop" if state is State.STOPPED else "start", "ignored", times=None)

    async def ended() -> None:
        end_elsewhere(house)

    while_it_pauses(house, monkeypatch, ended)
    began = house.cloud.clock.now()
    with pytest.raises(LeaseLost, match="ended"):
        await bring(fleet, state)
    assert (house.cloud.clock.now() - began).total_seconds() < 15
    await fleet.terminate("train-1")
    assert house.cloud.billed() == []


@pytest.mark.parametrize("state", STEPS)
async def test_what_is_being_ended_is_neither_stopped_nor_started(
    house: House, state: State
) -> None:
    fleet = await brought(house, state)
    end_elsewhere(house)
    before = calls(house)
    with pytest.raises(WrongState, match="train-1 is being ended"):
        await bring(fleet, state)
    assert calls(house) == before


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
