"""Machines launched together are had all in time, or none of them is kept."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from gpubroker.fleet import budgets
from gpubroker.fleet.errors import GangFailed, TooFewMachines
from gpubroker.fleet.gangs import deal
from gpubroker.fleet.requests import LaunchRequest, PlannedOffer
from gpubroker.model.budget import LADDER, Budget
from gpubroker.model.errors import BudgetExceeded, NoCapacity
from gpubroker.model.money import Nanos, nanos
from gpubroker.model.terms import Market, State
from gpubroker.store.errors import NameTaken
from gpubroker.testing.fake_cloud import Crashed, FakeCloud

House = Any
THREE = LaunchRequest(disk_gb=20, nodes=3)


def ended(house: House) -> dict[str, str]:
    rows = house.store.launches(include_ended=True)
    return {row.name: row.error for row in rows if row.ended_at is not None}


async def test_all_nodes_are_had_and_go_their_own_ways_then(house: House) -> None:
    fleet = house.open()
    machines = await house.launch_gang(fleet, THREE)
    assert [(one.name, one.gang, one.phase) for one in machines] == [
        (f"train-{number}", "train", "ready") for number in (1, 2, 3)
    ]
    assert len(house.cloud.billed()) == house.cloud.count("create") == 3
    await fleet.terminate("train-2")
    house.cloud.clock.advance(1200)
    assert await fleet.settle() == ()
    assert len(house.cloud.billed()) == 2


async def test_all_ends_of_a_gang_are_moved_or_none(house: House) -> None:
    fleet = house.open()
    await house.launch_gang(fleet, THREE)
    ends = [row.expires_at for row in house.store.launches()]
    moved = await fleet.extend_gang("train", by=timedelta(hours=1))
    assert [one.expires_at.timestamp() for one in moved] == [end + 3600 for end in ends]
    assert {one.name for one in moved} == {"train-1", "train-2", "train-3"}
    most = Nanos(nanos(0.204) * 90)
    budgets.put(
        house.store,
        Budget(name="thesis", amount=most, period="total", ladder=LADDER,
               created_at=house.cloud.clock.now()),
    )  # fmt: skip
    with pytest.raises(BudgetExceeded, match="train was not extended"):
        await fleet.extend_gang("train", by=timedelta(hours=10))
    assert [row.expires_at for row in house.store.launches()] == [end + 3600 for end in ends]
    await fleet.terminate("train-2")
    two = await fleet.extend_gang("train", by=timedelta(hours=1))
    assert {one.name for one in two} == {"train-1", "train-3"}


async def test_one_that_cannot_be_had_ends_all(house: House) -> None:
    house.cloud.script("create", "error", error=NoCapacity, skip=2, times=None)
    fleet = house.open()
    with pytest.raises(GangFailed, match="train-"):
        await house.launch_gang(fleet, THREE)
    assert house.cloud.billed() == []
    assert house.leaks() == []
    assert set(ended(house)) == {"train-1", "train-2", "train-3"}


async def test_what_is_not_ready_in_time_ends_all(house: House) -> None:
    house.cloud.script("create", "stuck_pending", skip=1, times=None)
    fleet = house.open()
    request = structs.replace(THREE, all_within=timedelta(minutes=5))
    with pytest.raises(GangFailed, match="within 5m"):
        await house.launch_gang(fleet, request)
    assert house.cloud.billed() == []
    [first, *_] = house.cloud.machines
    assert first.ended_at - first.created_at < timedelta(minutes=6)


async def _crashed(house: House, ready: int) -> None:
    """Dies as soon as so many are ready; no task of the dead process writes anything more."""
    left = ready

    def dies(boundary: str) -> None:
        nonlocal left
        left -= boundary == "ready"
        if boundary == "ready" and left == 0:
            house.close()
            raise Crashed(boundary)

    house.on_boundary = dies
    fleet = house.open()
    # Whichever task of it comes first: to its death, or to a store that is closed.
    with pytest.raises((Crashed, sqlite3.ProgrammingError)):
        await house.launch_gang(fleet, structs.replace(THREE, all_within=timedelta(minutes=15)))
    house.on_boundary = lambda _: None


@pytest.mark.parametrize("away_s", [60.0, 840.0, 1000.0, 7200.0])
async def test_all_that_were_ready_in_time_are_kept_however_late_anybody_looks(
    house: House, away_s: float
) -> None:
    await _crashed(house, 3)
    house.cloud.clock.advance(away_s)
    fleet = house.open()
    assert await fleet.settle() == ()
    assert {row.gang_until for row in house.store.launches()} == {None}
    assert len(house.cloud.billed()) == 3
    assert ended(house) == {}


@pytest.mark.parametrize("ready", [1, 2])
async def test_one_that_nobody_saw_ready_in_time_ends_all(house: House, ready: int) -> None:
    await _crashed(house, ready)
    house.cloud.clock.advance(1000)
    fleet = house.open()
    for _ in range(3):
        assert await fleet.settle() == ()
    assert house.cloud.billed() == []
    assert set(ended(house)) == {"train-1", "train-2", "train-3"}


async def test_one_that_was_ended_before_anybody_looked_again_ends_all(house: House) -> None:
    await _crashed(house, 3)
    house.cloud.clock.advance(1000)
    fleet = house.open()
    await fleet.terminate("train-2")
    assert await fleet.settle() == ()
    assert house.cloud.billed() == []


async def test_a_node_that_is_ended_by_hand_while_they_form_ends_all(house: House) -> None:
    fleet = house.open()
    await house.launch_gang(fleet, THREE, wait=False)
    await fleet.terminate("train-1")
    assert await fleet.settle() == ()
    assert house.cloud.billed() == []
    assert len(ended(house)) == 3


async def test_their_name_means_all_of_them(house: House) -> None:
    fleet = house.open()
    await house.launch_gang(fleet, THREE)
    assert fleet.named("train") == ("train-1", "train-2", "train-3")
    await asyncio.gather(*(fleet.terminate(name) for name in fleet.named("train")))
    assert house.cloud.billed() == []


async def test_a_taken_name_of_one_commits_none(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, name="train-2")
    with pytest.raises(NameTaken):
        await house.launch_gang(fleet, THREE)
    assert house.store.names() == {"train-2"}


async def test_the_money_counts_for_every_node(house: House) -> None:
    fleet = house.open()
    with pytest.raises(BudgetExceeded, match="could cost"):
        # 24 hours of three at $0.204 and dearer.
        await house.launch_gang(fleet, structs.replace(THREE, max_cost=nanos(20)))
    one = await house.planned(structs.replace(THREE, nodes=1, tries=1))
    three = await house.planned(structs.replace(THREE, tries=1))
    assert three.most > 3 * one.most
    assert house.cloud.calls == []
    del fleet


def planned(cloud: FakeCloud, *keys: str, **change: Any) -> list[PlannedOffer]:
    return [
        PlannedOffer(
            offer=structs.replace(cloud.stock[key], key=f"{key}-{number}", **change),
            offer_id=key,
            price=nanos(1),
            reason="",
        )
        for number, key in enumerate(keys)
    ]


def test_an_offer_of_one_machine_goes_to_one_node() -> None:
    ranked = planned(FakeCloud(), *["4090-north"] * 4, host="a host")
    hands = deal(ranked, 2, 5)
    assert [[one.offer.key for one in hand] for hand in hands] == [
        ["4090-north-0", "4090-north-2"],
        ["4090-north-1", "4090-north-3"],
    ]
    with pytest.raises(TooFewMachines, match="5 machines were asked for together, and 4"):
        deal(ranked, 5, 5)


def test_the_best_type_with_room_for_all_comes_first() -> None:
    cloud = FakeCloud()
    ranked = [
        *planned(cloud, "4090-spot", stock=1),
        *planned(cloud, "4090-south", stock=2),
        *planned(cloud, "4090-north"),
    ]
    hands = deal(ranked, 3, 2)
    assert {hand[0].offer.region for hand in hands} == {"north"}
    assert {hand[0].offer.market for hand in hands} == {Market.ON_DEMAND}
    assert all(1 <= len(hand) <= 2 for hand in hands)


async def test_a_lost_node_of_a_formed_gang_is_only_its_own_loss(house: House) -> None:
    fleet = house.open()
    machines = await house.launch_gang(fleet, THREE)
    assert {one.state for one in machines} == {State.RUNNING}
    house.cloud.end(house.cloud.machines[0])
    house.cloud.clock.advance(120)
    for _ in range(3):
        house.cloud.clock.advance(60)
        await fleet.sweep(fix=True, owner=None)
    assert len(house.cloud.billed()) == 2
