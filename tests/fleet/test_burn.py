"""What was spent in a period and what can still be spent in it, without a store."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gpubroker.fleet.burn import Span, shares, total
from gpubroker.model.bill import Bill
from gpubroker.model.budget import BudgetShare
from gpubroker.model.money import Nanos, cost, nanos
from gpubroker.store.budgets import AttemptSpend, LaunchSpend, Ledger
from gpubroker.store.rows import UsageRow

HOUR = 3600.0
DOLLAR = nanos(1)


def launch(**change: Any) -> LaunchSpend:
    plain: dict[str, Any] = {
        "id": "l",
        "name": "train-1",
        "wanted": "running",
        "project": "",
        "tags": "{}",
        "candidates": "[]",
        "tolerance": 0.0,
        "max_price": None,
        "expires_at": 10 * HOUR,
        "ended_at": None,
    }
    return LaunchSpend(**(plain | change))


def attempt(**change: Any) -> AttemptSpend:
    plain: dict[str, Any] = {
        "id": "a",
        "launch_id": "l",
        "offer": "{}",
        "price": DOLLAR,
        "status": "made",
        "wanted": "running",
        "created_at": 0.0,
        "price_stopped": 0,
        "ready_at": 60.0,
        "closed_at": None,
        "expires_at": None,
        "bill": None,
        "bill_final": 0,
    }
    return AttemptSpend(**(plain | change))


def use(since: float, until: float | None = None, rate: int = DOLLAR) -> UsageRow:
    return UsageRow(attempt_id="a", since=since, until=until, rate=rate)


def share(
    span: Span, one: LaunchSpend, attempts: list[AttemptSpend], usage: list[UsageRow]
) -> BudgetShare:
    [found] = shares(Ledger([one], {"l": attempts}, {"a": usage}), [one], span)
    return found


def planned(usd: float) -> str:
    return json.dumps([{"price": nanos(usd), "offer": {"price": {"compute": 1}}}])


def test_a_machine_costs_its_rate_until_its_expiry_or_the_end_of_the_period() -> None:
    running = [use(0.0)]
    ending = share(Span(0.0, 2 * HOUR, 100 * HOUR), launch(), [attempt()], running)
    assert (ending.spent, ending.to_come, ending.burn) == (nanos(2), nanos(8), DOLLAR)
    cut = share(Span(0.0, 2 * HOUR, 5 * HOUR), launch(), [attempt()], running)
    assert cut.to_come == nanos(3)


def test_the_earlier_of_two_ends_counts() -> None:
    sooner = attempt(expires_at=4 * HOUR)
    found = share(Span(0.0, 2 * HOUR, None), launch(), [sooner], [use(0.0)])
    assert found.to_come == nanos(2)


def test_without_an_expiry_it_costs_to_the_end_of_the_period_or_without_end() -> None:
    endless = launch(expires_at=None)
    found = share(Span(0.0, 2 * HOUR, 24 * HOUR), endless, [attempt()], [use(0.0)])
    assert found.to_come == nanos(22)
    assert share(Span(0.0, 2 * HOUR, None), endless, [attempt()], [use(0.0)]).to_come is None


def test_what_was_spent_before_the_period_is_not_counted() -> None:
    found = share(Span(1 * HOUR, 3 * HOUR, None), launch(), [attempt()], [use(0.0)])
    assert found.spent == nanos(2)


def test_a_final_bill_takes_the_place_of_what_was_metered_and_is_spread_over_it() -> None:
    bill = json.dumps({"status": "ended", "amount": nanos(6)})
    billed = attempt(status="gone", closed_at=4 * HOUR, bill=bill, bill_final=1)
    ended = launch(ended_at=4 * HOUR, wanted="gone")
    usage = [use(0.0, 4 * HOUR)]
    assert share(Span(0.0, 9 * HOUR, None), ended, [billed], usage).spent == nanos(6)
    assert share(Span(3 * HOUR, 9 * HOUR, None), ended, [billed], usage).spent == nanos(1.5)
    asked = attempt(status="gone", closed_at=4 * HOUR, bill=bill, bill_final=0)
    assert share(Span(0.0, 9 * HOUR, None), ended, [asked], usage).spent == nanos(4)
    assert Bill(status="ended").amount is None


def test_a_launch_without_a_machine_could_take_its_dearest_offer() -> None:
    waiting = launch(candidates=planned(3), tolerance=0.1)
    first = attempt(status="intent", ready_at=None)
    found = share(Span(0.0, 0.0, None), waiting, [first], [])
    assert found.to_come == nanos(33)
    capped = launch(candidates=planned(3), tolerance=0.1, max_price=nanos(3.1))
    assert share(Span(0.0, 0.0, None), capped, [first], []).to_come == nanos(31)


def test_a_machine_that_is_not_ready_may_be_given_back_for_a_dearer_one() -> None:
    waiting = launch(candidates=planned(3))
    booting = attempt(ready_at=None)
    found = share(Span(0.0, 1 * HOUR, None), waiting, [booting], [use(0.0)])
    assert (found.spent, found.to_come) == (nanos(1), nanos(27))


def test_a_launch_that_will_be_planned_anew_is_counted_at_its_cap_or_what_it_tried() -> None:
    refused = attempt(status="refused", ready_at=None)
    assert share(Span(0.0, 0.0, None), launch(), [refused], []).to_come == nanos(10)
    capped = launch(max_price=nanos(2))
    assert share(Span(0.0, 0.0, None), capped, [refused], []).to_come == nanos(20)


def test_what_is_to_end_costs_nothing_more_and_what_is_stopped_its_disk() -> None:
    going = launch(wanted="gone")
    assert share(Span(0.0, 2 * HOUR, None), going, [attempt()], [use(0.0)]).to_come == 0
    stopped = [use(0.0, HOUR), use(HOUR, None, rate=nanos(0.1))]
    found = share(Span(0.0, 2 * HOUR, None), launch(wanted="stopped"), [attempt()], stopped)
    assert (found.spent, found.to_come, found.burn) == (nanos(1.1), nanos(0.8), nanos(0.1))


def test_a_sum_with_a_part_without_end_has_none() -> None:
    assert total([Nanos(1), Nanos(2)]) == 3
    assert total([Nanos(1), None]) is None


@given(
    st.integers(1, 10**10),
    st.floats(0, 1e6),
    st.lists(st.floats(0, 1e6), min_size=1, max_size=6),
    st.sampled_from([1, 60, 3600]),
)
def test_periods_add_up_to_the_whole_whatever_the_increment(
    rate: int, length: float, cuts: list[float], increment_s: int
) -> None:
    offer = json.dumps({"price": {"increment_s": increment_s}})
    usage = [use(0.0, length, rate=rate)]
    at = [0.0, *sorted(cuts), 2e6]
    parts = 0
    for since, now in pairwise(at):
        span = Span(since, now, None)
        one = launch(wanted="gone")
        found = shares(Ledger([one], {"l": [attempt(offer=offer)]}, {"a": usage}), [one], span)
        parts += sum(part.spent for part in found)
    assert parts == cost(rate, length, increment_s=increment_s)
