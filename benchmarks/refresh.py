"""A refresh of every cloud's offers together against each alone: `python benchmarks/refresh.py`.

Each emulator has a process of its own, as clouds share no processor, and answers its offers 300 ms
late. Every refresh has new connections and no rate limit of an earlier one to wait for. The rounds
are interleaved, and the minimum of each is told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, aclosing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.request import Request, urlopen

from gpubroker.market.book import Book
from gpubroker.market.collector import refresh
from gpubroker.model.clock import SystemClock
from gpubroker.model.query import Query
from gpubroker.providers.accounts import Account, sandbox_accounts
from gpubroker.providers.limits import MemoryLimitBook
from gpubroker.providers.registry import BUILT_IN, connect

DELAY_S, ROUNDS, PATIENCE_S = 0.3, 10, 30.0
AT_MOST = 1.15
SPEED = 600
"""Of the sandboxes' time, by which their clouds count requests: minutes between two."""

Doors = Mapping[str, tuple[Account, str]]
"""Cloud -> its account and address."""


def asked(base_url: str, path: str, body: Any = None) -> Any:
    """A call of a sandbox's control API."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{base_url}/_sandbox/{path}", data)  # noqa: S310 - loopback
    with urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310 - likewise
        return json.loads(answer.read() or b"null")


@contextmanager
def slow_cloud(folder: Path, name: str) -> Iterator[tuple[Account, str]]:
    """A sandbox of one cloud, whose offers come late."""
    environ = os.environ | {"HOME": str(folder), "GPUBROKER_HOME": str(folder / name)}
    words = ["--json", "sandbox", "--port", "0", "--speed", str(SPEED), "--providers", name]
    process = subprocess.Popen(
        [sys.executable, "-m", "gpubroker", *words],
        env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        base_url = json.loads(process.stdout.readline())["base_url"]
        fault = {"provider": name, "operation": "offers", "kind": "slow", "delay_s": DELAY_S}
        asked(base_url, "faults", fault)
        yield sandbox_accounts(asked(base_url, "providers"))[name]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)


class Refreshed(NamedTuple):
    """One refresh."""

    seconds: float
    offers: int
    cpu_s: float


async def refreshed(doors: Doors, names: Collection[str]) -> Refreshed:
    """A refresh of these clouds."""
    book, clock, limits = Book(), SystemClock(), MemoryLimitBook()
    async with AsyncExitStack() as closing:
        providers = {}
        for name in names:
            account, base_url = doors[name]
            made = connect(account, clock=clock, book=limits, base_url=base_url, loopback_only=True)
            await closing.enter_async_context(aclosing(cast("Any", made.provider)))
            providers[name] = made.provider
        began, cpu_began = time.perf_counter(), time.process_time()
        now = datetime.now(UTC)
        reports = await refresh(book, providers, Query(), timeout_s=PATIENCE_S, now=now)
        took, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    errors = {name: report.error for name, report in reports.items() if report.error}
    assert not errors, errors
    return Refreshed(took, len(book.offers()), cpu_s)


async def measure(doors: Doors, rounds: int) -> dict[tuple[str, ...], Refreshed]:
    """The least of each: every cloud alone, and all of them together."""
    every = tuple(doors)
    best: dict[tuple[str, ...], Refreshed] = {}
    for turn in range(rounds + 1):
        for names in (*((name,) for name in every), every):
            told = await refreshed(doors, names)
            if turn:  # the first imports what is needed
                best[names] = min(told, best.get(names, told))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        doors = {name: running.enter_context(slow_cloud(Path(folder), name)) for name in BUILT_IN}
        best = asyncio.run(measure(doors, rounds))
    together = best.pop(tuple(BUILT_IN))
    for (name,), alone in best.items():
        print(f"{name:<15} {alone.seconds * 1000:7.1f} ms   {alone.offers:5} offers")
    slowest = max(alone.seconds for alone in best.values())
    ratio = together.seconds / slowest
    print(f"{'all together':<15} {together.seconds * 1000:7.1f} ms   {together.offers:5} offers")
    print(f"{together.cpu_s / together.offers * 10_000:.2f} s of CPU for 10,000 offers")
    print(f"{ratio:.2f} x the slowest alone   at most {AT_MOST:g} x   minimum of {rounds}")
    assert ratio <= AT_MOST, "a refresh waits for more than its slowest cloud"


if __name__ == "__main__":
    main()
