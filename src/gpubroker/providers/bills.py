"""When a provider's record of charges is a final bill."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from gpubroker.model.bill import Bill, BillLine
from gpubroker.model.money import FREE, Nanos


def bill_of(
    amounts: Sequence[Nanos],
    lines: tuple[BillLine, ...],
    *,
    until: datetime | None,
    now: datetime,
    lag_s: float,
    complete: bool,
    evidence: str,
) -> Bill:
    """`amounts`: the charges of one machine. `until`: its end, None while it runs.

    A record's own end is no proof: rows are there before the last hours are charged, so that
    nothing is final earlier than `lag_s` after the machine's end.
    """
    status: Literal["ended", "running", "pending"] = "running"
    if until is not None:
        final = complete and now >= until + timedelta(seconds=lag_s)
        status = "ended" if final else "pending"
    reached = max((line.end for line in lines), default=None)
    return Bill(
        status=status,
        amount=Nanos(sum(amounts)) if amounts else (FREE if status == "ended" else None),
        lines=lines,
        complete_until=min(reached, now) if reached else None,
        evidence=evidence if complete else f"{evidence}, not all pages read",
    )
