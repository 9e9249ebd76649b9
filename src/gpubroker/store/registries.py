"""Logins to the registries of private images; their passwords are sealed."""

from __future__ import annotations

from msgspec import Struct, convert

from gpubroker.store.database import Database


class RegistryRow(Struct, frozen=True, kw_only=True):
    """registries."""

    name: str
    server: str
    username: str
    password: bytes
    """Sealed."""
    created_at: float


class Registries:
    """By the name that the user gave each."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def put(self, row: RegistryRow) -> None:
        """In place of one of the same name."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM registries WHERE name = ?", (row.name,))
            db.execute(
                "INSERT INTO registries (name, server, username, password, created_at) "
                "VALUES (?, ?, ?, ?, ?)",
                (row.name, row.server, row.username, row.password, row.created_at),
            )

    def all(self) -> list[RegistryRow]:
        """By name."""
        rows = self._db.execute("SELECT * FROM registries ORDER BY name")
        return [convert(dict(row), RegistryRow) for row in rows]

    def get(self, name: str) -> RegistryRow | None:
        """None where there is none of that name."""
        return next((row for row in self.all() if row.name == name), None)

    def remove(self, name: str) -> bool:
        """Whether there was one."""
        with self._db.transaction() as db:
            return db.execute("DELETE FROM registries WHERE name = ?", (name,)).rowcount > 0
