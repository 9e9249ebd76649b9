"""The numbered migrations, written once for both databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import cache

SCHEMA_VERSION = 9
"""The newest migration; a test compares."""


@cache
def migrations() -> tuple[tuple[int, str], ...]:
    """(version, SQL) of every migration, in order."""
    from importlib import resources

    folder = resources.files("gpubroker.store") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return tuple((int(name[:4]), (folder / name).read_text()) for name in names)


def statements(sql: str) -> Iterator[str]:
    """One by one: a script run as a whole would commit on its own."""
    draft = ""
    for line in sql.splitlines(keepends=True):
        draft += line
        if sqlite3.complete_statement(draft):
            yield draft
            draft = ""
