"""A spot machine that was taken away is replaced, given up or left, by its launch's policy."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gpubroker.fleet.observing import observe
from gpubroker.fleet.preempting import Policy, policy
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.model.terms import Market, State

House = Any


async def launched(house: House, then: str, **more: Any) -> Any:
    fleet = house.open()
    machine = await house.launch(fleet, LaunchRequest(disk_gb=20, on_preempt=then, **more))
    assert machine.market is Market.SPOT
    return fleet


async def rounds(house: House, fleet: Any, count: int = 6) -> None:
    for _ in range(count):
        house.cloud.clock.advance(70)
        assert await observe(fleet.context) == ()
        assert await fleet.settle() == ()


def billed(house: House) -> list[str]:
    return [one.offer.key for one in house.cloud.billed()]


def shown(house: House, fleet: Any) -> Any:
    return fleet._machine(house.fleet_row("train-1"))


async def test_by_default_it_stays(house: House) -> None:
    fleet = await launched(house, "stay")
    house.cloud.preempt(house.cloud.machines[0])
    await rounds(house, fleet)
    assert shown(house, fleet).state is State.PREEMPTED
    assert house.cloud.count("create") == 1
    assert house.cloud.count("terminate") == 0


async def test_it_is_ended_and_replaced_elsewhere_under_its_name(house: House) -> None:
    fleet = await launched(house, "replace")
    before = shown(house, fleet)
    house.cloud.preempt(house.cloud.machines[0])
    await rounds(house, fleet)
    machine = shown(house, fleet)
    # The same offer would be taken away again: the next best one.
    assert billed(house) == ["4090-south"]
    assert (machine.state, machine.phase, machine.preempted) == (State.RUNNING, "ready", 1)
    assert machine.host_key_alias != before.host_key_alias
    assert machine.ssh != before.ssh
    assert machine.expires_at == before.expires_at
    assert [one.error_code for one in machine.tries] == ["preempted", ""]
    assert house.cloud.machines[0].ended_at is not None
    assert house.leaks() == []
    [told] = [event for event in house.events if event.kind == "replacing"]
    assert told.data["times"] == 1


async def test_one_that_vanished_is_replaced_too(house: House) -> None:
    fleet = await launched(house, "replace")
    house.cloud.end(house.cloud.machines[0])
    await rounds(house, fleet)
    assert billed(house) == ["4090-south"]
    assert shown(house, fleet).error == ""
    assert house.leaks() == []


async def test_one_on_demand_that_vanished_is_lost(house: House) -> None:
    house.cloud.sell_out("4090-spot")
    fleet = house.open()
    await house.launch(fleet, LaunchRequest(disk_gb=20, on_preempt="replace"))
    house.cloud.end(house.cloud.machines[0])
    await rounds(house, fleet)
    assert billed(house) == []
    assert shown(house, fleet).error_code == "lost"


async def test_after_so_many_times_it_is_rented_on_demand(house: House) -> None:
    house.cloud.sell_out("4090-south")
    house.cloud.sell_out("4090-north")
    fleet = await launched(house, "on-demand-after:2")
    house.cloud.preempt(house.cloud.machines[0])
    # Its own offer is left alone for a while: it waits, and takes it again then.
    await rounds(house, fleet, 14)
    assert billed(house) == ["4090-spot"]
    house.cloud.restock("4090-north")
    house.cloud.preempt(house.cloud.machines[-1])
    await rounds(house, fleet)
    assert billed(house) == ["4090-north"]
    assert [one.query.market for one in house.plans][-1] is Market.ON_DEMAND
    assert shown(house, fleet).preempted == 2


async def test_given_up_it_is_ended_and_says_why(house: House) -> None:
    fleet = await launched(house, "give-up")
    house.cloud.preempt(house.cloud.machines[0])
    await rounds(house, fleet)
    machine = shown(house, fleet)
    assert house.cloud.billed() == []
    assert (machine.state, machine.error_code) == (State.FAILED, "preempted")
    assert "capacity was needed elsewhere" in machine.error
    assert house.cloud.count("create") == 1


async def test_it_waits_for_its_replacement_no_longer_than_its_time(house: House) -> None:
    fleet = await launched(house, "replace", ttl=timedelta(hours=2))
    for key in house.cloud.stock:
        house.cloud.sell_out(key)
    house.cloud.preempt(house.cloud.machines[0])
    await rounds(house, fleet, 20)
    assert shown(house, fleet).next_try_at is not None
    assert house.cloud.billed() == []
    house.cloud.clock.advance(2 * 3600)
    await rounds(house, fleet, 2)
    assert house.store.names() == set()


async def test_a_stopped_one_is_not_taken_for_taken_away(house: House) -> None:
    fleet = await launched(house, "replace")
    await fleet.stop("train-1")
    await rounds(house, fleet)
    assert shown(house, fleet).state is State.STOPPED
    assert house.cloud.count("create") == 1


@pytest.mark.parametrize("text", ["", "on-demand-after:0", "on-demand-after:", "replace "])
def test_a_policy_is_one_of_four(text: str) -> None:
    assert policy("on-demand-after:3") == Policy("replace", 3)
    with pytest.raises(ValueError, match="expected stay, replace"):
        policy(text)
