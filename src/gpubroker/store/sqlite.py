"""The embedded database: opening, migrations, transactions."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from gpubroker.store.database import Database, Rows
from gpubroker.store.errors import NewerStore, StoreBusy, StoreError
from gpubroker.store.schema import SCHEMA_VERSION, migrations, statements

BUSY_TIMEOUT_S = 10.0
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs"})


class SqliteDatabase:
    """One SQLite file."""

    locking = ""
    """A transaction holds the write lock from its beginning."""
    shared = False
    duplicate: type[Exception] = sqlite3.IntegrityError

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self._db = connect(path)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """Runs one statement."""
        return cast("Rows", self._db.execute(sql, values))

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """BEGIN IMMEDIATE … COMMIT."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise translated(error, self.where) from error
        try:
            yield self
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            _rollback(self._db)
            raise translated(error, self.where) from error
        except BaseException:
            _rollback(self._db)
            raise

    def now(self) -> float:
        """All processes on the file are on this computer."""
        return time.time()

    def close(self) -> None:
        """Closes the file."""
        self._db.close()


def connect(path: Path) -> sqlite3.Connection:
    """A connection with the pragmas that the journal needs, at the present schema."""
    fresh = not path.exists()
    if fresh:
        _refuse_network_file_system(path)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Made by us with tight permissions before SQLite would make it with the umask's.
        path.touch(mode=0o600)
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        db.row_factory = sqlite3.Row
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise NewerStore(
                f"{path} was written by a newer gpubroker (schema {version}, this one knows "
                f"{SCHEMA_VERSION}). Nothing was changed. Upgrade gpubroker, or use another "
                "GPUBROKER_HOME."
            )
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA synchronous = FULL")
        if version < SCHEMA_VERSION:
            (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise StoreError(
                    f"{path}: this file system cannot hold the journal (mode {mode}). "
                    "Point GPUBROKER_HOME at a local disk."
                )
            _migrate(db, path)
    except sqlite3.OperationalError as error:
        db.close()
        raise translated(error, path) from error
    except sqlite3.DatabaseError as error:
        db.close()
        raise StoreError(
            f"{path} is not a gpubroker store ({error}). Move it away, or use another "
            "GPUBROKER_HOME."
        ) from error
    except BaseException:
        db.close()
        raise
    return db


def translated(error: sqlite3.OperationalError, path: Path | str) -> StoreError:
    """The store's own error for what SQLite says."""
    if "locked" in str(error) or "busy" in str(error):
        return StoreBusy(
            f"{path} has been locked by another process for {BUSY_TIMEOUT_S:.0f} s. "
            "Nothing was changed; try again."
        )
    return StoreError(f"{path}: {error}. Nothing was changed.")


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    db.execute("BEGIN EXCLUSIVE")
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        pending = [(number, sql) for number, sql in migrations() if number > version]
        if version and pending:
            _back_up(path, path.with_name(f"{path.name}.before-{pending[-1][0]:04d}"))
        for number, sql in pending:
            for statement in statements(sql):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {number}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _back_up(path: Path, copy: Path) -> None:
    """As it was committed, what still stands in the journal beside the file too."""
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
    copy.chmod(0o600)


def _rollback(db: sqlite3.Connection) -> None:
    # On a full disk SQLite has rolled back by itself, and ROLLBACK would be an error.
    if db.in_transaction:
        db.execute("ROLLBACK")


def _refuse_network_file_system(path: Path) -> None:
    """WAL needs shared memory, which network file systems do not give."""
    if sys.platform != "linux":
        return
    real = os.path.realpath(path.parent)
    best, kind = "", ""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, fs, *_ = line.split(" ")
        point = mount.replace("\\040", " ")
        if (real + "/").startswith(point.rstrip("/") + "/") and len(point) > len(best):
            best, kind = point, fs
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StoreError(
            f"{path} is on a network file system ({kind}), where SQLite's journal is not safe. "
            "Point GPUBROKER_HOME at a local disk."
        )
