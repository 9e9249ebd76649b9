"""A store that goes away or is full, clocks that jump, lists that lie: nothing lost, all heals."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PostgresServer

from gpubroker.fleet.observing import observe
from gpubroker.store import sqlite
from gpubroker.store.errors import StoreBusy, StoreError

House = Any
BOUNDARIES = ("intent committed", "sending committed", "created", "created recorded")
ENDINGS = ("end wanted", "terminate sent", "gone recorded")


class Once:
    """Does something at the first boundary of a name."""

    def __init__(self, name: str, act: Callable[[], None]) -> None:
        self.done = False
        self._name, self._act = name, act

    def __call__(self, boundary: str) -> None:
        if boundary == self._name and not self.done:
            self.done = True
            self._act()


async def _life(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    await fleet.terminate("train-1")


async def _heals(house: House, boundary: str) -> None:
    """The next process goes on: at rest is billed what is wanted, and can be ended."""
    fleet = house.open()
    for _ in range(60):
        await fleet.settle()
        if not house.store.due(house.cloud.clock.now().timestamp()):
            break
        house.cloud.clock.advance(5)
    assert house.leaks() == []
    assert len(house.cloud.billed()) == len(house.wanted())
    if boundary in BOUNDARIES:
        assert len(house.cloud.billed()) == 1
    for name in house.store.names():
        await fleet.terminate(name)
    assert house.cloud.billed() == []


@pytest.mark.parametrize("boundary", BOUNDARIES + ENDINGS)
async def test_postgresql_that_cuts_every_connection_is_told_and_loses_nothing(
    make_house: Callable[..., House], postgres: str, boundary: str
) -> None:
    import psycopg

    def cut() -> None:
        with psycopg.connect(postgres, autocommit=True) as server:
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    house = make_house(postgres=postgres, carrier="tag", list_lag_s=10.0)
    house.on_boundary = cutting = Once(boundary, cut)
    with pytest.raises(StoreError, match=r"does not answer .* taken up again when it does"):
        await _life(house)
    assert cutting.done
    await _heals(house, boundary)


@pytest.mark.parametrize("boundary", ["sending committed", "created", "terminate sent"])
async def test_postgresql_that_is_down_in_mid_launch_is_told_and_loses_nothing(
    make_house: Callable[..., House], own_postgres: PostgresServer, boundary: str
) -> None:
    house = make_house(postgres=own_postgres.url, carrier="tag", list_lag_s=10.0)
    house.on_boundary = stopping = Once(boundary, own_postgres.stop)
    try:
        with pytest.raises(StoreError, match=r"does not answer .* taken up again when it does"):
            await _life(house)
        assert stopping.done
        with pytest.raises(StoreError, match="PostgreSQL"):
            house.open()
    finally:
        own_postgres.start()
    await _heals(house, boundary)


@contextmanager
def _full_disk(file: Path) -> Iterator[Callable[[], None]]:
    """From the call on no file may grow beyond the size that the journal has then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, before[1]))

    try:
        yield fill
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("boundary", BOUNDARIES + ENDINGS)
async def test_a_full_disk_is_told_and_loses_nothing(
    make_house: Callable[..., House], boundary: str
) -> None:
    house = make_house(carrier="tag", list_lag_s=10.0)
    with _full_disk(house._folder / "state.db-wal") as fill:
        house.on_boundary = Once(boundary, fill)
        with pytest.raises(StoreError, match=r"state\.db: .*(full|I/O error)"):
            await _life(house)
    await _heals(house, boundary)


@pytest.mark.parametrize("boundary", ["sending committed", "created", "terminate sent"])
async def test_a_locked_store_is_told_and_loses_nothing(
    make_house: Callable[..., House], monkeypatch: pytest.MonkeyPatch, boundary: str
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    house = make_house(carrier="tag", list_lag_s=10.0)
    with contextlib.closing(sqlite3.connect(house._folder / "state.db")) as other:
        other.isolation_level = None
        house.on_boundary = Once(boundary, lambda: _ignore(other.execute("BEGIN IMMEDIATE")))
        with pytest.raises(StoreBusy, match="locked by another process"):
            await _life(house)
    await _heals(house, boundary)


def _ignore(_: object) -> None:
    """A hook answers nothing."""


@pytest.mark.parametrize("seconds", [-120.0, 7200.0])
@pytest.mark.parametrize("boundary", [*BOUNDARIES, "ready", *ENDINGS])
async def test_a_clock_that_jumps_doubles_nothing(
    make_house: Callable[..., House], boundary: str, seconds: float
) -> None:
    house = make_house(carrier="name", list_lag_s=10.0, create_deadline_s=20.0)
    jumping = Once(boundary, lambda: house.cloud.clock.step_wall(seconds))
    house.on_boundary = jumping
    await _life(house)
    assert jumping.done
    assert house.cloud.billed() == []
    assert house.cloud.count("create") == 1
    await _heals(house, "")


@pytest.mark.parametrize("fault", ["duplicate_list", "empty_list"])
async def test_a_machine_listed_twice_or_forgotten_for_a_minute_is_kept(
    make_house: Callable[..., House], fault: Any
) -> None:
    house = make_house(carrier="tag")
    fleet = house.open()
    await house.launch(fleet)
    house.cloud.script("list", fault, times=None)
    for _ in range(3):
        house.cloud.clock.advance(20)
        await observe(fleet.context, cadence_s=20)
    house.cloud.heal()
    house.cloud.clock.advance(60)
    await observe(fleet.context)
    assert len(house.cloud.billed()) == len(house.wanted()) == 1
    assert house.cloud.count("create") == 1
    await fleet.terminate("train-1")
    assert house.cloud.billed() == []
