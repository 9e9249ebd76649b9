"""Budgets: set and shown, and asked in the transaction of each launch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec import structs

from gpubroker.fleet.burn import Span, hourly_at_most, increment_s, shares, total
from gpubroker.fleet.requests import LaunchRequest, Plan
from gpubroker.model.budget import Budget, BudgetReport, BudgetShare, Rung, Scope
from gpubroker.model.durations import short_span
from gpubroker.model.errors import BudgetExceeded, Invalid, NotFound
from gpubroker.model.money import Nanos, cost, usd
from gpubroker.store.budgets import BudgetRow, Budgets, LaunchSpend, Ledger
from gpubroker.store.database import Database
from gpubroker.store.rows import when
from gpubroker.store.store import Store

SHORTEST_S = 600.0
"""A shorter time is not worth a machine: none is suggested then."""
MOST_RUNGS = 10
PERIOD_WORDS = {"total": "", "day": " today", "week": " this week", "month": " this month"}


class UnknownBudget(NotFound):
    """No budget of that name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        from difflib import get_close_matches

        near = get_close_matches(name, list(known), n=2)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        super().__init__(f"no budget is called {name!r}.{hint}")


# Kept


def scoped(project: str | None, tag: str | None) -> tuple[Scope, str]:
    """Whose spending a budget counts. Raises Invalid for both at once."""
    if project is not None and tag is not None:
        raise Invalid("a budget is of a project or of a tag, not of both")
    if project is not None:
        return "project", project
    return ("all", "") if tag is None else ("tag", tag)


def put(store: Store, budget: Budget) -> None:
    """Set it, or change the one of that name. Raises Invalid."""
    _check(budget)
    store.budgets.put(
        BudgetRow(
            name=budget.name,
            amount=budget.amount,
            period=budget.period,
            scope=budget.scope,
            value=budget.value,
            ladder=msgspec.json.encode(budget.ladder).decode(),
            hard=int(budget.hard),
            created_at=budget.created_at.timestamp(),
        )
    )


def remove(store: Store, name: str) -> None:
    """Raises UnknownBudget."""
    if not store.budgets.drop(name):
        raise UnknownBudget(name, (row.name for row in store.budgets.all()))


def reports(store: Store, now: datetime) -> tuple[BudgetReport, ...]:
    """Every budget in its present period."""
    ledgers = _Ledgers(store.budgets)
    return tuple(_report(ledgers, _budget(row), now) for row in store.budgets.all())


def report(store: Store, name: str, now: datetime) -> BudgetReport:
    """One of them. Raises UnknownBudget."""
    rows = {row.name: row for row in store.budgets.all()}
    if name not in rows:
        raise UnknownBudget(name, rows)
    return _report(_Ledgers(store.budgets), _budget(rows[name]), now)


# Asked


def check_plan(store: Store, request: LaunchRequest, plan: Plan, now: datetime) -> None:
    """Whether the plan fits as things are now. Raises BudgetExceeded; the launch asks again."""
    rows = [row for row in store.budgets.all() if row.hard]
    if not rows or not plan.ranked:
        return
    nodes = [
        LaunchSpend(
            id=f"node {number}",
            name=request.name or "",
            wanted="running",
            project=request.project,
            tags=msgspec.json.encode(request.tags).decode(),
            candidates=msgspec.json.encode(plan.ranked).decode(),
            tolerance=request.max_price_increase,
            max_price=request.query.max_price,
            expires_at=None if plan.expires_at is None else plan.expires_at.timestamp(),
            ended_at=None,
        )
        for number in range(request.nodes)
    ]
    _refuse(rows, _Ledgers(store.budgets, nodes), frozenset(one.id for one in nodes), now)


def guard(
    launch_ids: Iterable[str], now: datetime, *, undone: str = "Nothing was rented"
) -> Callable[[Database], None]:
    """For `Store.add_launch`: of two launches at once the second one counts the first.

    All of a gang are asked for together. For what runs already, `undone` says what a refusal left
    as it was. Raises BudgetExceeded, which undoes the transaction.
    """
    asking = frozenset(launch_ids)

    def check(db: Database) -> None:
        budgets = Budgets(db)
        rows = budgets.hard_ones_held()
        _refuse(rows, _Ledgers(budgets), asking, now, undone)

    return check


def _refuse(
    rows: Iterable[BudgetRow],
    ledgers: _Ledgers,
    asking: frozenset[str],
    now: datetime,
    undone: str = "Nothing was rented",
) -> None:
    for budget in map(_budget, rows):
        since, until = budget.window(now)
        ledger = ledgers.since(since)
        covered = {one.id: one for one in ledger.launches if _covers(budget, one)}
        wanted = [covered[one] for one in asking & covered.keys()]
        if not wanted:
            continue
        span = _span(since, now, until)
        parts = shares(ledger, covered.values(), span)
        asked = total(one.to_come for one in parts if one.launch_id in asking)
        others = [one for one in parts if one.launch_id not in asking]
        if endless := next((one.name for one in others if one.to_come is None), None):
            raise BudgetExceeded(
                f'budget "{budget.name}" has nothing to promise: {endless} has no expiry, or no '
                f"price yet, and could use it all up. {undone}. gpubroker budget show "
                f"{budget.name} shows its part"
            )
        # A machine that is extended has spent some of it already.
        spent = sum(one.spent for one in parts if one.launch_id in asking)
        left = budget.amount - (_committed(others) or 0) - spent
        if asked is None:
            raise BudgetExceeded(
                f'budget "{budget.name}" has {_money(left)} left, and this launch has no highest '
                f"cost. {undone}. Give it an expiry (--ttl 4h) or a cap (--max-price)"
            )
        if asked > left:
            burning = sum(one.burn for one in parts if one.launch_id in asking)
            highest = sum(hourly_at_most(ledger, one) or 0 for one in wanted)
            rate = burning or highest
            step_s = max(increment_s(ledger, one) for one in wanted)
            shorter = _longest(rate, left, step_s)
            way = f"Raise it: gpubroker budget set {budget.name} AMOUNT"
            if shorter:
                way = f"It may run {shorter} from now" if burning else f"Shorter: --ttl {shorter}"
            raise BudgetExceeded(
                f'budget "{budget.name}" has {_money(left)} left{PERIOD_WORDS[budget.period]}; '
                f"this launch could cost {_money(asked, up=True)}{' more' if burning else ''}. "
                f"{undone}. {way}"
            )


