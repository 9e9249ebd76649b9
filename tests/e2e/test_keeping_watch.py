"""With nobody at the keyboard: what ends by itself, what a keeper ends, what nothing ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

PATIENCE_S = 60.0
FORETOLD = {
    "vast_ai": "machine_ends_billing",
    "runpod": "machine_ends_billing",
    "lambda_labs": "controller_only",
    "digitalocean": "controller_only",
    "verda": "controller_only",
    "paperspace": "machine_frees_gpu",
}
"""All whose machines have a timer of ours, and some that have none; tests/chaos has the others."""
Person = Any


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "never"
        time.sleep(0.3)


def rented(person: Person, provider: str, *more: str) -> Any:
    words = ("--provider", provider, "--on-demand", "--max-price", "5", "--ttl", "1h")
    return person.json("launch", *words, "--name", provider.replace("_", "-"), *more)


def advance(person: Person, seconds: int) -> None:
    person.control("/_sandbox/clock", {"advance_s": seconds})


def states(person: Person) -> dict[str, str]:
    return {one["provider"]: one["state"] for one in person.billed()}


def test_what_each_cloud_foretold_is_what_is_billed_past_the_expiry(person: Person) -> None:
    for provider, by in FORETOLD.items():
        machine = rented(person, provider)
        assert machine["expiry"] == by
        assert machine["expiry_confirmed"] == (by != "controller_only")
    advance(person, 3700)
    left = {one for one, by in FORETOLD.items() if by in {"controller_only", "machine_frees_gpu"}}
    until(lambda: {one["provider"] for one in person.billed()} == left)
    until(lambda: states(person)["paperspace"] == "stopped")  # its disk alone is billed
    assert person.json("ps")["instances"] == []
    assert person.billed() == []


def test_an_extension_is_confirmed_by_the_machine_and_holds_without_us(person: Person) -> None:
    rented(person, "vast_ai")
    machine = person.json("extend", "vast-ai", "2h")
    assert machine["expiry_confirmed"]
    advance(person, 2 * 3600)
    assert len(person.billed()) == 1
    advance(person, 3700)
    until(lambda: person.billed() == [])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_keeper_ends_what_nothing_else_would_and_stops_when_told(person: Person) -> None:
    machine = rented(person, "lambda_labs", "--idle", "30m")
    assert machine["idle"]["ends_after_s"] == 1800
    keeper = subprocess.Popen(
        [sys.executable, "-m", "gpubroker", "--sandbox", "keeper", "run"],
        env=person.environ,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: _runs(person))
        until(lambda: _idle_word(person) == "idle")
        advance(person, 3700)
        until(lambda: person.billed() == [])
    finally:
        keeper.send_signal(signal.SIGTERM)
        told = keeper.communicate(timeout=PATIENCE_S)[1]
    assert keeper.returncode == 0, told
    assert "Stopped. What was begun is recorded." in told
    assert not _runs(person)


def _runs(person: Person) -> bool:
    ran = person.run("--json", "--sandbox", "keeper", "status", code=None)
    return bool(json.loads(ran.stdout)["running_on"])


def _idle_word(person: Person) -> str:
    [machine] = person.json("ps")["instances"]
    word: str = machine["idle"]["word"]
    return word
