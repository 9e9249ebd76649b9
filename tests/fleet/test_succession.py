"""A launch that may go on trying stands in the store, and any process makes its next plan."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from gpubroker.fleet.errors import NothingToBeHad
from gpubroker.fleet.keeping import Keeper
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.fleet.succession import LATEST_S, SOONEST_S
from gpubroker.model.errors import Invalid
from gpubroker.model.money import nanos
from gpubroker.model.query import GpuWanted, Query
from gpubroker.model.terms import State

House = Any
COOLED_S = 400.0
"""After so long an offer that was sold out is planned with again."""
PATIENT = LaunchRequest(disk_gb=20, ttl=timedelta(hours=4), retry_for=timedelta(hours=6))


def sell_out(house: House) -> None:
    for key in house.cloud.stock:
        house.cloud.sell_out(key)


def told(house: House, kind: str) -> list[Any]:
    return [event for event in house.events if event.kind == kind]


async def waiting(house: House) -> Any:
    """A launch that found nothing and was left waiting, as by --no-wait."""
    sell_out(house)
    fleet = house.open()
    await house.launch(fleet, PATIENT, wait=False)
    return fleet


def elapsed(house: House) -> float:
    row = house.fleet_row("train-1")
    return float(house.cloud.clock.now().timestamp() - row.created_at)


async def test_it_is_planned_anew_until_there_is_stock(house: House) -> None:
    sell_out(house)
    fleet = house.open()
    launch = asyncio.ensure_future(house.launch(fleet, PATIENT))
    while not house.store.names() or elapsed(house) < 3600:
        await asyncio.sleep(0)
    house.cloud.restock("4090-north")
    machine = await launch
    assert machine.state is State.RUNNING
    assert [one.outcome for one in machine.tries] == ["refused"] * 3 + ["created"]
    # Its four hours count from the plan that got the machine.
    assert machine.expires_at is not None
    assert timedelta(hours=3.9) < machine.expires_at - house.cloud.clock.now() <= PATIENT.ttl
    assert len(house.cloud.billed()) == 1


async def test_an_end_that_is_moved_while_it_waits_holds_whatever_is_planned(house: House) -> None:
    fleet = await waiting(house)
    await fleet.settle()
    wished = house.cloud.clock.now() + timedelta(hours=9)
    await fleet.extend("train-1", until=wished)
    for _ in range(4):
        house.cloud.clock.advance(LATEST_S)
        await fleet.settle()
        assert house.fleet_row("train-1").expires_at == wished.timestamp()
    house.cloud.restock("4090-north")
    house.cloud.clock.advance(COOLED_S + LATEST_S)
    await fleet.settle()
    assert len(house.cloud.billed()) == 1
    assert (await fleet.show("train-1")).expires_at == wished


async def test_an_end_that_is_moved_while_it_is_planned_holds(house: House) -> None:
    fleet = await waiting(house)
    await fleet.settle()
    house.cloud.restock("4090-north")
    wished = house.cloud.clock.now() + timedelta(hours=9)

    def move(boundary: str) -> None:
        if boundary == "planned":
            store = house.another_store()
            row = house.fleet_row("train-1")
            store.expiries.move({row.id: wished.timestamp()}, 0.0, lambda _: None)
            store.close()

    house.on_boundary = move
    fleet = house.open()
    house.cloud.clock.advance(COOLED_S + LATEST_S)
    await fleet.settle()
    assert len(house.cloud.billed()) == 1
    assert house.fleet_row("train-1").expires_at == wished.timestamp()


async def test_the_pace_decays_between_its_bounds(house: House) -> None:
    fleet = await waiting(house)
    while house.store.names():
        house.cloud.clock.advance(5)
        await fleet.settle()
    waits = told(house, "waiting_for_stock")
    pauses = [event.data["next_at"] - event.at.timestamp() for event in waits]
    assert pauses[0] == SOONEST_S
    assert max(pauses) == LATEST_S
    assert pauses[:-1] == sorted(pauses[:-1])
    assert 30 < len(pauses) < 60
    row = house.fleet_row("train-1")
    assert row.error_code == "no_capacity"
    assert row.ended_at - row.created_at == pytest.approx(6 * 3600, abs=10)


async def test_another_process_goes_on_with_it(house: House) -> None:
    fleet = await waiting(house)
    [shown] = [fleet._machine(row) for row in house.store.launches()]
    assert (shown.state, shown.provider_id) == (State.PENDING, None)
    assert shown.next_try_at is not None
    assert shown.retry_until is not None
    house.cloud.restock("4090-south")
    assert house.store.due(house.cloud.clock.now().timestamp()) == []
    fleet = house.open()
    keeper = Keeper(fleet.context, fleet, on_round=lambda _: _stop_when_made(house, keeper))
    await keeper.run()
    assert [one.offer.key for one in house.cloud.billed()] == ["4090-south"]
    assert house.leaks() == []


def _stop_when_made(house: House, keeper: Keeper) -> None:
    if house.cloud.billed() or elapsed(house) > 3600:
        keeper.stop()


async def test_nothing_for_sale_at_first_is_waited_for_too(house: House) -> None:
    fleet = house.open()
    request = LaunchRequest(
        disk_gb=20,
        query=Query(gpus=(GpuWanted("B200", memory_gb=192.0, count=8),)),
        retry_for=timedelta(hours=1),
    )
    stock, house.cloud.stock = house.cloud.stock, {}
    machine = await house.launch(fleet, request, wait=False)
    assert (machine.gpu.label, machine.gpu_count, machine.provider) == ("B200", 8, "")
    assert machine.tries == ()
    house.cloud.stock = stock
    house.cloud.clock.advance(60)
    fleet = house.open()
    await fleet.settle()
    assert len(house.cloud.billed()) == 1


async def test_terminate_ends_the_waiting(house: House) -> None:
    fleet = await waiting(house)
    ended = await fleet.terminate("train-1")
    assert ended.state is State.TERMINATED
    assert house.store.names() == set()
    assert house.cloud.calls[-1].operation != "terminate"


async def test_a_wrong_request_is_not_tried_again(house: House) -> None:
    house.cloud.script("create", "error", error=Invalid)
    fleet = house.open()
    with pytest.raises(NothingToBeHad):
        await house.launch(fleet, PATIENT)
    assert house.cloud.count("create") == 1


async def test_a_plan_dearer_than_what_is_left_of_the_money_is_not_taken(house: House) -> None:
    sell_out(house)
    fleet = house.open()
    request = structs.replace(PATIENT, max_cost=nanos(2))
    await house.launch(fleet, request, wait=False)
    house.cloud.reprice("4090-north", 10)
    house.cloud.restock("4090-north")
    house.cloud.clock.advance(COOLED_S)
    assert await fleet.settle() == ()
    assert house.cloud.billed() == []
    assert "could cost" in told(house, "waiting_for_stock")[-1].data["why"]


async def test_a_budget_that_is_used_up_meanwhile_is_kept(house: House) -> None:
    from gpubroker.fleet import budgets
    from gpubroker.model.budget import Budget

    fleet = await waiting(house)
    budgets.put(
        house.store,
        Budget(
            name="all",
            amount=nanos(0.5),
            period="total",
            scope="all",
            created_at=house.cloud.clock.now(),
        ),
    )
    house.cloud.restock("4090-north")
    house.cloud.clock.advance(COOLED_S)
    assert await fleet.settle() == ()
    assert house.cloud.billed() == []
    assert "budget" in told(house, "waiting_for_stock")[-1].data["why"]
