"""Warnings among the events, and the outbox of each channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from msgspec import Struct

from gpubroker.store.database import Database, marks
from gpubroker.store.events import FOR_EVER, claimed, record

Row = TypeVar("Row", bound=Struct)


class WarningRow(Struct, frozen=True, kw_only=True):
    """An event and the name of its machine."""

    id: int
    at: float
    launch_id: str | None
    kind: str
    data: str
    name: str | None


class DueNotice(Struct, frozen=True, kw_only=True):
    """A warning that a channel has not had yet."""

    id: int
    at: float
    launch_id: str | None
    kind: str
    data: str
    name: str | None
    tries: int


class Sent(Struct, frozen=True, kw_only=True):
    """How it went at one channel."""

    sent: int
    waiting: int
    undelivered: int
    error: str


class Drift(Struct, frozen=True, kw_only=True):
    """A machine in use that costs more than its offer said."""

    launch_id: str
    attempt_id: str
    rate: int
    price: int


class Ending(Struct, frozen=True, kw_only=True):
    """A launch whose expiry is near."""

    id: str
    created_at: float
    expires_at: float


class Notices:
    """The table, and the events that are warnings, of one store."""

    def __init__(self, db: Database) -> None:
        self._db = db

    # Events

    def once(
        self,
        key: str,
        at: float,
        kind: str,
        launch_id: str | None = None,
        *,
        again_after: float = FOR_EVER,
        **data: Any,
    ) -> bool:
        """An event, unless one was recorded under that key and is not `again_after` yet."""
        sql = "SELECT 1 AS known FROM claims WHERE name = ? AND until > ?"
        if self._db.execute(sql, (key, at)).fetchone() is not None:
            return False  # as in nearly every round: no transaction for it
        with self._db.transaction() as db:
            first = claimed(db, key, at, again_after)
            if first:
                record(db, at, kind, launch_id, None, data)
        return first

    def warnings(
        self, kinds: Sequence[str], since: float, outliving: Sequence[str] = ("",)
    ) -> list[WarningRow]:
        """Of these kinds, oldest first; of machines that have ended only `outliving` ones."""
        return self._rows(
            WarningRow,
            "SELECT events.id, at, launch_id, kind, data, name FROM events "  # noqa: S608 - marks only
            f"LEFT JOIN launches ON launches.id = launch_id WHERE kind IN ({marks(kinds)}) "
            f"AND at >= ? AND (launches.ended_at IS NULL OR kind IN ({marks(outliving)})) "
            "ORDER BY events.id",
            *kinds,
            since,
            *outliving,
        )

    def ending(self, now: float, within_s: float) -> list[Ending]:
        """Machines that end by themselves within that time."""
        return self._rows(
            Ending,
            "SELECT id, created_at, expires_at FROM launches WHERE ended_at IS NULL "
            "AND wanted <> 'gone' AND expires_at > ? AND expires_at <= ? ORDER BY expires_at",
            now,
            now + within_s,
        )

    def accounts_in_use(self) -> list[tuple[str, str]]:
        """(provider, alias) of accounts that have a machine."""
        rows = self._db.execute(
            "SELECT DISTINCT provider, account FROM attempts WHERE status = 'made' "
            "ORDER BY provider, account"
        )
        return [(row["provider"], row["account"]) for row in rows]

    def drifts(self) -> list[Drift]:
        """Machines in use whose metered rate is beyond what their launch accepts."""
        return self._rows(
            Drift,
            "SELECT launch_id, attempts.id AS attempt_id, rate, price FROM usage "
            "JOIN attempts ON attempts.id = attempt_id JOIN launches ON launches.id = launch_id "
            "WHERE until IS NULL AND ended_at IS NULL AND ready_at IS NOT NULL "
            "AND rate > price * (1 + tolerance)",
        )

    # The outbox

    def begin(self, channel: str, at: float) -> float:
        """Since when a channel is told of warnings: its first round."""
        key = f"channel:{channel}"
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (key, str(at))
            )
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return at if row is None else float(row["value"])

    def fill(self, channel: str, kinds: Sequence[str], since: float, at: float) -> None:
        """A row for each warning that has none: by what is there, whoever wrote it and when."""
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO notices (event_id, channel, next_at) "  # noqa: S608 - marks only
                "SELECT id, CAST(? AS TEXT), CAST(? AS DOUBLE PRECISION) FROM events "
                f"WHERE kind IN ({marks(kinds)}) AND at >= ? AND NOT EXISTS (SELECT 1 "
                "FROM notices WHERE event_id = events.id AND channel = ?) ON CONFLICT DO NOTHING",
                (channel, at, *kinds, since, channel),
            )

    def due(self, channel: str, at: float, most_tries: int, limit: int) -> list[DueNotice]:
        """Oldest first."""
        return self._rows(
            DueNotice,
            "SELECT events.id, at, launch_id, kind, data, name, tries FROM notices "
            "JOIN events ON events.id = event_id LEFT JOIN launches ON launches.id = launch_id "
            "WHERE channel = ? AND sent_at IS NULL AND next_at <= ? AND tries < ? "
            "ORDER BY event_id LIMIT ?",
            channel,
            at,
            most_tries,
            limit,
        )

    def take(self, event_id: int, channel: str, at: float, next_at: float) -> bool:
        """Whether this try is ours; nobody else tries before `next_at`."""
        with self._db.transaction() as db:
            taken = db.execute(
                "UPDATE notices SET tries = tries + 1, next_at = ? WHERE event_id = ? "
                "AND channel = ? AND sent_at IS NULL AND next_at <= ?",
                (next_at, event_id, channel, at),
            )
            return taken.rowcount == 1

    def sent(self, event_id: int, channel: str, at: float) -> None:
        """It is there."""
        self._note(event_id, channel, at, "")

    def failed(self, event_id: int, channel: str, error: str) -> None:
        """It is not there; the next try is where `take` put it."""
        self._note(event_id, channel, None, error)

    def outcome(self, channel: str, most_tries: int) -> Sent:
        """Counts of one channel, and its last error while something waits or was given up."""
        counts = self._db.execute(
            "SELECT count(sent_at) AS sent, "
            "coalesce(sum(CASE WHEN sent_at IS NULL AND tries < ? THEN 1 ELSE 0 END), 0) "
            "AS waiting, "
            "coalesce(sum(CASE WHEN sent_at IS NULL AND tries >= ? THEN 1 ELSE 0 END), 0) "
            "AS undelivered FROM notices WHERE channel = ?",
            (most_tries, most_tries, channel),
        ).fetchone()
        last = self._db.execute(
            "SELECT error FROM notices WHERE channel = ? AND error <> '' "
            "ORDER BY event_id DESC LIMIT 1",
            (channel,),
        ).fetchone()
        told = counts or {"sent": 0, "waiting": 0, "undelivered": 0}
        return Sent(
            sent=int(told["sent"]),
            waiting=int(told["waiting"]),
            undelivered=int(told["undelivered"]),
            error=last["error"] if last else "",
        )

    def _note(self, event_id: int, channel: str, sent_at: float | None, error: str) -> None:
        with self._db.transaction() as db:
            db.execute(
                "UPDATE notices SET sent_at = ?, error = ? WHERE event_id = ? AND channel = ?",
                (sent_at, error, event_id, channel),
            )

    def _rows(self, kind: type[Row], sql: str, *values: Any) -> list[Row]:
        return [kind(**dict(row)) for row in self._db.execute(sql, values)]
