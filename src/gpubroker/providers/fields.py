"""Types of the fields in vendors' answers: what is out of bounds is refused while decoding."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Annotated, Any

from msgspec import Meta

from gpubroker.model.money import HIGHEST_PRICE_USD, NANOS_PER_USD, Nanos

Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Amount = Annotated[float, Meta(ge=0, le=1e15)]
"""Any size, rate or duration. NaN is refused as well: it is not >= 0."""
Usd = Annotated[float, Meta(ge=0, le=HIGHEST_PRICE_USD)]
SignedUsd = Annotated[float, Meta(ge=-1000 * HIGHEST_PRICE_USD, le=1000 * HIGHEST_PRICE_USD)]
"""Balances, credits and charges: what `signed_nanos` takes."""
Share = Annotated[float, Meta(ge=0, le=1)]
Word = Annotated[str, Meta(max_length=200)]
Told = Annotated[str, Meta(min_length=1, max_length=200)]
"""A word without which the answer is none."""
Text = Annotated[str, Meta(max_length=20_000)]
Moment = Annotated[datetime, Meta(tz=True)]
"""ISO 8601 with its offset."""

_NANOS_PER_CENT = NANOS_PER_USD // 100
LAST_EPOCH_S = 253402300799.0
"""The end of year 9999."""


def moment(epoch_s: float | None) -> datetime | None:
    """Aware UTC of seconds since 1970; None for 0 and for what is no time."""
    if not epoch_s or not 0 < epoch_s <= LAST_EPOCH_S:
        return None
    return datetime.fromtimestamp(epoch_s, UTC)


def utc(told_at: datetime | None) -> datetime | None:
    """Aware UTC of what a vendor tells, who may leave the zone away.

    None for the years 1 and 9999: in another zone they may be no moment at all.
    """
    if told_at is None or not MINYEAR < told_at.year < MAXYEAR:
        return None
    return told_at.replace(tzinfo=told_at.tzinfo or UTC).astimezone(UTC)


def told(row: object, names: Iterable[str]) -> dict[str, Any]:
    """Those of the row's fields that hold something, for `Instance.raw`."""
    return {name: value for name in names if (value := getattr(row, name)) is not None}


def cents(amount: int) -> Nanos:
    """Nano-dollars of a price in whole US cents."""
    return Nanos(amount * _NANOS_PER_CENT)


def signed_nanos(usd: float) -> Nanos:
    """Nano-dollars of an amount that may be negative: balances and credits."""
    if not math.isfinite(usd) or abs(usd) > HIGHEST_PRICE_USD * 1000:
        raise ValueError(f"not an amount in USD: {usd!r}")
    return Nanos(round(usd * NANOS_PER_USD))
