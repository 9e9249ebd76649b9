"""What a machine should have cost against what its provider says: pure, from rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from gpubroker.fleet.view import bill_of, metered
from gpubroker.model.bill import Bill, BillCheck
from gpubroker.model.instance import Instance
from gpubroker.model.money import FREE, Nanos, cost
from gpubroker.model.offer import Offer, Price
from gpubroker.store.rows import AttemptRow, UsageRow, when

TOLERANCE_S = 60
"""Clocks and the moment of the end differ by so much; the vendor's granularity comes on top."""
TOLERANCE_PER_CENT = 2

Verdict = Literal["agrees", "differs", "open", "cannot_tell"]


def check(
    name: str, attempt: AttemptRow, usage: Sequence[UsageRow], at: float, bill: Bill | None = None
) -> BillCheck:
    """Everything that is known of one attempt's cost. `bill`: instead of the one recorded."""
    offer = msgspec.json.decode(attempt.offer, type=Offer)
    instance = (
        None if attempt.instance is None else msgspec.json.decode(attempt.instance, type=Instance)
    )
    bill = bill_of(attempt) if bill is None else bill
    by_our_clock = metered(usage, offer, when(at))
    reported = None if instance is None else instance.price
    within = tolerance(usage, offer.price, by_our_clock)
    difference = None if bill.amount is None else Nanos(bill.amount - by_our_clock)
    until = None if any(row.until is None for row in usage) else _latest(usage)
    return BillCheck(
        name=name,
        attempt=attempt.id,
        provider=attempt.provider,
        account=attempt.account,
        provider_id=attempt.ref_id,
        console_url=attempt.console_url,
        since=when(usage[0].since) if usage else None,
        until=None if until is None else when(until),
        seconds=sum((at if row.until is None else row.until) - row.since for row in usage),
        quoted_price=Nanos(attempt.price),
        reported_price=reported,
        quoted=_at_price(usage, attempt, attempt.price, offer, at),
        reported=None if reported is None else _at_price(usage, attempt, reported, offer, at),
        metered=by_our_clock,
        bill=bill,
        difference=difference,
        tolerance=within,
        verdict=verdict(bill, difference, within),
        final=bool(attempt.bill_final),
        checked_at=None if attempt.bill_at is None else when(attempt.bill_at),
        next_at=(
            None if attempt.bill_final or attempt.bill_due_at is None else when(attempt.bill_due_at)
        ),
    )


def tolerance(usage: Sequence[UsageRow], price: Price, by_our_clock: Nanos) -> Nanos:
    """The vendor's increment or minimum and a minute, or two per cent: whichever is more."""
    dearest = max((row.rate for row in usage), default=0)
    granularity_s = max(price.increment_s if price.increment_s > 1 else 0, price.minimum_s)
    return Nanos(
        max(cost(dearest, TOLERANCE_S + granularity_s), by_our_clock * TOLERANCE_PER_CENT // 100)
    )


def verdict(bill: Bill, difference: Nanos | None, within: Nanos) -> Verdict:
    """Whether the provider's final word is what was metered."""
    if bill.status in {"running", "pending"}:
        return "open"
    if bill.status != "ended" or difference is None:
        return "cannot_tell"
    return "agrees" if abs(difference) <= within else "differs"


def _at_price(
    usage: Sequence[UsageRow], attempt: AttemptRow, price: int, offer: Offer, at: float
) -> Nanos:
    """The same stretches at another hourly price; stopped ones cost what was quoted for that."""
    if not usage:
        return FREE
    stopped = attempt.price_stopped
    as_if = [
        row if row.rate == stopped != attempt.price else msgspec.structs.replace(row, rate=price)
        for row in usage
    ]
    return metered(as_if, offer, when(at))


def _latest(usage: Sequence[UsageRow]) -> float | None:
    return max((row.until for row in usage if row.until is not None), default=None)
