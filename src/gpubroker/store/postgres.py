"""PostgreSQL, for several servers on one state. `psycopg` is an extra and imported here only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, cast
from urllib.parse import urlsplit

from gpubroker.model.errors import Unsupported
from gpubroker.store.database import Database, Rows
from gpubroker.store.errors import NewerStore, StoreBusy, StoreError
from gpubroker.store.schema import SCHEMA_VERSION, migrations, statements

try:
    import psycopg
    from psycopg import errors, sql
    from psycopg.rows import dict_row
except ModuleNotFoundError as missing:  # pragma: no cover - the extra is there in the tests
    raise Unsupported(
        f"PostgreSQL needs the module {missing.name}: install gpubroker[postgres]"
    ) from missing

CONNECT_DEADLINE_S = 10
_LOCK_WAIT_MS, _STATEMENT_MS = 10_000, 60_000
_MIGRATING = 7_205_759_403_792_793  # the key of the advisory lock; any number of our own
_TYPES = (
    ("BLOB", "BYTEA"),
    ("id         INTEGER PRIMARY KEY", "id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
)
"""What the migrations say in SQLite's words -> in PostgreSQL's."""


class PostgresDatabase:
    """One connection to one schema of a server; made anew when it was lost."""

    locking = "FOR UPDATE"
    shared = True
    duplicate: type[Exception] = errors.UniqueViolation

    def __init__(self, url: str, schema: str = "gpubroker") -> None:
        """Raises StoreError where no server answers, NewerStore where a newer gpubroker wrote."""
        parts = urlsplit(url)
        self.where = f"PostgreSQL {parts.hostname or 'on this computer'}{parts.path}"
        self._url, self._schema = url, schema
        self._connection: psycopg.Connection[dict[str, Any]] | None = None
        self._in_transaction = False
        try:
            self._migrate(self._connected())
        except psycopg.Error as error:
            self.close()
            raise self._translated(error) from error
        except BaseException:
            self.close()
            raise

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """Runs one statement."""
        if self._in_transaction:
            # The transaction translates what goes wrong.
            return self._run(sql, values)
        try:
            return self._run(sql, values)
        except psycopg.Error as error:
            raise self._translated(error) from error

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """BEGIN … COMMIT; where the connection is lost on the way it is not known to be done."""
        try:
            connection = self._connected()
            with connection.transaction():
                self._in_transaction = True
                try:
                    yield self
                finally:
                    self._in_transaction = False
        except psycopg.Error as error:
            raise self._translated(error) from error

    def now(self) -> float:
        """The server's clock, which goes on within a transaction."""
        row = self.execute("SELECT extract(epoch FROM clock_timestamp())::float8 AS now").fetchone()
        return float(row["now"]) if row else 0.0

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()

    def _run(self, sql: str, values: Sequence[Any]) -> Rows:
        return cast("Rows", self._connected().execute(_marked(sql).encode(), values))

    def _connected(self) -> psycopg.Connection[dict[str, Any]]:
        connection = self._connection
        if connection is not None and not connection.closed:
            return connection
        if self._in_transaction:
            raise StoreError(f"{self.where}: the connection was lost. Nothing was changed.")
        self._connection = psycopg.connect(
            self._url,
            autocommit=True,
            row_factory=dict_row,
            connect_timeout=CONNECT_DEADLINE_S,
            application_name="gpubroker",
            options=f"-c search_path={self._schema} -c lock_timeout={_LOCK_WAIT_MS}"
            f" -c statement_timeout={_STATEMENT_MS}",
        )
        return self._connection

    def _migrate(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        version = self._version(connection)
        if version < SCHEMA_VERSION:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATING,))
                named = sql.Identifier(self._schema)
                connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(named))
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL)"
                )
                for number, script in migrations():
                    if number > self._version(connection):
                        for statement in statements(_in_their_words(script)):
                            connection.execute(statement.encode())
                        connection.execute("DELETE FROM schema_version")
                        connection.execute("INSERT INTO schema_version VALUES (%s)", (number,))
        if version > SCHEMA_VERSION:
            raise NewerStore(
                f"{self.where} was written by a newer gpubroker (schema {version}, this one knows "
                f"{SCHEMA_VERSION}). Nothing was changed. Upgrade gpubroker, or use another "
                "DATABASE_URL."
            )

    def _version(self, connection: psycopg.Connection[dict[str, Any]]) -> int:
        known = connection.execute("SELECT to_regclass('schema_version') AS there").fetchone()
        if known is None or known["there"] is None:
            return 0
        row = connection.execute("SELECT max(version) AS version FROM schema_version").fetchone()
        return int(row["version"] or 0) if row else 0

    def _translated(self, error: psycopg.Error) -> StoreError:
        """The store's own error; the password stands in none of the driver's."""
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, errors.LockNotAvailable | errors.DeadlockDetected):
            return StoreBusy(
                f"{self.where} has been locked by another process for {_LOCK_WAIT_MS // 1000} s. "
                "Nothing was changed; try again."
            )
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            with suppress(psycopg.Error):
                self.close()
            return StoreError(
                f"{self.where} does not answer ({said}). What was begun is taken up again when it "
                "does."
            )
        return StoreError(f"{self.where}: {said}. Nothing was changed.")


@lru_cache(maxsize=512)
def _marked(sql: str) -> str:
    """With psycopg's marks for values. None of our statements has a literal `?` or `%`."""
    return sql.replace("?", "%s")


def _in_their_words(script: str) -> str:
    for ours, theirs in _TYPES:
        script = script.replace(ours, theirs)
    return script
