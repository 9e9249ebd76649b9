"""Spend from what was metered and billed, never from today's prices: pure sums over the store.

Each stretch is rounded once; a stretch or a bill that crosses a border of days (UTC) is divided
so that its parts sum to it to the nano-dollar.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from gpubroker.fleet.view import bill_of
from gpubroker.model.bill import Bill
from gpubroker.model.costs import NOTHING_SPENT, CostRow, Costs
from gpubroker.model.money import Nanos, cost
from gpubroker.model.offer import Offer
from gpubroker.store.rows import AttemptRow, LaunchRow, UsageRow, when
from gpubroker.store.store import Store

DAY_S = 86400
_FINE = 1_000_000
"""Parts of a second that times are counted in: dividing is integer work."""

Span = tuple[float, float, int]
"""(start, end, weight): a part of an amount, spread evenly over its time."""


class Piece(NamedTuple):
    """One attempt's spend on one day."""

    day: int
    """Days since the epoch, UTC."""
    metered: int
    billed: int
    not_billed: int
    seconds: float


def costs(store: Store, now: float, since: float | None = None) -> Costs:
    """What was spent from `since` (None: ever) until now."""
    start = 0.0 if since is None else since
    attempts = store.charged_since(start)
    usage: dict[str, list[UsageRow]] = defaultdict(list)
    for row in store.usage_since(start):
        usage[row.attempt_id].append(row)
    for attempt in attempts:
        if attempt.created_at < start:
            # A bill without lines is divided over all of its machine's time.
            usage[attempt.id] = store.usage(attempt.id)
    launches = {row.id: row for row in store.launches(include_ended=True)} if attempts else {}
    tables: dict[str, dict[str, _Sum]] = {table: {} for table in _TABLES}
    total = _Sum("total", "total")
    for attempt in attempts:
        offer = msgspec.json.decode(attempt.offer, type=Offer)
        launch = launches[attempt.launch_id]
        labels = list(_labels(launch, attempt, offer))
        for piece in pieces(attempt, usage[attempt.id], offer, start, now):
            total.add(piece, attempt.id)
            day = when(piece.day * DAY_S).date().isoformat()
            for table, key, name in (*labels, ("day", day, day)):
                tables[table].setdefault(key, _Sum(key, name)).add(piece, attempt.id)
    return Costs(
        since=None if since is None else when(since),
        until=when(now),
        total=total.row() if attempts else NOTHING_SPENT,
        by={table: _ranked(table, rows.values()) for table, rows in tables.items()},
    )


_TABLES = ("instance", "provider", "gpu", "day", "project", "tag")


def _labels(launch: LaunchRow, attempt: AttemptRow, offer: Offer) -> Iterator[tuple[str, str, str]]:
    """(table, key, name) of every row that an attempt's spend is in."""
    yield "instance", launch.id, launch.name
    yield "provider", attempt.provider, attempt.provider
    yield "gpu", offer.gpu.label, offer.gpu.label
    if launch.project:
        yield "project", launch.project, launch.project
    tags: Mapping[str, str] = msgspec.json.decode(launch.tags or "{}", type=dict[str, str])
    for key, value in sorted(tags.items()):
        yield "tag", f"{key}={value}", f"{key}={value}"


def pieces(
    attempt: AttemptRow, usage: Sequence[UsageRow], offer: Offer, since: float, now: float
) -> list[Piece]:
    """An attempt's spend after `since`, day by day."""
    metered: dict[int, int] = defaultdict(int)
    seconds: dict[int, float] = defaultdict(float)
    spans: list[Span] = []
    for row in usage:
        end = max(row.since, now if row.until is None else row.until)
        amount = cost(
            row.rate,
            end - row.since,
            increment_s=offer.price.increment_s,
            minimum_s=offer.price.minimum_s,
        )
        spans.append((row.since, end, amount))
        for day, part in spread(amount, [(row.since, end, 1)], since).items():
            metered[day] += part
        for day, begin, finish in _days(max(row.since, since), end):
            seconds[day] += finish - begin
    bill = bill_of(attempt)
    final = bool(attempt.bill_final) and bill.amount is not None
    billed: dict[int, int] = {}
    if final and bill.amount is not None:
        # By the record's own lines; without any, as it was metered.
        billed = spread(bill.amount, _lines(bill) or spans, since)
    days = sorted({*metered, *billed, *seconds})
    return [
        Piece(
            day,
            metered[day],
            billed.get(day, 0),
            0 if final else metered[day],
            seconds.get(day, 0.0),
        )
        for day in days
    ]


