"""One cloud: its customers, machines, stock and books, driven by sandbox time.

An emulator translates a vendor's requests into calls of this class and this class's state into
the vendor's answers. Changes of state are immediate and synchronous; only what concerns the
process behind a machine is awaited. `settle` makes happen what time has brought.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from operator import itemgetter
from pathlib import Path

from msgspec.structs import replace

from gpubroker.model.money import Nanos
from gpubroker.model.terms import State
from gpubroker.sandbox.books import Books
from gpubroker.sandbox.clock import SandboxClock
from gpubroker.sandbox.faults import Kind
from gpubroker.sandbox.host import MachineHost
from gpubroker.sandbox.money import Component, Ledger
from gpubroker.sandbox.processes import Processes
from gpubroker.sandbox.rented import Machine, Order
from gpubroker.sandbox.stock import CloudFacts, Slot
from gpubroker.sandbox.storage import Storage

PRICE_CHANGED_FACTOR = 1.5
BOOT_TROUBLE: tuple[Kind, ...] = ("boot_failure", "stuck_pending", "ssh_refused", "wrong_gpu")
"""Faults that a machine is born with."""

_log = logging.getLogger(__name__)


class NoSlot(Exception):
    """The slot is taken, or its market is empty."""


class Cloud(Books):
    """The records, and what makes them change. `wake` tells that something is due sooner."""

    def __init__(
        self,
        provider: str,
        facts: CloudFacts,
        slots: Iterable[Slot],
        *,
        storage: Storage,
        clock: SandboxClock,
        host: MachineHost,
        seed: int = 0,
        accepted_keys: frozenset[str] | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            provider,
            facts,
            slots,
            storage=storage,
            clock=clock,
            seed=seed,
            accepted_keys=accepted_keys,
        )
        self._processes = Processes(provider, host, storage.folder / "machines", facts)
        self._wake = wake
        self._settling = asyncio.Lock()

    # --- what customers do ----------------------------------------------------------------

    def create(
        self,
        account: str,
        order: Order,
        *,
        number_from: int = 1,
        named: Callable[[int], str] = str,
    ) -> Machine:
        """A new machine, pending, or stopped where the order says so; `named` makes ids of numbers.

        Raises NoSlot where the slot cannot be had and the machine is to start.
        """
        now = self.clock.now()
        slot = self.stock.slots[order.slot]
        if order.start and not self.stock.free(slot):
            raise NoSlot(slot.key)
        gpu_rate = order.bid if order.bid is not None else self.stock.price(slot, now)
        if self.faults.take("create", "price_changed"):
            gpu_rate = Nanos(round(gpu_rate * PRICE_CHANGED_FACTOR))
        trouble = tuple(kind for kind in BOOT_TROUBLE if self.faults.take("create", kind))
        lag = self.faults.take("create", "list_lag")
        kept_gb = order.disk_gb if order.kept_disk_gb is None else order.kept_disk_gb
        machine = Machine(
            provider=self.provider,
            id=named(self.number("machine", number_from)),
            account=account,
            order=order,
            label=order.label,
            gpu=self._another_gpu(slot.gpu) if "wrong_gpu" in trouble else slot.gpu,
            gpu_rate=gpu_rate,
            disk_rate=self.facts.disk_rate(slot, order.disk_gb),
            disk_rate_stopped=self.facts.disk_rate(slot, kept_gb, stopped=True),
            created_at=now,
            stops_at=order.stops_at,
            ends_at=order.ends_at,
            state=State.STOPPED,
            trouble=trouble,
            hidden_until=now + lag.delay_s if lag else 0.0,
            keys=order.keys,
            market_at=now,
            ledger=Ledger(),
            wire=dict(order.wire),
        )
        self.machines[machine.id] = machine
        if order.start:
            self._begin_boot(machine, now)
        else:
            self.relist(machine.order.slot)
        machine.ledger.open(*self._disk_line(machine), now)
        self.save(machine)
        self._wake()
        return machine

    async def stop(self, machine: Machine) -> None:
        """Frees the GPU, keeps the disk."""
        if machine.state in (State.PENDING, State.RUNNING, State.FAILED, State.PREEMPTED):
            self._off(machine, State.STOPPED, "", self.clock.now())
            await self._align(machine)

    def start(self, machine: Machine, *, wipe: bool = False) -> None:
        """Raises NoSlot where the GPU was taken meanwhile; `wipe` starts from an empty folder."""
        if not (machine.exited or machine.state in (State.STOPPED, State.PREEMPTED)):
            return
        slot = self.slot(machine)
        if not (machine.holds_slot or self.stock.free(slot)):
            raise NoSlot(slot.key)
        now = self.clock.now()
        machine.wipe = machine.wipe or wipe
        self._begin_boot(machine, now)
        if not machine.order.keeps_gpu:
            machine.ledger.close(now)
        self._charge_disk(machine, now)
        self.save(machine)

    def reboot(self, machine: Machine, *, wipe: bool = False) -> None:
        """Stops and starts it without losing the GPU; `wipe` makes it anew from its image."""
        if machine.state == State.RUNNING or machine.exited:
            had_ended = machine.exited
            machine.booting_again, machine.wipe = True, wipe
            self._begin_boot(machine, self.clock.now())
            if had_ended:
                self._charge_disk(machine, self.clock.now())
            self.save(machine)

    def resize_disk(self, machine: Machine, *, gb: float, kept_gb: float) -> None:
        """Another size, charged from now on; `kept_gb` as `Order.kept_disk_gb`."""
        slot, now = self.slot(machine), self.clock.now()
        machine.order = replace(machine.order, disk_gb=gb, kept_disk_gb=kept_gb)
        machine.disk_rate = self.facts.disk_rate(slot, gb)
        machine.disk_rate_stopped = self.facts.disk_rate(slot, kept_gb, stopped=True)
        self._charge_disk(machine, now)
        self.save(machine)

    async def terminate(self, machine: Machine) -> None:
        """Ends it for good. Idempotent."""
        if machine.ended:
            return
        if self.faults.take("terminate", "terminate_ignored"):
            return
        await self._end(machine, "", self.clock.now())

    async def end_from_inside(self, machine: Machine, reason: str) -> None:
        """It ended by itself: it keeps its GPU, a container's unpaid, and its disk, paid.

        Of a disk that does not outlive a stop nothing is left, and nothing paid, here too. Where
        that frees the GPU it is stopped, and that is all.
        """
        if machine.state != State.RUNNING:
            return
        if machine.order.off_frees_gpu:
            await self.stop(machine)
            self.commit()
            return
        machine.state, machine.reason, machine.exited = State.FAILED, reason, True
        machine.running_since = None
        if not machine.order.is_vm:
            machine.ledger.close(self.clock.now(), "gpu")
            self._charge_disk(machine, self.clock.now())
        self.save(machine)
        await self._align(machine)
        self.commit()

    async def power_on_again(self, machine: Machine) -> None:
        """It rebooted itself: where it answers may have changed."""
        await self._align(machine)
        self.commit()

    async def preempt(self, machine: Machine) -> None:
        """Takes a spot machine away: stopped, its disk kept. It may win again later."""
        self._preempt(machine, self.clock.now())
        await self._align(machine)

    async def admit(self, machine: Machine, keys: tuple[str, ...]) -> None:
        """Exactly these keys from now on."""
        machine.keys = keys
        self.save(machine)
        if machine.state == State.RUNNING:
            await self._processes.admit(machine)

    async def bid(self, machine: Machine, price: Nanos) -> None:
        """A spot machine's new bid; it takes effect at once."""
        now = self.clock.now()
        machine.gpu_rate = price
        if machine.ledger.rate and machine.state == State.RUNNING:
            machine.ledger.open("gpu", price, now)
        self.save(machine)
        await self.check_market(now)

    # --- what time does -------------------------------------------------------------------

    def next_due(self) -> float | None:
        """When something happens by itself next, in sandbox time."""
        dues = [m.due_at for m in self.machines.values() if m.due_at is not None]
        dues += [m.timer for m in self.machines.values() if m.timer is not None]
        if spots := self._spots():
            dues.append(self._next_step(spots))
        return min(dues, default=None)

    async def settle(self) -> None:
        """Makes happen, in order, all that was due by now: boots, preemptions, empty pockets."""
        async with self._settling:
            now = self.clock.now()
            while events := [event for event in self._events() if event[0] <= now]:
                at, happen = min(events, key=itemgetter(0))
                await happen(at)
            await self._stop_the_penniless(now)
            self.commit()

    def _events(self) -> list[tuple[float, Callable[[float], Awaitable[None]]]]:
        """What happens by itself, and when; of things due at once the earlier in the list first."""
        events: list[tuple[float, Callable[[float], Awaitable[None]]]] = []
        machines = tuple(self.machines.values())
        events += [(m.due_at, partial(self._boot, m)) for m in machines if m.due_at is not None]
        events += [(m.timer, partial(self._go_off, m)) for m in machines if m.timer is not None]
        if spots := self._spots():
            events.append((self._next_step(spots), self.check_market))
        return events

    async def _go_off(self, machine: Machine, at: float) -> None:
        """One of its timers."""
        if machine.ends_at is not None and machine.ends_at <= at:
            await self._end(machine, "its time was over", at)
            return
        machine.stops_at = None
        if machine.holds_slot:
            self._off(machine, State.STOPPED, "its time was over", at)
            await self._align(machine)
        self.save(machine)

    async def _end(self, machine: Machine, reason: str, at: float) -> None:
        self._off(machine, State.TERMINATED, reason, at)
        machine.ledger.close(at)
        machine.ended_at = at
        self.save(machine)
        self._end_its_things(machine, at)
        await self._align(machine)

    def _end_its_things(self, machine: Machine, at: float) -> None:
        for thing in self.things.values():
            if thing.ends_with == machine.id and thing.ended_at is None:
                self.end_thing(thing, at)

    async def check_market(self, at: float) -> None:
        """Spot machines whose bid no longer wins are taken away; those that win again boot."""
        for machine in self._spots():
            if machine.market_at > at:
                continue
            machine.market_at = at
            slot = self.slot(machine)
            wins = machine.gpu_rate >= (self.stock.floor(slot, at) or 0)
            if machine.holds_slot and not wins:
                self._preempt(machine, at)
                await self._align(machine)
            elif machine.state == State.PREEMPTED and wins and self.stock.free(slot):
                self._begin_boot(machine, at)
                machine.ledger.close(at)
                machine.ledger.open(*self._disk_line(machine), at)
                self.save(machine)

    async def resume(self) -> None:
        """After a start of the sandbox: every running machine gets its process back."""
        running = [m for m in self.machines.values() if m.state == State.RUNNING]
        await asyncio.gather(*(self._align(machine) for machine in running))
        await self.settle()

    async def reset(self) -> None:
        """No customer, machine, fault or push is left. Numbers are not given twice."""
        for machine in self.machines.values():
            if not machine.ended:
                machine.state = State.TERMINATED
                await self._align(machine)
        self.forget_all()

    def _spots(self) -> list[Machine]:
        return [
            m
            for m in self.machines.values()
            if m.is_spot and (m.holds_slot or (m.state == State.PREEMPTED and m.order.comes_back))
        ]

    def _next_step(self, spots: list[Machine]) -> float:
        return min(self.stock.next_step(self.slot(m), m.market_at) for m in spots)

    def _begin_boot(self, machine: Machine, at: float) -> None:
        machine.state, machine.exited = State.PENDING, False
        machine.due_at = None if "stuck_pending" in machine.trouble else at + self.facts.boot_s
        self._wake()

    def _charge_disk(self, machine: Machine, at: float) -> None:
        machine.ledger.close(at, "disk", "disk_stopped")
        machine.ledger.open(*self._disk_line(machine), at)

    def _disk_line(self, machine: Machine) -> tuple[Component, Nanos]:
        wiped = machine.exited and machine.order.kept_disk_gb is not None
        if machine.holds_slot and not wiped:
            return "disk", machine.disk_rate
        return "disk_stopped", machine.disk_rate_stopped

    def _preempt(self, machine: Machine, at: float) -> None:
        self._off(machine, State.PREEMPTED, "outbid", at)
        if not machine.order.comes_back:
            self._end_its_things(machine, at)

    def _off(self, machine: Machine, state: State, reason: str, at: float) -> None:
        held = machine.holds_slot
        machine.state, machine.reason = state, reason
        machine.due_at = machine.running_since = None
        machine.booting_again = machine.exited = False
        if held and not machine.holds_slot:
            machine.ledger.close(at)
            machine.ledger.open(*self._disk_line(machine), at)
            self.relist(machine.order.slot)
        self.save(machine)

    async def _boot(self, machine: Machine, at: float) -> None:
        machine.due_at = None
        if "boot_failure" in machine.trouble:
            machine.state, machine.reason = State.FAILED, "the container could not be created"
        else:
            machine.state, machine.reason = State.RUNNING, ""
            if machine.booting_again or machine.wipe:
                await self._processes.halt(machine)
            await self._align(machine)
        # Another call may have stopped or ended it while its process came up.
        if machine.state == State.RUNNING and machine.running_since is None:
            machine.running_since = at
            machine.ledger.open("gpu", machine.gpu_rate, at)
        machine.booting_again = False
        self.save(machine)

    async def _align(self, machine: Machine) -> None:
        """Brings the process behind a machine in line with the machine's state."""
        try:
            await self._processes.align(machine, self.slot(machine))
        except OSError as error:
            _log.warning("machine %s of %s does not start: %s", machine.id, self.provider, error)
            if machine.state == State.RUNNING:
                machine.ledger.close(self.clock.now(), "gpu")
                machine.state, machine.reason = State.FAILED, str(error)
        self.save(machine)

    def machine_folder(self, machine: Machine) -> Path:
        """Its private folder; there as long as the machine is."""
        return self._processes.folder(machine)

    def _another_gpu(self, name: str) -> str:
        return next(gpu.name for gpu in self.facts.gpus if gpu.name != name)

    async def _stop_the_penniless(self, now: float) -> None:
        paying = {m.account for m in self.machines.values() if m.holds_slot or m.billed}
        for account in paying:
            if self.credit(account) > 0:
                continue
            for machine in self.owned(account):
                if machine.order.ends_penniless and not machine.ended:
                    await self._end(machine, "no credit", now)
                elif machine.holds_slot:
                    self._off(machine, State.STOPPED, "no credit", now)
                    await self._align(machine)
