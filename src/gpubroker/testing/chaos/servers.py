"""Several processes that keep one fleet for ever, and are killed now and then."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from msgspec import Struct

from gpubroker.store.opened import open_store
from gpubroker.testing.chaos.fake_door import asked
from gpubroker.testing.chaos.forks import Forks, Job, forks, served
from gpubroker.testing.chaos.worlds import World, truth

REST_S = 240.0
"""So long everything may take to come to rest once nobody is killed any more."""
BETWEEN_KILLS_S = (0.2, 1.5)


class Kept(Struct, frozen=True, kw_only=True):
    """What came of it."""

    kills: int
    steps: tuple[int, ...]
    """Of each process that ever served, the busiest first."""
    wanted: int
    billed: int
    problems: tuple[str, ...]
    overlap_s: float
    """Seconds in which a launch had a machine too many, of all launches together."""
    machine_s: float
    """Seconds that all machines were billed."""


class _Servers:
    def __init__(self, forks: Forks, job: Job, count: int) -> None:
        self._forks, self._job = forks, job
        self.kills = 0
        self.living = [forks.start(job) for _ in range(count)]

    def kill_one(self, dice: random.Random) -> None:
        """And another takes its place."""
        pid = self.living.pop(dice.randrange(len(self.living)))
        os.kill(pid, signal.SIGKILL)
        self._forks.wait(pid)
        self.kills += 1
        self.living.append(self._forks.start(self._job))

    def stop(self) -> list[str]:
        """As an administrator does. Answer: who did not end well."""
        for pid in self.living:
            os.kill(pid, signal.SIGTERM)
        ends = [self._forks.wait(pid) for pid in self.living]
        # One that has only just begun dies of the signal.
        well = ("exited 0", f"killed {signal.SIGTERM.value}")
        return [f"a server {end}" for end in ends if end not in well]


def kept(
    folder: Path, database: str, *, servers: int, launches: int, seconds: float, seed: int = 0,
    speed: float = 20.0,
) -> Kept:  # fmt: skip
    """`launches` are wanted, half of them are not any more later on; servers die all the time."""
    switches = {"carrier": "tag", "list_lag_s": 10.0, "create_deadline_s": 20.0, "terminate_s": 5.0}
    zero = time.monotonic()
    world_of = served(folder / "world", "fake", switches=switches, zero=zero, speed=speed)
    with world_of as world, forks() as made:
        job = _jobs(world, folder, database)
        made.prepare(made.done(job("life", name="first", result=str(folder / "modules"))))
        made.done(job("intend", name="m", count=launches))
        (folder / "steps").touch()
        company = _Servers(made, job("keep", steps=str(folder / "steps")), servers)
        dice = random.Random(seed)  # noqa: S311 - repeatable on purpose
        _killing(company, dice, seconds / 2)
        made.done(job("unwant", name="m"))
        _killing(company, dice, seconds / 2)
        _until_rest(database, world)
        problems = company.stop()
        problems += made.done(job("rest", result=str(folder / "rest")))
        counted = Counter((folder / "steps").read_text().split())
        overlap_s, machine_s = _overlap(database, world)
        return Kept(
            kills=company.kills,
            steps=tuple(count for _, count in counted.most_common()),
            wanted=launches - (launches + 1) // 2,
            billed=len(truth(world).billed),
            problems=tuple(problems),
            overlap_s=overlap_s,
            machine_s=machine_s,
        )


def _jobs(world: World, folder: Path, database: str) -> Any:
    def job(act: str, **more: Any) -> Job:
        home = str(folder / "home")
        return Job(act=act, world=world, home=home, database=database, **more)

    return job


def _killing(company: _Servers, dice: random.Random, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(dice.uniform(*BETWEEN_KILLS_S))
        company.kill_one(dice)


def _until_rest(database: str, world: World) -> None:
    store, clock = open_store(database, "live"), world.clock()
    try:
        deadline = time.monotonic() + REST_S
        while due := store.due(clock.now().timestamp()):
            if time.monotonic() > deadline:
                raise AssertionError(f"never at rest: {[row.name for row in due][:5]}")
            time.sleep(0.2)
    finally:
        store.close()


def _overlap(database: str, world: World) -> tuple[float, float]:
    """Seconds in which a launch had more than one billed machine; and of all machines."""
    now = world.clock().now().timestamp()
    store = open_store(database, "live")
    launch_of = {attempt.id: attempt.launch_id for attempt in store.attempts_of_provider("fake")}
    store.close()
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for attempt, start, end in asked(world.door, "spans", ()):
        spans[launch_of.get(attempt, attempt)].append((start, end or now))
    machine_s = sum(end - start for of in spans.values() for start, end in of)
    return sum(_twice(of) for of in spans.values()), machine_s


def _twice(spans: list[tuple[float, float]]) -> float:
    """Seconds that are covered more than once."""
    seconds, covered_until = 0.0, float("-inf")
    for start, end in sorted(spans):
        seconds += max(0.0, min(end, covered_until) - start)
        covered_until = max(covered_until, end)
    return seconds
