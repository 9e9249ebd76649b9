"""What only PostgreSQL can do wrong: races of several servers, a server that goes away."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from tests.store.test_store import ATTEMPT, LAUNCH

from gpubroker.model.errors import Invalid
from gpubroker.store import postgres as module
from gpubroker.store import schema
from gpubroker.store.errors import LeaseHeld, NewerStore, StoreBusy, StoreError
from gpubroker.store.opened import open_store


def test_servers_that_start_at_once_make_one_schema_and_one_owner(postgres: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: open_store(postgres, "live"), range(8)))
    assert len({store.owner for store in stores}) == 1
    with psycopg.connect(postgres) as db:
        rows = db.execute("SELECT version FROM gpubroker.schema_version").fetchall()
    assert rows == [(schema.SCHEMA_VERSION,)]
    for store in stores:
        store.close()


def test_no_place_of_a_bucket_is_given_twice(postgres: str) -> None:
    stores = [open_store(postgres, "live") for _ in range(4)]

    def ten(number: int) -> list[float]:
        return [stores[number].reserve("b", 1.0, 1, 0.0) for _ in range(10)]

    with ThreadPoolExecutor(4) as pool:
        waits = [wait for some in pool.map(ten, range(4)) for wait in some]
    assert sorted(waits) == [float(place) for place in range(40)]
    for store in stores:
        store.close()


def test_of_those_who_want_a_lease_at_once_one_gets_it(postgres: str) -> None:
    first = open_store(postgres, "live")
    first.release(first.add_launch(LAUNCH, ATTEMPT, 1000.0))
    stores = [open_store(postgres, "live") for _ in range(6)]
    together = threading.Barrier(6)

    def take(number: int) -> int:
        together.wait()
        try:
            return stores[number].acquire("l-1").fence
        except LeaseHeld:
            return 0

    with ThreadPoolExecutor(6) as pool:
        fences = list(pool.map(take, range(6)))
    assert sorted(fences)[:5] == [0] * 5
    assert max(fences) == 2
    for store in (first, *stores):
        store.close()


def test_a_lease_runs_by_the_servers_clock_not_by_ours(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpubroker.store.store.time.time", lambda: 5.0)
    store = open_store(postgres, "live")
    lease = store.add_launch(LAUNCH, ATTEMPT, 1000.0)
    assert lease.until == 5.0 + 300
    assert store.launch("l-1").lease_until > 1_700_000_000
    store.close()


def test_a_newer_schema_is_refused_by_name(postgres: str) -> None:
    open_store(postgres, "live").close()
    with psycopg.connect(postgres) as db:
        db.execute("UPDATE gpubroker.schema_version SET version = 99")
    with pytest.raises(NewerStore, match="schema 99"):
        open_store(postgres, "live")


def test_a_row_that_another_holds_is_busy_and_unchanged(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOCK_WAIT_MS", 50)
    store = open_store(postgres, "live")
    store.add_launch(LAUNCH, ATTEMPT, 1000.0)
    with psycopg.connect(postgres) as other:
        other.execute("SELECT * FROM gpubroker.launches FOR UPDATE")
        with pytest.raises(StoreBusy, match="Nothing was changed"):
            store.want("l-1", "gone", 1.0, "asked")
    assert store.launch("l-1").wanted == "running"
    store.close()


def test_a_lost_connection_is_said_without_the_password_and_made_anew(postgres: str) -> None:
    store = open_store(postgres, "live")
    lease = store.add_launch(LAUNCH, ATTEMPT, 1000.0)
    with (
        pytest.raises(StoreError, match="does not answer") as caught,
        store.fenced(lease, 1001.0) as write,
    ):
        write.launch(image="half")
        _end_connections(postgres)
        write.launch(error="other half")
    assert "pw-of-the-test-server" not in f"{caught.value!r}{caught.value}"
    assert "127.0.0.1" in str(caught.value)
    assert store.launch("l-1").image is None
    with store.fenced(lease, 1002.0) as write:
        write.launch(image="whole")
    assert store.launch("l-1").image == "whole"
    store.close()


def test_a_server_that_is_not_there_is_an_error_with_its_place(postgres: str) -> None:
    with pytest.raises(StoreError, match=r"PostgreSQL 127\.0\.0\.1/none does not answer"):
        open_store("postgres://user:secret@127.0.0.1:1/none", "live")
    wrong = postgres.replace("pw-of-the-test-server", "another-password")
    with pytest.raises(StoreError) as caught:
        open_store(wrong, "live")
    assert "another-password" not in str(caught.value)


def test_an_address_of_something_else_is_refused() -> None:
    with pytest.raises(Invalid, match="postgres://, not mysql"):
        open_store("mysql://127.0.0.1/x", "live")


def _end_connections(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'gpubroker' AND datname = current_database()"
        )
