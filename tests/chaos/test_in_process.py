"""A crash at every boundary of a real provider's life, on both databases: nothing is left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gpubroker.fleet import fleet as loop
from gpubroker.fleet import launching
from gpubroker.fleet.fleet import Fleet
from gpubroker.model.identity import Attempt, new_attempt_id
from gpubroker.providers.registry import provider_class, ready
from gpubroker.sandbox.app import Sandbox
from gpubroker.testing.chaos.tenants import (
    SandboxTenant,
    at_rest,
    ended,
    life,
    standing,
    wrong,
)
from gpubroker.testing.chaos.times import SharedClock
from gpubroker.testing.chaos.worlds import World, books, sandbox_world
from gpubroker.testing.fake_cloud import Crashed

Place = Path | str
PAUSE_S = 3600.0


class CrashAt:
    """Dies at the n-th boundary; notes how many machines there were at each."""

    def __init__(self, sandbox: Sandbox, number: int | None = None) -> None:
        self.seen: list[tuple[str, int]] = []
        self._sandbox, self._number = sandbox, number

    def __call__(self, boundary: str) -> None:
        self.seen.append((boundary, len(books(self._sandbox).exist)))
        if len(self.seen) - 1 == self._number:
            raise Crashed(boundary)


class Row:
    """What a crash at one boundary came to."""

    def __init__(self, boundary: str, existed: int) -> None:
        self.boundary, self.existed = boundary, existed
        self.unknown, self.end = 0, ""


async def every_boundary(
    world: World, sandbox: Sandbox, folder: Path, places: Callable[[int], Place]
) -> list[Row]:
    """Rehearses a life, then crashes at each of its boundaries. AssertionError where one leaks."""
    rehearsal = CrashAt(sandbox)
    one = SandboxTenant(world, folder, places(0), rehearsal)
    await life(one, "rehearsal")
    await one.aclose()
    assert books(sandbox).billed == ()
    first = {foretold: number for number, foretold in reversed(list(enumerate(rehearsal.seen)))}
    return [
        await crashed_at(number, foretold, world, sandbox, folder, places)
        for foretold, number in sorted(first.items(), key=lambda one: one[1])
    ]


async def crashed_at(
    number: int,
    foretold: tuple[str, int],
    world: World,
    sandbox: Sandbox,
    folder: Path,
    places: Callable[[int], Place],
) -> Row:
    place, name = places(number + 1), f"m-{number}"
    # Longer than any rate limit and any age at which the market's prices are looked up again.
    SharedClock(Path(world.time)).advance(PAUSE_S)
    crash = CrashAt(sandbox, number)
    one = SandboxTenant(world, folder, place, crash)
    with pytest.raises(Crashed):
        await life(one, name)
    await one.aclose()
    boundary, existed = crash.seen[number]
    row = Row(boundary, existed)
    back = SandboxTenant(world, folder, place)
    row.unknown = await at_rest(back)
    await sandbox.settle()
    stands = standing(back, books(sandbox), row.unknown)
    problems = wrong(stands, books(sandbox))
    row.end = "stopped" if stands.stopped else "running" if stands.wanted else "ended"
    await ended(back)
    assert await at_rest(back) == 0
    await sandbox.settle()
    problems += wrong(standing(back, books(sandbox)), books(sandbox))
    await back.aclose()
    # What a broken broker left must not be found again at the next boundary; and every store is
    # another owner with a key of its own, of which some accounts take few.
    await sandbox.clouds[world.provider].reset()
    assert not problems, f"{boundary}: {'; '.join(problems)}"
    # The boundary is the one that was rehearsed, and was hit with as many machines.
    assert (boundary, existed) == foretold
    return row


@asynccontextmanager
async def street(folder: Path, provider: str) -> AsyncIterator[tuple[World, Sandbox]]:
    async with sandbox_world(folder / "world", provider) as made:
        yield made


def printed(provider: str, database: str, rows: list[Row]) -> None:
    for row in rows:
        print(
            f"{provider:12} {database:10} {row.boundary:24} existed {row.existed} "
            f"unknown {row.unknown} end {row.end}"
        )


@pytest.mark.parametrize("provider", ready())
async def test_every_boundary_of_a_life_can_be_the_last_on_sqlite(
    tmp_path: Path, provider: str
) -> None:
    async with street(tmp_path, provider) as (world, sandbox):
        rows = await every_boundary(
            world, sandbox, tmp_path / "home", lambda number: tmp_path / f"{number}.db"
        )
    printed(provider, "sqlite", rows)
    met_all(rows, provider)


@pytest.mark.parametrize("provider", ready())
async def test_every_boundary_of_a_life_can_be_the_last_on_postgresql(
    tmp_path: Path, postgres: str, provider: str
) -> None:
    async with street(tmp_path, provider) as (world, sandbox):
        rows = await every_boundary(world, sandbox, tmp_path / "home", lambda _: postgres)
    printed(provider, "postgresql", rows)
    met_all(rows, provider)


def met_all(rows: list[Row], provider: str) -> None:
    """The matrix holds what it is to hold: crashes before, after and while a machine exists."""
    stops = provider_class(provider).capabilities.stop != "none"
    by_name = {row.boundary: row for row in rows}
    assert {"intent committed", "sending committed", "terminate sent", "gone recorded"} <= set(
        by_name
    )
    assert by_name["created"].existed == by_name["created recorded"].existed == 1
    assert by_name["sending committed"].unknown == by_name["created"].unknown == 1
    assert by_name["intent committed"].end == by_name["ready"].end == "running"
    assert by_name["ended"].end == "ended"
    assert stops == ({"stop wanted", "start wanted"} <= set(by_name))
    if "stop sent" not in by_name:  # there is no stop, or none of the cheapest type
        assert not stops or by_name["stop wanted"].end == "running"
    else:
        assert by_name["stop wanted"].end == by_name["stop sent"].end == "stopped"
        assert by_name["start wanted"].end == by_name["start sent"].end == "running"


async def _takes_unknown_for_refused(ctx: Any, work: Any, attempt: Any) -> float:
    with work.writing() as write:
        write.attempt(attempt.id, status="absent", closed_at=ctx.at())
    return 0.0


def without_the_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "look_up", _takes_unknown_for_refused)
    for table in ("_WANTED", "_UNWANTED"):
        blind = dict.fromkeys(("sending", "unknown"), _takes_unknown_for_refused)
        monkeypatch.setattr(loop, table, {**getattr(loop, table), **blind})


def without_the_intent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rents first and writes it down afterwards, as most programs do."""
    honest, made = Fleet.launch, {}

    async def launch(
        self: Fleet, request: Any, plan: Any, spec: Any, name: str, **more: Any
    ) -> Any:
        offer, store = plan.ranked[0].offer, self.context.store
        provider = self.context.clouds.provider(offer.provider, offer.account)
        attempt = Attempt(store.owner, new_attempt_id(), "l-not-yet")
        have: dict[Any, Any] = {}
        for what in provider.capabilities.needs:
            have[what] = await provider.ensure(what, spec, offer, attempt, have)
        made[attempt.id] = await provider.create(spec, offer, attempt, have)
        self.context.boundary("created")
        monkeypatch.setattr(launching, "new_attempt_id", lambda: attempt.id)
        return await honest(self, request, plan, spec, name, **more)

    async def write_down(ctx: Any, work: Any, attempt: Any) -> float:
        provider = ctx.clouds.provider(attempt.provider, attempt.account)
        launching._made(ctx, work, attempt, made[attempt.id], provider)
        return 0.0

    monkeypatch.setattr(Fleet, "launch", launch)
    monkeypatch.setattr(loop, "_WANTED", {**loop._WANTED, "intent": write_down})


@pytest.mark.parametrize("mutant", [without_the_look_up, without_the_intent])
@pytest.mark.parametrize("provider", ["lambda_labs", "vast_ai"])
async def test_a_broken_broker_fails_the_matrix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str, mutant: Any
) -> None:
    mutant(monkeypatch)
    async with street(tmp_path, provider) as (world, sandbox):
        with pytest.raises(AssertionError, match=r"wanted .* billed"):
            await every_boundary(
                world, sandbox, tmp_path / "home", lambda number: tmp_path / f"{number}.db"
            )
