"""A started machine may have another id: it is followed by its name, never lost and never two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.fleet.conftest import House

from gpubroker.fleet.context import Probed
from gpubroker.fleet.observing import observe
from gpubroker.model.instance import Endpoint
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Carrier, State
from gpubroker.testing.fake_cloud import Crashed
from gpubroker.testing.faults import FaultKind

IN = Probed(answers=True, detail="GPU checked", in_container=False)
LAG_S = 30.0
HOW_TOLD = pytest.mark.parametrize("resume_id", ["new", "told"])
GONE = pytest.mark.parametrize("gone", ["404", "absent", "tombstone"])


async def _probe(endpoint: Endpoint, alias: str, offer: Offer) -> Probed:
    return IN


@pytest.fixture
def renaming(make_house: Callable[..., House]) -> Callable[..., House]:
    """A cloud that knows machines by their name, and lists them late."""

    def make(**switches: Any) -> House:
        usual = {"resume_id": "new", "carrier": Carrier.NAME, "list_lag_s": LAG_S}
        return make_house(**(usual | switches))

    return make


async def _crashed_in_its_start(house: House, kind: FaultKind = "crash_after") -> Any:
    fleet = house.open()
    before = await house.launch(fleet)
    house.cloud.clock.advance(3600)  # its own create explains nothing any more
    await fleet.stop("train-1")
    house.cloud.script("start", kind)
    with pytest.raises(Crashed):
        await fleet.start("train-1")
    house.cloud.clock.advance(120)  # the dead process's lease ends
    return before


@HOW_TOLD
async def test_a_start_waits_until_the_new_id_is_told(
    renaming: Callable[..., House], resume_id: str
) -> None:
    house = renaming(resume_id=resume_id)
    fleet = house.open()
    before = await house.launch(fleet)
    await fleet.stop("train-1")
    started = await fleet.start("train-1")
    assert started.state is State.RUNNING
    assert started.provider_id != before.provider_id
    assert len(house.cloud.billed()) == 1


@HOW_TOLD
async def test_a_start_whose_answer_is_lost_is_found_and_not_sent_twice(
    renaming: Callable[..., House], resume_id: str
) -> None:
    house = renaming(resume_id=resume_id)
    fleet = house.open()
    await house.launch(fleet)
    await fleet.stop("train-1")
    house.cloud.script("start", "unknown_after")
    assert (await fleet.start("train-1")).state is State.RUNNING
    assert house.cloud.count("start") == 1
    assert len(house.cloud.billed()) == 1


@GONE
async def test_a_machine_whose_start_nobody_noted_is_in_use_again_with_the_next_look(
    renaming: Callable[..., House], gone: str
) -> None:
    house = renaming(gone=gone)
    before = await _crashed_in_its_start(house)
    fleet = house.open()
    await observe(fleet.context, cadence_s=0.0)
    shown = await fleet.show("train-1")
    assert (shown.state, shown.error) == (State.RUNNING, "")
    assert shown.provider_id not in {None, before.provider_id}


@GONE
async def test_before_any_list_tells_the_new_id_nothing_is_concluded(
    renaming: Callable[..., House], gone: str
) -> None:
    house = renaming(gone=gone, list_lag_s=600.0)
    await _crashed_in_its_start(house)
    fleet = house.open()
    for _ in range(3):
        await observe(fleet.context, cadence_s=0.0)
        house.cloud.clock.advance(60)
    report = await fleet.sweep(fix=True, owner=None)
    assert (report.orphans, report.ghosts) == ((), ())
    house.cloud.clock.advance(600)
    await observe(fleet.context, cadence_s=0.0)
    assert (await fleet.show("train-1")).state is State.RUNNING


async def test_a_sweep_takes_a_machine_with_another_id_for_no_orphan_and_no_ghost(
    renaming: Callable[..., House],
) -> None:
    house = renaming()
    await _crashed_in_its_start(house)
    fleet = house.open()
    report = await fleet.sweep(fix=True, owner=None)
    assert (report.orphans, report.ghosts) == ((), ())
    assert [machine.name for machine in report.ours] == ["train-1"]
    assert len(house.cloud.billed()) == 1


@GONE
@pytest.mark.parametrize("lag_s", [LAG_S, 600.0])
@pytest.mark.parametrize("kind", ["crash_before", "crash_after"])
async def test_an_end_after_a_crashed_start_ends_it_under_whichever_id(
    renaming: Callable[..., House], gone: str, kind: FaultKind, lag_s: float
) -> None:
    house = renaming(gone=gone, list_lag_s=lag_s)
    await _crashed_in_its_start(house, kind)
    fleet = house.open()
    await fleet.terminate("train-1")
    assert house.cloud.billed() == []
    assert house.cloud.leaks(house.store.owner, set()) == []


async def test_an_id_that_was_changed_by_hand_is_followed_too(
    renaming: Callable[..., House],
) -> None:
    house = renaming()
    fleet = house.open()
    before = await house.launch(fleet)
    machine = house.cloud.machines[0]
    house.cloud.halt(machine)
    house.cloud.clock.advance(60)
    house.cloud.resume(machine)
    house.cloud.clock.advance(60)
    await observe(fleet.context, cadence_s=0.0)
    shown = await fleet.show("train-1")
    assert shown.state is State.RUNNING
    assert shown.provider_id not in {None, before.provider_id}
    assert len(house.forgotten) == 0


async def test_what_a_stop_wiped_is_run_again_at_the_start(
    renaming: Callable[..., House],
) -> None:
    house = renaming(boots_over_ssh=True, stop_wipes=True)
    house.probe = _probe
    fleet = house.open()
    await house.launch(fleet)
    (machine,) = house.cloud.machines
    first = list(machine.boots)
    assert first
    await fleet.stop("train-1")
    await fleet.start("train-1")
    assert machine.boots == [*first, *first]
    assert house.forgotten


async def test_what_a_stop_keeps_is_not_run_again(renaming: Callable[..., House]) -> None:
    house = renaming(boots_over_ssh=True)
    house.probe = _probe
    fleet = house.open()
    await house.launch(fleet)
    (machine,) = house.cloud.machines
    ran = len(machine.boots)
    assert ran
    await fleet.stop("train-1")
    await fleet.start("train-1")
    assert len(machine.boots) == ran
