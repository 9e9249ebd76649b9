"""The broker's own time in a launch: `python benchmarks/launch_overhead.py [--runs 50]`.

From the plan to a ready machine on SQLite, at an imaginary cloud whose clock moves by itself: what
the cloud takes to answer is taken off. Every step is committed to disk on the way (the number of
transactions is printed), so the disk has its part in it: the same commits, bare, are timed in the
same run.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpubroker.fleet.context import Context
from gpubroker.fleet.fleet import Fleet
from gpubroker.fleet.planning import plan
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.model.launch import LaunchSpec
from gpubroker.providers.base import MUTATIONS, READS, Provider
from gpubroker.store.opened import open_store
from gpubroker.store.seal import Seal
from gpubroker.store.store import Store
from gpubroker.testing.fake_cloud import FakeCloud, FakeProvider, Switches

RUNS, TARGET_MS = 50, 25.0


class Timed:
    """The one account, and how long its cloud has had the word."""

    def __init__(self, cloud: FakeCloud) -> None:
        self.took_s = 0.0
        self._provider = FakeProvider(cloud)
        for name in (READS | MUTATIONS) - {"offers"}:
            if call := getattr(self._provider, name, None):
                setattr(self._provider, name, self._timing(call))

    def _timing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def timed(*arguments: Any) -> Any:
            began = time.perf_counter()
            try:
                return await call(*arguments)
            finally:
                self.took_s += time.perf_counter() - began

        return timed

    def provider(self, name: str, account: str) -> Provider:
        """The one there is."""
        del name, account
        return self._provider

    def configured(self) -> tuple[tuple[str, str], ...]:
        """The one there is."""
        return (("fake", "default"),)


class Commits:
    """Counts the transactions of a store."""

    def __init__(self, store: Store) -> None:
        self.count = 0
        self._honest = store._db.transaction  # noqa: SLF001 - from the outside nobody can tell
        store._db.transaction = self._counted  # type: ignore[method-assign]  # noqa: SLF001

    @contextmanager
    def _counted(self) -> Iterator[Any]:
        self.count += 1
        with self._honest() as db:
            yield db


async def one_launch(fleet: Fleet, cloud: FakeCloud, number: int) -> None:
    """Planned, rented and ready."""
    request, now = LaunchRequest(disk_gb=20), cloud.clock.now()
    offers = sorted(
        (offer for offer in cloud.stock.values() if offer.gpu_count == 1),
        key=lambda offer: offer.price.compute,
    )
    planned = plan(offers, request, disk_gb=20, total=len(offers), now=now, cooldowns={})
    spec = LaunchSpec(ssh_keys=("ssh-ed25519 AAAA k",), disk_gb=20, expires_at=planned.expires_at)
    await fleet.launch(request, planned, spec, f"m-{number}", wait=True)


def bare_commit_ms(folder: Path) -> float:
    """One small durable transaction on this disk."""
    db = sqlite3.connect(folder / "bare.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE t (x)")
    times = []
    for number in range(RUNS):
        began = time.perf_counter()
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO t VALUES (?)", (number,))
        db.execute("COMMIT")
        times.append((time.perf_counter() - began) * 1000)
    db.close()
    return statistics.median(times)


async def measure(runs: int) -> float:
    """The median in milliseconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = open_store(folder / "state.db", "live")
        cloud = FakeCloud(Switches(boot_s=1.0))
        clouds, commits = Timed(cloud), Commits(store)
        fleet = Fleet(Context(store, clouds, cloud.clock, Seal(folder / "secret.key", None)))
        own_ms = []
        for number in range(-2, runs):  # the first ones import
            clouds.took_s, commits.count = 0.0, 0
            began = time.perf_counter()
            await one_launch(fleet, cloud, number + 2)
            own_ms.append((time.perf_counter() - began - clouds.took_s) * 1000)
        own_ms = sorted(own_ms[2:])
        bare = bare_commit_ms(folder)
        median = statistics.median(own_ms)
        print(
            f"own time of a launch: median {median:.1f} ms, worst {own_ms[-1]:.1f} ms "
            f"(target {TARGET_MS:.0f} ms), {commits.count} transactions"
        )
        print(f"one bare durable commit on this disk: {bare:.2f} ms")
        print(f"ratio to the bare commits alone: {median / (bare * commits.count):.1f}")
        store.close()
        return median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--check", action="store_true", help="exit 1 where the target is missed")
    chosen = parser.parse_args()
    took = asyncio.run(measure(chosen.runs))
    if chosen.check and took > TARGET_MS:
        sys.exit(f"a launch takes {took:.1f} ms of the broker's own, more than {TARGET_MS} ms")


if __name__ == "__main__":
    main()
