"""How long a call takes, as a ratio to a bare Python: `python benchmarks/startup.py [--runs 20]`.

Byte code is compiled first. Calls are interleaved, so that a busy moment of the machine hits all
of them; the minimum of each is compared with the minimum of `python -c pass`. The store holds
machines with nothing due, the market a snapshot that is fresh: nobody is asked anything. Last the
first command of a new user is timed: the sandbox is started and answers with its first offers.
"""

from __future__ import annotations

import argparse
import compileall
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

import msgspec

import gpubroker
from gpubroker.catalog.shipped import shipped_offers
from gpubroker.market.book import Segment, cheapest_first
from gpubroker.market.coverage import Answer
from gpubroker.market.pricing import wanted_disk_gb
from gpubroker.market.snapshots import Snapshots
from gpubroker.model.home import Home
from gpubroker.model.identity import new_attempt_id
from gpubroker.model.offer import Offer
from gpubroker.model.query import Query
from gpubroker.model.terms import Source
from gpubroker.providers.registry import PUBLIC_PRICES
from gpubroker.store.opened import open_store

ROUNDS, FIRST_STARTS, MACHINES, OFFERS = 20, 3, 5, 1000
CALLS: dict[str, list[str]] = {
    "--help": ["--help"],
    "ps": ["ps"],
    "ps --json": ["ps", "--json"],
    "offers (cached)": ["offers", "--cached", "--gpu", "4090"],
    "offers (fresh)": ["offers", "--gpu", "4090"],
}
"""What is called; `fresh` is the usual mode, with a snapshot that is not due yet."""
LIMITS = {"--help": 5.0, "ps": 8.0, "offers (cached)": 8.0, "offers (fresh)": 8.0}
MOST_FIRST_S = 2.0
BARE = "python -c pass"
KEY = {"VAST_API_KEY": "no-key-and-never-sent"}


def seconds(command: list[str], environ: dict[str, str]) -> float:
    """One call, from start to exit."""
    began = time.perf_counter()
    subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return time.perf_counter() - began


def gpubroker_command(*argv: str) -> list[str]:
    return [sys.executable, "-m", "gpubroker", *argv]


def stored_offers() -> tuple[Offer, ...]:
    """The shipped rows over and over, each an offer of its own."""
    now, rows = datetime.now(UTC), shipped_offers("vast_ai")
    return tuple(
        msgspec.structs.replace(row, key=str(number), source=Source.LIVE, fetched_at=now)
        for number, row in zip(range(OFFERS), cycle(rows), strict=False)
    )


def store_market(home: Home, offers: tuple[Offer, ...]) -> None:
    """A snapshot as a refresh leaves it: answered now, so that nothing is asked."""
    answer = Answer(None, datetime.now(UTC), complete=True)
    for name in PUBLIC_PRICES:
        held = cheapest_first(offers) if name == "vast_ai" else ()
        Snapshots(home, "live").save(Segment(name, held, (answer,)))


def store_machines(home: Home, offers: tuple[Offer, ...]) -> None:
    """Machines that run and of which nothing is due."""
    store, now = open_store(home.live_store, "live"), time.time()
    for number, offer in enumerate(offers[:MACHINES]):
        launch, attempt = f"l-{number:012}", new_attempt_id()
        price = offer.price.hourly(wanted_disk_gb(Query()))
        lease = store.add_launch(
            {
                "id": launch,
                "name": f"machine-{number}",
                "wanted": "running",
                "spec": b"",
                "image": "ubuntu",
                "disk_gb": 20.0,
                "candidates": "[]",
                "tolerance": 0.0,
                "created_at": now,
                "expires_at": now + 86400,
            },
            {
                "id": attempt,
                "seq": 1,
                "provider": offer.provider,
                "account": offer.account,
                "offer": msgspec.json.encode(offer).decode(),
                "price": price,
                "price_stopped": 0,
                "status": "intent",
                "wanted": "running",
                "created_at": now,
                "expiry": "controller_only",
                "phase": "allocating",
                "phase_since": now,
            },
            now,
        )
        with store.fenced(lease, now) as write:
            write.attempt(attempt, status="made", phase="ready", ref_id=f"{number}", ready_at=now)
            write.meter(attempt, price, now)
        store.release(lease)
    store.close()


def measure(rounds: int, home: Home, environ: dict[str, str]) -> dict[str, float]:
    """Minimum seconds of each call."""
    commands = {BARE: [sys.executable, "-c", "pass"]}
    commands |= {name: gpubroker_command(*argv) for name, argv in CALLS.items()}
    offers = stored_offers()
    store_machines(home, offers)
    best: dict[str, float] = {}
    for turn in range(rounds + 1):
        store_market(home, offers)
        for name, command in commands.items():
            took = seconds(command, environ)
            if turn:  # the first warms the file cache
                best[name] = min(took, best.get(name, float("inf")))
    return best


def first_offer(environ: dict[str, str]) -> float:
    """Seconds from nothing at all to the sandbox's first offers."""
    with tempfile.TemporaryDirectory() as home:
        own = environ | {"GPUBROKER_HOME": home}
        took = seconds(gpubroker_command("offers", "--sandbox", "--gpu", "4090"), own)
        seconds(gpubroker_command("sandbox", "stop"), own)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=ROUNDS)
    rounds = parser.parse_args().runs
    for folder in (Path(gpubroker.__file__).parent, sysconfig.get_paths()["purelib"]):
        compileall.compile_dir(str(folder), quiet=2, workers=0)
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with tempfile.TemporaryDirectory() as folder:
        best = measure(rounds, Home(Path(folder)), environ | KEY | {"GPUBROKER_HOME": folder})
    bare = best.pop(BARE)
    print(f"{BARE:<18} {bare * 1000:7.1f} ms   minimum of {rounds}")
    for name, took in best.items():
        limit = f"   at most {LIMITS[name]:g} x" if name in LIMITS else ""
        print(f"{name:<18} {took * 1000:7.1f} ms   {took / bare:5.2f} x{limit}")
    first = min(first_offer(environ) for _ in range(FIRST_STARTS))
    least = f"minimum of {FIRST_STARTS}"
    print(f"first sandbox offer {first:6.2f} s   {least}   at most {MOST_FIRST_S:g} s")


if __name__ == "__main__":
    main()
