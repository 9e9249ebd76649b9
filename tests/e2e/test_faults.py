"""Every fault that the sandbox knows, at every call of a machine's life: nothing is left behind."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from gpubroker import LaunchRequest, Market, Query, wanted
from gpubroker.fleet.errors import NothingToBeHad
from gpubroker.model.errors import AuthFailed, BrokerError, OutOfFunds
from gpubroker.model.terms import State

if TYPE_CHECKING:
    from tests.e2e.conftest import FastSandbox

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
