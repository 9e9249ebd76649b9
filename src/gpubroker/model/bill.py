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
    evidence: str = ""
