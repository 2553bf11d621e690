"""The SQLite file of a run: its tables and their version, transactions, and errors in one sentence."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["VERSION", "Database", "LedgerError", "utc_now"]

_MIGRATIONS = (
    # a file without a version is new, or older than versions and has either or both of the tables
    (
        """CREATE TABLE IF NOT EXISTS events (
            id INTEGER PRIMARY KEY,
            at TEXT NOT NULL,
            cycle INTEGER NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('initial', 'queried', 'labelled', 'cycle closed')),
            unit_id TEXT,
            strategy TEXT,
            score REAL,
            rank INTEGER,
            pixels INTEGER
        )""",
        "CREATE UNIQUE INDEX IF NOT EXISTS labelled_once ON events (unit_id) WHERE kind IN ('initial', 'labelled')",
        "CREATE UNIQUE INDEX IF NOT EXISTS closed_once ON events (cycle) WHERE kind = 'cycle closed'",
        "CREATE INDEX IF NOT EXISTS by_cycle ON events (kind, cycle)",
        """CREATE TABLE IF NOT EXISTS reviews (
            id INTEGER PRIMARY KEY,
            at TEXT NOT NULL,
            unit_id TEXT NOT NULL,
            annotator TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('assigned', 'annotated', 'accepted', 'rejected', 'corrected')),
            "by" TEXT NOT NULL
        )""",
        "CREATE INDEX IF NOT EXISTS by_drawing ON reviews (unit_id, annotator)",
    ),
    # to label a unit is to find its query, which without an index takes a look at all of them
    ("CREATE INDEX queried_unit ON events (unit_id) WHERE kind = 'queried'",),
    # where whole objects are drawn, how many a unit brought
    ("ALTER TABLE events ADD COLUMN objects INTEGER",),
    # where clicks are counted, how many the outlines took
    ("ALTER TABLE events ADD COLUMN clicks INTEGER",),
)
"""The statements that lead from each version of the tables to the next; a released migration never changes."""

VERSION = len(_MIGRATIONS)
"""The version of the tables that this program writes; a file stores its own as PRAGMA user_version."""


class LedgerError(OSError):
    """The ledger cannot be read or written."""


class Database:
    """A SQLite file, opened or created; an older version is migrated in one transaction.

    Args:
        path: The file; missing parent folders are created.

    Raises:
        LedgerError: The file cannot be used, or a newer version of dropquery wrote it.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self.explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            try:
                self._migrate()
            except BaseException:
                self.connection.close()
                raise

    @property
    def version(self) -> int:
        """The version of the file's tables; 0 for a file without one."""
        return int(self.rows("PRAGMA user_version")[0][0])

    def _migrate(self) -> None:
        if self.version < VERSION:
            with self.transaction():
                # another process may have migrated while this one waited for the lock
                for statement in (s for migration in _MIGRATIONS[self.version :] for s in migration):
                    self.connection.execute(statement)
                if self.version < VERSION:
                    self.connection.execute(f"PRAGMA user_version = {VERSION}")
        if self.version > VERSION:
            raise LedgerError(
                f"the ledger {self.path} was written by a newer dropquery (version {self.version}, this one knows "
                f"{VERSION}); go on with that one, or choose another --run_dir"
            )

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def rows(self, sql: str, *parameters: object) -> list[tuple]:
        """Return all rows of a query.

        Args:
            sql: The statement, with a placeholder for each parameter.
            parameters: The values of the placeholders.
        """
        with self.explained():
            return self.connection.execute(sql, parameters).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write everything inside the block or nothing; other processes wait."""
        with self.explained():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                # on a full disk SQLite has rolled back already
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn SQLite's errors into a LedgerError with a remedy; violated constraints pass unchanged."""
        try:
            yield
        except (sqlite3.OperationalError, sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, (sqlite3.IntegrityError, LedgerError)):
                raise
            raise LedgerError(
                f"the ledger {self.path} cannot be used ({error}); check that the run directory is writable, that the "
                "disk is not full and that the file is an undamaged ledger, then start the same command again"
            ) from error


def utc_now() -> str:
    """The time in UTC, in ISO format to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
