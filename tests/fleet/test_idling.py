"""Machines end when they are idle for as long as was said, and only when that was seen."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gpubroker.fleet.requests import LaunchRequest

House = Any


async def launched(house: House) -> Any:
    fleet = house.open()
    await house.launch(fleet, LaunchRequest(disk_gb=20, idle=timedelta(minutes=10)))
    return fleet


async def looked(house: House, fleet: Any, word: str, minutes: int) -> None:
    for _ in range(minutes):
        house.cloud.clock.advance(60)
        for machine in house.cloud.machines:
            machine.idle_word = word
        assert await fleet.settle() == ()


def kinds(house: House) -> list[str]:
    return [event.kind for event in house.store.events(house.fleet_row("train-1").id)]


async def test_an_idle_machine_is_warned_of_and_then_ended(house: House) -> None:
    fleet = await launched(house)
    await looked(house, fleet, "idle", 9)
    assert kinds(house).count("idle") == 1
    assert len(house.cloud.billed()) == 1
    await looked(house, fleet, "idle", 4)
    assert house.cloud.billed() == []
    assert "idle_ended" in kinds(house)
    assert house.leaks() == []


@pytest.mark.parametrize("word", ["busy", "cannot tell"])
async def test_only_idle_ends_it(house: House, word: str) -> None:
    fleet = await launched(house)
    await looked(house, fleet, word, 30)
    assert len(house.cloud.billed()) == 1
    assert house.fleet_row("train-1").idle_word == word


@pytest.mark.parametrize("word", ["busy", "cannot tell"])
async def test_one_other_answer_begins_the_wait_anew(house: House, word: str) -> None:
    fleet = await launched(house)
    await looked(house, fleet, "idle", 9)
    await looked(house, fleet, word, 1)
    await looked(house, fleet, "idle", 9)
    assert len(house.cloud.billed()) == 1


async def test_a_machine_that_does_not_answer_is_not_idle(house: House) -> None:
    fleet = await launched(house)
    await looked(house, fleet, "idle", 5)
    house.cloud.machines[0].answers_ssh = False
    await looked(house, fleet, "idle", 1)
    assert house.fleet_row("train-1").idle_word == "cannot tell"
    assert house.fleet_row("train-1").idle_since is None


async def test_what_nobody_looked_at_does_not_count(house: House) -> None:
    fleet = await launched(house)
    await looked(house, fleet, "idle", 2)
    house.cloud.clock.advance(3 * 3600)
    await looked(house, fleet, "idle", 1)
    assert len(house.cloud.billed()) == 1


async def test_it_is_looked_at_once_a_minute(house: House) -> None:
    fleet = await launched(house)
    seen: list[str] = []

    async def look(endpoint: Any, alias: str) -> str:
        seen.append(alias)
        return "busy"

    fleet.context.idle_at = look
    for _ in range(8):
        house.cloud.clock.advance(15)
        await fleet.settle()
    assert len(seen) == 2
