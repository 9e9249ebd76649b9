"""A machine as the user sees it: what was asked for, what is observed, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from gpubroker.model.bill import Bill
from gpubroker.model.gpu import Gpu
from gpubroker.model.instance import Endpoint
from gpubroker.model.money import Nanos
from gpubroker.model.terms import Expiry, Market, State

Phase = Literal["allocating", "booting", "pulling", "ssh", "ready", "ending", "gone"]


Outcome = Literal["pending", "created", "refused", "unknown", "failed"]
"""`failed`: the machine was made, did not get ready and was ended."""


class Try(Struct, frozen=True, kw_only=True):
    """One attempt of a launch, in the order they were made."""

    attempt: str
    offer_id: str
    provider: str
    outcome: Outcome
    reason: str = ""
    error_code: str = ""
    price: Nanos
    seconds: float | None = None


class Machine(Struct, frozen=True, kw_only=True):
    """One launch and its present machine, from the store alone."""

    launch_id: str
    name: str
    """The user's, unique among machines that have not ended."""
    realm: str
    """"live" or "sandbox:<id>"."""
    provider: str
    account: str
    provider_id: str | None
    """None until the cloud has named the machine."""
    state: State
    wanted: Literal["running", "stopped", "gone"]
    phase: Phase
    stale: bool = False
    """The last look failed or is old; `state` is the last known."""
    error: str = ""
    error_code: str = ""
    gpu: Gpu
    gpu_count: int
    market: Market
    vcpus: float | None = None
    ram_gb: float | None = None
    disk_gb: float | None = None
    region: str
    price: Nanos
    """Quoted, per hour while running, with the wanted disk."""
    price_stopped: Nanos
    reported_price: Nanos | None = None
    """The provider's own figure on the machine's record."""
    image: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    """As wished."""
    ends_at: datetime | None = None
    """The earlier of the wish and of what is known to end it: this is the truth."""
    confirmed: bool = False
    """Whether the cloud or the machine's timer holds the wish, and ends it without us."""
    expiry: Expiry
    idle_after: timedelta | None = None
    """Ended after so long idle."""
    idle_since: datetime | None = None
    idle_word: str = ""
    """By the last look: busy, idle, cannot tell; "" before it."""
    ssh: Endpoint | None = None
    host_key_alias: str = ""
    """Under which the pinned host key stands in known_hosts: the attempt's name."""
    ports: Mapping[str, str] = {}
    console_url: str | None = None
    cost_so_far: Nanos
    """Metered by our clock from the provider's own start."""
    bill: Bill
    bill_checked_at: datetime | None = None
    tries: tuple[Try, ...] = ()
    next_try_at: datetime | None = None
    """Set while it has no machine and waits for stock."""
    retry_until: datetime | None = None
    """Nothing is tried after this; None where only its expiry ends the trying."""
    gang: str = ""
    """Of machines launched together: their common name."""
    on_preempt: str = "stay"
    preempted: int = 0
    """How often its machine was taken away and replaced."""
    mismatch: tuple[str, ...] = ()
    """Where the cloud's record, or the machine, is not what was asked for."""
    project: str = ""
    """Whose spending it is."""
    tags: Mapping[str, str] = {}
