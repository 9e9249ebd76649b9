"""What is warned of: each thing once, by what the store says, whoever runs the round."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gpubroker.fleet.keeping import Keeper
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.fleet.tending import tend
from gpubroker.fleet.warned import recent
from gpubroker.model.identity import Attempt
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import nanos
from gpubroker.model.notices import KINDS, kinds_from, sentence

House = Any


def told(house: House) -> list[tuple[str, str]]:
    """(kind, text) of all warnings that `ps` would show."""
    at = house.cloud.clock.now().timestamp()
    return [(one.kind, one.text) for one in recent(house.store, at)]


async def tended(house: House, fleet: Any, *advances_s: float) -> list[tuple[str, str]]:
    for seconds in advances_s:
        house.cloud.clock.advance(seconds)
        assert await tend(fleet.context) == ()
    return told(house)


def request(hours: float) -> LaunchRequest:
    return LaunchRequest(disk_gb=20, ttl=timedelta(hours=hours))


# The end that comes


async def test_an_end_is_warned_of_half_an_hour_and_five_minutes_before_each_once(
    house: House,
) -> None:
    fleet = house.open()
    await house.launch(fleet, request(2))
    assert await tended(house, fleet, 3600) == []
    assert await tended(house, fleet, 1810, 60, 60) == [
        ("expiring", "train-1 ends in 29m, unless it is extended")
    ]
    assert (await tended(house, fleet, 1400, 60))[1:] == [
        ("expiring", "train-1 ends in 4m, unless it is extended")
    ]


async def test_who_comes_late_warns_of_the_nearest_mark_only(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, request(2))
    late = await tended(house, fleet, 7200 - 120, 30)
    assert [kind for kind, _ in late] == ["expiring"]


async def test_an_end_that_was_moved_is_warned_of_anew(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, request(2))
    await tended(house, fleet, 5500)
    work = house.store.acquire(house.fleet_row("train-1").id)
    later = house.fleet_row("train-1").expires_at + 3600
    with house.store.fenced(work, 1.0) as write:
        write.launch(expires_at=later)
    house.store.release(work)
    assert len(await tended(house, fleet, 60)) == 1
    assert len(await tended(house, fleet, 3600)) == 2


async def test_a_machine_that_lives_for_ten_minutes_is_warned_of_once(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, request(1 / 6))
    assert await tended(house, fleet, 10) == []
    assert len(await tended(house, fleet, 330)) == 1


async def test_what_is_being_ended_and_what_has_no_end_is_not_warned_of(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, LaunchRequest(disk_gb=20, ttl=None, no_expiry=True))
    await house.launch(fleet, request(2), name="going")
    house.store.want(house.fleet_row("going").id, "gone", 1.0, "asked")
    assert await tended(house, fleet, 7100) == []


# Money


async def test_a_machine_that_costs_more_than_was_offered_is_told_once_a_price(
    house: House,
) -> None:
    fleet = house.open()
    await house.launch(fleet, request(20))
    [attempt] = house.store.attempts(house.fleet_row("train-1").id)
    lease = house.store.acquire(attempt.launch_id)
    for rate, at in ((nanos(0.21), 10.0), (nanos(0.5), 20.0)):
        with house.store.fenced(lease, 1.0) as write:
            write.meter(attempt.id, rate, house.cloud.clock.now().timestamp() + at)
        found = await tended(house, fleet, 60, 60)
        assert len(found) == (rate == nanos(0.5))
    house.store.release(lease)
    text = "train-1 costs $0.500/h by its cloud's record, $0.204/h were offered"
    assert found == [("price_drift", text)]


async def test_a_balance_below_what_still_runs_is_told_and_read_once_an_hour(
    make_house: Callable[..., House],
) -> None:
    house = make_house(billing="balance")
    fleet = house.open()
    await house.launch(fleet, request(20))
    before = house.cloud.count("balance")
    assert await tended(house, fleet, 60, 60, 60) == []
    assert house.cloud.count("balance") == before + 1
    house.cloud.balance = nanos(3)
    [(kind, text)] = await tended(house, fleet, 3600, 60)
    assert kind == "low_balance"
    assert text.startswith("fake (default) has $2.7")
    assert "costs $3.8" in text
    assert "$0.204/h now" in text
    assert house.cloud.count("balance") == before + 2
    assert house.store.balances("fake", "default")[-1].amount < nanos(3)
    # The next day it is told again; in between it is not.
    assert len(await tended(house, fleet, 3600, 3600)) == 1
    assert house.cloud.count("balance") == before + 4


async def test_an_account_without_machines_is_not_asked_for_its_balance(
    make_house: Callable[..., House],
) -> None:
    house = make_house(billing="balance")
    fleet = house.open()
    await house.launch(fleet, request(20))
    await fleet.terminate("train-1")
    before = house.cloud.count("balance")
    await tended(house, fleet, 60, 3700)
    assert house.cloud.count("balance") == before


async def test_a_balance_that_cannot_be_read_is_said_and_costs_the_round_nothing(
    make_house: Callable[..., House],
) -> None:
    house = make_house(billing="balance")
    fleet = house.open()
    await house.launch(fleet, request(20))
    house.cloud.script("balance", "unavailable", times=None)
    house.cloud.clock.advance(60)
    [problem] = await tend(fleet.context)
    assert problem.startswith("fake/default: the balance could not be read")


# Leaks and losses


async def test_a_sweep_that_finds_a_leak_warns_of_it_once(house: House) -> None:
    fleet = house.open()
    offer = house.cloud.stock["4090-north"]
    leak = Attempt(owner=house.store.owner, id="z" * 16, launch="l")
    foreign = Attempt(owner="zzzzzz", id="y" * 16, launch="l")
    for one in (leak, foreign):
        house.cloud.add_machine(
            uid=house.cloud.uid("default"), offer=offer, spec=LaunchSpec(expires_at=None),
            owner=one.owner, attempt=one.id, name=one.name, fault=None,
        )  # fmt: skip
    house.cloud.clock.advance(60)
    for _ in range(2):
        await fleet.sweep(fix=False, owner="zzzzzz")
    [(kind, text)] = told(house)
    assert kind == "orphan_found"
    assert "no such attempt. gpubroker sweep --fix ends it" in text
    house.cloud.clock.advance(86500)
    await fleet.sweep(fix=False, owner=None)
    assert len(told(house)) == 1  # the first one is a day old by now


async def test_losses_and_frozen_accounts_are_warnings_too(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, request(20))
    await house.launch(fleet, request(20), name="train-2")
    house.cloud.preempt(house.cloud.machines[0])
    keeper = Keeper(fleet.context, fleet)
    house.cloud.clock.advance(120)
    await keeper.round()
    house.cloud.answer_as("default", "somebody-else")
    house.cloud.clock.advance(120)
    await keeper.round()
    assert [kind for kind, _ in told(house)] == ["preempted", "account_frozen"]
    assert told(house)[0][1].startswith("train-1 was taken away by its cloud")


async def test_what_was_said_of_a_machine_goes_with_it(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, request(2))
    assert await tended(house, fleet, 7000) != []
    await fleet.terminate("train-1")
    assert told(house) == []
    launch = house.fleet_row("train-1")
    with house.store.fenced(house.store.acquire(launch.id), launch.ended_at) as write:
        write.event("bill_differs", provider="fake", billed=nanos(3), metered=nanos(2))
    assert told(house) == [("bill_differs", "train-1: fake billed $3.00, $2.00 were metered")]


# The words


@pytest.mark.parametrize("kind", KINDS)
def test_every_warning_can_be_said_whatever_is_not_told(kind: str) -> None:
    assert "{" not in sentence(kind, "", {})
    numbers = dict.fromkeys(("spent", "amount", "rate", "price", "balance", "needed"), 5000000000)
    said = sentence(kind, "train-1", {**numbers, "share": 0.8, "seconds": 5400, "burn": 10**9})
    assert "{" not in said
    assert "5000000000" not in said


def test_least_says_how_bad_it_must_be() -> None:
    assert set(kinds_from("critical")) < set(kinds_from("warning")) == set(kinds_from("info"))
    assert "notice_undelivered" not in kinds_from("info")


def test_an_event_of_the_fleet_that_is_a_warning_has_its_row(house: House) -> None:
    """The table names events that are really written."""
    from pathlib import Path

    import gpubroker

    source = Path(gpubroker.__file__).parent
    written = "".join(file.read_text() for file in (source / "fleet").glob("*.py"))
    for kind in KINDS.keys() - {"budget_warn", "budget_stop", "budget_terminate"}:
        assert json.dumps(kind) in written, kind


def test_every_warning_has_its_row_in_the_documents() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "budgets.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for kind, row in KINDS.items():
        assert any(f"`{kind}`" in line and f"| {row.severity} |" in line for line in rows), kind
