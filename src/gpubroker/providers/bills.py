"""When a provider's record of charges is a final bill."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol

from gpubroker.model.bill import Bill, BillLine
from gpubroker.model.identity import Ref
from gpubroker.model.money import FREE, Nanos
from gpubroker.providers.fields import signed_nanos


class Charged(Protocol):
    """A row of a vendor's record."""

    @property
    def amount(self) -> float:
        """USD, negative where it was given back."""
        ...

    def lines(self) -> tuple[BillLine, ...]:
        """What it is made of."""
        ...


def bill_of(
    charges: Sequence[Charged],
    *,
    until: datetime | None,
    now: datetime,
    lag_s: float,
    complete: bool,
    evidence: str,
) -> Bill:
    """`charges`: those of one machine. `until`: its end, None while it runs.

    A record's own end is no proof: rows are there before the last hours are charged, so that
    nothing is final earlier than `lag_s` after the machine's end.
    """
    status: Literal["ended", "running", "pending"] = "running"
    if until is not None:
        final = complete and now >= until + timedelta(seconds=lag_s)
        status = "ended" if final else "pending"
    amounts = [signed_nanos(charge.amount) for charge in charges]
    lines = tuple(line for charge in charges for line in charge.lines())
    reached = max((line.end for line in lines), default=None)
    return Bill(
        status=status,
        amount=Nanos(sum(amounts)) if amounts else (FREE if status == "ended" else None),
        lines=lines,
        complete_until=min(reached, now) if reached else None,
        evidence=evidence if complete else f"{evidence}, not all pages read",
    )


def bill_to_look_up(page: str, ref: Ref, since: datetime, until: datetime | None) -> Bill:
    """Of a cloud without a record: the page on which a person finds the charge, and what for."""
    end = f"{until:%Y-%m-%d %H:%M}" if until else "now"
    days = f"{since:%Y-%m-%d %H:%M} to {end} UTC"
    return Bill(status="manual", evidence=f"{page}: instance {ref.id}, {days}")
