"""Gangs: launches that are had all together or not at all, decided in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from gpubroker.store.database import Database
from gpubroker.store.events import record
from gpubroker.store.rows import LaunchRow


class Gangs:
    """The launches of a gang, whoever holds their leases: what is decided is decided once."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def members(self, gang: str) -> list[LaunchRow]:
        """Its launches, those that have ended too, in the order of their names."""
        return _members(self._db, gang)

    def form(self, gang: str, at: float) -> bool:
        """All are had: from now on each goes its own way. False where one is not wanted."""
        with self._db.transaction() as db:
            rows = _members(db, gang, db.locking)
            if not _forming(rows) or any(row.wanted == "gone" or row.ended_at for row in rows):
                return False
            db.execute("UPDATE launches SET gang_until = NULL WHERE gang = ?", (gang,))
            for row in rows:
                record(db, at, "gang_formed", row.id, None, {"gang": gang, "nodes": len(rows)})
            return True

    def dissolve(self, gang: str, at: float, why: str) -> bool:
        """None of them is wanted any more. False where all were had before."""
        with self._db.transaction() as db:
            rows = _members(db, gang, db.locking)
            if not _forming(rows):
                return False
            for row in rows:
                if row.wanted == "gone" or row.ended_at is not None:
                    continue
                db.execute(
                    "UPDATE launches SET wanted = 'gone', error = ?, error_code = 'gang_failed' "
                    "WHERE id = ?",
                    (why, row.id),
                )
                record(db, at, "gang_failed", row.id, None, {"gang": gang, "why": why})
            return True


def _members(db: Database, gang: str, locking: str = "") -> list[LaunchRow]:
    sql = f"SELECT * FROM launches WHERE gang = ? ORDER BY length(name), name {locking}"  # noqa: S608 - a constant
    return [LaunchRow(**dict(row)) for row in db.execute(sql, (gang,))]


def _forming(rows: Sequence[LaunchRow]) -> bool:
    return bool(rows) and all(row.gang_until is not None for row in rows)
