"""Bills, usage and balances, on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store.test_store import ATTEMPT, LAUNCH

from gpubroker.store.opened import open_store
from gpubroker.store.store import Store


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    place: Path | str = tmp_path / "state.db"
    if request.param == "postgres":
        place = request.getfixturevalue("postgres")
    opened = open_store(place, "live")
    yield opened
    opened.close()


def gone(store: Store) -> str:
    """The id of an attempt whose machine ran from 1000 to 5000."""
    lease = store.add_launch(LAUNCH, ATTEMPT, 1000.0)
    attempt = str(ATTEMPT["id"])
    with store.fenced(lease, 5000.0) as write:
        write.meter(attempt, 7, 1000.0)
        write.meter(attempt, None, 5000.0)
        write.attempt(attempt, status="gone", closed_at=5000.0)
    return attempt


def test_a_bill_is_due_until_it_is_taken_and_then_when_it_is_due_again(store: Store) -> None:
    attempt = gone(store)
    assert [row.id for row in store.bills_due(5000.0)] == [attempt]
    assert store.take_bill(attempt, None, 9000.0)
    assert not store.take_bill(attempt, None, 9999.0)  # the other process came second
    assert store.bills_due(8999.0) == []
    [row] = store.bills_due(9000.0)
    assert row.bill_due_at == 9000.0
    assert store.take_bill(attempt, row.bill_due_at, 10_000.5)
    assert store.take_bill(attempt, 10_000.5, 11_000.0)


def test_a_final_bill_is_written_once_with_its_events(store: Store) -> None:
    attempt = gone(store)
    told = {"billed": {"amount": 1}, "bill_differs": {"difference": -3}}
    assert store.bill(attempt, "{}", 6000.0, final=False, events={"billed": {"amount": None}})
    assert store.bill(attempt, '{"final": 1}', 7000.0, final=True, events=told)
    assert not store.bill(attempt, '{"late": 1}', 8000.0, final=False, events=told)
    [row] = store.attempts(str(LAUNCH["id"]))
    assert (row.bill, row.bill_at, row.bill_final) == ('{"final": 1}', 7000.0, 1)
    events = [event for event in store.events(str(LAUNCH["id"])) if event.kind != "launch"]
    assert [event.kind for event in events] == ["billed", "billed", "bill_differs"]
    assert json.loads(events[-1].data) == {"difference": -3}
    assert store.bills_due(99_999.0) == []
    assert not store.take_bill(attempt, None, 1.0)


def test_what_was_metered_after_a_time_is_found(store: Store) -> None:
    attempt = gone(store)
    assert [row.id for row in store.charged_since(4999.0)] == [attempt]
    assert store.charged_since(5000.0) == []
    assert [(row.since, row.until, row.rate) for row in store.usage_since(0.0)] == [
        (1000.0, 5000.0, 7)
    ]
    assert store.usage_since(5000.0) == []


def test_readings_of_a_balance_are_kept_by_account_and_time(store: Store) -> None:
    for at, amount in ((1.0, 10**12), (2.0, -5), (3.0, 7)):
        store.note_balance("fake", "default", at, amount)
    store.note_balance("fake", "lab", 2.0, 1)
    store.note_balance("fake", "default", 3.0, 8)  # read again in the same instant
    assert [(row.at, row.amount) for row in store.balances("fake", "default")] == [
        (1.0, 10**12), (2.0, -5), (3.0, 8),
    ]  # fmt: skip
    assert [row.amount for row in store.balances("fake", "default", since=2.0, until=2.5)] == [-5]
