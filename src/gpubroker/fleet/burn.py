"""What launches have cost in a period, and what they can still cost in it: pure arithmetic.

Spent is the final bill where there is one, spread over the machine's metered time, else what was
metered. To come is, of a machine, its present rate until it expires or the period ends; of a launch
that has no machine yet, the dearest offer that it may still take.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from gpubroker.model.bill import Bill
from gpubroker.model.budget import BudgetShare
from gpubroker.model.money import FREE, Nanos, cost
from gpubroker.store.budgets import AttemptSpend, LaunchSpend, Ledger
from gpubroker.store.rows import OPEN_STATUSES, UsageRow


class _Terms(Struct, frozen=True):
    increment_s: int = 1
    minimum_s: int = 0


class _Offer(Struct, frozen=True):
    price: _Terms = _Terms()


class _Planned(Struct, frozen=True):
    price: int
    offer: _Offer = _Offer()


class Span(Struct, frozen=True):
    """A period, and the present within it; times as the store keeps them."""

    since: float
    now: float
    until: float | None


def shares(ledger: Ledger, launches: Iterable[LaunchSpend], span: Span) -> list[BudgetShare]:
    """Each launch's part; of those that neither spent nor can spend, none."""
    found = [_share(ledger, launch, span) for launch in launches]
    return [one for one in found if one.spent or one.to_come is None or one.to_come or one.burn]


def total(parts: Iterable[Nanos | None]) -> Nanos | None:
    """Their sum; None where one has no end."""
    amount = 0
    for part in parts:
        if part is None:
            return None
        amount += part
    return Nanos(amount)


def hourly_at_most(ledger: Ledger, launch: LaunchSpend) -> int | None:
    """What a launch without a machine may cost an hour: the dearest that it may still take.

    None: it waits to be planned, and no cap says what it may take.
    """
    tried = ledger.attempts.get(launch.id, [])
    prices = [planned.price for planned in _planned(launch)]
    prices += [one.price for one in tried if one.status in OPEN_STATUSES]
    if not prices:
        # It will be planned anew: dearer than the cap nothing is taken.
        known = [one.price for one in tried]
        prices = known if launch.max_price is None else [launch.max_price]
    if not prices:
        return None
    dearest = round(max(prices) * (1 + launch.tolerance))
    return dearest if launch.max_price is None else min(dearest, launch.max_price)


def increment_s(ledger: Ledger, launch: LaunchSpend) -> int:
    """The coarsest step in which its machine may be billed, or the longest minimum."""
    offers = [planned.offer for planned in _planned(launch)]
    offers += [_offer(one) for one in ledger.attempts.get(launch.id, [])]
    return max([1, *(max(one.price.increment_s, one.price.minimum_s) for one in offers)])


def _share(ledger: Ledger, launch: LaunchSpend, span: Span) -> BudgetShare:
    attempts = ledger.attempts.get(launch.id, [])
    return BudgetShare(
        launch_id=launch.id,
        name=launch.name,
        spent=Nanos(sum(_spent(one, ledger.usage.get(one.id, []), span) for one in attempts)),
        to_come=_to_come(ledger, launch, attempts, span),
        burn=Nanos(
            sum(
                row.rate
                for one in attempts
                for row in ledger.usage.get(one.id, [])
                if row.until is None
            )
        ),
    )


def _spent(attempt: AttemptSpend, usage: Sequence[UsageRow], span: Span) -> int:
    terms = _offer(attempt).price
    end = span.now if span.until is None else min(span.now, span.until)
    metered = sum(_until(row, end, terms) - _until(row, span.since, terms) for row in usage)
    billed = _final(attempt)
    if billed is None:
        return metered
    overall = sum(_until(row, span.now, terms) for row in usage)
    if overall:
        return billed * metered // overall
    closed_at = attempt.closed_at or attempt.created_at
    return billed if span.since <= closed_at <= end else 0


def _to_come(
    ledger: Ledger, launch: LaunchSpend, attempts: Sequence[AttemptSpend], span: Span
) -> Nanos | None:
    if launch.ended_at is not None or launch.wanted == "gone":
        return FREE
    in_use = next(
        (a for a in attempts if a.status == "made" and a.wanted == "running" and a.ready_at), None
    )
    confirmed = None if in_use is None else in_use.expires_at
    ends = [launch.expires_at, confirmed, span.until]
    end = min((at for at in ends if at is not None), default=None)
    if in_use is None:
        rate = hourly_at_most(ledger, launch)
        if end is None or rate is None:
            return None
        return cost(rate, max(0.0, end - span.now), increment_s=increment_s(ledger, launch))
    running = [row for row in ledger.usage.get(in_use.id, []) if row.until is None and row.rate]
    if launch.wanted == "running" and sum(row.rate for row in running) <= in_use.price_stopped:
        # It stands still and is to start: from then on it costs what it was rented for.
        still = UsageRow(attempt_id=in_use.id, since=span.now, until=None, rate=in_use.price)
        running = [still] if in_use.price else []
    if end is None:
        return None if running else FREE
    terms = _offer(in_use).price
    end = max(end, span.now)
    return Nanos(sum(_until(row, end, terms) - _until(row, span.now, terms) for row in running))


def _until(row: UsageRow, at: float, terms: _Terms) -> int:
    """What a stretch of use has cost by then: adds up over any division into periods."""
    end = at if row.until is None else min(at, row.until)
    if end <= row.since:
        return 0
    return cost(row.rate, end - row.since, increment_s=terms.increment_s, minimum_s=terms.minimum_s)


def _final(attempt: AttemptSpend) -> int | None:
    if attempt.bill is None or not attempt.bill_final:
        return None
    return msgspec.json.decode(attempt.bill, type=Bill).amount


def _offer(attempt: AttemptSpend) -> _Offer:
    return msgspec.json.decode(attempt.offer, type=_Offer)


def _planned(launch: LaunchSpend) -> list[_Planned]:
    return msgspec.json.decode(launch.candidates, type=list[_Planned])
