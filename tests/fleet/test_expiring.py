"""The end of a machine holds without us, can be moved, and is true when it was confirmed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gpubroker.fleet import budgets, expiring
from gpubroker.fleet.observing import observe
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.model.budget import Budget
from gpubroker.model.errors import BudgetExceeded, Invalid, Unsupported, WrongState
from gpubroker.model.machine import Machine
from gpubroker.model.money import nanos
from gpubroker.model.terms import Expiry
from gpubroker.testing.fake_cloud import SWITCHES, Crashed

House = Any
HOUR = timedelta(hours=1)
WITHOUT_US = (Expiry.PROVIDER, Expiry.MACHINE_ENDS_BILLING, Expiry.MACHINE_FREES_GPU)


async def launched(house: House, **more: Any) -> Any:
    fleet = house.open()
    request = LaunchRequest(disk_gb=20, ttl=timedelta(hours=2), **more)
    await house.launch(fleet, request)
    return fleet


def ends(house: House) -> Any:
    """When cloud or timer really end the one machine, hours after its launch."""
    machine = house.cloud.machines[0]
    at = house.fleet_row("train-1").created_at
    return machine.ends_at and round((machine.ends_at.timestamp() - at) / 3600, 1)


# Without us


@pytest.mark.parametrize("expiry", list(Expiry))
async def test_what_is_billed_past_the_expiry_with_everything_dead_is_what_was_foretold(
    make_house: Callable[..., House], expiry: Expiry
) -> None:
    house = make_house(expiry=expiry)
    await launched(house)
    house.close()
    house.cloud.clock.advance(3 * 3600)
    [*billed] = house.cloud.billed()
    gpu = [machine for machine in billed if machine.bills_compute]
    disk = [machine for machine in billed if machine.bills_disk]
    assert (len(gpu), len(disk)) == {
        Expiry.PROVIDER: (0, 0),
        Expiry.MACHINE_ENDS_BILLING: (0, 0),
        Expiry.MACHINE_FREES_GPU: (0, 1),
        Expiry.CONTROLLER_ONLY: (1, 1),
    }[expiry]
    fleet = house.open()
    assert await fleet.settle() == ()
    assert house.cloud.billed() == []
    assert house.leaks() == []
    assert house.fleet_row("train-1").error == ""


async def test_a_machine_that_ended_itself_in_time_is_not_called_lost(house: House) -> None:
    fleet = await launched(house)
    house.cloud.clock.advance(2 * 3600 + 30)
    for _ in range(3):
        await observe(fleet.context)
        house.cloud.clock.advance(61)
    kinds = [event.kind for event in house.store.events(house.fleet_row("train-1").id)]
    assert "expired" in kinds
    assert "lost" not in kinds
    assert house.fleet_row("train-1").error == ""


@pytest.mark.parametrize("expiry", list(Expiry))
async def test_a_ready_machine_says_whether_its_end_holds_without_us(
    make_house: Callable[..., House], expiry: Expiry
) -> None:
    house = make_house(expiry=expiry)
    fleet = await launched(house)
    machine = await fleet.show("train-1")
    assert machine.confirmed == (expiry is not Expiry.CONTROLLER_ONLY)
    assert abs((machine.ends_at - machine.expires_at).total_seconds()) < 90


async def test_a_machine_without_a_timer_is_not_called_safe(
    make_house: Callable[..., House],
) -> None:
    house = make_house(expiry=Expiry.MACHINE_ENDS_BILLING)
    fleet = house.open()
    house.cloud.timer_at = no_timer
    fleet = house.open()
    await house.launch(fleet)
    assert not (await fleet.show("train-1")).confirmed
    kinds = [event.kind for event in house.store.events(house.fleet_row("train-1").id)]
    assert "expiry_confirmed" not in kinds


async def no_timer(*_: Any) -> float | None:
    return None


# Extending


@pytest.mark.parametrize("expiry", WITHOUT_US)
async def test_an_extension_moves_what_ends_the_machine_and_says_so(
    make_house: Callable[..., House], expiry: Expiry
) -> None:
    house = make_house(expiry=expiry)
    fleet = await launched(house)
    machine = await fleet.extend("train-1", by=3 * HOUR)
    assert machine.confirmed
    assert ends(house) == 5.0
    house.cloud.clock.advance(4 * 3600)
    assert len(house.cloud.billed()) == 1
    house.cloud.clock.advance(3600 + 120)
    assert [one for one in house.cloud.billed() if one.bills_compute] == []


@pytest.mark.parametrize("expiry", list(Expiry))
async def test_an_end_can_be_moved_earlier_by_its_time(
    make_house: Callable[..., House], expiry: Expiry
) -> None:
    house = make_house(expiry=expiry)
    fleet = await launched(house)
    sooner = house.cloud.clock.now() + timedelta(minutes=30)
    machine: Machine = await fleet.extend("train-1", until=sooner)
    assert machine.expires_at == sooner
    if expiry in WITHOUT_US:
        assert ends(house) == 0.5


async def test_where_only_we_end_it_the_wish_is_all_there_is(
    make_house: Callable[..., House],
) -> None:
    house = make_house(expiry=Expiry.CONTROLLER_ONLY)
    fleet = await launched(house)
    before = house.cloud.clock.now()
    machine = await fleet.extend("train-1", by=HOUR)
    assert not machine.confirmed
    assert machine.ends_at == machine.expires_at
    assert house.cloud.clock.now() - before < timedelta(seconds=5)


@pytest.mark.parametrize("expiry", WITHOUT_US)
async def test_until_it_is_confirmed_the_earlier_end_is_the_truth_and_a_round_goes_on(
    make_house: Callable[..., House], expiry: Expiry
) -> None:
    house = make_house(expiry=expiry)
    fleet = await launched(house)
    first = (await fleet.show("train-1")).ends_at
    house.cloud.script("extend", "unavailable", times=None)
    house.cloud.machines[0].answers_ssh = False
    machine = await fleet.extend("train-1", by=HOUR)
    assert not machine.confirmed
    assert machine.ends_at == first
    assert machine.expires_at - first > timedelta(minutes=58)

    house.cloud.heal()
    house.cloud.machines[0].answers_ssh = True
    house.cloud.clock.advance(400)
    fleet = house.open()
    assert await expiring.hold(fleet.context) == ()
    machine = await fleet.show("train-1")
    assert machine.confirmed
    assert ends(house) == 3.0


async def test_a_cloud_that_ignores_an_extension_confirms_nothing(
    make_house: Callable[..., House],
) -> None:
    house = make_house(expiry=Expiry.PROVIDER)
    fleet = await launched(house)
    house.cloud.script("extend", "ignored", times=None)
    machine = await fleet.extend("train-1", by=HOUR)
    assert not machine.confirmed
    assert ends(house) == 2.0


async def test_a_clouds_own_end_that_cannot_be_moved_is_said_before_anything_is_changed(
    make_house: Callable[..., House],
) -> None:
    house = make_house(expiry=Expiry.PROVIDER, extendable=False)
    fleet = await launched(house)
    before = house.fleet_row("train-1").expires_at
    with pytest.raises(Unsupported, match="cannot be moved"):
        await fleet.extend("train-1", by=HOUR)
    assert house.fleet_row("train-1").expires_at == before


async def test_extensions_that_make_no_sense_are_refused(house: House) -> None:
    fleet = await launched(house)
    now = house.cloud.clock.now()
    for how in ({"by": -HOUR}, {"until": now - HOUR}, {}, {"by": HOUR, "until": now + HOUR}):
        with pytest.raises(Invalid):
            await fleet.extend("train-1", **how)
    await fleet.terminate("train-1")
    with pytest.raises(WrongState):
        await fleet.extend("train-1", by=HOUR)


async def test_the_cap_of_the_launch_holds_for_its_extension(house: House) -> None:
    fleet = await launched(house, max_cost=nanos(2))
    await fleet.extend("train-1", by=HOUR)
    with pytest.raises(BudgetExceeded, match="--max-cost"):
        await fleet.extend("train-1", by=1000 * HOUR)


async def test_a_budget_holds_for_an_extension(house: House) -> None:
    fleet = await launched(house)
    now = house.cloud.clock.now()
    budget = Budget(name="all", amount=nanos(2), period="total", scope="all", created_at=now)
    budgets.put(house.store, budget)
    before = house.fleet_row("train-1").expires_at
    with pytest.raises(BudgetExceeded, match="train-1 was not extended"):
        await fleet.extend("train-1", by=500 * HOUR)
    assert house.fleet_row("train-1").expires_at == before
    await fleet.extend("train-1", by=HOUR)


# Killed at any moment


class _CrashAt:
    def __init__(self, number: int | None = None) -> None:
        self.seen: list[str] = []
        self._number = number

    def __call__(self, boundary: str) -> None:
        self.seen.append(boundary)
        if len(self.seen) - 1 == self._number:
            raise Crashed(boundary)


@pytest.mark.parametrize("expiry", list(Expiry))
@pytest.mark.parametrize("carrier", SWITCHES["carrier"][:2])
async def test_every_boundary_of_an_extension_can_be_the_last(
    make_house: Callable[..., House], expiry: Expiry, carrier: Any
) -> None:
    rehearsal = _CrashAt()
    await _extended(make_house(expiry=expiry, carrier=carrier), rehearsal)
    assert "extension wished" in rehearsal.seen
    for number, boundary in enumerate(rehearsal.seen):
        house = make_house(expiry=expiry, carrier=carrier)
        with pytest.raises(Crashed):
            await _extended(house, _CrashAt(number))
        house.on_boundary = lambda _: None
        fleet = house.open()
        house.cloud.clock.advance(400)
        assert await fleet.settle() == (), boundary
        machine = await fleet.show("train-1")
        hours = (machine.expires_at - machine.created_at) / HOUR
        assert hours == (2.0 if boundary == "extension next" else 3.0), boundary
        assert machine.confirmed == (expiry in WITHOUT_US), boundary
        if expiry in WITHOUT_US:
            assert ends(house) == hours, boundary
        house.cloud.clock.advance(hours * 3600)
        await house.open().settle()
        assert house.cloud.billed() == [], boundary
        assert house.leaks() == [], boundary


async def _extended(house: House, boundaries: _CrashAt) -> None:
    fleet = await launched(house)
    house.close()
    house.on_boundary = boundaries
    fleet = house.open()
    await fleet.extend("train-1", by=HOUR)


@pytest.mark.parametrize("kind", ["crash_before", "crash_after", "unknown_after"])
async def test_a_cloud_call_that_ends_badly_is_gone_on_with(
    make_house: Callable[..., House], kind: Any
) -> None:
    house = make_house(expiry=Expiry.PROVIDER)
    fleet = await launched(house)
    house.cloud.script("extend", kind)
    try:
        await fleet.extend("train-1", by=HOUR)
    except Crashed:
        fleet = house.open()
        house.cloud.clock.advance(400)
        await fleet.settle()
    assert (await fleet.show("train-1")).confirmed
    assert ends(house) == 3.0


async def test_a_machine_that_stood_still_has_its_timer_set_again(
    make_house: Callable[..., House],
) -> None:
    house = make_house(expiry=Expiry.MACHINE_ENDS_BILLING)
    fleet = await launched(house)
    await fleet.stop("train-1")
    machine = house.cloud.machines[0]
    late = machine.ends_at + timedelta(minutes=20)
    house.cloud.arm(machine, late)
    await fleet.start("train-1")
    assert await expiring.hold(fleet.context) == ()
    assert ends(house) == 2.0
    assert (await fleet.show("train-1")).confirmed
