"""What can be rented."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from gpubroker.model.gpu import Gpu
from gpubroker.model.money import FREE, Nanos
from gpubroker.model.query import Query
from gpubroker.model.terms import Availability, Kind, Market, Source


class Price(Struct, frozen=True, kw_only=True, gc=False):
    """By component, so that a query's disk can be priced. Per hour unless named otherwise."""

    compute: Nanos
    """The whole machine, without disk and transfer."""
    disk_included_gb: float = 0
    """How much of a bought disk `compute` holds; what goes beyond costs `disk_gb`."""
    disk_gb: Nanos = FREE
    disk_gb_stopped: Nanos = FREE
    stopped: Nanos = FREE
    """The whole machine while it is stopped, without its disk."""
    extras: Nanos = FREE
    egress_gb: Nanos = FREE
    """Per GB, not per hour; likewise ingress."""
    ingress_gb: Nanos = FREE
    increment_s: int = 1
    minimum_s: int = 0
    quoted: str = "USD"
    """Original currency; never ranked unless USD or converted."""

    def hourly(self, disk_gb: float) -> Nanos:
        """Running, with that much disk."""
        bought_gb = max(0, disk_gb - self.disk_included_gb)
        return Nanos(self.compute + self.extras + round(self.disk_gb * bought_gb))

    def hourly_stopped(self, disk_gb: float) -> Nanos:
        """Stopped, with that much disk: stopped machines still cost."""
        return Nanos(self.stopped + round(self.disk_gb_stopped * disk_gb))


class Offer(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A machine that a provider sells, at a price, as seen at a time."""

    provider: str
    account: str
    key: str
    """Canonical and URL-safe; holds market, tier, region and count where the id alone does not."""
    gpu: Gpu
    gpu_count: int
    kind: Kind
    market: Market
    tier: str = ""
    vcpus: float | None = None
    ram_gb: float | None = None
    disk_gb: float | None = None
    """Included in `price.compute`, None where disk is bought by the GB."""
    disk_max_gb: float | None = None
    arch: Literal["x86_64", "arm64"] = "x86_64"
    region: str
    """The vendor's own words."""
    country: str | None = None
    """ISO 3166-1 alpha-2."""
    area: str = "Global"
    """The zone word: US-East, US-West, Europe, Asia…; "Global" without evidence."""
    zone: str | None = None
    price: Price
    availability: Availability
    stock: int | None = None
    reliability: float | None = None
    """0-1."""
    host: str | None = None
    """The vendor's id of the physical host, where told: one bad host is one cause."""
    upstream: str | None = None
    """Of an aggregator's offer: the cloud that runs the machine, in the aggregator's word."""
    max_hours: float | None = None
    min_cuda: str | None = None
    """Highest CUDA version the host's driver runs."""
    down_mbps: float | None = None
    up_mbps: float | None = None
    interconnect: str | None = None
    datacenter: bool | None = None
    source: Source
    fetched_at: datetime
    launch: Mapping[str, Any] = {}
    """What create needs beyond the key; stored with the intent."""


class OfferPage(Struct, frozen=True):
    """One answer of a provider: what it covers, and whether all of that is in it."""

    covers: Query | None
    """None: everything the provider sells."""
    complete: bool
    rows: tuple[Offer, ...]
    rejected: tuple[tuple[str, str], ...] = ()
    """(raw row cut to 200 characters, reason)."""
