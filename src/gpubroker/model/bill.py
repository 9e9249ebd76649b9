"""What the provider charged, by its own record."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from gpubroker.model.money import Nanos


class BillLine(Struct, frozen=True):
    """One item: gpu, disk, transfer."""

    item: str
    amount: Nanos
    start: datetime
    end: datetime


class Bill(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`ended`: the provider's record is final. `manual`: only a person can look."""

    status: Literal["ended", "running", "pending", "manual", "unknown"]
    amount: Nanos | None = None
    lines: tuple[BillLine, ...] = ()
    complete_until: datetime | None = None
    by: Literal["record", "balance"] = "record"
    """`balance`: what the account lost meanwhile, which is never exact."""
    evidence: str = ""


class BillCheck(Struct, frozen=True, kw_only=True):
    """One machine's cost told by each who knows it, and whether they agree."""

    name: str
    attempt: str
    provider: str
    account: str
    provider_id: str | None
    console_url: str | None
    since: datetime | None
    """Metered from here; None where no machine was made. Likewise `until`, None while it runs."""
    until: datetime | None
    seconds: float
    """Metered time, stopped time included."""
    quoted_price: Nanos
    """Per hour, by the offer."""
    reported_price: Nanos | None
    """Per hour, by the provider's own record of the machine."""
    quoted: Nanos
    """What that time costs at the offer's price; `reported` likewise."""
    reported: Nanos | None
    metered: Nanos
    """By our clock, at the prices of each stretch."""
    bill: Bill
    difference: Nanos | None
    """Billed less metered, None while there is nothing to compare."""
    tolerance: Nanos
    """A greater difference, either way, is none of rounding."""
    verdict: Literal["agrees", "differs", "open", "cannot_tell"]
    final: bool
    """Nothing more is asked."""
    checked_at: datetime | None
    next_at: datetime | None
    """When the record is looked at next, None where it is not."""
