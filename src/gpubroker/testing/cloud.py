"""One imaginary cloud: machines, money, time and faults, with every capability a switch."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count

from msgspec import Struct, structs

from gpubroker.model.errors import BrokerError, Unavailable
from gpubroker.model.identity import Ref
from gpubroker.model.instance import Endpoint
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import Nanos, nanos
from gpubroker.model.offer import Offer
from gpubroker.model.terms import (
    OWNER_WIDE,
    Expiry,
    Resource,
    State,
)
from gpubroker.testing.clock import ManualClock
from gpubroker.testing.faults import Fault, FaultKind
from gpubroker.testing.machines import FakeMachine, FakeResource
from gpubroker.testing.stock import first_stock
from gpubroker.testing.switches import Switches

SCOPES = ("north", "south")
STOP_S = 5.0
TOMBSTONE_S = 3600.0
"""How long an ended machine is still shown where `gone` is "tombstone"."""


class Call(Struct, frozen=True):
    """One request that reached the provider's door."""

    at: datetime
    account: str
    operation: str
    what: str
    """Attempt name, machine id, scope or resource that it was about."""


class FakeCloud:
    """The state behind any number of FakeProviders, and the truth that tests compare with.

    Everything that happens by itself (boots, ends, late creates, expiry) happens at its own time
    whenever anybody looks: `settle` runs before every answer.
    """

    def __init__(
        self,
        switches: Switches | None = None,
        *,
        clock: ManualClock | None = None,
        name: str = "fake",
    ) -> None:
        self.switches = switches or Switches()
        self.clock = clock or ManualClock()
        self.name = name
        self.machines: list[FakeMachine] = []
        self.resources: list[FakeResource] = []
        self.calls: list[Call] = []
        self.balance = nanos(100)
        self.stock: dict[str, Offer] = {offer.key: offer for offer in first_stock(name)}
        self.sold_out: set[str] = set()
        self._uids: dict[str, str] = {}
        self._faults: dict[str, list[Fault]] = {}
        self._events: list[tuple[datetime, int, Callable[[datetime], None]]] = []
        self._at_work: datetime | None = None
        self._ids: dict[str, int] = {}
        self._sequence = count()

    # What tests arrange

    def script(
        self,
        operation: str,
        kind: FaultKind,
        *,
        times: int | None = 1,
        skip: int = 0,
        error: type[BrokerError] | None = None,
        delay_s: float = 0.0,
        factor: float = 1.0,
    ) -> None:
        """Lets a fault of `faults.FAULTS` happen at the next `times` calls of the operation."""
        fault = Fault(operation, kind, times, skip, error, delay_s, factor)
        self._faults.setdefault(operation, []).append(fault)

    def heal(self) -> None:
        """Forgets all scripted faults."""
        self._faults.clear()

    def answer_as(self, account: str, uid: str) -> None:
        """From now on the account's key opens the account `uid`, as after a change of keys."""
        self._uids[account] = uid

    def reprice(self, key: str, factor: float) -> None:
        """Changes an offer's price for machines made from now on."""
        offer = self.stock[key]
        compute = Nanos(round(offer.price.compute * factor))
        price = structs.replace(offer.price, compute=compute)
        self.stock[key] = structs.replace(offer, price=price)

    def sell_out(self, key: str) -> None:
        """Nothing is left of an offer: creates and starts have no capacity."""
        self.sold_out.add(key)

    def restock(self, key: str) -> None:
        """The opposite of `sell_out`."""
        self.sold_out.discard(key)

    def plant(
        self,
        *,
        account: str = "default",
        scope: str | None = None,
        name: str | None = "somebody-elses",
        owner: str | None = None,
        attempt: str | None = None,
    ) -> FakeMachine:
        """A running machine that no FakeProvider made: foreign, or an orphan of `owner`."""
        offer = next(iter(self.stock.values()))
        machine = self.add_machine(
            uid=self.uid(account),
            offer=offer,
            spec=LaunchSpec(expires_at=None),
            owner=owner,
            attempt=attempt,
            name=name,
            scope=scope,
        )
        machine.visible_at = self.clock.now()
        return machine

    def preempt(self, machine: FakeMachine) -> None:
        """Takes a spot machine away now."""
        self.settle()
        machine.state, machine.reason = State.PREEMPTED, "capacity was needed elsewhere"
        machine.settle_charges(self.clock.now())

    # What tests compare with

    def billed(self) -> list[FakeMachine]:
        """The truth: every machine that costs something now."""
        self.settle()
        return [machine for machine in self.machines if machine.billed]

    def leaks(self, owner: str, wanted: Collection[str]) -> list[str]:
        """What of this owner's is kept for no wanted attempt; [] is the aim.

        A second machine of one attempt is a leak too. Resources that an owner's machines share
        are none.
        """
        self.settle()
        found: list[str] = []
        served: set[str] = set()
        for machine in self.billed():
            if machine.owner != owner:
                continue
            if machine.attempt not in wanted:
                found.append(f"machine {machine.id} of unwanted attempt {machine.attempt}")
            elif machine.attempt in served:
                found.append(f"machine {machine.id} is one too many of {machine.attempt}")
            served.add(machine.attempt or "")
        found += [
            f"{resource.kind} {resource.ref.id} of unwanted attempt {resource.attempt}"
            for resource in self.resources
            if resource.released_at is None
            and resource.owner == owner
            and resource.attempt is not None
            and resource.attempt not in wanted
        ]
        return found

    def charged(self, machine: FakeMachine) -> Nanos:
        """The truth: what a machine has cost up to now."""
        self.settle()
        return machine.charged(self.clock.now())

    def count(self, operation: str) -> int:
        """How often an operation was called."""
        return sum(call.operation == operation for call in self.calls)

    # What the provider asks of it

    def uid(self, account: str) -> str:
        """The account behind an alias's key."""
        return self._uids.get(account, f"{self.name}-{account}")

    def scopes(self) -> tuple[str, ...]:
        """Where machines can be."""
        return SCOPES if self.switches.scoped else ("",)

    def fault(self, operation: str) -> Fault | None:
        """The fault that strikes at this call, if any."""
        return next((fault for fault in self._faults.get(operation, ()) if fault.met()), None)

    def new_id(self, scope: str, prefix: str) -> str:
        """Ids count from one in each scope: they repeat across scopes."""
        self._ids[scope] = self._ids.get(scope, 0) + 1
        return f"{prefix}-{self._ids[scope]}"

    def add_machine(
        self,
        *,
        uid: str,
        offer: Offer,
        spec: LaunchSpec,
        owner: str | None,
        attempt: str | None,
        name: str | None,
        scope: str | None = None,
        fault: Fault | None = None,
    ) -> FakeMachine:
        """Makes a machine, billed from now on (in an async create: from the end of the boot)."""
        now = self._time
        place = self.scope_of(offer) if scope is None else scope
        machine = FakeMachine(
            id=self.new_id(place, "m"),
            uid=uid,
            scope=place,
            offer=self.stock.get(offer.key, offer),
            spec=spec,
            owner=owner,
            attempt=attempt,
            name=name,
            created_at=now,
            visible_at=now + timedelta(seconds=self.switches.list_lag_s),
        )
        self.machines.append(machine)
        if fault is not None:
            machine.fault = fault.kind
            machine.answers_ssh = fault.kind != "no_ssh"
            machine.price_factor = fault.factor
            machine.disk_share = 0.5 if fault.kind == "ignored_field" else 1.0
            machine.gpu_reported = "NVIDIA Tesla K80" if fault.kind == "wrong_gpu" else ""
        if machine.fault == "left_stopped":
            machine.state = State.STOPPED
            machine.charge("disk", now)
        elif not self.switches.async_create:
            self.charge(machine, now)
        self.at(self.switches.boot_s, lambda when: self._booted(machine, when))
        if spec.expires_at is not None and self.switches.expiry is not Expiry.CONTROLLER_ONLY:
            self.arm(machine, spec.expires_at)
        return machine

    def arm(self, machine: FakeMachine, end: datetime) -> None:
        """Cloud or timer ends it then, and not when it was to be ended before."""
        machine.ends_at = end
        self.at((end - self._time).total_seconds(), lambda when: self._expired(machine, when))

    async def timer_at(self, endpoint: Endpoint, alias: str, seconds: float | None) -> float | None:
        """What a look at the machine's own timer finds over SSH; `seconds` sets it anew."""
        del alias
        machine = self._answering(endpoint)
        if self.switches.expiry not in {Expiry.MACHINE_ENDS_BILLING, Expiry.MACHINE_FREES_GPU}:
            return None
        if seconds is not None and machine.ends_at is not None:
            self.arm(machine, self.clock.now() + timedelta(seconds=seconds))
        if machine.ends_at is None:
            return None
        return (machine.ends_at - self.clock.now()).total_seconds()

    async def run_boot(self, endpoint: Endpoint, alias: str, script: str) -> tuple[int, str]:
        """What running a script over SSH answers; the machine keeps it."""
        del alias
        machine = self._answering(endpoint)
        machine.boots.append(script)
        return machine.boot_code, "said by the machine"

    async def idle_at(self, endpoint: Endpoint, alias: str) -> str:
        """What a look at what the machine does finds over SSH."""
        del alias
        return self._answering(endpoint).idle_word

    def _answering(self, endpoint: Endpoint) -> FakeMachine:
        self.settle()
        for machine in self.machines:
            host = f"{machine.id}.{machine.scope or 'all'}.fake.invalid"
            if host == endpoint.host and machine.state is State.RUNNING and machine.answers_ssh:
                return machine
        raise Unavailable("no answer over SSH")

    @staticmethod
    def charge(machine: FakeMachine, at: datetime) -> None:
        """Bills GPU and disk from then on."""
        machine.charge("gpu", at)
        machine.charge("disk", at)

    def scope_of(self, offer: Offer) -> str:
        """Where a machine of this offer is made."""
        return offer.region if self.switches.scoped else ""

    def at(self, seconds: float, act: Callable[[datetime], None]) -> None:
        """Lets something happen by itself."""
        when = self._time + timedelta(seconds=max(0.0, seconds))
        heapq.heappush(self._events, (when, next(self._sequence), act))

    @property
    def _time(self) -> datetime:
        """Now, or the time of the event that happens while its consequences are worked out."""
        return self._at_work or self.clock.now()

    def settle(self) -> None:
        """Everything whose time has come happens, each at its own time."""
        now = self.clock.now()
        while self._events and self._events[0][0] <= now:
            when, _, act = heapq.heappop(self._events)
            self._at_work = when
            act(when)
        self._at_work = None

    def end(self, machine: FakeMachine) -> None:
        """An accepted terminate."""
        if machine.state in {State.TERMINATED, State.TERMINATING}:
            return
        if self.switches.terminate_s <= 0:
            self._ended(machine, self._time)
            return
        machine.state = State.TERMINATING
        self.at(self.switches.terminate_s, lambda when: self._ended(machine, when))

    def halt(self, machine: FakeMachine) -> None:
        """An accepted stop: the GPU is billed until the end, then the disk at its stopped rate."""
        machine.state = State.STOPPING
        self.at(STOP_S, lambda when: self._stopped(machine, when))

    def resume(self, machine: FakeMachine) -> None:
        """An accepted start, with another id where the switch says so."""
        now = self._time
        machine.settle_charges(now)
        machine.state = State.PENDING
        if self.switches.resume_id in {"new", "told"}:
            self._leave_old_id(machine)
            machine.id = self.new_id(machine.scope, "m")
            hidden_s = self.switches.new_id_hidden_s
            machine.hidden_until = now + timedelta(seconds=hidden_s)
            machine.visible_at = now + timedelta(seconds=max(hidden_s, self.switches.list_lag_s))
        self.charge(machine, now)
        self.at(self.switches.boot_s, lambda when: self._booted(machine, when))

    def _leave_old_id(self, machine: FakeMachine) -> None:
        """What is still told of a machine that goes on elsewhere: started again, it is a second."""
        if self.switches.old_id_lingers_s <= 0:
            return
        left = replace(machine, state=State.STOPPED, boots=list(machine.boots), spans=[])
        self.machines.append(left)

        def forgotten(at: datetime) -> None:
            if left.state is State.STOPPED:
                self._ended(left, at)

        self.at(self.switches.old_id_lingers_s, forgotten)

    def _stopped(self, machine: FakeMachine, at: datetime) -> None:
        if machine.state is State.STOPPING:
            machine.state = State.STOPPED
            machine.settle_charges(at)
            machine.charge("disk", at)

    def _booted(self, machine: FakeMachine, at: datetime) -> None:
        if machine.state is not State.PENDING or machine.fault == "stuck_pending":
            return
        if machine.fault == "late_failure":
            machine.state, machine.reason = State.FAILED, "the operation failed"
            machine.settle_charges(at)
            return
        if not machine.billed:
            self.charge(machine, at)
        if machine.fault == "boot_failure":
            machine.state, machine.reason = State.FAILED, "the container exited at once"
        else:
            machine.state = State.RUNNING

    def _expired(self, machine: FakeMachine, at: datetime) -> None:
        if machine.state in {State.TERMINATED, State.TERMINATING} or machine.ends_at != at:
            return
        if self.switches.expiry is Expiry.MACHINE_FREES_GPU:
            self.halt(machine)
        else:
            self._ended(machine, at)

    def _ended(self, machine: FakeMachine, at: datetime) -> None:
        if machine.state is not State.TERMINATED:
            machine.state, machine.ended_at = State.TERMINATED, at
            machine.settle_charges(at)

    def shown(self, machine: FakeMachine) -> bool:
        """Whether the cloud still tells of it when asked for it."""
        if machine.ended_at is None:
            return True
        if self.switches.gone != "tombstone":
            return False
        return self.clock.now() < machine.ended_at + timedelta(seconds=TOMBSTONE_S)

    def live(self, uid: str) -> list[FakeMachine]:
        """Machines of an account that have not ended."""
        return [
            machine for machine in self.machines if machine.uid == uid and machine.ended_at is None
        ]

    def ensure_resource(
        self, kind: Resource, *, account: str, scope: str, owner: str, attempt: str
    ) -> FakeResource:
        """Makes it, or finds the one of the same name."""
        belongs_to = None if kind in OWNER_WIDE else attempt
        uid = self.uid(account)
        for resource in self.resources:
            same_name = (resource.owner, resource.attempt) == (owner, belongs_to)
            same_place = (resource.uid, resource.ref.scope) == (uid, scope)
            if resource.kind is kind and same_name and same_place and not resource.released_at:
                return resource
        made = FakeResource(
            kind=kind,
            ref=Ref(self.name, account, scope, self.new_id(scope, kind.value)),
            uid=uid,
            owner=owner,
            attempt=belongs_to,
            made_at=self.clock.now(),
        )
        self.resources.append(made)
        return made
