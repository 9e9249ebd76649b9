"""Budgets and warnings, on SQLite and on PostgreSQL: above all, who gets the last dollar."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.store.test_store import ATTEMPT, LAUNCH

from gpubroker.fleet.budgets import guard
from gpubroker.model.errors import BudgetExceeded
from gpubroker.model.money import nanos
from gpubroker.store.budgets import BudgetRow
from gpubroker.store.opened import open_store
from gpubroker.store.store import Store

SERVERS = 6
ID = "a" * 16
NOW = datetime.fromtimestamp(1000.0, UTC)
HOURS = {"expires_at": 1000.0 + 3600.0}


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    if request.param == "sqlite":
        return tmp_path / "state.db"
    found: str = request.getfixturevalue("postgres")
    return found


def _set(store: Store, usd: float, **change: object) -> None:
    plain: dict[str, object] = {
        "name": "all",
        "amount": nanos(usd),
        "period": "total",
        "scope": "all",
        "value": "",
        "ladder": "[]",
        "hard": 1,
        "created_at": 900.0,
    }
    store.budgets.put(BudgetRow(**(plain | change)))  # type: ignore[arg-type]  # by name


def test_launches_at_once_never_exceed_a_budget_together(place: Path | str) -> None:
    """Each asks for $0.44 of $1: whatever the order, two of them get it."""
    first = open_store(place, "live")
    _set(first, 1.0)
    together = threading.Barrier(SERVERS)

    def launch(number: int) -> bool:
        store = open_store(place, "live")  # a connection of its own, as another server has
        together.wait()
        try:
            store.add_launch(
                {**LAUNCH, **HOURS, "id": f"l-{number}", "name": f"train-{number}"},
                {**ATTEMPT, "id": f"{number}" * 16},
                1000.0,
                guard([f"l-{number}"], NOW),
            )
        except BudgetExceeded:
            return False
        finally:
            store.close()
        return True

    with ThreadPoolExecutor(SERVERS) as pool:
        had = list(pool.map(launch, range(SERVERS)))
    assert sum(had) == 2
    assert len(first.launches()) == 2
    assert first._db.execute("SELECT count(*) AS n FROM attempts").fetchone()["n"] == 2  # type: ignore[index]
    first.close()


def test_a_gang_is_asked_for_together(place: Path | str) -> None:
    store = open_store(place, "live")
    _set(store, 1.0)
    names = [f"l-{number}" for number in range(3)]
    rows = [
        ({**LAUNCH, **HOURS, "id": name, "name": name}, {**ATTEMPT, "id": name[-1] * 16})
        for name in names
    ]
    with pytest.raises(BudgetExceeded, match=r"has \$1\.00 left; this launch could cost \$1\.32"):
        store.add_launches(rows, 1000.0, guard(names, NOW))
    assert store.launches() == []
    store.add_launches(rows[:2], 1000.0, guard(names[:2], NOW))
    assert len(store.launches()) == 2
    store.close()


def test_a_launch_that_waits_to_be_planned_needs_a_cap(place: Path | str) -> None:
    store = open_store(place, "live")
    _set(store, 1.0)
    waiting = {**LAUNCH, **HOURS}
    with pytest.raises(BudgetExceeded, match="no highest cost"):
        store.add_launches([(waiting, None)], 1000.0, guard(["l-1"], NOW))
    capped = {**waiting, "max_price": nanos(0.9)}
    store.add_launches([(capped, None)], 1000.0, guard(["l-1"], NOW))
    store.close()


def test_an_event_of_one_key_is_recorded_once_by_whoever_is_first(place: Path | str) -> None:
    stores = [open_store(place, "live") for _ in range(4)]
    together = threading.Barrier(4)

    def tell(number: int) -> bool:
        store = open_store(place, "live")
        together.wait()
        try:
            return store.notices.once("k", 1000.0, "budget_warn", budget=str(number))
        finally:
            store.close()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(tell, range(4))) == 1
    assert len(stores[0].notices.warnings(("budget_warn",), 0.0)) == 1
    assert stores[0].notices.once("again", 10.0, "budget_warn", again_after=20.0)
    assert not stores[0].notices.once("again", 19.0, "budget_warn", again_after=29.0)
    assert stores[0].notices.once("again", 20.0, "budget_warn", again_after=30.0)
    for store in stores:
        store.close()


def test_the_outbox_gives_each_try_to_one(place: Path | str) -> None:
    one, other = open_store(place, "live"), open_store(place, "live")
    one.add_event(100.0, "account_frozen", why="x")
    one.add_event(101.0, "ready")
    for store in (one, other):
        store.notices.fill("ops", ("account_frozen",), 0.0, 110.0)
    [due] = other.notices.due("ops", 110.0, 5, 10)
    assert (due.kind, due.tries) == ("account_frozen", 0)
    assert one.notices.take(due.id, "ops", 110.0, 150.0)
    assert not other.notices.take(due.id, "ops", 110.0, 150.0)
    assert other.notices.due("ops", 149.0, 5, 10) == []
    one.notices.failed(due.id, "ops", "answered with 503")
    assert other.notices.outcome("ops", 5).error == "answered with 503"
    assert other.notices.take(due.id, "ops", 150.0, 190.0)
    other.notices.sent(due.id, "ops", 151.0)
    for store in (one, other):
        store.notices.fill("ops", ("account_frozen",), 0.0, 200.0)
        assert store.notices.due("ops", 1e6, 5, 10) == []
        assert (store.notices.outcome("ops", 5).sent, store.notices.outcome("ops", 5).error) == (
            1,
            "",
        )
        store.close()


def test_a_channel_is_told_from_its_first_round_on(place: Path | str) -> None:
    store = open_store(place, "live")
    assert store.notices.begin("ops", 100.0) == 100.0
    assert store.notices.begin("ops", 200.0) == 100.0
    store.close()


def test_what_is_to_be_warned_of_is_found_by_what_is_there(place: Path | str) -> None:
    store = open_store(place, "live")
    lease = store.add_launch({**LAUNCH, **HOURS}, ATTEMPT, 1000.0)
    assert store.notices.accounts_in_use() == []
    assert [one.id for one in store.notices.ending(1000.0, 3600.0)] == ["l-1"]
    assert store.notices.ending(1000.0, 3599.0) == []
    assert store.notices.ending(4600.0, 3600.0) == []
    with store.fenced(lease, 1001.0) as write:
        write.attempt(ID, status="made", ready_at=1001.0)
        write.meter(ID, nanos(0.44), 1001.0)
    assert store.notices.accounts_in_use() == [("vast_ai", "default")]
    assert store.notices.drifts() == []
    with store.fenced(lease, 1002.0) as write:
        write.meter(ID, nanos(0.45), 1002.0)
    [drift] = store.notices.drifts()
    assert (drift.launch_id, drift.rate, drift.price) == ("l-1", nanos(0.45), nanos(0.4))
    ledger = store.budgets.ledger(0.0)
    assert [len(rows) for rows in ledger.usage.values()] == [2]
    store.close()
