"""A started machine may have another id: it is followed by its name, never lost and never two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.fleet.conftest import House

from gpubroker.fleet import strays
from gpubroker.fleet.context import Probed
from gpubroker.fleet.observing import observe
from gpubroker.fleet.warned import recent
from gpubroker.model.errors import NoCapacity
from gpubroker.model.instance import Endpoint, Listing
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


HIDDEN = {"resume_id": "told", "new_id_hidden_s": 60.0, "create_deadline_s": 120.0}
"""The answer tells the new id a minute before anything else knows of it."""
LINGERS = HIDDEN | {"old_id_lingers_s": 100.0}
"""And the former one is told as stopped all the while, and longer."""


@GONE
async def test_a_new_id_that_nothing_tells_yet_is_waited_for(
    renaming: Callable[..., House], gone: str
) -> None:
    house = renaming(gone=gone, **HIDDEN)
    fleet = house.open()
    await house.launch(fleet)
    await fleet.stop("train-1")
    assert (await fleet.start("train-1")).state is State.RUNNING
    assert house.cloud.count("start") == 1
    assert len(house.cloud.billed()) == 1


async def _dies_when_the_new_id_is_noted(house: House) -> None:
    def dies(boundary: str) -> None:
        if boundary == "start noted":
            raise Crashed(boundary)

    await house.launch(house.open())
    house.cloud.clock.advance(3600)
    house.on_boundary = dies
    fleet = house.open()
    await fleet.stop("train-1")
    with pytest.raises(Crashed):
        await fleet.start("train-1")
    house.on_boundary = lambda _: None


@GONE
async def test_a_new_id_that_was_told_and_is_not_seen_yet_is_not_lost(
    renaming: Callable[..., House], gone: str
) -> None:
    house = renaming(gone=gone, **HIDDEN)
    await _dies_when_the_new_id_is_noted(house)
    house.cloud.clock.advance(20)
    fleet = house.open()
    for _ in range(3):
        await observe(fleet.context, cadence_s=0.0)
        report = await fleet.sweep(fix=True, owner=None)
        assert (report.orphans, report.ghosts) == ((), ())
        house.cloud.clock.advance(40)
    shown = await fleet.show("train-1")
    assert (shown.state, shown.error) == (State.RUNNING, "")


@GONE
async def test_an_end_of_what_was_just_started_waits_until_its_id_is_seen(
    renaming: Callable[..., House], gone: str
) -> None:
    house = renaming(gone=gone, **HIDDEN)
    await _dies_when_the_new_id_is_noted(house)
    house.cloud.clock.advance(20)
    fleet = house.open()
    await fleet.terminate("train-1")
    assert house.cloud.billed() == []
    assert house.cloud.leaks(house.store.owner, set()) == []


async def test_once_its_new_id_was_seen_its_absence_counts_at_once(
    renaming: Callable[..., House],
) -> None:
    house = renaming(**HIDDEN)
    fleet = house.open()
    await house.launch(fleet)
    await fleet.stop("train-1")
    await fleet.start("train-1")
    house.cloud.end(house.cloud.machines[0])
    for _ in range(2):
        await observe(fleet.context, cadence_s=0.0)
        house.cloud.clock.advance(40)
    assert house.fleet_row("train-1").ended_at is not None


@pytest.mark.parametrize("kind", ["unknown_after", "crash_after"])
@pytest.mark.parametrize("lingers_s", [100.0, 300.0])
@HOW_TOLD
async def test_no_second_start_is_sent_while_the_first_may_still_show(
    renaming: Callable[..., House], resume_id: str, kind: FaultKind, lingers_s: float
) -> None:
    house = renaming(**(LINGERS | {"resume_id": resume_id, "old_id_lingers_s": lingers_s}))
    fleet = house.open()
    await house.launch(fleet)
    await fleet.stop("train-1")
    house.cloud.script("start", kind)
    if kind == "crash_after":
        with pytest.raises(Crashed):
            await fleet.start("train-1")
        house.cloud.clock.advance(20)
        fleet = house.open()
    assert (await fleet.start("train-1")).state is State.RUNNING
    assert house.cloud.count("start") == 1
    assert len(house.cloud.billed()) == 1
    assert house.leaks() == []


async def test_a_start_that_never_arrived_is_sent_again_when_it_can_be_no_more_than_one(
    renaming: Callable[..., House],
) -> None:
    house = renaming(**HIDDEN)
    fleet = house.open()
    await house.launch(fleet)
    await fleet.stop("train-1")
    house.cloud.script("start", "unknown_before")
    before = house.cloud.clock.now()
    assert (await fleet.start("train-1")).state is State.RUNNING
    assert house.cloud.count("start") == 2
    assert (house.cloud.clock.now() - before).total_seconds() > 120 + LAG_S
    assert len(house.cloud.billed()) == 1


async def test_a_start_that_was_surely_not_taken_is_repeated_without_a_wait(
    renaming: Callable[..., House],
) -> None:
    house = renaming(stop="loses_gpu", create_deadline_s=120.0)
    fleet = house.open()
    await house.launch(fleet)
    key = house.cloud.machines[0].offer.key
    await fleet.stop("train-1")
    house.cloud.sell_out(key)
    with pytest.raises(NoCapacity):
        await fleet.start("train-1")
    house.cloud.restock(key)
    house.cloud.script("start", "unavailable")
    before = house.cloud.clock.now()
    assert (await fleet.start("train-1")).state is State.RUNNING
    assert (house.cloud.clock.now() - before).total_seconds() < 120


async def test_a_machine_that_was_started_can_be_stopped_and_started_at_once_again(
    renaming: Callable[..., House],
) -> None:
    house = renaming(resume_id="same_after_all", create_deadline_s=120.0)
    fleet = house.open()
    await house.launch(fleet)
    before = house.cloud.clock.now()
    for _ in range(3):
        await fleet.stop("train-1")
        assert (await fleet.start("train-1")).state is State.RUNNING
    assert house.cloud.count("start") == 3
    assert (house.cloud.clock.now() - before).total_seconds() < 150


async def test_a_stop_after_a_start_that_is_not_seen_yet_stops_what_it_made(
    renaming: Callable[..., House],
) -> None:
    house = renaming(**LINGERS)
    fleet = house.open()
    await house.launch(fleet)
    await fleet.stop("train-1")
    house.cloud.script("start", "crash_after")
    with pytest.raises(Crashed):
        await fleet.start("train-1")
    house.cloud.clock.advance(20)
    fleet = house.open()
    assert (await fleet.stop("train-1")).state is State.STOPPED
    assert [one.bills_compute for one in house.cloud.billed()] == [False]


async def test_a_former_id_that_is_told_on_is_not_gone_back_to(
    renaming: Callable[..., House],
) -> None:
    house = renaming(**LINGERS)
    await _dies_when_the_new_id_is_noted(house)
    house.cloud.clock.advance(20)
    fleet = house.open()
    await observe(fleet.context, cadence_s=0.0)
    assert (await fleet.start("train-1")).state is State.RUNNING
    assert house.cloud.count("start") == 1
    assert len(house.cloud.billed()) == 1


@pytest.mark.parametrize("noted", [True, False])
async def test_a_sweep_ends_neither_id_while_both_are_told(
    renaming: Callable[..., House], noted: bool
) -> None:
    house = renaming(**(LINGERS | {"old_id_lingers_s": 400.0}))
    await (_dies_when_the_new_id_is_noted(house) if noted else _crashed_in_its_start(house))
    house.cloud.clock.advance(20)
    fleet = house.open()
    for _ in range(3):
        report = await fleet.sweep(fix=True, owner=None)
        assert (report.orphans, report.ghosts) == ((), ())
        house.cloud.clock.advance(20)
    assert house.cloud.count("terminate") == 0
    await observe(fleet.context, cadence_s=0.0)
    assert (await fleet.show("train-1")).state is State.RUNNING
    report = await fleet.sweep(fix=True, owner=None)
    assert (report.orphans, report.ghosts) == ((), ())
    assert house.cloud.count("terminate") == 0


async def test_a_list_that_is_older_than_the_new_id_leads_nowhere(
    renaming: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    house = renaming(**(LINGERS | {"resume_id": "told"}))
    fleet = house.open()
    await house.launch(fleet)
    (machine,) = house.cloud.machines
    house.cloud.clock.advance(60)
    house.cloud.halt(machine)
    house.cloud.clock.advance(60)
    provider = fleet.context.clouds.provider("fake", "default")
    told = provider.list

    async def slow(scope: str) -> Listing:
        listing = await told(scope)
        await fleet.start("train-1")
        return listing

    monkeypatch.setattr(provider, "list", slow)
    await observe(fleet.context, cadence_s=0.0)
    assert (await fleet.show("train-1")).provider_id == machine.id


async def test_both_ids_of_a_machine_that_was_started_by_hand_are_kept(
    renaming: Callable[..., House],
) -> None:
    house = renaming(**LINGERS)
    fleet = house.open()
    await house.launch(fleet)
    (machine,) = house.cloud.machines
    house.cloud.clock.advance(60)
    await fleet.stop("train-1")
    house.cloud.resume(machine)
    for _ in range(6):
        house.cloud.clock.advance(20)
        report = await fleet.sweep(fix=True, owner=None)
        assert (report.orphans, report.ghosts) == ((), ())
        await observe(fleet.context, cadence_s=0.0)
    assert house.cloud.count("terminate") == 0
    assert (await fleet.show("train-1")).provider_id == machine.id


async def test_a_restart_by_hand_that_nobody_saw_ends_neither_id(
    renaming: Callable[..., House],
) -> None:
    """Our record says that it runs; the first list to tell otherwise tells both ids."""
    house = renaming(**LINGERS)
    fleet = house.open()
    await house.launch(fleet)
    (machine,) = house.cloud.machines
    house.cloud.clock.advance(3600)
    house.cloud.halt(machine)
    house.cloud.clock.advance(60)
    house.cloud.billed()  # what is due has happened
    house.cloud.resume(machine)
    house.cloud.clock.advance(70)
    provider = fleet.context.clouds.provider("fake", "default")
    listing = await provider.list("")
    assert len(listing.instances) == 2
    assert house.store.attempts_of_provider("fake")[0].state == State.RUNNING
    await strays.tend(fleet.context, provider, [listing], {})
    report = await fleet.sweep(fix=True, owner=None)
    assert (report.orphans, report.ghosts) == ((), ())
    assert house.cloud.count("terminate") == 0
    for _ in range(3):
        house.cloud.clock.advance(20)
        await observe(fleet.context, cadence_s=0.0)
    assert house.cloud.count("terminate") == 0
    assert (await fleet.show("train-1")).provider_id == machine.id


async def _with_a_twin(house: House, *, stopped: bool = False) -> tuple[Any, Any, Any]:
    """A fleet, its machine, and a second one of its attempt, made an hour later."""
    fleet = house.open()
    await house.launch(fleet)
    (known,) = house.cloud.machines
    house.cloud.clock.advance(3600)
    if stopped:
        await fleet.stop("train-1")
    twin = house.cloud.plant(owner=known.owner, attempt=known.attempt, name=known.name)
    return fleet, known, twin


async def test_a_second_machine_beside_a_running_one_is_ended_once_it_can_be_no_renamed_one(
    renaming: Callable[..., House],
) -> None:
    house = renaming(create_deadline_s=120.0)
    fleet, known, twin = await _with_a_twin(house)
    for _ in range(7):
        await observe(fleet.context, cadence_s=0.0)
        assert house.cloud.billed() == [known, twin]
        house.cloud.clock.advance(20)
    house.cloud.clock.advance(20)
    await observe(fleet.context, cadence_s=0.0)
    assert house.cloud.billed() == [known]


async def test_a_second_machine_is_not_ended_where_the_known_one_runs_in_an_old_list_alone(
    renaming: Callable[..., House],
) -> None:
    house = renaming()
    fleet, known, twin = await _with_a_twin(house)
    provider = fleet.context.clouds.provider("fake", "default")
    await strays.tend(fleet.context, provider, [await provider.list("")], {})
    house.cloud.clock.advance(3600)
    listing = await provider.list("")
    house.cloud.halt(known)
    await strays.tend(fleet.context, provider, [listing], {})
    assert house.cloud.billed() == [known, twin]
    assert house.cloud.count("terminate") == 0


async def test_a_second_machine_beside_a_stopped_one_is_told_of_and_ended_by_a_sweep_alone(
    renaming: Callable[..., House],
) -> None:
    house = renaming()
    fleet, known, twin = await _with_a_twin(house, stopped=True)
    for _ in range(5):
        await observe(fleet.context, cadence_s=0.0)
        house.cloud.clock.advance(60)
    assert house.cloud.billed() == [known, twin]
    kinds = [one.kind for one in recent(house.store, house.cloud.clock.now().timestamp())]
    assert kinds == ["orphan_found"]
    report = await fleet.sweep(fix=True, owner=None)
    assert [one.ref.id for one in report.orphans] == [twin.id]
    assert house.cloud.billed() == [known]


async def test_a_second_machine_of_the_same_name_is_not_taken_for_the_started_one(
    renaming: Callable[..., House],
) -> None:
    house = renaming(**LINGERS)
    fleet = house.open()
    await house.launch(fleet)
    (machine,) = house.cloud.machines
    twin = house.cloud.plant(owner=machine.owner, attempt=machine.attempt, name=machine.name)
    await fleet.stop("train-1")
    started = await fleet.start("train-1")
    assert started.provider_id == machine.id != twin.id


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
