"""A bill is asked for when it is due, matched, compared; what differs is told once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from gpubroker.fleet import billing, bills
from gpubroker.fleet.billing import next_look, settle_bills
from gpubroker.model.bill import Bill
from gpubroker.model.errors import Unavailable
from gpubroker.model.money import nanos, usd

House = Any
HOUR, DAY = 3600.0, 86400.0


async def ended(house: House, *, hours: float = 1.0, name: str = "train-1") -> Any:
    fleet = house.open()
    await house.launch(fleet, name=name)
    house.cloud.clock.advance(hours * HOUR)
    await fleet.terminate(name)
    return fleet


def events(house: House, kind: str) -> list[dict[str, Any]]:
    rows = [row for launch in house.store.launches(include_ended=True)
            for row in house.store.events(launch.id)]  # fmt: skip
    return [json.loads(row.data) for row in rows if row.kind == kind]


async def check(house: House, fleet: Any, name: str = "train-1") -> Any:
    [seen] = await billing.told(fleet.context, fleet.find(name))
    return seen


async def test_a_bill_that_the_cloud_knows_at_once_is_there_with_the_end(house: House) -> None:
    fleet = await ended(house)
    assert house.cloud.count("billing") == 1
    seen = await check(house, fleet)
    assert (seen.bill.status, seen.bill.by, seen.verdict, seen.final) == (
        "ended", "record", "agrees", True,
    )  # fmt: skip
    [truth] = house.cloud.machines
    assert seen.bill.amount == house.cloud.charged(truth)
    assert seen.difference == seen.bill.amount - seen.metered
    assert seen.quoted_price == nanos(0.204)
    assert seen.reported_price == truth.hourly
    # A final bill is never asked for again.
    house.cloud.clock.advance(40 * DAY)
    await settle_bills(fleet.context)
    assert house.cloud.count("billing") == 1
    assert events(house, "bill_differs") == []


async def test_a_record_that_follows_by_hours_is_not_asked_before(
    make_house: Callable[..., House],
) -> None:
    house = make_house(billing_lag_s=8 * HOUR)
    fleet = await ended(house)
    closed_at = house.store.attempts(house.fleet_row("train-1").id)[0].closed_at
    for _ in range(20):
        await fleet.settle()
    assert house.cloud.count("billing") == 0
    bill = fleet._machine(house.fleet_row("train-1")).bill
    assert bill.status == "pending"
    assert "looked at 20" in bill.evidence
    house.cloud.clock.advance(closed_at + 8 * HOUR - house.cloud.clock.now().timestamp() - 1)
    await fleet.settle()
    assert house.cloud.count("billing") == 0
    house.cloud.clock.advance(2)
    await fleet.settle()
    await fleet.settle()
    assert house.cloud.count("billing") == 1
    assert (await check(house, fleet)).verdict == "agrees"


@pytest.mark.parametrize(
    ("hours_after", "next_hours"),
    [(-9, 0), (-0.1, 0), (0, 1), (0.9, 1), (1, 4), (4, 24), (23, 24), (24, 48), (70, 72)],
)
def test_looks_are_after_the_lag_then_an_hour_four_hours_and_daily(
    hours_after: float, next_hours: float
) -> None:
    closed, lag = 1000.0, 8 * HOUR
    assert next_look(closed, lag, closed + lag + hours_after * HOUR) == (
        closed + lag + next_hours * HOUR
    )


async def test_a_bill_that_never_comes_is_given_up_after_a_month(house: House) -> None:
    house.cloud.script("billing", "unavailable", times=None)
    fleet = await ended(house)
    for _ in range(4 * 40):
        house.cloud.clock.advance(DAY / 4)
        await settle_bills(fleet.context)
    # At the end, once for those after one hour and four, then daily.
    assert house.cloud.count("billing") == 2 + 30
    seen = await check(house, fleet)
    assert (seen.bill.status, seen.verdict, seen.final) == ("unknown", "cannot_tell", True)
    assert "not told within 30 days" in seen.bill.evidence
    assert house.cloud.count("billing") == 2 + 30


async def test_two_processes_ask_for_a_bill_once(make_house: Callable[..., House]) -> None:
    house = make_house(billing_lag_s=HOUR)
    fleet = await ended(house)
    store = house.another_store()
    other = house.fleet_on(store)
    house.cloud.clock.advance(2 * HOUR)
    due = house.store.bills_due(house.cloud.clock.now().timestamp())
    assert len(due) == 1
    await settle_bills(fleet.context)
    assert not store.take_bill(due[0].id, due[0].bill_due_at, 0.0)
    await settle_bills(other.context)
    assert house.cloud.count("billing") == 1
    store.close()


async def test_what_a_person_asks_for_is_asked_before_it_is_due_but_not_each_second(
    make_house: Callable[..., House],
) -> None:
    house = make_house(billing_lag_s=8 * HOUR)
    fleet = await ended(house)
    house.cloud.clock.advance(HOUR)
    assert (await check(house, fleet)).verdict == "open"
    await check(house, fleet)
    assert house.cloud.count("billing") == 1
    house.cloud.clock.advance(61)
    await fleet.show("train-1")
    assert house.cloud.count("billing") == 2


async def test_a_scarce_record_is_asked_once_a_day_for_all_machines_of_an_account(
    make_house: Callable[..., House],
) -> None:
    house = make_house(billing="daily", billing_lag_s=HOUR)
    fleet = house.open()
    for number in range(3):
        await house.launch(fleet, name=f"m-{number}")
    house.cloud.clock.advance(HOUR)
    for number in range(3):
        await fleet.terminate(f"m-{number}")
    for _ in range(3 * 24):
        house.cloud.clock.advance(HOUR)
        await fleet.settle()
        await fleet.show("m-1")  # nor does a person who asks cost another query
    asked = [call for call in house.cloud.calls if call.operation in {"bills", "billing"}]
    assert {call.operation for call in asked} == {"bills"}
    days = [call.at.timestamp() // DAY for call in asked]
    assert len(days) == len(set(days)) <= 3
    assert len(asked[0].what.split()) == 3
    rows = [await check(house, fleet, f"m-{number}") for number in range(3)]
    assert [row.verdict for row in rows] == ["agrees"] * 3


async def test_the_cost_of_a_query_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = house.open()
    await house.launch(fleet)
    provider = fleet.context.clouds.provider("fake", "default")
    dear = replace(provider.capabilities, billing_query_cost=nanos(0.01))
    monkeypatch.setattr(type(provider), "capabilities", dear)
    await fleet.terminate("train-1")
    assert "each query costs $0.010" in (await check(house, fleet)).bill.evidence


@pytest.mark.parametrize(
    ("factor", "differs"), [(1.0, False), (1.015, False), (1.05, True), (0.9, True), (3.0, True)]
)
async def test_a_drift_beyond_the_tolerance_is_one_event(
    house: House, monkeypatch: pytest.MonkeyPatch, factor: float, differs: bool
) -> None:
    fleet = house.open()
    await house.launch(fleet)
    provider = type(fleet.context.clouds.provider("fake", "default"))
    honest = provider.billing

    async def skewed(self: Any, *asked: Any) -> Bill:
        bill = await honest(self, *asked)
        return Bill(status=bill.status, amount=nanos(usd(bill.amount or 0) * factor), evidence="x")

    monkeypatch.setattr(provider, "billing", skewed)
    house.cloud.clock.advance(10 * HOUR)
    await fleet.terminate("train-1")
    for _ in range(3):
        house.cloud.clock.advance(DAY)
        await fleet.settle()
    told = events(house, "bill_differs")
    assert len(told) == differs
    assert (await check(house, fleet)).verdict == ("differs" if differs else "agrees")
    assert [event.kind for event in house.events].count("bill_differs") == differs
    if differs:
        assert told[0]["difference"] == told[0]["billed"] - told[0]["metered"]
        assert abs(told[0]["difference"]) > told[0]["tolerance"] > 0


async def test_a_short_machine_is_judged_with_the_vendors_granularity(house: House) -> None:
    fleet = await ended(house, hours=0.1)
    [attempt] = house.store.attempts(house.fleet_row("train-1").id)
    usage = house.store.usage(attempt.id)
    at = house.cloud.clock.now().timestamp()
    whole_hour = Bill(status="ended", amount=nanos(0.204))
    assert bills.check("x", attempt, usage, at, whole_hour).verdict == "differs"
    offer = json.loads(attempt.offer)
    offer["price"]["increment_s"] = 3600
    by_the_hour = replace(attempt, offer=json.dumps(offer))
    assert bills.check("x", by_the_hour, usage, at, whole_hour).verdict == "agrees"
    del fleet


async def test_a_fault_of_the_record_costs_neither_the_end_nor_another_bill(house: House) -> None:
    house.cloud.script("billing", "error", error=Unavailable)
    fleet = await ended(house)
    assert house.cloud.billed() == []
    assert house.store.bills_due(house.cloud.clock.now().timestamp()) == []
    house.cloud.clock.advance(HOUR + 1)
    await fleet.settle()
    assert (await check(house, fleet)).verdict == "agrees"


async def test_without_a_record_the_balance_is_the_proof(make_house: Callable[..., House]) -> None:
    house = make_house(billing="balance")
    fleet = await ended(house, hours=5)
    seen = await check(house, fleet)
    assert (seen.bill.status, seen.bill.by, seen.verdict) == ("ended", "balance", "agrees")
    assert seen.bill.amount == house.cloud.charged(house.cloud.machines[0])
    assert "nothing else of this gpubroker ran there" in seen.bill.evidence
    assert len(house.store.balances("fake", "default")) == 2


async def test_what_else_ran_on_the_balance_is_told_and_no_amount_claimed(
    make_house: Callable[..., House],
) -> None:
    house = make_house(billing="balance")
    fleet = house.open()
    await house.launch(fleet)
    await house.launch(fleet, name="beside")
    house.cloud.clock.advance(HOUR)
    await fleet.terminate("train-1")
    seen = await check(house, fleet)
    assert (seen.bill.status, seen.bill.amount, seen.verdict) == ("manual", None, "cannot_tell")
    assert "the balance fell by $0.4" in seen.bill.evidence
    assert "beside ($0." in seen.bill.evidence


async def test_a_balance_that_rose_proves_nothing(make_house: Callable[..., House]) -> None:
    house = make_house(billing="balance")
    fleet = house.open()
    await house.launch(fleet)
    house.cloud.balance = nanos(500)
    await fleet.terminate("train-1")
    seen = await check(house, fleet)
    assert seen.bill.status == "manual"
    assert "money was added" in seen.bill.evidence


async def test_no_launch_fails_by_a_balance_that_cannot_be_read(
    make_house: Callable[..., House],
) -> None:
    house = make_house(billing="balance")
    house.cloud.script("balance", "unavailable")
    fleet = await ended(house)
    seen = await check(house, fleet)
    assert seen.bill.status == "manual"
    assert "not read before it started" in seen.bill.evidence


async def test_where_only_a_person_can_look_the_page_is_told(
    make_house: Callable[..., House],
) -> None:
    house = make_house(billing="manual")
    fleet = await ended(house)
    seen = await check(house, fleet)
    assert (seen.bill.status, seen.verdict, seen.final) == ("manual", "cannot_tell", True)
    assert "https://fake.invalid/all/m-1" in seen.bill.evidence
    assert "look for m-1" in seen.bill.evidence


async def test_killed_after_it_took_a_bill_it_is_asked_for_again(
    make_house: Callable[..., House],
) -> None:
    from gpubroker.testing.fake_cloud import Crashed

    house = make_house(billing_lag_s=HOUR)
    fleet = await ended(house)
    house.cloud.clock.advance(2 * HOUR)

    def die(boundary: str) -> None:
        if boundary == "bills taken":
            raise Crashed("here")

    house.on_boundary = die
    with pytest.raises(Crashed):
        await settle_bills(house.fleet_on(house.store).context)
    house.on_boundary = lambda _: None
    house.cloud.clock.advance(4 * HOUR)
    await settle_bills(fleet.context)
    assert (await check(house, fleet)).verdict == "agrees"
