"""Each fault of the sandbox at each operation of each cloud: what comes of it, and no leak."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from msgspec import Struct

from gpubroker.model.errors import BrokerError
from gpubroker.providers import http
from gpubroker.providers.registry import ready
from gpubroker.sandbox.app import Sandbox
from gpubroker.sandbox.faults import APPLIES_TO, KINDS, Fault, Kind, Operation
from gpubroker.testing.chaos.tenants import SandboxTenant, at_rest, ended, life, of_attempts
from gpubroker.testing.chaos.times import SharedClock
from gpubroker.testing.chaos.worlds import World, books, sandbox_world

OPERATIONS: tuple[Operation, ...] = ("offers", "create", "get", "list", "terminate")
CASES = [
    (operation, kind)
    for kind in KINDS
    for operation in OPERATIONS
    if operation in APPLIES_TO.get(kind, OPERATIONS)
]
NEVER_ANSWERED_S = 0.3
"""So long a call waits under `timeout`, in place of a real minute."""
COMMANDS = 12
PAUSE_S = 3600.0


class Row(Struct, kw_only=True):
    """What one fault came to."""

    operation: str
    kind: str
    outcome: str = "ready"
    """Or the word of what the launch or its end was refused with."""
    tries: int = 0
    state: str = ""
    """Of the launch at last, by its history."""
    leaks: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    """Machines at an account that the key opened for one call, and that none of ours opens."""


@pytest.mark.slow
@pytest.mark.parametrize("provider", ready())
async def test_no_fault_leaves_anything_behind(tmp_path: Path, provider: str) -> None:
    rows = []
    numbers = count()
    async with sandbox_world(tmp_path / "world", provider) as (world, sandbox):
        for operation, kind in CASES:
            folder = tmp_path / str(next(numbers))
            rows.append(await _case(world, sandbox, folder, operation, kind))
    print(f"\n{provider}\n{_table(rows)}")
    assert [(row.operation, row.kind, row.leaks) for row in rows if row.leaks] == []
    # A create that another account's key was sent with cannot be taken back with ours.
    assert {row.kind for row in rows if row.elsewhere} <= {"other_account"}
    # Most faults cost a try or some time, and not the machine.
    assert sum(row.outcome == "ready" for row in rows) > len(rows) // 2


async def _case(
    world: World, sandbox: Sandbox, folder: Path, operation: Operation, kind: Kind
) -> Row:
    SharedClock(Path(world.time)).advance(PAUSE_S)
    row, faults = Row(operation=operation, kind=kind), sandbox.clouds[world.provider].faults
    deadlines = pytest.MonkeyPatch()
    if kind == "timeout":
        deadlines.setattr(http, "READ_DEADLINE_S", NEVER_ANSWERED_S)
        deadlines.setattr(http, "MUTATION_DEADLINE_S", NEVER_ANSWERED_S)
    fault = Fault(
        id=folder.name,
        provider=world.provider,
        operation=operation,
        kind=kind,
        times=2,
        delay_s=0.2,
    )
    faults.active.append(fault)
    one = SandboxTenant(world, folder, folder / "state.db")
    try:
        await life(one, "m")
    except BrokerError as refusal:
        row.outcome = refusal.word
    finally:
        await one.aclose()
        faults.active.clear()
        deadlines.undo()
    await _next_commands(world, folder)
    one = SandboxTenant(world, folder, folder / "state.db")
    launches = one.store.launches(include_ended=True)
    row.tries = sum(len(one.store.attempts(launch.id)) for launch in launches)
    row.state = ", ".join(launch.error_code or "ended" for launch in launches) or "nothing begun"
    await sandbox.settle()
    there, cloud = books(sandbox), sandbox.clouds[world.provider]
    owned = of_attempts(one.store.owner, there.things)
    row.elsewhere = tuple(
        machine.id
        for machine in cloud.machines.values()
        if not machine.ended and machine.account != sandbox.keys[world.provider]
    )
    row.leaks = tuple({*there.billed, *there.exist, *owned} - {*row.elsewhere})
    await one.aclose()
    # Every store is another owner with a key of its own, of which some accounts take few.
    await cloud.reset()
    return row


async def _next_commands(world: World, folder: Path) -> None:
    """What was begun is gone on with once the fault is over, and ended."""
    for _ in range(COMMANDS):
        one = SandboxTenant(world, folder, folder / "state.db")
        try:
            await at_rest(one)
            await ended(one)
            if not one.store.names():
                return
        except BrokerError:
            # A circuit that is still open: the next command tries again.
            await one.clock.sleep(PAUSE_S)
        finally:
            await one.aclose()
    pytest.fail("a machine is still recorded")


def _table(rows: list[Row]) -> str:
    head = f"{'operation':10} {'fault':22} {'outcome':18} tries  {'final state':16} leaks"
    return "\n".join(
        [head]
        + [
            f"{row.operation:10} {row.kind:22} {row.outcome:18} {row.tries:5}  {row.state:16} "
            f"{len(row.leaks):5}{'  elsewhere: ' * bool(row.elsewhere)}{', '.join(row.elsewhere)}"
            for row in rows
        ]
    )
