"""The engine: life of machines, money, market, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpubroker.model.money import Nanos, cost, nanos
from gpubroker.model.terms import Market, State
from gpubroker.sandbox.books import BAD_KEY
from gpubroker.sandbox.clock import SandboxClock
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.faults import Fault, Kind
from gpubroker.sandbox.processes import CLOSED_PORT
from gpubroker.sandbox.rented import Machine, Order
from gpubroker.sandbox.stock import Push, shipped_facts, shipped_slots
from gpubroker.sandbox.storage import Storage

if TYPE_CHECKING:
    from tests.sandbox.conftest import Wall
    from tests.sandbox.fake_host import FakeHost

T0 = 1_800_000_000.0
SLOT = "s000"


class Bench:
    """A cloud on a still wall clock, opened again and again on one folder."""

    def __init__(self, folder: Path, wall: Wall, host: FakeHost) -> None:
        self.folder, self.wall, self.host = folder, wall, host
        self.clock = SandboxClock(wall=wall)
        self.opened: list[Storage] = []
        self.cloud = self.open()

    def open(self, **more: object) -> Cloud:
        facts = shipped_facts("vast_ai")
        self.opened.append(Storage(self.folder))
        return Cloud(
            "vast_ai",
            facts,
            shipped_slots(facts),
            storage=self.opened[-1],
            clock=self.clock,
            host=self.host,
            **more,  # type: ignore[arg-type]  # one test's single option
        )

    async def restart(self) -> None:
        self.cloud.commit()
        self.host.running.clear()
        self.cloud = self.open()
        await self.cloud.resume()

    async def after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.cloud.settle()

    def state(self, machine: Machine) -> State:
        """Read anew: it changes behind the type checker's back."""
        return machine.state

    def rent(self, **order: object) -> Machine:
        wanted = Order(slot=SLOT, disk_gb=50, **order)  # type: ignore[arg-type]  # checked by Order
        return self.cloud.create("acct-me", wanted, number_from=100)

    def fault(self, operation: str, kind: Kind, **more: object) -> None:
        fault = Fault(id="f", provider="vast_ai", operation=operation, kind=kind, **more)  # type: ignore[arg-type]  # checked by Fault
        self.cloud.faults.active.append(fault)


@pytest.fixture
def bench(tmp_path: Path, wall: Wall, make_host: Callable[[], FakeHost]) -> Iterator[Bench]:
    bench = Bench(tmp_path / "state", wall, make_host())
    yield bench
    for storage in bench.opened:
        storage.close()


async def test_a_machine_boots_runs_and_ends_and_costs_what_its_rates_say(bench: Bench) -> None:
    machine = bench.rent()
    assert (bench.state(machine), bench.host.calls) == (State.PENDING, [])
    await bench.after(1.0)
    assert bench.state(machine) == State.PENDING
    await bench.after(0.5)
    assert bench.state(machine) == State.RUNNING
    assert machine.ssh_port
    assert list(bench.host.running) == [machine.id]
    await bench.after(7200)
    await bench.cloud.terminate(machine)
    assert (bench.state(machine), machine.billed) == (State.TERMINATED, False)
    assert bench.host.running == {}
    await bench.after(9999)
    ran, lived = int(T0 + 7201.5) - int(T0 + 1.5), int(T0 + 7201.5) - int(T0)
    expected = cost(machine.gpu_rate, ran) + cost(machine.disk_rate, lived)
    assert machine.ledger.cost(bench.clock.now()) == expected


async def test_boot_is_billed_from_its_due_moment_however_late_it_is_seen(bench: Bench) -> None:
    machine = bench.rent()
    await bench.after(3600)
    gpu = next(line for line in machine.ledger.lines if line.component == "gpu")
    assert gpu.start == int(T0 + 1.5)


async def test_a_stopped_machine_frees_its_slot_and_pays_dearer_disk(bench: Bench) -> None:
    machine = bench.rent()
    slot = bench.cloud.slot(machine)
    number = bench.cloud.listing(slot, 1)
    assert not bench.cloud.stock.free(slot)
    await bench.after(10)
    await bench.cloud.stop(machine)
    assert bench.cloud.stock.free(slot)
    assert bench.cloud.listing(slot, 1) != number
    assert [line.component for line in machine.ledger.running] == ["disk_stopped"]
    assert machine.disk_rate_stopped == round(slot.disk_gb_month * 50 * 1.25 / 720)
    assert machine.disk_rate == round(slot.disk_gb_month * 50 / 720)


