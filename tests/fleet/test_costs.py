"""Spend adds up to the nano-dollar, by the day, from what was metered and billed alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubroker.fleet.costs import costs, spread
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.model.durations import moment
from gpubroker.model.money import nanos, usd

House = Any
HOUR, DAY = 3600.0, 86400

times = st.floats(min_value=0, max_value=10 * DAY, allow_nan=False)
spans = st.lists(
    st.builds(
        lambda start, length, weight: (start, start + length, weight),
        times,
        st.floats(min_value=0, max_value=5 * DAY),
        st.integers(min_value=0, max_value=10**12),
    ),
    min_size=1,
    max_size=6,
)


@given(st.integers(min_value=0, max_value=10**13), spans, times)
def test_the_parts_of_an_amount_sum_to_it(amount: int, over: Any, since: float) -> None:
    whole = spread(amount, over)
    assert sum(whole.values()) == amount
    after = spread(amount, over, since)
    assert 0 <= sum(after.values()) <= amount
    assert all(after[day] == whole[day] for day in after if day > since // DAY)


def test_a_stretch_over_midnight_is_divided_there_and_rounded_once() -> None:
    # A third before midnight: 33.33… of 100 rounds down, and what is left is the next day's.
    assert spread(100, [(DAY - 10.0, DAY + 20.0, 1)]) == {0: 33, 1: 67}
    assert spread(100, [(DAY - 10.0, DAY + 20.0, 1)], DAY + 5.0) == {1: 50}


async def test_every_table_sums_to_what_the_machines_cost(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    house.cloud.clock.advance(30 * HOUR)
    await house.launch(fleet, name="other")
    await fleet.terminate("train-1")
    house.cloud.clock.advance(50 * HOUR)
    spent = costs(house.store, house.cloud.clock.now().timestamp())
    metered = sum(
        fleet._machine(row).cost_so_far for row in house.store.launches(include_ended=True)
    )
    assert spent.total.metered == metered
    for table in ("instance", "provider", "gpu", "day"):
        assert sum(row.metered for row in spent.by[table]) == metered, table
        assert sum(row.billed for row in spent.by[table]) == spent.total.billed, table
    bill = fleet._machine(house.fleet_row("train-1")).bill.amount
    assert spent.total.billed == bill
    other = next(row for row in spent.by["instance"] if row.name == "other")
    assert (other.billed, other.not_billed) == (0, other.metered)
    assert spent.total.not_billed == other.metered
    days = [row.key for row in spent.by["day"]]
    assert days == sorted(days)
    assert len(days) in {4, 5}
    assert spent.total.machines == 2


async def test_since_counts_only_what_came_after(house: House) -> None:
    fleet = house.open()
    endless = LaunchRequest(disk_gb=20, ttl=None, no_expiry=True)
    machine = await house.launch(fleet, endless)
    house.cloud.clock.advance(100 * HOUR)
    now = house.cloud.clock.now().timestamp()
    spent = costs(house.store, now, now - 10 * HOUR)
    assert usd(spent.total.metered) == pytest.approx(usd(machine.price) * 10, rel=1e-9)
    assert spent.total.seconds == 10 * HOUR
    assert costs(house.store, now, now).total.metered == 0
    await fleet.terminate("train-1")
    now = house.cloud.clock.now().timestamp()
    spent = costs(house.store, now, now - 10 * HOUR)
    assert usd(spent.total.billed) == pytest.approx(usd(machine.price) * 10, rel=0.01)
    assert costs(house.store, now + 40 * DAY, now + 30 * DAY).total.machines == 0


async def test_a_bill_is_by_the_day_of_its_own_lines(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    house.cloud.clock.advance(60 * HOUR)
    await fleet.terminate("train-1")
    [attempt] = house.store.attempts(house.fleet_row("train-1").id)
    bill = msgspec.json.decode(attempt.bill)
    start = attempt.made_at
    bill["lines"] = [
        {"item": "gpu", "amount": nanos(8), "start": _time(start), "end": _time(start)},
        {"item": "gpu", "amount": nanos(2), "start": _time(start + 2 * DAY),
         "end": _time(start + 2 * DAY)},
    ]  # fmt: skip
    bill["amount"] = nanos(10)
    with house.store._transaction() as db:
        db.execute("UPDATE attempts SET bill = ?", (msgspec.json.encode(bill).decode(),))
    spent = costs(house.store, house.cloud.clock.now().timestamp())
    assert sorted(row.billed for row in spent.by["day"] if row.billed) == [nanos(2), nanos(8)]


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


async def test_projects_and_tags_have_tables_of_their_own(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    await house.launch(fleet, name="other")
    with house.store._transaction() as db:
        db.execute(
            "UPDATE launches SET project = 'thesis', tags = ? WHERE name = 'other'",
            ('{"who":"ann","run":"7"}',),
        )
    house.cloud.clock.advance(HOUR)
    spent = costs(house.store, house.cloud.clock.now().timestamp())
    other = next(row for row in spent.by["instance"] if row.name == "other")
    [project] = spent.by["project"]
    assert (project.key, project.metered, project.machines) == ("thesis", other.metered, 1)
    assert [row.key for row in spent.by["tag"]] == ["run=7", "who=ann"]


async def test_todays_prices_change_nothing(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    house.cloud.clock.advance(HOUR)
    await fleet.terminate("train-1")
    now = house.cloud.clock.now().timestamp()
    before = costs(house.store, now)
    for key in house.cloud.stock:
        house.cloud.reprice(key, 9.0)
    assert costs(house.store, now) == before


async def test_nothing_spent_is_an_answer(house: House) -> None:
    house.open()
    spent = costs(house.store, 1000.0)
    assert (spent.total.metered, spent.total.machines) == (0, 0)
    assert set(spent.by) == {"instance", "provider", "gpu", "day", "project", "tag"}


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("7d", datetime(2026, 11, 14, 12, tzinfo=UTC)),
        ("90m", datetime(2026, 11, 21, 10, 30, tzinfo=UTC)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T06:00:00+02:00", datetime(2026, 11, 1, 4, tzinfo=UTC)),
    ],
)
def test_since_is_a_duration_or_a_time(text: str, at: datetime) -> None:
    assert moment(text, datetime(2026, 11, 21, 12, tzinfo=UTC)) == at


def test_what_is_no_time_says_what_is() -> None:
    with pytest.raises(ValueError, match="write 7d, 12h or 2026-11-01"):
        moment("yesterday", datetime(2026, 11, 21, tzinfo=UTC) + timedelta(hours=1))
