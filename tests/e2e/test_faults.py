"""Every fault that the sandbox knows, at every call of a machine's life: nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from gpubroker import Broker, LaunchRequest, Market, Query, wanted
from gpubroker.fleet.errors import NothingToBeHad
from gpubroker.model.errors import AuthFailed, BrokerError, OutOfFunds
from gpubroker.model.home import Home
from gpubroker.model.terms import State

SPEED = 50
"""Minutes of patience in seconds: the sandbox's time runs that fast, and the broker's with it.

Slow enough that a machine still has ten real seconds for SSH to answer. `stuck_pending` would take
an hour of it: tests/fleet has it on a clock of its own.
"""

CALLS = ("rate_limit", "server_error", "disconnect_before", "disconnect_after", "garbage")
KEYS = ("bad_credentials", "not_found_for_bad_key")
CASES: dict[str, tuple[str, ...]] = {
    "offers": (*CALLS, "bad_credentials", "slow"),
    "create": (
        *CALLS, *KEYS, "slow", "no_capacity", "quota", "boot_failure",
        "ssh_refused", "wrong_gpu", "price_changed", "ignored_field", "list_lag",
    ),
    "get": (*CALLS, *KEYS, "slow", "other_account"),
    "list": (
        *CALLS, "bad_credentials", "duplicate_list", "list_partial", "page_cursor_expired",
        "other_account",
    ),
    "terminate": (*CALLS, *KEYS, "terminate_ignored"),
}  # fmt: skip


class FastSandbox:
    """One sandbox in the foreground for all cases, and a broker's home beside it."""

    def __init__(self, folder: Path) -> None:
        self.environ = {**os.environ, "HOME": str(folder), "GPUBROKER_HOME": str(folder / "state")}
        self.home = Home(folder / "state")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpubroker", "--json", "sandbox", "--port", "0",
             "--speed", str(SPEED)],
            env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.url = json.loads(self._process.stdout.readline())["base_url"]

    def control(self, path: str, body: Any = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(self.url + path, data, method=method), timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def billed(self) -> list[Any]:
        return [one for one in self.control("/_sandbox/machines") if one["billed"]]

    def broker(self) -> Broker:
        return Broker(home=self.home, environ=self.environ, sandbox=self.url)

    def close(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastSandbox]:
    sandbox = FastSandbox(tmp_path_factory.mktemp("fast"))
    yield sandbox
    sandbox.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operation", "kind"), [(operation, kind) for operation in CASES for kind in CASES[operation]]
)
async def test_a_life_with_a_fault_in_it_leaves_no_machine_behind(
    fast: FastSandbox, operation: str, kind: str
) -> None:
    name = f"{operation}-{kind}".replace("_", "-")
    fault = {"provider": "vast_ai", "operation": operation, "kind": kind, "times": 2, "delay_s": 1}
    fast.control("/_sandbox/faults", fault)
    refusals: list[type[BrokerError]] = []
    if operation == "create":
        refusals.append(NothingToBeHad)
    if kind in {*KEYS, "quota"}:
        refusals += [AuthFailed, OutOfFunds]
    try:
        with contextlib.suppress(*refusals):
            await _life(fast, name)
    finally:
        fast.control("/_sandbox/faults", method="DELETE")
    await _next_command(fast)
    assert fast.billed() == []


async def _life(fast: FastSandbox, name: str) -> None:
    query = Query(gpus=(wanted("RTX 4090"),), market=Market.ON_DEMAND)
    async with fast.broker() as broker:
        machine = await broker.launch(LaunchRequest(query=query, name=name))
        assert machine.state is State.RUNNING
        assert [one["state"] for one in fast.billed()].count("running") == 1
        await broker.terminate(name)


async def _next_command(fast: FastSandbox) -> None:
    """What was begun is gone on with, once the fault is over."""
    for _ in range(20):
        async with fast.broker() as broker:
            await broker.settle()
            for machine in broker.machines():
                try:
                    await broker.terminate(machine.name)
                except BrokerError:
                    continue  # the circuit is still open; the next one tries again
            if not broker.machines():
                return
    pytest.fail("a machine is still recorded")
