"""One cloud: its customers, machines, stock and books, driven by sandbox time.

An emulator translates a vendor's requests into calls of this class and this class's state into
the vendor's answers. Changes of state are immediate and synchronous; only what concerns the
process behind a machine is awaited. `settle` makes happen what time has brought.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct

from gpubroker.model.money import Nanos, nanos
from gpubroker.model.terms import State
from gpubroker.sandbox.clock import SandboxClock
from gpubroker.sandbox.faults import Fault, Faults, Kind
from gpubroker.sandbox.host import MachineHost, MachineSpec
from gpubroker.sandbox.money import Ledger, total
from gpubroker.sandbox.rented import Account, Machine, Order, Thing
from gpubroker.sandbox.stock import CloudFacts, GpuFacts, Push, Slot, Stock
from gpubroker.sandbox.storage import Storage

BAD_KEY = "invalid-key"
"""Refused as the vendor refuses a bad key, in every mode."""
PRICE_CHANGED_FACTOR = 1.5
BOOT_TROUBLE: tuple[Kind, ...] = ("boot_failure", "stuck_pending", "ssh_refused", "wrong_gpu")
"""Faults that a machine is born with."""
CLOSED_PORT = 1
"""Where a machine with refused SSH is said to answer: nothing listens there."""
_WELL_FORMED_KEY = re.compile(r"[\x21-\x7e]{1,256}")

_log = logging.getLogger(__name__)


class NoSlot(Exception):
    """The slot is taken, or its market is empty."""


class _Counters(Struct):
    numbers: dict[str, int] = {}
    listings: dict[str, int] = {}


class Cloud:
    """Everything that one provider knows. `wake` tells that something is due sooner."""

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
        self.provider = provider
        self.facts = facts
        self.clock = clock
        self.storage = storage
        self._host = host
        self._accepted_keys = accepted_keys
        self._wake = wake
        self._seed = seed
        self._all_slots = tuple(slots)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._settling = asyncio.Lock()
        self._load()

    def _load(self) -> None:
        stored = self.storage
        self.accounts = {a.name: a for a in stored.all("account", self.provider, Account)}
        self.machines = {m.id: m for m in stored.all("machine", self.provider, Machine)}
        self.things = {(t.kind, t.id): t for t in stored.all("thing", self.provider, Thing)}
        self.faults = Faults(self._seed)
        self.faults.active = list(stored.all("fault", self.provider, Fault))
        pushes = stored.get("pushes", self.provider, "", dict[str, Push])
        self.stock = Stock(
            self._all_slots, seed=self._seed, holders=self._holders, pushes=pushes or {}
        )
        counters = stored.get("counters", self.provider, "", _Counters)
        self._counters = counters or _Counters()

    # --- who asks -------------------------------------------------------------------------

    def account(self, key: str, *, other: bool = False) -> Account | None:
        """The account behind a key, None for a key that is not accepted.

        `other` answers as somebody else's account, always the same one for a key.
        """
        if key == BAD_KEY or not _WELL_FORMED_KEY.fullmatch(key):
            return None
        if self._accepted_keys is not None and key not in self._accepted_keys:
            return None
        digest = hashlib.sha256(f"{self.provider}\0{key}\0{'other' * other}".encode()).hexdigest()
        name = f"acct-{digest[:12]}"
        if name not in self.accounts:
            account = Account(
                name=name, number=int(digest[12:18], 16) + 1, created_at=self.clock.now()
            )
            self.accounts[name] = account
            self.storage.put("account", self.provider, name, account)
        return self.accounts[name]

    def credit(self, account: str) -> Nanos:
        """What the account can still spend."""
        now = self.clock.now()
        owned: list[Machine | Thing] = [*self.machines.values(), *self.things.values()]
        spent = total(one.ledger.cost(now) for one in owned if one.account == account)
        return Nanos(nanos(self.facts.credit_usd) - spent)

    # --- what there is --------------------------------------------------------------------

    def gpu(self, name: str) -> GpuFacts:
        """The facts of an accelerator by the cloud's own name."""
        return self.facts.gpu_by_name[name]

    def slot(self, machine: Machine) -> Slot:
        """What the machine was rented from."""
        return self.stock.slots[machine.order.slot]

    def owned(self, account: str) -> list[Machine]:
        """The account's machines, ended ones too, oldest first."""
        return [m for m in self.machines.values() if m.account == account]

    def number(self, kind: str, first: int = 1) -> int:
        """The next number of a kind: never given twice."""
        value = self._counters.numbers.get(kind, first)
        self._counters.numbers[kind] = value + 1
        self._save_counters()
        return value

    def count_today(self, kind: str, day: str) -> int:
        """How often this was called for the kind on that day, this call included."""
        return self.number(f"{kind} {day}")

    def listing(self, slot: Slot, first: int) -> int:
        """The number under which a marketplace lists the slot; a new one after each rental."""
        known = self._counters.listings.get(slot.key)
        if known is None:
            known = self._counters.listings[slot.key] = self.number("listing", first)
        return known

    def _holders(self, slot_key: str) -> int:
        return sum(m.holds_slot for m in self.machines.values() if m.order.slot == slot_key)

    # --- what customers do ----------------------------------------------------------------

    def create(self, account: str, order: Order, *, number_from: int = 1) -> Machine:
        """A new machine, pending, or stopped where the order says so.

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
        machine = Machine(
            provider=self.provider,
            id=str(self.number("machine", number_from)),
            account=account,
            order=order,
            label=order.label,
            gpu=self._another_gpu(slot.gpu) if "wrong_gpu" in trouble else slot.gpu,
            gpu_rate=gpu_rate,
            disk_rate=self.facts.disk_rate(slot, order.disk_gb),
            disk_rate_stopped=self.facts.disk_rate(slot, order.disk_gb, stopped=True),
            created_at=now,
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
            self._relist(machine)
        machine.ledger.open(*self._disk_line(machine), now)
        self.save(machine)
        return machine

    async def stop(self, machine: Machine) -> None:
        """Frees the GPU, keeps the disk."""
        if machine.state in (State.PENDING, State.RUNNING, State.FAILED, State.PREEMPTED):
            self._off(machine, State.STOPPED, "", self.clock.now())
            await self._align(machine)

    def start(self, machine: Machine) -> None:
        """Raises NoSlot where the GPU was taken meanwhile."""
        if machine.state not in (State.STOPPED, State.PREEMPTED):
            return
        slot = self.slot(machine)
        if not self.stock.free(slot):
            raise NoSlot(slot.key)
        now = self.clock.now()
        self._begin_boot(machine, now)
        machine.ledger.close(now)
        machine.ledger.open(*self._disk_line(machine), now)
        self.save(machine)

    def reboot(self, machine: Machine, *, wipe: bool = False) -> None:
        """Stops and starts it without losing the GPU; `wipe` makes it anew from its image."""
        if machine.state == State.RUNNING:
            machine.booting_again, machine.wipe = True, wipe
            self._begin_boot(machine, self.clock.now())
            self.save(machine)

    async def terminate(self, machine: Machine) -> None:
        """Ends it for good. Idempotent."""
        if machine.ended:
            return
        if self.faults.take("terminate", "terminate_ignored"):
            return
        now = self.clock.now()
        self._off(machine, State.TERMINATED, "", now)
        machine.ledger.close(now)
        machine.ended_at = now
        self.save(machine)
        await self._align(machine)

    async def preempt(self, machine: Machine) -> None:
        """Takes a spot machine away: stopped, its disk kept. It may win again later."""
        self._preempt(machine, self.clock.now())
        await self._align(machine)

    async def admit(self, machine: Machine, keys: tuple[str, ...]) -> None:
        """Exactly these keys from now on."""
        machine.keys = keys
        self.save(machine)
        if machine.state == State.RUNNING:
            await self._host.admit(self.provider, machine.id, keys)

    async def bid(self, machine: Machine, price: Nanos) -> None:
        """A spot machine's new bid; it takes effect at once."""
        now = self.clock.now()
        machine.gpu_rate = price
        if machine.ledger.rate and machine.state == State.RUNNING:
            machine.ledger.open("gpu", price, now)
        self.save(machine)
        await self.check_market(now)

    def add_thing(
        self, account: str, kind: str, *, number_from: int = 1, name: str = "", **wire: Any
    ) -> Thing:
        """A volume, a key… `wire` is what only the emulator reads."""
        thing = Thing(
            provider=self.provider,
            kind=kind,
            id=str(self.number(kind, number_from)),
            account=account,
            name=name,
            created_at=self.clock.now(),
            ledger=Ledger(),
            wire=wire,
        )
        self.things[kind, thing.id] = thing
        self.save(thing)
        return thing

    def end_thing(self, thing: Thing) -> None:
        """Deletes it; it stays known as ended."""
        now = self.clock.now()
        thing.ledger.close(now)
        thing.ended_at, thing.state = now, "deleted"
        self.save(thing)

    def live_things(self, account: str, kind: str) -> list[Thing]:
        """The account's things of a kind that were not deleted, oldest first."""
        return [
            thing
            for thing in self.things.values()
            if (thing.account, thing.kind) == (account, kind) and thing.ended_at is None
        ]

    def save(self, what: Machine | Thing) -> None:
        """To be written with the next commit."""
        kind, id_ = ("machine", what.id)
        if isinstance(what, Thing):
            kind, id_ = ("thing", f"{what.kind}/{what.id}")
        self.storage.put(kind, self.provider, id_, what)

    def commit(self) -> None:
        """Writes all that changed. Nothing is answered before."""
        if self.faults.used:
            self.save_faults()
        self.storage.commit()

    def save_market(self) -> None:
        """After `stock.pushes` was changed."""
        self.storage.put("pushes", self.provider, "", self.stock.pushes)

    def save_faults(self, dropped: Iterable[Fault] = ()) -> None:
        """After `faults.active` was changed."""
        self.faults.used = False
        for fault in dropped:
            self.storage.drop("fault", self.provider, fault.id)
        for fault in self.faults.active:
            self.storage.put("fault", self.provider, fault.id, fault)

    # --- what time does -------------------------------------------------------------------

    def next_due(self) -> float | None:
        """When something happens by itself next, in sandbox time."""
        dues = [m.due_at for m in self.machines.values() if m.due_at is not None]
        if spots := self._spots():
            dues.append(self._next_step(spots))
        return min(dues, default=None)

    async def settle(self) -> None:
        """Makes happen, in order, all that was due by now: boots, preemptions, empty pockets."""
        async with self._settling:
            now = self.clock.now()
            while True:
                booting = min(
                    (m for m in self.machines.values() if m.due_at is not None and m.due_at <= now),
                    key=lambda m: m.due_at or 0.0,
                    default=None,
                )
                spots = self._spots()
                step = self._next_step(spots) if spots else now + 1
                if booting and booting.due_at is not None and booting.due_at <= step:
                    await self._boot(booting, booting.due_at)
                elif step <= now:
                    await self.check_market(step)
                else:
                    break
            await self._stop_the_penniless(now)
            self.commit()

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
        self.storage.clear(self.provider)
        counters = self._counters
        self._load()
        self._counters = counters
        self._save_counters()
        self.storage.commit()

    def _spots(self) -> list[Machine]:
        return [
            m
            for m in self.machines.values()
            if m.is_spot and (m.holds_slot or m.state == State.PREEMPTED)
        ]

    def _next_step(self, spots: list[Machine]) -> float:
        return min(self.stock.next_step(self.slot(m), m.market_at) for m in spots)

    def _begin_boot(self, machine: Machine, at: float) -> None:
        machine.state = State.PENDING
        machine.due_at = None if "stuck_pending" in machine.trouble else at + self.facts.boot_s
        self._wake()

    def _disk_line(self, machine: Machine) -> tuple[Any, Nanos]:
        if machine.holds_slot:
            return "disk", machine.disk_rate
        return "disk_stopped", machine.disk_rate_stopped

    def _preempt(self, machine: Machine, at: float) -> None:
        self._off(machine, State.PREEMPTED, "outbid", at)

    def _off(self, machine: Machine, state: State, reason: str, at: float) -> None:
        held = machine.holds_slot
        machine.state, machine.reason = state, reason
        machine.due_at = machine.running_since = None
        machine.booting_again = False
        if held:
            machine.ledger.close(at)
            machine.ledger.open(*self._disk_line(machine), at)
            self._relist(machine)
        self.save(machine)

    def _relist(self, machine: Machine) -> None:
        """The slot, free again, gets another number."""
        self._counters.listings.pop(machine.order.slot, None)
        self._save_counters()

    async def _boot(self, machine: Machine, at: float) -> None:
        machine.due_at = None
        if "boot_failure" in machine.trouble:
            machine.state, machine.reason = State.FAILED, "the container could not be created"
        else:
            machine.state, machine.reason = State.RUNNING, ""
            if machine.booting_again:
                await self._halt(machine)
            await self._align(machine)
        # Another call may have stopped or ended it while its process came up.
        if machine.state == State.RUNNING and machine.running_since is None:
            machine.running_since = at
            machine.ledger.open("gpu", machine.gpu_rate, at)
        machine.booting_again = False
        self.save(machine)

    async def _halt(self, machine: Machine) -> None:
        async with self._locks[machine.id]:
            if machine.wipe:
                await self._host.remove(self.provider, machine.id)
                machine.wipe = False
            else:
                await self._host.stop(self.provider, machine.id)

    async def _align(self, machine: Machine) -> None:
        """Brings the process behind a machine in line with the machine's state."""
        async with self._locks[machine.id]:
            if machine.state == State.RUNNING:
                await self._run(machine)
            elif machine.ended:
                await self._host.remove(self.provider, machine.id)
            else:
                await self._host.stop(self.provider, machine.id)

    async def _run(self, machine: Machine) -> None:
        try:
            where = await self._host.start(self._spec(machine))
        except OSError as error:
            _log.warning("machine %s of %s does not start: %s", machine.id, self.provider, error)
            if machine.state == State.RUNNING:
                machine.ledger.close(self.clock.now(), "gpu")
                machine.state, machine.reason = State.FAILED, str(error)
                self.save(machine)
            return
        machine.ssh_port = CLOSED_PORT if "ssh_refused" in machine.trouble else where.ssh_port
        machine.published, machine.host_key = dict(where.published), where.host_key
        self.save(machine)

    def _spec(self, machine: Machine) -> MachineSpec:
        order, slot, gpu = machine.order, self.slot(machine), self.gpu(machine.gpu)
        return MachineSpec(
            provider=self.provider,
            id=machine.id,
            folder=self.machine_folder(machine),
            hostname=order.name or machine.id,
            user=order.user,
            keys=machine.keys,
            env=order.env,
            env_in_ssh=order.env_in_ssh,
            image=order.image,
            startup_script=order.startup_script,
            command=order.command,
            ports=order.ports,
            gpu_vendor=gpu.vendor,
            gpu_tool_name=gpu.tool_name,
            gpu_count=slot.gpu_count,
            gpu_memory_mib=gpu.memory_mib,
            driver_version=slot.driver_version,
            cuda_version=slot.cuda_version,
            vcpus=max(1, int(slot.vcpus)),
            ram_mb=slot.ram_mb,
            disk_gb=int(order.disk_gb),
            ssh_port=None if machine.ssh_port == CLOSED_PORT else machine.ssh_port,
            published=machine.published,
        )

    def machine_folder(self, machine: Machine) -> Path:
        """Its private folder; there as long as the machine is."""
        return self.storage.folder / "machines" / self.provider / machine.id

    def _another_gpu(self, name: str) -> str:
        return next(gpu.name for gpu in self.facts.gpus if gpu.name != name)

    async def _stop_the_penniless(self, now: float) -> None:
        paying = {m.account for m in self.machines.values() if m.holds_slot}
        for account in paying:
            if self.credit(account) > 0:
                continue
            for machine in self.owned(account):
                if machine.holds_slot:
                    self._off(machine, State.STOPPED, "no credit", now)
                    await self._align(machine)

    def _save_counters(self) -> None:
        self.storage.put("counters", self.provider, "", self._counters)
