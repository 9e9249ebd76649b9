"""What is asked of the fleet, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import Struct

from gpubroker.model.identity import Ref
from gpubroker.model.machine import Machine
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer
from gpubroker.model.query import Query
from gpubroker.model.terms import Expiry, Resource, State

DEFAULT_TTL = timedelta(hours=24)
DEFAULT_TRIES = 5
DEFAULT_TOLERANCE = 0.1
"""A machine may cost 10 % more than its offer said before it is given back."""
ALL_WITHIN = timedelta(minutes=15)


class LaunchRequest(Struct, frozen=True, kw_only=True):
    """Everything that a launch may be told."""

    query: Query = Query()
    name: str | None = None
    image: str | None = None
    command: str | None = None
    env: Mapping[str, str] = {}
    ports: tuple[tuple[int, str], ...] = ()
    startup_script: str = ""
    registry_auth: str | None = None
    """Name of a kept login for a private image."""
    ssh_keys: tuple[str, ...] = ()
    """Public keys admitted beside the broker's own."""
    disk_gb: int | None = None
    ttl: timedelta | None = DEFAULT_TTL
    """None only together with `no_expiry`."""
    no_expiry: bool = False
    idle: timedelta | None = None
    """Ended after so long without work on its GPUs or anybody at a terminal."""
    bid: Nanos | None = None
    max_price_increase: float = DEFAULT_TOLERANCE
    tries: int = DEFAULT_TRIES
    max_cost: Nanos | None = None
    """In all: of every node, and of every machine that replaces another."""
    retry_for: timedelta | None = None
    """Planned anew for so long as stock changes, by whichever process looks next."""
    nodes: int = 1
    """A gang: all of them or none."""
    all_within: timedelta = ALL_WITHIN
    """A gang that is not complete by then is ended."""
    on_preempt: str = "stay"
    """What follows when a spot machine in use is taken away: a policy of `preempting`."""
    on_mismatch: Literal["", "warn", "replace"] = ""
    """What follows where the machine is not what was asked for; "": by field, see `checking`."""
    project: str = ""
    """Whose spending it is: budgets and costs go by it."""
    tags: Mapping[str, str] = {}
    """The same, by any key; kept in our store, never sent."""


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
    ended_by: Mapping[str, Expiry] = {}
    """Cloud of a planned offer -> what ends its machine at the expiry when nobody runs."""
    kept_by: tuple[str, ...] = ()
    """Hosts on which a keeper runs now."""

    @property
    def unkept(self) -> tuple[str, ...]:
        """Clouds of the plan whose machine nothing would end: no keeper runs, and it cannot."""
        only_us = (name for name, by in self.ended_by.items() if by is Expiry.CONTROLLER_ONLY)
        return () if self.kept_by or self.expires_at is None else tuple(only_us)


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened, as it is written to the history."""

    at: datetime
    kind: str
    name: str = ""
    data: Mapping[str, Any] = {}


Whose = Literal["ours", "orphan", "foreign"]


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


class StrayResource(Struct, frozen=True, kw_only=True):
    """A key, script, rule, disk or address at a provider, and whose it is."""

    provider: str
    account: str
    what: Resource
    ref: Ref
    name: str
    owner: str | None
    whose: Whose
    since: datetime | None
    why: str


class SweepReport(Struct, frozen=True, kw_only=True):
    """Every machine of every configured account, sorted by whose it is."""

    ours: tuple[Machine, ...]
    orphans: tuple[Stray, ...]
    ghosts: tuple[Machine, ...]
    foreign: tuple[Stray, ...]
    resources: tuple[StrayResource, ...] = ()
    """What machines leave beside them, at clouds that tell it."""
    errors: Mapping[str, str]
    """Account -> why it could not be read: nothing was concluded about it."""
    fixed: bool