async def test_a_start_fails_while_somebody_else_has_the_gpu(bench: Bench) -> None:
    machine = bench.rent()
    await bench.after(10)
    await bench.cloud.stop(machine)
    rival = bench.cloud.create("acct-rival", Order(slot=SLOT))
    with pytest.raises(NoSlot):
        bench.cloud.start(machine)
    await bench.cloud.terminate(rival)
    bench.cloud.start(machine)
    await bench.after(2)
    assert bench.state(machine) == State.RUNNING


async def test_one_slot_is_rented_once(bench: Bench) -> None:
    bench.rent()
    with pytest.raises(NoSlot):
        bench.rent()


async def test_an_outbid_machine_is_taken_away_and_comes_back(bench: Bench) -> None:
    machine = bench.rent(market=Market.SPOT, bid=nanos("0.30"))
    await bench.after(10)
    bench.cloud.stock.pushes["RTX 4090"] = Push(price_factor=3.0)
    await bench.cloud.check_market(bench.clock.now())
    assert bench.state(machine) == State.PREEMPTED
    assert [line.component for line in machine.ledger.running] == ["disk_stopped"]
    bench.cloud.stock.pushes.clear()
    await bench.cloud.check_market(bench.clock.now())
    await bench.after(2)
    assert bench.state(machine) == State.RUNNING


async def test_a_bid_at_the_floor_loses_at_a_market_step_when_the_floor_rises(bench: Bench) -> None:
    slot = bench.cloud.stock.slots[SLOT]
    now = bench.clock.now()
    floor = bench.cloud.stock.floor(slot, now)
    step = now
    for _ in range(200):
        step = bench.cloud.stock.next_step(slot, step)
        if (bench.cloud.stock.floor(slot, step) or 0) > (floor or 0):
            break
    machine = bench.rent(market=Market.SPOT, bid=floor)
    await bench.after(step - now + 100)
    gpu = [line for line in machine.ledger.lines if line.component == "gpu"]
    assert gpu[-1].end == int(step)
    assert machine.reason == "outbid"


async def test_a_higher_bid_is_charged_from_then_on(bench: Bench) -> None:
    machine = bench.rent(market=Market.SPOT, bid=nanos("0.30"))
    await bench.after(100)
    await bench.cloud.bid(machine, nanos("0.35"))
    rates = [line.rate for line in machine.ledger.lines if line.component == "gpu"]
    assert rates == [nanos("0.30"), nanos("0.35")]


async def test_an_account_without_credit_has_its_machines_stopped(bench: Bench) -> None:
    machine = bench.cloud.create("acct-me", Order(slot="s063"))
    await bench.after(86_400)
    assert bench.state(machine) == State.RUNNING
    await bench.after(86_400 * 300)
    assert (bench.state(machine), machine.reason) == (State.STOPPED, "no credit")


async def test_everything_comes_back_after_a_restart(bench: Bench) -> None:
    running, ended = (
        bench.rent(keys=("ssh-ed25519 AAAA me",)),
        bench.cloud.create("acct-me", Order(slot="s001")),
    )
    await bench.after(10)
    await bench.cloud.terminate(ended)
    bench.fault("list", "list_lag", delay_s=3.0)
    bench.cloud.save_faults()
    port, key, spent = running.ssh_port, running.host_key, bench.cloud.credit("acct-me")
    await bench.restart()
    again = bench.cloud.machines[running.id]
    assert (again.ssh_port, again.host_key, again.state) == (port, key, State.RUNNING)
    assert bench.host.running[running.id].ssh_port == port
    assert bench.host.running[running.id].keys == ("ssh-ed25519 AAAA me",)
    assert bench.cloud.machines[ended.id].state == State.TERMINATED
    assert ended.id not in bench.host.running
    assert bench.cloud.credit("acct-me") == spent
    assert [fault.kind for fault in bench.cloud.faults.active] == ["list_lag"]


async def test_what_was_not_committed_is_not_there_after_a_crash(bench: Bench) -> None:
    bench.rent()
    again = bench.open()
    assert again.machines == {}
    bench.cloud.commit()
    assert len(bench.open().machines) == 1


async def test_a_machine_without_a_process_has_failed_and_pays_no_gpu(bench: Bench) -> None:
    bench.host.broken = True
    machine = bench.rent()
    await bench.after(60)
    assert (bench.state(machine), machine.reason) == (State.FAILED, "no process can be made")
    assert [line.component for line in machine.ledger.running] == ["disk"]


