"""When machines are to end: wishes, whether they are confirmed, and who keeps watch meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gpubroker.model.errors import WrongState
from gpubroker.store.database import Database
from gpubroker.store.events import record
from gpubroker.store.rows import AttemptRow, LaunchRow

SLACK_S = 90.0
"""Clocks and the timer's steps may differ by so much: a confirmed end is that near to the wish."""
KEEPER = "keeper:"
FRESH_S = 180.0
"""A keeper that was not heard of for so long counts as gone."""
_IN_USE = (
    "attempts.status = 'made' AND ready_at IS NOT NULL AND attempts.wanted = 'running' "
    "AND launches.wanted = 'running' AND ended_at IS NULL"
)


class Expiries:
    """Of one store."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def move(
        self, wishes: Mapping[str, float], at: float, guard: Callable[[Database], None]
    ) -> None:
        """Wish for other ends, by launch. No lease is needed: whoever keeps watch makes it true.

        What was confirmed is of the former wish, and is forgotten. All or none: `guard` is asked
        before the commit, and what it raises undoes all. Raises WrongState where one of them is
        over or being ended.
        """
        with self._db.transaction() as db:
            for launch_id, expires_at in sorted(wishes.items()):
                self._move_one(db, launch_id, expires_at, at)
            guard(db)

    @staticmethod
    def _move_one(db: Database, launch_id: str, expires_at: float, at: float) -> None:
        launch = db.execute(
            f"SELECT name, wanted, ended_at, expires_at FROM launches WHERE id = ? {db.locking}",  # noqa: S608 - a constant
            (launch_id,),
        ).fetchone()
        if launch is None:
            raise KeyError(launch_id)
        if launch["wanted"] == "gone" or launch["ended_at"] is not None:
            raise WrongState(f"{launch['name']} is over, or being ended: its end cannot be moved")
        db.execute(
            "UPDATE launches SET expires_at = ?, end_wished = 1 WHERE id = ?",
            (expires_at, launch_id),
        )
        db.execute("UPDATE attempts SET expires_at = NULL WHERE launch_id = ?", (launch_id,))
        data = {"former": launch["expires_at"], "expires_at": expires_at}
        record(db, at, "extended", launch_id, None, data)

    def unconfirmed(self) -> list[AttemptRow]:
        """Machines in use whose wished end nothing but a running gpubroker knows, and could."""
        # What its cloud or its timer ends later than wished ends in time all the same, while
        # somebody watches: but the wish is to hold without.
        rows = self._db.execute(
            f"SELECT attempts.* FROM attempts JOIN launches ON launches.id = launch_id "  # noqa: S608 - constants
            f"WHERE {_IN_USE} AND launches.expires_at IS NOT NULL AND attempts.expires_at IS NULL "
            "AND expiry <> 'controller_only' ORDER BY attempts.created_at"
        )
        return [AttemptRow(**dict(row)) for row in rows]

    def idle_due(self, looked_before: float) -> list[LaunchRow]:
        """Machines in use that end when idle, and were last looked at before then."""
        rows = self._db.execute(
            "SELECT * FROM launches WHERE idle_s IS NOT NULL AND wanted = 'running' "
            "AND ended_at IS NULL AND coalesce(looked_idle_at, 0) <= ? AND EXISTS (SELECT 1 "
            "FROM attempts WHERE launch_id = launches.id AND status = 'made' "
            "AND wanted = 'running' AND ready_at IS NOT NULL) ORDER BY created_at, id",
            (looked_before,),
        )
        return [LaunchRow(**dict(row)) for row in rows]

    # Who keeps watch

    def beat(self, host: str, at: float) -> None:
        """A keeper on this host lives."""
        self._until(host, at + FRESH_S)

    def leave(self, host: str, at: float) -> None:
        """It ends."""
        self._until(host, at)

    def keepers(self, at: float) -> tuple[str, ...]:
        """Hosts whose keeper was heard of lately."""
        rows = self._db.execute(
            "SELECT name FROM claims WHERE name LIKE ? AND until > ? AND until <= ? ORDER BY name",
            (f"{KEEPER}%", at, at + FRESH_S),
        )
        return tuple(row["name"].removeprefix(KEEPER) for row in rows)

    def _until(self, host: str, until: float) -> None:
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO claims (name, until) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET until = excluded.until",
                (KEEPER + host, until),
            )
