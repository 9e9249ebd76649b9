"""Ends that do not come: counted from the first try, told once, asked for ever more rarely."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gpubroker.fleet.errors import StillThere
from gpubroker.fleet.keeping import Keeper
from gpubroker.model.errors import AuthFailed, BrokerError
from gpubroker.testing.fake_cloud import FaultKind

House = Any
FAULTS: list[tuple[FaultKind, dict[str, Any], type[BrokerError]]] = [
    ("unavailable", {}, StillThere),
    ("unknown_before", {}, StillThere),
    ("garbage", {}, StillThere),
    ("error", {"error": AuthFailed}, AuthFailed),
]


def kinds(house: House) -> list[str]:
    return [event.kind for event in house.store.events(house.fleet_row("train-1").id)]


async def kept(house: House, fleet: Any, rounds: int, every_s: float) -> list[str]:
    problems: list[str] = []
    keeper = Keeper(fleet.context, fleet)
    for _ in range(rounds):
        problems += (await keeper.round()).problems
        house.cloud.clock.advance(every_s)
    return problems


@pytest.mark.parametrize(("fault", "more", "told"), FAULTS)
async def test_an_end_that_is_never_accepted_is_told_once_and_asked_for_once_a_minute(
    house: House, fault: FaultKind, more: dict[str, Any], told: type[BrokerError]
) -> None:
    fleet = house.open()
    await house.launch(fleet)
    house.cloud.clock.advance(3600)
    began = house.cloud.clock.now()
    house.cloud.script("terminate", fault, times=None, **more)
    if fault == "garbage":
        house.cloud.script("list", "garbage", times=None)
    with pytest.raises(told):
        await fleet.terminate("train-1")
    await kept(house, fleet, 8, 120.0)
    hours = (house.cloud.clock.now() - began).total_seconds() / 3600
    assert kinds(house).count("delete_overdue") == 1
    assert house.cloud.count("terminate") <= 60 + 60 * hours
    assert house.fleet_row("train-1").ended_at is None
    house.cloud.heal()
    house.cloud.clock.advance(120)
    await fleet.terminate("train-1")
    assert house.cloud.billed() == []


async def test_a_keeper_that_is_refused_each_round_does_not_ask_each_round(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    house.cloud.script("terminate", "error", times=None, error=AuthFailed)
    launch = house.fleet_row("train-1")
    house.store.want(launch.id, "gone", house.cloud.clock.now().timestamp(), "asked")
    began, asked = house.cloud.clock.now(), house.cloud.count("whoami")
    problems = await kept(house, fleet, 100, 2.0)
    minutes = (house.cloud.clock.now() - began).total_seconds() / 60
    assert kinds(house).count("delete_overdue") == 1
    assert any("scripted" in one for one in problems)
    assert 30 < house.cloud.count("terminate") <= 60 + minutes
    assert house.cloud.count("whoami") - asked <= 60 + minutes


async def test_an_end_whose_account_is_frozen_is_overdue_too(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    house.cloud.answer_as("default", "somebody-else")
    launch = house.fleet_row("train-1")
    house.store.want(launch.id, "gone", house.cloud.clock.now().timestamp(), "asked")
    await kept(house, fleet, 30, 20.0)
    assert kinds(house).count("delete_overdue") == 1
    assert house.cloud.count("terminate") == 0
    house.cloud.answer_as("default", "fake-default")
    await kept(house, fleet, 3, 60.0)
    assert house.cloud.billed() == []


async def test_a_short_trouble_costs_no_longer_pause_than_seconds(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    house.cloud.script("terminate", "unavailable", times=3)
    began = house.cloud.clock.now()
    await fleet.terminate("train-1")
    assert (house.cloud.clock.now() - began).total_seconds() <= 20
    assert "delete_overdue" not in kinds(house)


async def test_what_is_gone_is_closed_though_the_cloud_never_says_so_to_a_delete(
    make_house: Callable[..., House],
) -> None:
    # As a 404 in words that nobody recorded.
    house = make_house(gone="absent")
    fleet = house.open()
    await house.launch(fleet)
    house.cloud.script("terminate", "unknown_after", times=None)
    machine = await fleet.terminate("train-1")
    assert machine.ended_at is not None
    assert house.cloud.billed() == []
    assert kinds(house).count("gone") == 1
