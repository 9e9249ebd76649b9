"""Stops and starts that are under way, billed all the same, or set up by whoever comes next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.fleet.conftest import House

from gpubroker.fleet.context import Probed
from gpubroker.fleet.errors import StillThere
from gpubroker.fleet.observing import observe
from gpubroker.model.errors import WrongState
from gpubroker.model.instance import Endpoint
from gpubroker.model.offer import Offer
from gpubroker.model.terms import State
from gpubroker.testing.fake_cloud import Crashed

MakeHouse = Callable[..., House]
IN = Probed(answers=True, detail="GPU checked", in_container=False)


async def _probe(endpoint: Endpoint, alias: str, offer: Offer) -> Probed:
    return IN


async def _stopped(house: House) -> Any:
    """The machine of a launch that is stopped, and a fleet of its house."""
    fleet = house.open()
    await house.launch(fleet)
    await fleet.stop("train-1")
    return house.cloud.machines[0], fleet


async def test_a_start_that_is_refused_because_it_is_under_way_is_waited_for(
    make_house: MakeHouse,
) -> None:
    house = make_house(start_once=True, boot_s=90.0)
    _, fleet = await _stopped(house)
    assert (await fleet.start("train-1")).state is State.RUNNING
    assert len(house.cloud.billed()) == 1


async def test_a_start_that_another_process_began_is_waited_for(make_house: MakeHouse) -> None:
    house = make_house(start_once=True, boot_s=60.0)
    _, fleet = await _stopped(house)
    house.cloud.script("start", "crash_after")
    with pytest.raises(Crashed):
        await fleet.start("train-1")
    assert (await house.open().start("train-1")).state is State.RUNNING


async def test_a_start_that_the_state_forbids_is_told_at_once(make_house: MakeHouse) -> None:
    house = make_house(start_once=True)
    machine, fleet = await _stopped(house)
    machine.state = State.FAILED
    with pytest.raises(WrongState):
        await fleet.start("train-1")


async def test_a_machine_that_runs_already_and_shows_no_login_yet_is_not_started(
    make_house: MakeHouse,
) -> None:
    house = make_house(start_once=True)
    machine, fleet = await _stopped(house)
    house.cloud.resume(machine)
    machine.answers_ssh = False
    house.cloud.clock.advance(60)
    with pytest.raises(StillThere):
        await fleet.start("train-1")
    assert house.cloud.count("start") == 0


async def test_a_machine_that_is_off_and_billed_is_stopped_all_the_same(
    make_house: MakeHouse,
) -> None:
    house = make_house()
    fleet = house.open()
    await house.launch(fleet)
    (machine,) = house.cloud.machines
    machine.state = State.STOPPED  # switched off from inside: nothing else changed
    assert machine.bills_compute
    assert (await fleet.stop("train-1")).state is State.STOPPED
    assert house.cloud.count("stop") == 1
    assert not machine.bills_compute


async def test_what_a_start_left_undone_is_done_by_the_next_look(make_house: MakeHouse) -> None:
    house = make_house(boots_over_ssh=True, stop_wipes=True)
    house.probe = _probe
    machine, fleet = await _stopped(house)
    first = list(machine.boots)
    machine.answers_ssh = False
    with pytest.raises(StillThere):
        await fleet.start("train-1")
    assert machine.boots == first
    machine.answers_ssh = True
    for _ in range(2):
        assert await observe(fleet.context, cadence_s=0.0) == ()
        house.cloud.clock.advance(60)
    assert machine.boots == [*first, *first]


@pytest.mark.parametrize("resume_id", ["same", "told"])
async def test_what_a_crash_left_undone_is_done_by_the_next_look(
    make_house: MakeHouse, resume_id: str
) -> None:
    house = make_house(boots_over_ssh=True, stop_wipes=True, resume_id=resume_id)
    house.probe = _probe
    machine, fleet = await _stopped(house)
    first = list(machine.boots)
    house.cloud.script("start", "crash_after")
    with pytest.raises(Crashed):
        await fleet.start("train-1")
    house.cloud.clock.advance(120)
    fleet = house.open()
    await observe(fleet.context, cadence_s=0.0)
    assert machine.boots == [*first, *first]


async def test_a_machine_that_was_set_going_by_hand_under_another_id_is_set_up_again(
    make_house: MakeHouse,
) -> None:
    house = make_house(boots_over_ssh=True, stop_wipes=True, resume_id="new")
    house.probe = _probe
    machine, fleet = await _stopped(house)
    first = list(machine.boots)
    house.cloud.resume(machine)
    house.cloud.clock.advance(60)
    await observe(fleet.context, cadence_s=0.0)
    assert machine.boots == [*first, *first]


async def test_what_fails_on_a_started_machine_is_told_and_tried_again(
    make_house: MakeHouse,
) -> None:
    house = make_house(boots_over_ssh=True, stop_wipes=True)
    house.probe = _probe
    machine, fleet = await _stopped(house)
    first = list(machine.boots)
    house.cloud.script("start", "crash_after")
    with pytest.raises(Crashed):
        await fleet.start("train-1")
    house.cloud.clock.advance(120)
    fleet = house.open()
    machine.boot_code = 3
    [told] = await observe(fleet.context, cadence_s=0.0)
    assert "train-1" in told
    assert "exit code 3" in told
    machine.boot_code = 0
    for _ in range(10):
        # It may be in use meanwhile: what it refused is not run on it each minute.
        house.cloud.clock.advance(60)
        assert await observe(fleet.context, cadence_s=0.0) == ()
    assert machine.boots == [*first, *first]
    house.cloud.clock.advance(3600)
    assert await observe(fleet.context, cadence_s=0.0) == ()
    assert machine.boots == [*first, *first, *first]
