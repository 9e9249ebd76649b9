"""What the store needs of a database: the same statements run on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from gpubroker.store.errors import WrongRealm


class Rows(Protocol):
    """The result of a statement; a row is read by the names of its columns."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed."""
        ...

    def fetchone(self) -> Mapping[str, Any] | None:
        """The next row."""
        ...

    def __iter__(self) -> Iterator[Mapping[str, Any]]: ...


class Database(Protocol):
    """One connection. Statements are written with `?` for each value."""

    where: str
    """For a person: the file, or the server without the password."""
    locking: str
    """What a SELECT ends with that its transaction goes on to write by."""
    shared: bool
    """Whether other computers may be on it."""
    duplicate: type[Exception]
    """Raised where a unique index forbids a row."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """Runs one statement, by itself or within the open transaction."""
        ...

    def transaction(self) -> AbstractContextManager[Database]:
        """All or nothing; rolled back on any exception. Never around a network call."""
        ...

    def now(self) -> float:
        """The clock by which leases run, in seconds since the epoch: one for all processes."""
        ...

    def close(self) -> None:
        """Closes the connection."""
        ...


def bind_realm(db: Database, realm: str, new_owner: Callable[[], str]) -> str:
    """Write realm and owner at creation, refuse another realm later. Answer: the owner."""
    known = _meta(db)
    if not {"realm", "owner"} <= known.keys():
        with db.transaction():
            for key, value in (("realm", realm), ("owner", new_owner())):
                db.execute(
                    "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING",
                    (key, value),
                )
        known = _meta(db)
    if known["realm"] != realm:
        raise WrongRealm(
            f"{db.where} belongs to the realm {known['realm']}, not {realm}. Nothing was changed. "
            "Use the GPUBROKER_HOME or DATABASE_URL that belongs to it."
        )
    return str(known["owner"])


def _meta(db: Database) -> dict[str, str]:
    return {row["key"]: row["value"] for row in db.execute("SELECT key, value FROM meta")}


def marks(values: Sequence[Any]) -> str:
    """One for each value of an IN (…)."""
    return ", ".join("?" * len(values))
