"""Machines and resources of an imaginary cloud, and what they truly cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from gpubroker.model.bill import Bill, BillLine
from gpubroker.model.identity import Ref, attempt_name
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import Nanos, cost
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Expiry, Resource, State
from gpubroker.testing.switches import Switches

DEFAULT_DISK_GB = 20


@dataclass
class Span:
    """Something billed, from when to when."""

    item: str
    rate: Nanos
    """Per hour."""
    start: datetime
    end: datetime | None = None

    def amount(self, until: datetime) -> Nanos:
        """What it cost up to `until`."""
        end = min(self.end or until, until)
        return cost(self.rate, max(0.0, (end - self.start).total_seconds()))


@dataclass
class FakeMachine:
    """One machine, as the cloud knows it."""

    id: str
    uid: str
    """The account that it belongs to."""
    scope: str
    offer: Offer
    spec: LaunchSpec
    owner: str | None
    attempt: str | None
    name: str | None
    """What the carrier holds; foreign machines have names of their own."""
    created_at: datetime
    visible_at: datetime
    """From when on it is in lists."""
    hidden_until: datetime | None = None
    """Before it nothing is told of its id, and nothing can be done to it."""
    state: State = State.PENDING
    reason: str = ""
    admitted: tuple[str, ...] = ()
    """Public keys that can log in."""
    answers_ssh: bool = True
    boots: list[str] = field(default_factory=list)
    """Scripts that were run over SSH to start it."""
    boot_code: int = 0
    """What they end with."""
    gpu_reported: str = ""
    price_factor: float = 1.0
    disk_share: float = 1.0
    """Of the disk that was asked for."""
    ends_at: datetime | None = None
    """When its cloud or its own timer ends it."""
    idle_word: str = "busy"
    """What a look at it over SSH finds."""
    fault: str = ""
    """The fault that was scripted for it."""
    ended_at: datetime | None = None
    spans: list[Span] = field(default_factory=list)

    @property
    def disk_gb(self) -> float:
        """What was asked for, else the default."""
        return self.spec.disk_gb or DEFAULT_DISK_GB

    @property
    def hourly(self) -> Nanos:
        """What it costs an hour while it runs, by the cloud's own word."""
        price = self.offer.price
        compute = round((price.compute + price.extras) * self.price_factor)
        return Nanos(compute + round(price.disk_gb * self.disk_gb))

    @property
    def bills_compute(self) -> bool:
        """Whether the GPU is billed now."""
        return any(span.end is None and span.item == "gpu" for span in self.spans)

    @property
    def bills_disk(self) -> bool:
        """Whether the disk is billed now."""
        return any(span.end is None and span.item == "disk" for span in self.spans)

    @property
    def billed(self) -> bool:
        """Whether anything is billed now."""
        return any(span.end is None for span in self.spans)

    def charge(self, item: str, at: datetime) -> None:
        """Starts billing the GPU or the disk."""
        price = self.offer.price
        if item == "gpu":
            rate = round((price.compute + price.extras) * self.price_factor)
        elif self.state is State.STOPPED:
            rate = price.hourly_stopped(self.disk_gb)
        else:
            rate = round(price.disk_gb * self.disk_gb)
        self.spans.append(Span(item, Nanos(rate), at))

    def settle_charges(self, at: datetime, *items: str) -> None:
        """Ends billing of these items, of all without any."""
        for span in self.spans:
            if span.end is None and (not items or span.item in items):
                span.end = at

    def charged(self, until: datetime) -> Nanos:
        """The truth: what it cost up to `until`."""
        return Nanos(sum(span.amount(until) for span in self.spans))

    def bill_lines(self, until: datetime) -> tuple[BillLine, ...]:
        """The truth by item."""
        return tuple(
            BillLine(span.item, span.amount(until), span.start, min(span.end or until, until))
            for span in self.spans
            if span.start < until
        )


@dataclass
class FakeResource:
    """Something that exists beside machines; it counts as billed until it is released."""

    kind: Resource
    ref: Ref
    uid: str
    owner: str
    attempt: str | None
    """None for what the owner's machines share."""
    made_at: datetime
    released_at: datetime | None = None

    @property
    def name(self) -> str:
        """By which `ensure` finds it again."""
        if self.attempt is None:
            return f"gb-{self.owner}"
        return attempt_name(self.owner, self.attempt)


def described(machine: FakeMachine, ref: Ref, switches: Switches) -> Instance:
    """The machine as the cloud's API shows it."""
    running = machine.state is State.RUNNING
    endpoint = Endpoint(f"{machine.id}.{machine.scope or 'all'}.fake.invalid", 22, "root")
    return Instance(
        ref=ref,
        owner=machine.owner,
        attempt=machine.attempt,
        name=machine.name,
        state=machine.state,
        raw_state=machine.state.value.upper(),
        reason=machine.reason,
        bills_compute=machine.bills_compute,
        bills_disk=machine.bills_disk,
        price=machine.hourly,
        gpu=machine.gpu_reported or machine.offer.gpu.raw,
        gpu_count=machine.offer.gpu_count,
        image=machine.spec.image,
        disk_gb=machine.disk_gb * machine.disk_share,
        region=machine.offer.region,
        tier=machine.offer.tier,
        ssh=endpoint if running and machine.answers_ssh else None,
        created_at=machine.created_at,
        expires_at=machine.ends_at if switches.expiry is Expiry.PROVIDER else None,
    )


def recorded(machine: FakeMachine, switches: Switches, now: datetime) -> Bill:
    """The bill as the cloud's own record shows it: late, and no more than it tells."""
    known = now - timedelta(seconds=switches.billing_lag_s)
    if switches.billing == "daily":
        known = known.replace(hour=0, minute=0, second=0, microsecond=0)
    status: Literal["ended", "running", "pending"] = "running"
    if machine.ended_at is not None:
        status = "ended" if machine.ended_at <= known else "pending"
    match switches.billing:
        case "manual":
            return Bill(status="manual", evidence="a person can see the invoice")
        case "balance":
            return Bill(status=status, evidence="the account's balance")
    return Bill(
        status=status,
        amount=machine.charged(known),
        lines=machine.bill_lines(known),
        complete_until=known,
        evidence=f"invoice of {machine.id}",
    )