def _lines(bill: Bill) -> list[Span]:
    """Credits among them cannot be divided by: such a bill is divided as it was metered."""
    lines: list[Span] = [
        (line.start.timestamp(), line.end.timestamp(), line.amount) for line in bill.lines
    ]
    return [] if any(weight < 0 for _, _, weight in lines) else lines


def spread(amount: int, spans: Iterable[Span], since: float = 0.0) -> dict[int, int]:
    """An amount by day: divided by the spans' weights and time, in parts that sum to it.

    What falls before `since` is left out.
    """
    shares: dict[tuple[int, bool], int] = defaultdict(int)
    told = list(spans)
    spans = [one for one in told if one[2] > 0] or [(start, end, 1) for start, end, _ in told]
    whole = 0
    unit = max((_fine(end) - _fine(start) for start, end, _ in spans), default=0) or 1
    for start, end, weight in spans:
        length = _fine(end) - _fine(start)
        if length <= 0:
            shares[int(start // DAY_S), start >= since] += weight * unit
            whole += weight * unit
            continue
        for day, begin, finish in _days(start, end, since):
            share = weight * unit * (_fine(finish) - _fine(begin)) // length
            shares[day, begin >= since] += share
            whole += share
    parts: dict[int, int] = {}
    reached = given = 0
    for (day, counts), share in sorted(shares.items()):
        reached += share
        upto = _half_even(amount * reached, whole)
        if counts:
            parts[day] = parts.get(day, 0) + upto - given
        given = upto
    return parts


def _days(start: float, end: float, cut: float | None = None) -> Iterator[tuple[int, float, float]]:
    """(day, from, to) of every day that a time reaches into, divided at `cut` too."""
    while start < end:
        day = int(start // DAY_S)
        until = min(end, float((day + 1) * DAY_S))
        if cut is not None and start < cut < until:
            until = cut
        yield day, start, until
        start = until


def _fine(seconds: float) -> int:
    return round(seconds * _FINE)


def _half_even(numerator: int, denominator: int) -> int:
    if not denominator:
        return 0
    whole, rest = divmod(numerator, denominator)
    twice = 2 * rest
    return whole + (twice > denominator or (twice == denominator and whole % 2 == 1))


class _Sum:
    """A row in the making."""

    def __init__(self, key: str, name: str) -> None:
        self._key, self._name = key, name
        self._metered = self._billed = self._not_billed = 0
        self._seconds = 0.0
        self._attempts: set[str] = set()

    def add(self, piece: Piece, attempt: str) -> None:
        self._metered += piece.metered
        self._billed += piece.billed
        self._not_billed += piece.not_billed
        self._seconds += piece.seconds
        self._attempts.add(attempt)

    def row(self) -> CostRow:
        return CostRow(
            key=self._key,
            name=self._name,
            metered=Nanos(self._metered),
            billed=Nanos(self._billed),
            not_billed=Nanos(self._not_billed),
            seconds=self._seconds,
            machines=len(self._attempts),
        )


def _ranked(table: str, sums: Iterable[_Sum]) -> tuple[CostRow, ...]:
    rows = [one.row() for one in sums]
    if table == "day":
        return tuple(sorted(rows, key=lambda row: row.key))
    return tuple(sorted(rows, key=lambda row: (-row.metered, row.key)))
