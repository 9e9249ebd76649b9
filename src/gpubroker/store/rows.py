"""Rows of the store as structs. JSON columns are decoded where they are used."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from gpubroker.model.machine import Outcome, Phase

Wanted = Literal["running", "stopped", "gone"]

AttemptStatus = Literal[
    "intent",  # committed; the create was not sent
    "sending",  # committed immediately before the create: from here it may have been sent
    "unknown",  # sent, outcome not known: looked for until proven absent
    "made",  # the machine exists, as far as we know
    "refused",  # surely nothing was made
    "absent",  # unknown once, proven not to exist
    "unsent",  # intent given up before the create
    "gone",  # existed, proven gone
]
OPEN_STATUSES: frozenset[AttemptStatus] = frozenset({"intent", "sending", "unknown", "made"})


class LaunchRow(Struct, frozen=True, kw_only=True):
    """launches."""

    id: str
    name: str
    wanted: Wanted
    spec: bytes
    image: str | None
    disk_gb: float | None
    candidates: str
    tolerance: float
    max_price: int | None
    created_at: float
    expires_at: float | None
    ended_at: float | None
    error: str
    error_code: str
    holder: str
    lease_until: float
    fence: int
    project: str
    tags: str
    request: bytes | None
    retry_until: float | None
    next_plan_at: float | None
    gang: str
    gang_until: float | None
    on_preempt: str
    preempted: int
    idle_s: float | None
    idle_since: float | None
    idle_word: str
    looked_idle_at: float | None
    asked: str
    on_mismatch: str
    max_cost: int | None
    end_wished: int
    power_at: float | None

    @property
    def gang_name(self) -> str:
        """As the user calls its gang; "" for a launch of its own."""
        return self.gang.rpartition("/")[0]


class AttemptRow(Struct, frozen=True, kw_only=True):
    """attempts."""

    id: str
    launch_id: str
    seq: int
    provider: str
    account: str
    scope: str
    offer: str
    price: int
    price_stopped: int
    status: AttemptStatus
    wanted: Literal["running", "gone"]
    ref_id: str | None
    console_url: str | None
    expiry: str
    created_at: float
    sent_at: float | None
    absent_after: float | None
    made_at: float | None
    ready_at: float | None
    closed_at: float | None
    keys_given: int
    instance: str | None
    seen_at: float | None
    phase: Phase
    phase_since: float
    look_failed: str
    misses: int
    missed_at: float | None
    end_asked_at: float | None
    outcome: Outcome
    reason: str
    error_code: str
    bill: str | None
    bill_at: float | None
    bill_final: int
    expires_at: float | None
    mismatch: str
    state: str
    bill_due_at: float | None
    cloud_ends_at: float | None
    timer_ends_at: float | None
    booted_at: float | None

    @property
    def open(self) -> bool:
        """Whether a machine may exist."""
        return self.status in OPEN_STATUSES


class NeedRow(Struct, frozen=True, kw_only=True):
    """needs."""

    attempt_id: str
    what: str
    seq: int
    status: Literal["intent", "made", "released", "shared"]
    """`shared`: belongs to the owner, not to the attempt; it stays."""
    ref: str | None


class UsageRow(Struct, frozen=True, kw_only=True):
    """usage."""

    attempt_id: str
    since: float
    until: float | None
    rate: int


class BalanceRow(Struct, frozen=True, kw_only=True):
    """balances."""

    provider: str
    account: str
    at: float
    amount: int


class EventRow(Struct, frozen=True, kw_only=True):
    """events."""

    id: int
    at: float
    launch_id: str | None
    attempt_id: str | None
    kind: str
    data: str


class AccountRow(Struct, frozen=True, kw_only=True):
    """accounts."""

    provider: str
    alias: str
    uid: str
    frozen: str
    seen_at: float


def when(seconds: float) -> datetime:
    """Aware UTC of a stored time."""
    return datetime.fromtimestamp(seconds, UTC)
