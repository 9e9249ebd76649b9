"""What Vast.ai answers about money spent: bytes in, bill out, no network."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from gpubroker.model.bill import Bill, BillLine
from gpubroker.model.money import FREE, Nanos
from gpubroker.providers.fields import Amount, Count, Text, Word, moment, signed_nanos


class ChargeItem(Struct):
    """One kind of a charge: gpu, disk, bwd, bwu."""

    type: Word
    amount: float
    start: Amount | None = None
    end: Amount | None = None


class Charge(Struct):
    """All that one contract was charged in the days asked for."""

    source: Word | None = None
    amount: float = 0.0
    start: Amount | None = None
    end: Amount | None = None
    items: tuple[ChargeItem, ...] = ()


class Charges(Struct):
    """A page of them."""

    results: tuple[Charge, ...]
    next_token: Text | None = None
    total: Count | None = None


def charge_identity(charge: Charge) -> object:
    """One contract may have several rows, each with its own time."""
    return charge.source, charge.start, charge.end, charge.amount


def bill_of(
    charges: Iterable[Charge],
    instance: str,
    *,
    until: datetime | None,
    now: datetime,
    lag: timedelta,
    complete: bool,
) -> Bill:
    """The bill of one instance. `until`: its end, None while it runs."""
    source = f"instance-{instance}"
    ours = [charge for charge in charges if charge.source == source]
    lines = tuple(line for charge in ours for line in _lines(charge))
    amount = Nanos(sum(signed_nanos(charge.amount) for charge in ours))
    reached = max((line.end for line in lines), default=None)
    if until is None:
        status: Literal["ended", "running", "pending"] = "running"
    else:
        # The record's own `end` is no proof: it is there before the last hours are charged.
        status = "ended" if complete and now >= until + lag else "pending"
    told = f"{source}: {len(ours)} charge rows"
    return Bill(
        status=status,
        amount=amount if ours else (FREE if status == "ended" else None),
        lines=lines,
        complete_until=min(reached, now) if reached else None,
        evidence=told if complete else f"{told}, not all pages read",
    )


def _lines(charge: Charge) -> Iterable[BillLine]:
    items = charge.items or (ChargeItem("total", charge.amount),)
    for item in items:
        start = moment(item.start) or moment(charge.start)
        end = moment(item.end) or moment(charge.end)
        if start and end:
            yield BillLine(item.type, signed_nanos(item.amount), start, end)
