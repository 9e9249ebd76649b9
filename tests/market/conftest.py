from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from gpubroker.catalog.gpus import resolve
from gpubroker.catalog.places import locate
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market, Source

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def build_offer(
    key: str,
    gpu: str = "RTX 4090",
    usd: float = 0.4,
    *,
    count: int = 1,
    region: str = "Texas, US",
    memory_mib: float | None = None,
    disk_usd: float = 0.0,
    quoted: str = "USD",
    **other: Any,
) -> Offer:
    place = locate(region)
    fields = {
        "provider": "vast_ai",
        "account": "default",
        "kind": Kind.CONTAINER,
        "market": Market.ON_DEMAND,
        "availability": Availability.YES,
        "source": Source.LIVE,
        "fetched_at": NOW,
        **other,
    }
    return Offer(
        key=key,
        gpu=resolve(gpu, memory_mib=memory_mib),
        gpu_count=count,
        region=region,
        country=place.country,
        area=place.area,
        price=Price(compute=nanos(usd), disk_gb=nanos(disk_usd), quoted=quoted),
        **fields,
    )


@pytest.fixture(scope="session")
def an_offer() -> Callable[..., Offer]:
    """A builder of offers: key, GPU, USD an hour, and any field."""
    return build_offer


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW
