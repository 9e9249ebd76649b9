"""What an offer costs for a query: priced by component, for the disk that is wanted."""

from __future__ import annotations

from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer
from gpubroker.model.query import Query

DEFAULT_DISK_GB = 20.0
"""What prices are computed for where the query names no disk."""


def wanted_disk_gb(query: Query) -> float:
    """The disk that this query's prices are computed for."""
    return query.disk_gb or query.min_disk_gb or DEFAULT_DISK_GB


def price_of(offer: Offer, disk_gb: float) -> Nanos | None:
    """Per hour with that disk; None where it is quoted in another currency: not comparable."""
    return offer.price.hourly(disk_gb) if offer.price.quoted == "USD" else None