async def test_a_reboot_is_paid_for_and_a_recycle_starts_from_an_empty_folder(bench: Bench) -> None:
    machine = bench.rent()
    await bench.after(10)
    for wipe, how in ((False, "stop"), (True, "remove")):
        bench.host.calls.clear()
        bench.cloud.reboot(machine, wipe=wipe)
        assert bench.state(machine) == State.PENDING
        await bench.after(5)
        assert bench.state(machine) == State.RUNNING
        assert bench.host.calls == [(how, machine.id), ("start", machine.id)]
    assert [line.component for line in machine.ledger.lines] == ["disk", "gpu"]


@pytest.mark.parametrize(
    ("kind", "state", "reason"),
    [
        ("boot_failure", State.FAILED, "the container could not be created"),
        ("stuck_pending", State.PENDING, ""),
    ],
)
async def test_a_machine_born_with_trouble_never_runs(
    bench: Bench, kind: Kind, state: State, reason: str
) -> None:
    bench.fault("create", kind, times=1)
    machine = bench.rent()
    await bench.after(86_400)
    assert (bench.state(machine), machine.reason) == (state, reason)
    other = bench.cloud.create("acct-me", Order(slot="s001"))
    await bench.after(5)
    assert other.state == State.RUNNING


async def test_refused_ssh_answers_at_a_closed_port_and_wrong_gpus_are_really_others(
    bench: Bench,
) -> None:
    bench.fault("create", "ssh_refused", times=1)
    bench.fault("create", "wrong_gpu", times=1)
    bench.fault("create", "price_changed", times=1)
    machine = bench.rent()
    await bench.after(5)
    assert machine.ssh_port == CLOSED_PORT
    assert bench.host.running[machine.id].gpu_tool_name != "NVIDIA GeForce RTX 4090"
    slot = bench.cloud.slot(machine)
    assert machine.gpu_rate == Nanos(round(bench.cloud.stock.price(slot, T0) * 1.5))


async def test_an_ignored_terminate_keeps_billing(bench: Bench) -> None:
    machine = bench.rent()
    await bench.after(5)
    bench.fault("terminate", "terminate_ignored", times=1)
    await bench.cloud.terminate(machine)
    assert (bench.state(machine), machine.billed) == (State.RUNNING, True)
    await bench.cloud.terminate(machine)
    assert not machine.billed


async def test_keys_are_accounts_and_in_the_background_only_known_keys_are(bench: Bench) -> None:
    cloud = bench.cloud
    mine, yours = cloud.account("k1"), cloud.account("k2")
    assert mine
    assert yours
    assert mine.name != yours.name
    assert cloud.account("k1") == mine
    assert cloud.account("k1", other=True) not in (mine, yours, None)
    assert cloud.account(BAD_KEY) is None
    assert cloud.account("not well formed") is None
    strict = bench.open(accepted_keys=frozenset({"k1"}))
    assert strict.account("k1")
    assert strict.account("k2") is None
    assert b"k1" not in (bench.folder / "clouds.db").read_bytes()


async def test_a_reset_leaves_nothing_and_gives_no_number_twice(bench: Bench) -> None:
    machine = bench.rent()
    await bench.after(5)
    bench.fault("*", "slow")
    await bench.cloud.reset()
    assert (bench.cloud.machines, bench.cloud.faults.active, bench.host.running) == ({}, [], {})
    assert bench.rent().id != machine.id


async def test_the_state_folder_is_private(bench: Bench) -> None:
    bench.cloud.storage.api_key("vast_ai")
    modes = {path.name: path.stat().st_mode & 0o777 for path in bench.folder.iterdir()}
    assert bench.folder.stat().st_mode & 0o777 == 0o700
    assert modes["clouds.db"] == modes["keys.json"] == 0o600


async def test_a_key_that_comes_while_the_machine_starts_is_let_in(bench: Bench) -> None:
    machine = bench.rent()
    bench.host.may_start.clear()
    bench.clock.advance(60)
    starting = asyncio.create_task(bench.cloud.settle())
    while ("start", machine.id) not in bench.host.calls:
        await asyncio.sleep(0)
    admitting = asyncio.create_task(bench.cloud.admit(machine, ("ssh-ed25519 AAAA late",)))
    await asyncio.sleep(0)
    bench.host.may_start.set()
    await asyncio.gather(starting, admitting)
    assert bench.host.admitted[machine.id] == ("ssh-ed25519 AAAA late",)
