"""Budgets, and what was spent and begun: everything that decides whether there is money left."""

from __future__ import annotations

from typing import TypeVar

from msgspec import Struct

from gpubroker.store.database import Database
from gpubroker.store.rows import AttemptStatus, UsageRow, Wanted

Row = TypeVar("Row", bound=Struct)


class BudgetRow(Struct, frozen=True, kw_only=True):
    """budgets."""

    name: str
    amount: int
    period: str
    scope: str
    value: str
    ladder: str
    hard: int
    created_at: float


class LaunchSpend(Struct, frozen=True, kw_only=True):
    """Of launches: what its cost follows from."""

    id: str
    name: str
    wanted: Wanted
    project: str
    tags: str
    candidates: str
    tolerance: float
    max_price: int | None
    expires_at: float | None
    ended_at: float | None


class AttemptSpend(Struct, frozen=True, kw_only=True):
    """Of attempts: what its cost follows from."""

    id: str
    launch_id: str
    offer: str
    price: int
    price_stopped: int
    status: AttemptStatus
    wanted: str
    created_at: float
    ready_at: float | None
    closed_at: float | None
    expires_at: float | None
    bill: str | None
    bill_final: int


class Ledger(Struct, frozen=True):
    """Launches that cost something since a time, or still can."""

    launches: list[LaunchSpend]
    attempts: dict[str, list[AttemptSpend]]
    """By launch, in the order they were made."""
    usage: dict[str, list[UsageRow]]
    """By attempt."""


class Budgets:
    """The table, of one store."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def put(self, row: BudgetRow) -> None:
        """Set it; one of that name keeps the time that it counts from."""
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO budgets (name, amount, period, scope, value, ladder, hard, "
                "created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
                "amount = excluded.amount, period = excluded.period, scope = excluded.scope, "
                "value = excluded.value, ladder = excluded.ladder, hard = excluded.hard",
                (
                    row.name,
                    row.amount,
                    row.period,
                    row.scope,
                    row.value,
                    row.ladder,
                    row.hard,
                    row.created_at,
                ),
            )

    def drop(self, name: str) -> bool:
        """Answer: whether there was one."""
        with self._db.transaction() as db:
            return db.execute("DELETE FROM budgets WHERE name = ?", (name,)).rowcount == 1

    def all(self) -> list[BudgetRow]:
        """By name."""
        return _rows(self._db, BudgetRow, "SELECT * FROM budgets ORDER BY name")

    def hard_ones_held(self) -> list[BudgetRow]:
        """Within a transaction: whoever else would spend from one waits until it is over."""
        sql = f"SELECT * FROM budgets WHERE hard = 1 ORDER BY name {self._db.locking}"  # noqa: S608 - a constant
        return _rows(self._db, BudgetRow, sql)

    def ledger(self, since: float) -> Ledger:
        """What has not ended, or ended after `since`."""
        concerned = "(launches.ended_at IS NULL OR launches.ended_at > ?)"
        launches = _rows(
            self._db,
            LaunchSpend,
            f"SELECT {_columns(LaunchSpend, 'launches')} FROM launches WHERE {concerned}",  # noqa: S608 - constants
            since,
        )
        attempts: dict[str, list[AttemptSpend]] = {}
        for attempt in _rows(
            self._db,
            AttemptSpend,
            f"SELECT {_columns(AttemptSpend, 'attempts')} FROM attempts "  # noqa: S608 - constants
            f"JOIN launches ON launches.id = launch_id WHERE {concerned} ORDER BY attempts.seq",
            since,
        ):
            attempts.setdefault(attempt.launch_id, []).append(attempt)
        usage: dict[str, list[UsageRow]] = {}
        for stretch in _rows(
            self._db,
            UsageRow,
            "SELECT usage.* FROM usage JOIN attempts ON attempts.id = attempt_id "  # noqa: S608 - constants
            f"JOIN launches ON launches.id = launch_id WHERE {concerned} ORDER BY usage.since",
            since,
        ):
            usage.setdefault(stretch.attempt_id, []).append(stretch)
        return Ledger(launches, attempts, usage)


def _columns(kind: type[Struct], table: str) -> str:
    return ", ".join(f"{table}.{name}" for name in kind.__struct_fields__)


def _rows(db: Database, kind: type[Row], sql: str, *values: object) -> list[Row]:
    return [kind(**dict(row)) for row in db.execute(sql, values)]