class _Ledgers:
    """Read once for each beginning of a period; `adding` are launches that are not stored yet."""

    def __init__(self, budgets: Budgets, adding: Sequence[LaunchSpend] = ()) -> None:
        self._budgets = budgets
        self._adding = adding
        self._read: dict[float, Ledger] = {}

    def since(self, when: datetime) -> Ledger:
        at = when.timestamp()
        if at not in self._read:
            ledger = self._budgets.ledger(at)
            ledger.launches.extend(self._adding)
            self._read[at] = ledger
        return self._read[at]


def _report(ledgers: _Ledgers, budget: Budget, now: datetime) -> BudgetReport:
    since, until = budget.window(now)
    ledger = ledgers.since(since)
    covered = [one for one in ledger.launches if _covers(budget, one)]
    parts = shares(ledger, covered, _span(since, now, until))
    spent = Nanos(sum(one.spent for one in parts))
    burn = Nanos(sum(one.burn for one in parts))
    reached = [rung for rung in budget.ladder if spent >= rung.at * budget.amount]
    return BudgetReport(
        budget=budget,
        since=since,
        until=until,
        spent=spent,
        committed=_committed(parts),
        burn=burn,
        used_up_at=_used_up_at(budget, spent, burn, now, until),
        reached=reached[-1] if reached else None,
        shares=tuple(parts),
    )


def _used_up_at(
    budget: Budget, spent: Nanos, burn: Nanos, now: datetime, until: datetime | None
) -> datetime | None:
    left = budget.amount - spent
    if left <= 0:
        return now
    try:
        at = when(now.timestamp() + left / burn * 3600)
    except (ZeroDivisionError, OverflowError, ValueError, OSError):
        return None  # nothing burns, or so little that no calendar reaches there
    return at if until is None or at < until else None


def _committed(parts: Iterable[BudgetShare]) -> Nanos | None:
    listed = list(parts)
    to_come = total(one.to_come for one in listed)
    return None if to_come is None else Nanos(sum(one.spent for one in listed) + to_come)


def _longest(rate: int, left: int, step_s: int) -> str:
    """The longest --ttl that `left` covers, to the minute; "" where that is not worth a machine."""
    if rate <= 0 or left <= 0:
        return ""
    step_s = max(60, step_s)
    seconds = left / rate * 3600 // step_s * step_s
    if cost(rate, seconds, increment_s=step_s) > left:
        seconds -= step_s
    return short_span(seconds) if seconds >= SHORTEST_S else ""


def _covers(budget: Budget, launch: LaunchSpend) -> bool:
    tags: Mapping[str, str] = msgspec.json.decode(launch.tags, type=dict[str, str])
    return budget.covers(launch.project, tags)


def _span(since: datetime, now: datetime, until: datetime | None) -> Span:
    return Span(since.timestamp(), now.timestamp(), None if until is None else until.timestamp())


def _budget(row: BudgetRow) -> Budget:
    return msgspec.convert(
        {
            **structs.asdict(row),
            "ladder": msgspec.json.decode(row.ladder, type=tuple[Rung, ...]),
            "hard": bool(row.hard),
            "created_at": when(row.created_at),
        },
        type=Budget,
        from_attributes=True,
    )


def _check(budget: Budget) -> None:
    shown = budget.name.replace("-", "").replace("_", "").replace(".", "")
    if not shown.isalnum() or not shown.isascii() or len(budget.name) > 64:  # noqa: PLR2004 - a name
        raise Invalid("a budget's name is made of letters, digits, - _ and ., 64 at most")
    if budget.amount <= 0:
        raise Invalid("a budget is more than $0")
    if budget.scope == "project" and not budget.value:
        raise Invalid("the project of a budget has a name")
    if budget.scope == "tag" and not budget.value.partition("=")[0]:
        raise Invalid("a budget's tag is key=value")
    ats = [rung.at for rung in budget.ladder]
    if ats != sorted(ats) or any(not 0 < at <= 10 for at in ats) or len(ats) > MOST_RUNGS:  # noqa: PLR2004 - ten times over is no rung
        raise Invalid("the rungs of a budget rise, from more than 0 % to 1000 %")
    if not budget.hard and any(rung.do != "warn" for rung in budget.ladder):
        raise Invalid("a soft budget only warns: make it hard, or leave stop and terminate out")


def _money(amount: int, *, up: bool = False) -> str:
    """In cents, rounded against the launch: never shown as if it fitted."""
    cents = amount / 10_000_000
    import math

    whole = math.ceil(cents) if up else math.floor(max(cents, 0))
    return f"${usd(whole * 10_000_000):,.2f}"
