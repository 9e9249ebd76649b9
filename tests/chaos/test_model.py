"""Whatever happens in whatever order at a sandbox's cloud: at rest is billed what is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from gpubroker.model.errors import BrokerError
from gpubroker.sandbox.faults import APPLIES_TO, Fault, Kind, Operation
from gpubroker.testing.chaos.tenants import SandboxTenant, at_rest, ended, standing, wrong
from gpubroker.testing.chaos.times import SharedClock
from gpubroker.testing.chaos.worlds import books, sandbox_world
from gpubroker.testing.fake_cloud import Crashed

KINDS: tuple[Kind, ...] = (
    "rate_limit", "server_error", "disconnect_before", "disconnect_after", "garbage",
    "no_capacity", "boot_failure", "list_lag", "list_partial", "duplicate_list",
    "terminate_ignored", "price_changed",
)  # fmt: skip
OPERATIONS: tuple[Operation, ...] = ("create", "get", "list", "terminate")
names = st.sampled_from(["a", "b"])


class Tenants(RuleBasedStateMachine):
    """One store at one cloud, driven by processes that may die."""

    provider: str

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._home = Path(self._folder.name)
        self._loop = asyncio.new_event_loop()
        self._stack = contextlib.AsyncExitStack()
        self._world, self._sandbox = self._loop.run_until_complete(
            self._stack.enter_async_context(sandbox_world(self._home / "world", self.provider))
        )
        self._crash: int | None = None

    def _boundary(self, boundary: str) -> None:
        if self._crash is not None:
            self._crash -= 1
            if self._crash < 0:
                self._crash = None
                raise Crashed(boundary)

    def _does(self, act: Callable[[SandboxTenant], Coroutine[Any, Any, Any]]) -> None:
        async def command() -> None:
            one = SandboxTenant(
                self._world, self._home / "home", self._home / "state.db", self._boundary
            )
            try:
                with contextlib.suppress(Crashed, BrokerError):
                    await act(one)
            finally:
                await one.aclose()

        self._loop.run_until_complete(command())
        self._crash = None

    @rule(name=names, crash=st.none() | st.integers(0, 14))
    def launch(self, name: str, crash: int | None) -> None:
        self._crash = crash
        self._does(lambda one: one.launch(name))

    @rule(name=names, crash=st.none() | st.integers(0, 8))
    def terminate(self, name: str, crash: int | None) -> None:
        self._crash = crash
        self._does(lambda one: one.terminate(name))

    @rule(seconds=st.sampled_from([10.0, 300.0, 7200.0]))
    def time_passes(self, seconds: float) -> None:
        SharedClock(Path(self._world.time)).advance(seconds)

    @rule(operation=st.sampled_from(OPERATIONS), kind=st.sampled_from(KINDS))
    def goes_wrong(self, operation: Operation, kind: Kind) -> None:
        if operation in APPLIES_TO.get(kind, OPERATIONS):
            cloud = self._sandbox.clouds[self.provider]
            fault = Fault(
                id=f"f-{cloud.number('fault')}",
                provider=self.provider,
                operation=operation,
                kind=kind,
                times=2,
                delay_s=30,
            )
            cloud.faults.active.append(fault)

    @rule()
    def sweep(self) -> None:
        self._does(lambda one: one.fleet.sweep(fix=True, owner=None))

    @rule()
    def next_command(self) -> None:
        self._does(lambda one: one.fleet.settle())

    def teardown(self) -> None:
        try:
            self._sandbox.clouds[self.provider].faults.active.clear()
            # Circuits that opened are closed again.
            SharedClock(Path(self._world.time)).advance(3600)
            self._loop.run_until_complete(self._comes_to_rest())
        finally:
            self._loop.run_until_complete(self._stack.aclose())
            self._loop.close()
            self._folder.cleanup()

    async def _comes_to_rest(self) -> None:
        one = SandboxTenant(self._world, self._home / "home", self._home / "state.db")
        try:
            await at_rest(one)
            # A launch may have failed by a fault, and is over then: what is billed must be wanted.
            assert _leaks(one, self._sandbox) == []
            await ended(one)
            await at_rest(one)
            assert books(self._sandbox).billed == ()
        finally:
            await one.aclose()


def _leaks(one: SandboxTenant, sandbox: Any) -> list[str]:
    there = books(sandbox)
    problems = wrong(standing(one, there), there)
    return [problem for problem in problems if not problem.startswith("did not reach")]


@pytest.mark.slow
@pytest.mark.parametrize("provider", ["vast_ai", "lambda_labs"])
def test_a_tenant_of_a_real_clouds_emulator(provider: str) -> None:
    """Hypothesis looks for an order of events that leaves something behind."""
    kind = type("Here", (Tenants,), {"provider": provider})
    run_state_machine_as_test(
        kind,
        settings=settings(
            max_examples=8,
            stateful_step_count=10,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
