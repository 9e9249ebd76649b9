"""Everything that outlives the sandbox's process: one SQLite file in its state folder.

Records are whole: kind, provider and id lead to one struct as JSON. Changes are collected and
written together, before the answer that tells of them is sent.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL, provider TEXT NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (kind, provider, id)
) WITHOUT ROWID
"""
KEYS_FILE = "keys.json"

T = TypeVar("T")


class Storage:
    """The state folder. Opened by one process at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = folder / "clouds.db"
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(file, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(_SCHEMA)
        self._pending: dict[tuple[str, str, str], bytes | None] = {}

    def put(self, kind: str, provider: str, id: str, record: object) -> None:
        """Written at the next commit, as the record is now."""
        self._pending[kind, provider, id] = msgspec.json.encode(record)

    def drop(self, kind: str, provider: str, id: str) -> None:
        """Deleted at the next commit."""
        self._pending[kind, provider, id] = None

    def commit(self) -> None:
        """Writes all that changed, in one transaction."""
        if not self._pending:
            return
        changes, self._pending = self._pending, {}
        self._db.execute("BEGIN IMMEDIATE")
        for key, body in changes.items():
            if body is None:
                self._db.execute("DELETE FROM records WHERE (kind, provider, id) = (?, ?, ?)", key)
            else:
                self._db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", (*key, body))
        self._db.execute("COMMIT")

    def all(self, kind: str, provider: str, type_: type[T]) -> Iterator[T]:
        """Every record of a kind, as last committed."""
        rows = self._db.execute(
            "SELECT body FROM records WHERE kind = ? AND provider = ? ORDER BY id", (kind, provider)
        )
        return (msgspec.json.decode(body, type=type_) for (body,) in rows)

    def get(self, kind: str, provider: str, id: str, type_: type[T]) -> T | None:
        """One record, as last committed."""
        row = self._db.execute(
            "SELECT body FROM records WHERE (kind, provider, id) = (?, ?, ?)", (kind, provider, id)
        ).fetchone()
        return msgspec.json.decode(row[0], type=type_) if row else None

    def clear(self, provider: str) -> None:
        """Forgets everything of a provider, uncommitted changes too."""
        self._pending = {k: v for k, v in self._pending.items() if k[1] != provider}
        self._db.execute("DELETE FROM records WHERE provider = ?", (provider,))

    def close(self) -> None:
        """Commits and closes."""
        self.commit()
        self._db.close()

    def sandbox_id(self) -> str:
        """Eight letters of [a-z2-7], made once for the folder."""
        known = self.get("sandbox", "", "id", str)
        if known is None:
            known = "".join(secrets.choice(_ID_LETTERS) for _ in range(8))
            self.put("sandbox", "", "id", known)
            self.commit()
        return known

    def api_key(self, provider: str) -> str:
        """The key generated for a provider; all are kept in one file of mode 0600."""
        file = self.folder / KEYS_FILE
        keys: dict[str, str] = {}
        with contextlib.suppress(FileNotFoundError):
            keys = msgspec.json.decode(file.read_bytes(), type=dict[str, str])
        if provider not in keys:
            keys[provider] = secrets.token_hex(32)
            fresh = file.with_suffix(".new")
            with os.fdopen(
                os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb"
            ) as out:
                out.write(msgspec.json.encode(keys))
            fresh.replace(file)
        return keys[provider]
