"""What a cloud keeps on record: accounts, machines, other things, numbers, faults, market."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from gpubroker.model.money import Nanos, nanos
from gpubroker.sandbox.clock import SandboxClock
from gpubroker.sandbox.faults import Fault, Faults
from gpubroker.sandbox.money import Ledger, total
from gpubroker.sandbox.rented import Account, Machine, Thing
from gpubroker.sandbox.stock import CloudFacts, GpuFacts, Push, Slot, Stock
from gpubroker.sandbox.storage import Storage

BAD_KEY = "invalid-key"
"""Refused as the vendor refuses a bad key, in every mode."""
_WELL_FORMED_KEY = re.compile(r"[\x21-\x7e]{1,256}")


class Counters(Struct):
    """Numbers given so far."""

    numbers: dict[str, int] = {}
    """By kind: the next one."""
    listings: dict[str, int] = {}
    """By slot: under which a marketplace lists it now."""


class Books:
    """One provider's records, loaded from storage and written back with each commit."""

    def __init__(
        self,
        provider: str,
        facts: CloudFacts,
        slots: Iterable[Slot],
        *,
        storage: Storage,
        clock: SandboxClock,
        seed: int,
        accepted_keys: frozenset[str] | None,
    ) -> None:
        self.provider = provider
        self.facts = facts
        self.clock = clock
        self.storage = storage
        self._accepted_keys = accepted_keys
        self._seed = seed
        self._gpus = {gpu.name: gpu for gpu in facts.gpus}
        self._all_slots = tuple(slots)
        self.load()

    def load(self) -> None:
        """Forgets what was not committed."""
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
        counters = stored.get("counters", self.provider, "", Counters)
        self._counters = counters or Counters()

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
        return self._gpus[name]

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

    # --- what changes ---------------------------------------------------------------------

    def renumber(self, machine: Machine, id_: str) -> None:
        """The same machine under another id, for clouds that give a new one at a restart.

        Only while it is off: the process behind it is known by the id.
        """
        self.storage.drop("machine", self.provider, machine.id)
        del self.machines[machine.id]
        for thing in self.things.values():
            if thing.ends_with == machine.id:
                thing.ends_with = id_
                self.save(thing)
        machine.id = id_
        self.machines[id_] = machine
        self.save(machine)

    def add_thing(
        self,
        account: str,
        kind: str,
        *,
        number_from: int = 1,
        named: Callable[[int], str] = str,
        name: str = "",
        **wire: Any,
    ) -> Thing:
        """A volume, a key… `wire` is what only the emulator reads; `named` makes ids of numbers."""
        thing = Thing(
            provider=self.provider,
            kind=kind,
            id=named(self.number(kind, number_from)),
            account=account,
            name=name,
            created_at=self.clock.now(),
            ledger=Ledger(),
            wire=wire,
        )
        self.things[kind, thing.id] = thing
        self.save(thing)
        return thing

    def end_thing(self, thing: Thing, at: float | None = None) -> None:
        """Deletes it, now or at a time that is over; it stays known as ended."""
        ended_at = self.clock.now() if at is None else at
        thing.ledger.close(ended_at)
        thing.ended_at, thing.state = ended_at, "deleted"
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

    def forget_all(self) -> None:
        """No customer, machine, fault or push is left. Numbers are not given twice."""
        self.storage.clear(self.provider)
        counters = self._counters
        self.load()
        self._counters = counters
        self._save_counters()
        self.storage.commit()

    def relist(self, slot_key: str) -> None:
        """The slot, free again, gets another number."""
        self._counters.listings.pop(slot_key, None)
        self._save_counters()

    def _save_counters(self) -> None:
        self.storage.put("counters", self.provider, "", self._counters)
