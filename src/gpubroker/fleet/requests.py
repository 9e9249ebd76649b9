"""What is asked of the fleet, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from gpubroker.model.identity import Ref
from gpubroker.model.machine import Machine
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer
from gpubroker.model.query import Query
from gpubroker.model.terms import State

DEFAULT_TTL = timedelta(hours=24)
DEFAULT_TRIES = 5
DEFAULT_TOLERANCE = 0.1
"""A machine may cost 10 % more than its offer said before it is given back."""


class LaunchRequest(Struct, frozen=True, kw_only=True):
    """Everything that a launch may be told."""

    query: Query = Query()
    name: str | None = None
    image: str | None = None
    command: str | None = None
    env: Mapping[str, str] = {}
    ports: tuple[tuple[int, str], ...] = ()
    startup_script: str = ""
    ssh_keys: tuple[str, ...] = ()
    """Public keys admitted beside the broker's own."""
    disk_gb: int | None = None
    ttl: timedelta | None = DEFAULT_TTL
    """None only together with `no_expiry`."""
    no_expiry: bool = False
    bid: Nanos | None = None
    max_price_increase: float = DEFAULT_TOLERANCE
    tries: int = DEFAULT_TRIES
    max_cost: Nanos | None = None


class PlannedOffer(Struct, frozen=True, kw_only=True):
    """One row of the plan, in the order they will be tried."""

    offer: Offer
    offer_id: str
    price: Nanos
    """Per hour with the wanted disk; for spot, the bid that will be made."""
    reason: str


class Plan(Struct, frozen=True, kw_only=True):
    """What a launch will do, before anything is rented."""

    ranked: tuple[PlannedOffer, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    """(offer id, why) of offers that match and will not be tried."""
    most: Nanos | None
    """The most it can cost until it expires, None without an expiry."""
    expires_at: datetime | None
    total: int
    """How many offers match."""


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened, as it is written to the history."""

    at: datetime
    kind: str
    name: str = ""
    data: Mapping[str, Any] = {}


class Stray(Struct, frozen=True, kw_only=True):
    """A machine at a provider that no launch of this store wants."""

    provider: str
    account: str
    ref: Ref
    name: str | None
    owner: str | None
    gpu: str | None
    state: State
    price: Nanos | None
    since: datetime | None
    cost: Nanos | None
    why: str


class SweepReport(Struct, frozen=True, kw_only=True):
    """Every machine of every configured account, sorted by whose it is."""

    ours: tuple[Machine, ...]
    orphans: tuple[Stray, ...]
    ghosts: tuple[Machine, ...]
    foreign: tuple[Stray, ...]
    errors: Mapping[str, str]
    """Account -> why it could not be read: nothing was concluded about it."""
    fixed: bool
