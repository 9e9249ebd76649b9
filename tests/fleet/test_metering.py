"""Metered from the start that the cloud tells, however late it is told or read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from gpubroker.testing.fake_cloud import Crashed, FakeProvider

House = Any
HOUR = 3600.0
BOOT_S = 300.0


@pytest.fixture(params=["sqlite", "postgresql"])
def house(request: pytest.FixtureRequest, make_house: Callable[..., House]) -> House:
    """Its cloud bills from the end of the boot."""
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else ""
    return make_house(postgres=postgres, async_create=True, boot_s=BOOT_S)


@pytest.fixture
def starts_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record has no start until the machine is billed, and then tells that one."""
    honest = FakeProvider._instance

    def told(self: Any, machine: Any) -> Any:
        start = machine.spans[0].start if machine.spans else None
        return structs.replace(honest(self, machine), created_at=start)

    monkeypatch.setattr(FakeProvider, "_instance", told)


async def nobody_was_there_after(house: House, boundary: str, seconds: float) -> Any:
    """The launching process dies, and the next one comes so much later."""

    def die(reached: str) -> None:
        if reached == boundary:
            raise Crashed(reached)

    house.on_boundary = die
    with pytest.raises(Crashed):
        await house.launch(house.open())
    house.on_boundary = lambda _: None
    house.cloud.clock.advance(seconds)
    return house.open()


def metered(house: House) -> tuple[int, int]:
    """What we metered, what the cloud charged."""
    [machine] = house.cloud.machines
    return house.open()._machine(house.fleet_row("train-1")).cost_so_far, house.cloud.charged(
        machine
    )


@pytest.mark.usefixtures("starts_late")
async def test_a_start_that_is_told_late_counts_from_then(house: House) -> None:
    fleet = await nobody_was_there_after(house, "observed", HOUR)
    assert await fleet.settle() == ()
    house.cloud.clock.advance(HOUR)
    [machine] = house.cloud.machines
    [attempt] = house.store.attempts(house.fleet_row("train-1").id)
    began = machine.created_at + timedelta(seconds=BOOT_S)
    assert [row.since for row in house.store.usage(attempt.id)] == [began.timestamp()]
    ours, theirs = metered(house)
    assert abs(ours - theirs) <= 1
    assert theirs > 0


@pytest.mark.usefixtures("starts_late")
async def test_what_was_assumed_before_the_start_was_told_is_not_metered(house: House) -> None:
    """Nobody died: it was looked at all the time, and billed from the end of its boot."""
    await house.launch(house.open())
    house.cloud.clock.advance(HOUR)
    ours, theirs = metered(house)
    assert abs(ours - theirs) <= 1


@pytest.mark.usefixtures("starts_late")
async def test_a_start_before_the_first_look_counts_from_then(house: House) -> None:
    fleet = await nobody_was_there_after(house, "created recorded", HOUR)
    assert await fleet.settle() == ()
    ours, theirs = metered(house)
    assert abs(ours - theirs) <= 1


async def test_where_only_the_making_is_told_billing_counts_from_the_last_look_without(
    house: House,
) -> None:
    """Its record tells when it was made, not since when it costs: never too little."""
    fleet = await nobody_was_there_after(house, "observed", HOUR)
    assert await fleet.settle() == ()
    ours, theirs = metered(house)
    assert theirs <= ours
    [machine] = house.cloud.machines
    most = (house.cloud.clock.now() - machine.created_at).total_seconds()
    assert ours <= machine.hourly * most / HOUR + 1


async def test_a_machine_that_was_stopped_is_metered_from_when_it_is_seen_to_run(
    make_house: Callable[..., House],
) -> None:
    """Its making is no start of what it costs now."""
    house = make_house()
    fleet = house.open()
    await house.launch(fleet)
    house.cloud.clock.advance(HOUR)
    await fleet.stop("train-1")
    house.cloud.clock.advance(10 * HOUR)
    await fleet.start("train-1")
    house.cloud.clock.advance(HOUR)
    ours, theirs = metered(house)
    [machine] = house.cloud.machines
    assert abs(ours - theirs) <= machine.hourly * 60 / HOUR


async def test_a_cloud_that_tells_no_start_is_metered_in_one_stretch_from_the_making(
    make_house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second stretch would cost the vendor's minimum twice."""
    honest = FakeProvider._instance

    def told(self: Any, machine: Any) -> Any:
        return structs.replace(honest(self, machine), created_at=None)

    monkeypatch.setattr(FakeProvider, "_instance", told)
    house = make_house()
    fleet = await nobody_was_there_after(house, "created recorded", 10.0)
    assert await fleet.settle() == ()
    house.cloud.clock.advance(HOUR)
    await fleet.show("train-1")
    [machine] = house.cloud.machines
    [attempt] = house.store.attempts(house.fleet_row("train-1").id)
    stretches = [(row.since, row.until) for row in house.store.usage(attempt.id)]
    assert stretches == [(machine.created_at.timestamp(), None)]
