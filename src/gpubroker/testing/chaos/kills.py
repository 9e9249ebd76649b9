"""SIGKILL at every boundary, and at any instant: rows of the crash matrix."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from gpubroker.testing.chaos.forks import Forks, Job, forks, served
from gpubroker.testing.chaos.times import SharedClock
from gpubroker.testing.chaos.worlds import World, truth

PAUSE_S = 3600.0
"""Between two lives: longer than any rate limit, and prices are looked up again."""
STOPPED_S = 400.0
"""Longer than a lease."""
FIRST_MARK_S = 60.0
LATER = 1.1
"""A random kill may come so much later than a life usually lasts."""


class Row(Struct, frozen=True, kw_only=True):
    """What one kill came to."""

    boundary: str
    """The last one before it."""
    existed: int
    """Machines at the cloud at the kill."""
    unknown: int
    """Attempts whose outcome the next process did not know."""
    running: int
    """Machines that it brought to their goal."""
    problems: tuple[str, ...] = ()
    """[] is the aim."""

    @property
    def end(self) -> str:
        """In a word."""
        return "; ".join(self.problems) or ("running" if self.running else "ended")


class Killing(Struct, kw_only=True):
    """One store at one cloud, and the processes that die on it."""

    world: World
    home: Path
    forks: Forks
    database: str = ""
    mutant: str = ""
    number: int = 0

    def job(self, act: str, **more: Any) -> Job:
        """On the same store each time."""
        return Job(
            act=act,
            world=self.world,
            home=str(self.home),
            database=self.database,
            mutant=self.mutant,
            **more,
        )

    def fresh(self) -> str:
        """The name of the next launch, an hour after the last."""
        self.number += 1
        SharedClock(Path(self.world.time)).advance(PAUSE_S)
        return f"m-{self.number}"

    def rehearsed(self) -> tuple[list[tuple[str, int]], float]:
        """A life's boundaries, each with the machines that there are; its seconds from the first.

        Raises AssertionError where something is billed after it.
        """
        # The first life finds out what has to be imported, and makes the store.
        result = self._file("modules")
        self.forks.prepare(self.forks.done(self.job("life", name=self.fresh(), result=result)))
        marks = self._file("rehearsal")
        Path(marks).unlink(missing_ok=True)
        self.forks.done(self.job("life", name=self.fresh(), boundaries=marks))
        timed = self._file("timed")
        Path(timed).unlink(missing_ok=True)
        pid = self.forks.start(self.job("life", name=self.fresh(), boundaries=timed))
        began = _first_mark(timed)
        self.forks.wait(pid)
        took_s = time.monotonic() - began
        if billed := truth(self.world).billed:
            raise AssertionError(f"billed after a whole life: {billed}")
        return _marks(marks), took_s

    def killed_at(self, number: int, foretold: tuple[str, int]) -> Row:
        """At the n-th boundary, by its own hand."""
        boundary, existed = foretold
        pid = self.forks.start(self.job("life", name=self.fresh(), kill_at=number))
        what = self.forks.wait(pid)
        there = len(truth(self.world).exist)
        row = self._recovered(boundary, there)
        problems = list(row.problems)
        if what != f"killed {signal.SIGKILL.value}":
            problems.append(f"was not killed but {what}")
        if existed and not there:
            problems.append("no machine there after the send")
        return structs.replace(row, problems=tuple(problems))

    def killed_after(self, seconds: float) -> Row | None:
        """So long after its first boundary; None where the life was over before."""
        marks = self._file(f"marks-{self.number}")
        Path(marks).unlink(missing_ok=True)
        pid = self.forks.start(self.job("life", name=self.fresh(), boundaries=marks))
        _first_mark(marks)
        time.sleep(seconds)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            self.forks.wait(pid)
            return None
        if self.forks.wait(pid) == "exited 0":
            return None
        there = len(truth(self.world).exist)
        met = _marks(marks) if Path(marks).exists() else []
        return self._recovered(f"after {met[-1][0]}" if met else "before any", there)

    def stopped_at(self, boundary: str) -> list[str]:
        """Paused there until another process has taken over, then let go on. What is wrong."""
        pid = self.forks.start(self.job("life", name=self.fresh(), stop_at=boundary))
        if self.forks.wait(pid, "stopped") != "stopped":
            return [f"never came to {boundary}"]
        SharedClock(Path(self.world.time)).age(STOPPED_S)
        problems = self.forks.done(self.job("rest", result=self._file("taken-over")))
        os.kill(pid, signal.SIGCONT)
        if (what := self.forks.wait(pid)) != "exited 0":
            problems.append(f"went on, and {what}")
        return [*problems, *self._recovered(boundary, 0).problems]

    def _recovered(self, boundary: str, there: int) -> Row:
        found: Mapping[str, Any] = self.forks.done(
            self.job("recover", result=self._file("recovered"))
        )
        stands = found["stands"]
        return Row(
            boundary=boundary,
            existed=there,
            unknown=stands["unknown"],
            running=len(stands["wanted"]),
            problems=tuple(found["problems"]),
        )

    def _file(self, name: str) -> str:
        self.home.mkdir(parents=True, exist_ok=True)
        return str(self.home / name)


def _first_mark(file: str) -> float:
    """Waits for the first boundary. Answer: the time of it."""
    deadline = time.monotonic() + FIRST_MARK_S
    while not Path(file).exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the life never came to its first boundary")
        time.sleep(0.001)
    return time.monotonic()


def _marks(file: str) -> list[tuple[str, int]]:
    rows = [line.partition(" ") for line in Path(file).read_text().splitlines()]
    return [(boundary, int(existed)) for existed, _, boundary in rows]


def at_every_boundary(killing: Killing) -> Iterator[Row]:
    """Layer b: one row for each boundary and number of machines that there are at it."""
    marks, _ = killing.rehearsed()
    first = {foretold: number for number, foretold in reversed(list(enumerate(marks)))}
    for foretold, number in sorted(first.items(), key=lambda one: one[1]):
        yield killing.killed_at(number, foretold)


def at_random(killing: Killing, kills: int, seed: int) -> Iterator[Row]:
    """Layer c: `kills` lives that were ended at any instant of them."""
    _, usual_s = killing.rehearsed()
    dice, done = random.Random(seed), 0  # noqa: S311 - repeatable on purpose
    while done < kills:
        row = killing.killed_after(dice.uniform(0.0, usual_s * LATER))
        if row is not None:
            done += 1
            yield row


@contextmanager
def killing(folder: Path, provider: str, *, database: str = "", **more: Any) -> Iterator[Killing]:
    """A world, a store, and processes to kill. `more`: `switches` of a FakeCloud, `mutant`."""
    mutant = more.pop("mutant", "")
    with served(folder / "world", provider, **more) as world, forks() as made:
        yield Killing(
            world=world, home=folder / "home", forks=made, database=database, mutant=mutant
        )


class Tally(Struct, kw_only=True):
    """All kills at one boundary."""

    boundary: str
    kills: int = 0
    existed: int = 0
    unknown: int = 0
    running: int = 0
    ended: int = 0
    wrong: int = 0


def tallied(rows: Iterable[Row]) -> list[Tally]:
    """By boundary, in the order in which they were first met."""
    tallies: dict[str, Tally] = {}
    for row in rows:
        tally = tallies.setdefault(row.boundary, Tally(boundary=row.boundary))
        tally.kills += 1
        tally.existed += row.existed
        tally.unknown += row.unknown
        tally.wrong += bool(row.problems)
        if not row.problems:
            tally.running += row.running
            tally.ended += not row.running
    return list(tallies.values())


def table(tallies: Iterable[Tally]) -> str:
    """For a page, and for a person at a terminal."""
    head = (
        "| last boundary | kills | machines at the kill | attempts unknown | end state |\n"
        "|---|---:|---:|---:|---|"
    )
    lines = [
        f"| {one.boundary} | {one.kills} | {one.existed} | {one.unknown} | {_end(one)} |"
        for one in tallies
    ]
    return "\n".join([head, *lines])


def _end(tally: Tally) -> str:
    words = (("running", tally.running), ("ended", tally.ended), ("**wrong**", tally.wrong))
    return ", ".join(f"{count} {word}" for word, count in words if count)
