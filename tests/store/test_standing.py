"""Launches that stand without a machine, and gangs, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from tests.store.test_store import ATTEMPT, LAUNCH

from gpubroker.store.errors import NameTaken
from gpubroker.store.opened import open_store
from gpubroker.store.store import Store


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a store is kept, on each database."""
    if request.param == "sqlite":
        return tmp_path / "state.db"
    found: str = request.getfixturevalue("postgres")
    return found


def nodes(count: int, **columns: Any) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    return [
        (
            {**LAUNCH, "id": f"l-{n}", "name": f"m-{n}", "gang": "m/1", **columns},
            {**ATTEMPT, "id": f"{n}" * 16},
        )
        for n in range(1, count + 1)
    ]


def gang(store: Store) -> list[tuple[str, str, bool]]:
    members = store.gangs.members("m/1")
    return [(row.name, row.wanted, row.gang_until is None) for row in members]


def test_several_launches_are_committed_together_or_not_at_all(place: Path | str) -> None:
    store = open_store(place, "live")
    store.add_launch({**LAUNCH, "id": "l-x", "name": "m-2"}, ATTEMPT, 1000.0)
    with pytest.raises(NameTaken, match="m-2"):
        store.add_launches(nodes(3), 1000.0)
    assert [row.id for row in store.launches()] == ["l-x"]
    store.close()


def test_a_gang_is_formed_or_dissolved_once(place: Path | str) -> None:
    store = open_store(place, "live")
    store.add_launches(nodes(2, gang_until=1900.0), 1000.0)
    assert store.gangs.form("m/1", 1100.0)
    assert not store.gangs.dissolve("m/1", 1200.0, "too late")
    assert not store.gangs.form("m/1", 1200.0)
    assert gang(store) == [("m-1", "running", True), ("m-2", "running", True)]
    store.close()


def test_a_gang_of_which_one_is_not_wanted_is_not_formed(place: Path | str) -> None:
    store = open_store(place, "live")
    store.add_launches(nodes(11, gang_until=1900.0), 1000.0)
    store.want("l-3", "gone", 1050.0, "asked")
    assert not store.gangs.form("m/1", 1100.0)
    assert store.gangs.dissolve("m/1", 1200.0, "m-3 was ended")
    assert [name for name, _, _ in gang(store)] == [f"m-{n}" for n in range(1, 12)]
    assert {wanted for _, wanted, _ in gang(store)} == {"gone"}
    told = [event.kind for event in store.events("l-2")]
    assert told.count("gang_failed") == 1
    # The one that was ended by hand is not told twice.
    assert "gang_failed" not in [event.kind for event in store.events("l-3")]
    store.close()


def test_of_two_processes_that_decide_at_once_one_decides(postgres: str) -> None:
    stores = [open_store(postgres, "live") for _ in range(4)]
    stores[0].add_launches(nodes(4, gang_until=1900.0), 1000.0)

    def decide(number: int) -> bool:
        gangs = stores[number].gangs
        if number % 2:
            return gangs.form("m/1", 1100.0)
        return gangs.dissolve("m/1", 1100.0, "too late")

    with ThreadPoolExecutor(4) as pool:
        decided = list(pool.map(decide, range(4)))
    formed, dissolved = decided[1] or decided[3], decided[0] or decided[2]
    assert formed != dissolved
    assert len({(wanted, done) for _, wanted, done in gang(stores[0])}) == 1
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    ("launch", "attempt", "due"),
    [
        ({"next_plan_at": 1500.0}, None, False),
        ({"next_plan_at": 1400.0}, None, True),
        ({"next_plan_at": None}, None, True),
        ({"next_plan_at": 1500.0, "wanted": "gone"}, None, True),
        ({"gang_until": 1900.0, "gang": "g"}, {"status": "made", "ready_at": 1.0}, True),
        ({"on_preempt": "replace"}, {"status": "made", "ready_at": 1.0}, False),
        (
            {"on_preempt": "replace"},
            {"status": "made", "ready_at": 1.0, "state": "preempted"},
            True,
        ),
        ({}, {"status": "made", "ready_at": 1.0, "state": "preempted"}, False),
        # Its machine is still being ended while the next plan is waited for.
        ({"next_plan_at": 1500.0}, {"status": "made", "ready_at": 1.0, "wanted": "gone"}, True),
    ],
)
def test_due_is_what_has_its_time_come(
    place: Path | str, launch: dict[str, Any], attempt: dict[str, Any] | None, due: bool
) -> None:
    store = open_store(place, "live")
    first = None if attempt is None else {**ATTEMPT, **attempt}
    store.add_launches([({**LAUNCH, "expires_at": 9000.0, **launch}, first)], 1000.0)
    assert bool(store.due(1450.0)) is due
    store.close()


def test_the_next_moment_is_an_expiry_or_a_plan(place: Path | str) -> None:
    store = open_store(place, "live")
    assert store.next_due() is None
    store.add_launches([({**LAUNCH, "expires_at": 9000.0}, None)], 1000.0)
    assert store.next_due() == 9000.0
    lease = store.acquire("l-1")
    with store.fenced(lease, 1000.0) as write:
        write.launch(next_plan_at=1500.0)
    assert store.next_due() == 1500.0
    assert structs.asdict(store.launch("l-1"))["next_plan_at"] == 1500.0
    store.close()
