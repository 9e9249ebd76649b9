"""Limits on what may be spent: whose spending counts, in which period, and what happens on the way.

Periods are the calendar's, in UTC: a day, a week from Monday, a month. `total` counts from the
moment the budget was first set.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from gpubroker.model.money import Nanos

Period = Literal["total", "day", "week", "month"]
Scope = Literal["all", "project", "tag"]
Action = Literal["warn", "stop", "terminate"]


class Rung(Struct, frozen=True):
    """What happens once that share of the amount is spent."""

    at: float
    """0.8 is 80 %."""
    do: Action


LADDER = (Rung(0.8, "warn"), Rung(0.95, "stop"), Rung(1.0, "terminate"))
"""Of a hard budget, unless told otherwise."""
SOFT_LADDER = (Rung(0.8, "warn"), Rung(1.0, "warn"))


class Budget(Struct, frozen=True, kw_only=True):
    """A limit in one period. A hard one refuses launches and ends machines, a soft one warns."""

    name: str
    amount: Nanos
    period: Period = "total"
    scope: Scope = "all"
    value: str = ""
    """The project's name, or key=value of the tag."""
    ladder: tuple[Rung, ...] = LADDER
    """By rising share."""
    hard: bool = True
    created_at: datetime

    def covers(self, project: str, tags: Mapping[str, str]) -> bool:
        """Whether spending for that project under those tags counts."""
        if self.scope == "project":
            return project == self.value
        if self.scope == "tag":
            key, _, value = self.value.partition("=")
            return tags.get(key) == value
        return True

    def window(self, now: datetime) -> tuple[datetime, datetime | None]:
        """The period around `now`: from, and until (None for `total`)."""
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if self.period == "day":
            return midnight, midnight + timedelta(days=1)
        if self.period == "week":
            monday = midnight - timedelta(days=midnight.weekday())
            return monday, monday + timedelta(days=7)
        if self.period == "month":
            first = midnight.replace(day=1)
            return first, (first + timedelta(days=32)).replace(day=1)
        return self.created_at, None


class BudgetShare(Struct, frozen=True, kw_only=True):
    """One launch's part in a budget."""

    launch_id: str
    name: str
    spent: Nanos
    to_come: Nanos | None
    """At most, until its expiry or the end of the period; None: without end."""
    burn: Nanos
    """Per hour, now."""


class BudgetReport(Struct, frozen=True, kw_only=True):
    """A budget in its present period."""

    budget: Budget
    since: datetime
    until: datetime | None
    spent: Nanos
    committed: Nanos | None
    """Spent, and what was begun can still cost at most; None: something runs without end."""
    burn: Nanos
    """Per hour, of all its machines now."""
    used_up_at: datetime | None
    """At the present burn; None where that is not in this period, or nothing burns."""
    reached: Rung | None
    """The highest rung."""
    shares: tuple[BudgetShare, ...] = ()
    """Of launches that spent or can spend in this period."""

    @property
    def left(self) -> Nanos:
        """What a launch may still cost."""
        if self.committed is None:
            return Nanos(0)
        return Nanos(max(0, self.budget.amount - self.committed))
