"""The journal, on SQLite and on PostgreSQL: leases with fencing, realms, migrations, secrets."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from gpubroker.store import schema, sqlite
from gpubroker.store.errors import (
    LeaseHeld,
    LeaseLost,
    NameTaken,
    NewerStore,
    NoSecretKey,
    StoreError,
    WrongRealm,
)
from gpubroker.store.opened import open_store
from gpubroker.store.processes import parse_holder
from gpubroker.store.seal import Seal
from gpubroker.store.store import Store

LAUNCH = {
    "id": "l-1",
    "name": "train-1",
    "wanted": "running",
    "spec": b"sealed",
    "image": None,
    "disk_gb": 20,
    "candidates": "[]",
    "tolerance": 0.1,
    "created_at": 1000.0,
    "expires_at": 2000.0,
}
ATTEMPT = {
    "id": "a" * 16,
    "seq": 1,
    "provider": "vast_ai",
    "account": "default",
    "offer": "{}",
    "price": 400_000_000,
    "price_stopped": 0,
    "status": "intent",
    "created_at": 1000.0,
    "phase_since": 1000.0,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> Path | str:
    """Where a store is kept, on each database."""
    found: Path | str = request.getfixturevalue({"sqlite": "path"}.get(request.param, "postgres"))
    return found


def opened(place: Path | str, realm: str = "live") -> Store:
    return open_store(place, realm)


def test_the_file_is_private_and_in_wal_with_full_sync(path: Path) -> None:
    store = opened(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (mode,) = store._db.execute("PRAGMA journal_mode")
    (sync,) = store._db.execute("PRAGMA synchronous")
    assert (mode["journal_mode"], sync["synchronous"]) == ("wal", 2)
    store.close()


def test_the_schema_version_is_that_of_the_newest_migration() -> None:
    assert schema.migrations()[-1][0] == schema.SCHEMA_VERSION


def test_an_owner_is_made_once_per_store(place: Path | str) -> None:
    first = opened(place)
    owner = first.owner
    first.close()
    again = opened(place)
    assert again.owner == owner
    again.close()


def test_another_realm_is_refused_and_nothing_changes(place: Path | str) -> None:
    opened(place).close()
    with pytest.raises(WrongRealm, match="belongs to the realm live"):
        opened(place, "sandbox:abcdefgh")
    opened(place).close()


def test_a_newer_store_is_refused_by_name(path: Path) -> None:
    opened(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(NewerStore, match="schema 99"):
        opened(path)


OLD = 6


def test_before_a_migration_the_store_is_copied_with_what_its_journal_holds(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        # As an older program left it that was killed: what it committed stands in the journal.
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        for _, sql in schema.migrations()[:OLD]:
            for statement in schema.statements(sql):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {OLD}")
        db.execute("INSERT INTO claims (name, until) VALUES ('committed', 1)")
        db.commit()
        opened(path).close()
    [copy] = path.parent.glob(f"{path.name}.before-*")
    assert copy.stat().st_mode & 0o777 == 0o600
    with contextlib.closing(sqlite3.connect(copy)) as db:
        assert db.execute("SELECT name FROM claims").fetchall() == [("committed",)]
        assert db.execute("PRAGMA user_version").fetchone() == (OLD,)


def test_a_file_that_is_no_database_is_refused_with_the_way_out(path: Path) -> None:
    path.write_text("not a database, just words that are long enough to be read as a page" * 20)
    with pytest.raises(StoreError, match="not a gpubroker store"):
        opened(path)


def test_one_living_store_holds_a_lease_and_a_closed_one_does_not(place: Path | str) -> None:
    one, two = opened(place), opened(place)
    one.add_launch(LAUNCH, ATTEMPT, 1000.0)
    with pytest.raises(LeaseHeld, match="train-1"):
        two.acquire("l-1")
    one.close()
    assert two.acquire("l-1").fence == 2
    two.close()


def test_a_process_that_does_not_exist_is_surely_dead_and_one_of_another_table_is_not(
    place: Path | str,
) -> None:
    store = opened(place)
    me = parse_holder(str(store._holder))
    assert not me.surely_dead()
    assert parse_holder(f"{me.host}/{me.table}/{me.pid}/1/{me.serial}").surely_dead()
    # Another host or container may have our name; a process of an earlier boot ends with its lease.
    assert not parse_holder(f"{me.host}/another/{me.pid}/1/{me.serial}").surely_dead()
    assert not parse_holder(f"elsewhere//{me.pid}/1/abcd").surely_dead()
    store.close()


def test_a_write_behind_a_newer_fence_changes_nothing(place: Path | str) -> None:
    one = opened(place)
    stale = one.add_launch(LAUNCH, ATTEMPT, 1000.0)
    one.close()
    two = opened(place)
    two.acquire("l-1")
    third = opened(place)
    with pytest.raises(LeaseLost), third.fenced(stale, 1001.0) as write:
        write.launch(image="changed")
    assert two.launch("l-1").image is None
    two.close()
    third.close()


def test_a_transaction_that_fails_leaves_no_half(place: Path | str) -> None:
    store = opened(place)
    lease = store.add_launch(LAUNCH, ATTEMPT, 1000.0)
    with pytest.raises(ZeroDivisionError), store.fenced(lease, 1001.0) as write:
        write.launch(image="changed")
        raise ZeroDivisionError
    assert store.launch("l-1").image is None
    store.close()


def test_a_name_is_taken_until_its_machine_has_ended(place: Path | str) -> None:
    store = opened(place)
    lease = store.add_launch(LAUNCH, ATTEMPT, 1000.0)
    twin = {**LAUNCH, "id": "l-2"}
    with pytest.raises(NameTaken, match="train-1"):
        store.add_launch(twin, {**ATTEMPT, "id": "b" * 16}, 1001.0)
    with store.fenced(lease, 1002.0) as write:
        write.launch(ended_at=1002.0)
    store.add_launch(twin, {**ATTEMPT, "id": "b" * 16}, 1003.0)
    assert [one.id for one in store.launches()] == ["l-2"]
    assert len(store.launches(include_ended=True)) == 2
    store.close()


def test_gone_is_final(place: Path | str) -> None:
    store = opened(place)
    store.add_launch(LAUNCH, ATTEMPT, 1000.0)
    store.want("l-1", "gone", 1001.0, "asked")
    store.want("l-1", "running", 1002.0, "asked")
    assert store.launch("l-1").wanted == "gone"
    assert [event.kind for event in store.events("l-1")] == ["launch", "wanted"]
    store.close()


@pytest.mark.parametrize(
    ("changes", "at", "due"),
    [
        ({"status": "made", "ready_at": 1400.0}, 1500.0, False),
        ({"status": "made", "ready_at": 1400.0}, 2000.0, True),
        ({"status": "made"}, 1500.0, True),
        ({"status": "unknown"}, 1500.0, True),
        ({"status": "intent"}, 1500.0, True),
        ({"status": "made", "wanted": "gone"}, 1500.0, True),
        ({"status": "refused"}, 1500.0, True),
    ],
)
def test_due_is_what_expired_is_undecided_or_owed_an_end(
    place: Path | str, changes: dict[str, Any], at: float, due: bool
) -> None:
    store = opened(place)
    lease = store.add_launch(LAUNCH, ATTEMPT, 1000.0)
    with store.fenced(lease, 1001.0) as write:
        write.attempt("a" * 16, **changes)
    assert bool(store.due(at)) is due
    store.close()


def test_the_meter_closes_a_stretch_when_the_rate_changes_and_never_goes_back(
    place: Path | str,
) -> None:
    store = opened(place)
    lease = store.add_launch(LAUNCH, ATTEMPT, 1000.0)
    steps = [(400, 1000.0), (400, 1010.0), (20, 1020.0), (None, 1015.0)]
    for rate, at in steps:
        with store.fenced(lease, at) as write:
            write.meter("a" * 16, rate, at)
    stretches = [(row.since, row.until, row.rate) for row in store.usage("a" * 16)]
    assert stretches == [(1000.0, 1020.0, 400), (1020.0, 1020.0, 20)]
    store.close()


def test_a_bucket_is_shared_by_two_stores_and_honours_burst_and_penalty(place: Path | str) -> None:
    one, two = opened(place), opened(place)
    assert one.reserve("b", 2.0, 2, 100.0) == 0.0
    assert two.reserve("b", 2.0, 2, 100.0) == 0.0
    assert one.reserve("b", 2.0, 2, 100.0) == 2.0
    two.penalise("b", 150.0)
    assert one.reserve("b", 2.0, 1, 100.0) == 50.0
    one.close()
    two.close()


def test_a_locked_store_says_so_and_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    store = opened(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        store.want("l-1", "gone", 1.0, "asked")
    other.execute("ROLLBACK")
    other.close()
    store.close()


def test_what_is_sealed_opens_only_with_its_key_and_shows_nothing(tmp_path: Path) -> None:
    seal = Seal(tmp_path / "secret.key", None)
    sealed = seal.close(b"HF_TOKEN=hf_verysecret")
    assert b"verysecret" not in sealed
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600
    assert Seal(tmp_path / "secret.key", None).open(sealed) == b"HF_TOKEN=hf_verysecret"
    other = Seal(tmp_path / "other.key", None)
    other.close(b"makes its own key")
    with pytest.raises(NoSecretKey, match="not the one that sealed"):
        other.open(sealed)
    with pytest.raises(NoSecretKey, match="is missing"):
        Seal(tmp_path / "none.key", None).open(sealed)
    with pytest.raises(NoSecretKey, match="32 bytes"):
        Seal(tmp_path / "none.key", "c2hvcnQ=").close(b"x")


def test_a_process_that_may_not_be_looked_at_is_not_dead(
    place: Path | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(place)
    me = parse_holder(str(store._holder))

    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr("os.kill", refuse)
    unseen = 2**30  # no process has this number, so /proc shows as little as of a hidden one
    assert not parse_holder(f"{me.host}/{me.table}/{unseen}/1/abcd").surely_dead()
    monkeypatch.undo()
    assert parse_holder(f"{me.host}/{me.table}/{unseen}/1/abcd").surely_dead()
    store.close()
