"""Money is integer nano-dollars; a price is nano-dollars per hour of the whole machine."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NewType

Nanos = NewType("Nanos", int)
"""USD x 1e-9."""

NANOS_PER_USD = 1_000_000_000
SECONDS_PER_HOUR = 3600
HOURS_PER_MONTH = 730
"""A vendor's month, unless its notes say otherwise."""

FREE = Nanos(0)
HIGHEST_PRICE_USD = 1_000_000.0
"""No machine costs this much an hour: a greater figure in an answer is a fault, not a price."""


def nanos(usd: float | str | Decimal) -> Nanos:
    """Nano-dollars of an amount in USD; float noise (0.36979999999999996) rounds away.

    Raises ValueError for NaN, infinity, a negative amount or one that no machine costs.
    """
    if isinstance(usd, str | Decimal):
        usd = float(Decimal(usd))
    # One comparison refuses NaN, negatives and infinity alike: NaN compares false to everything.
    if not 0 <= usd <= HIGHEST_PRICE_USD:
        raise ValueError(f"not a price in USD: {usd!r}")
    return Nanos(round(usd * NANOS_PER_USD))


def usd(amount: int) -> float:
    """The amount as a USD float, for the faces only."""
    return amount / NANOS_PER_USD


def cost(rate: int, seconds: float, *, increment_s: int = 1, minimum_s: int = 0) -> Nanos:
    """What `seconds` at `rate` an hour cost, rounded once, half-even.

    The vendor's minimum and increment are applied to the duration first.
    """
    billed = max(seconds, minimum_s) if seconds > 0 else 0
    if increment_s > 1:
        billed = math.ceil(billed / increment_s) * increment_s
    exact = Decimal(int(rate)) * Decimal(str(billed)) / SECONDS_PER_HOUR
    return Nanos(int(exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN)))
