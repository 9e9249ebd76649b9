"""Opening a store: a file, or a server where `DATABASE_URL` names one."""

from __future__ import annotations

from pathlib import Path

from gpubroker.model.errors import Invalid
from gpubroker.store.store import Store


def open_store(where: Path | str, realm: str) -> Store:
    """The store of a realm at a path, or at the address of a PostgreSQL server.

    Raises Invalid for an address of anything else, Unsupported without the extra `postgres`, and
    StoreError where the database cannot be used as it is.
    """
    if isinstance(where, Path):
        from gpubroker.store.sqlite import SqliteDatabase

        return Store(SqliteDatabase(where), realm)
    scheme = where.partition(":")[0]
    if scheme not in {"postgres", "postgresql"}:
        raise Invalid(f"DATABASE_URL begins with postgres://, not {scheme}:. Nothing was done.")
    from gpubroker.store.postgres import PostgresDatabase

    return Store(PostgresDatabase(where), realm)
