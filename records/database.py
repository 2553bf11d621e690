"""An SQLite file that several tables of a run share: transactions, and errors in one sentence."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["Database", "LedgerError", "utc_now"]


class LedgerError(OSError):
    """The ledger cannot be read or written."""


class Database:
    """Opens or creates the file and the tables of `schema` that it lacks; other tables in it are left alone.

    Raises LedgerError where the file cannot be used.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self.path = path
        with self.explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            self.connection.executescript(schema)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def rows(self, sql: str, *parameters: object) -> list[tuple]:
        """All rows of a question."""
        with self.explained():
            return self.connection.execute(sql, parameters).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is written, or nothing; nobody else writes meanwhile."""
        with self.explained():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                # a full disk has made SQLite roll back by itself
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what SQLite says of a file into a LedgerError; broken constraints stay what they are."""
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
