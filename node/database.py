"""SQLite's errors and transactions as the outbox uses them."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from vmwatch.shared.errors import StoreError

_NOT_NOW = frozenset(
    (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,  # a quota that is used up, among others
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
    )
)
"""Primary result codes that may be gone at the next try (https://sqlite.org/rescode.html)."""


class NotNowError(StoreError):
    """Nothing was written, and a later try may succeed: the disk is full, or the database locked."""


class LockedError(NotNowError):
    """Somebody else holds the database: a matter of time, and no reason to make room."""


@contextmanager
def guarded() -> Iterator[None]:
    """Raise SQLite's errors as NotNowError where a later try may help, else as StoreError that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:  # misuse of the module: a defect of ours
            raise
        if code & 0xFF in _NOT_NOW:
            kind = LockedError if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) else NotNowError
            raise kind(f"{error} ({error.sqlite_errorname})") from error
        raise StoreError(
            f"cannot be used: {error} ({error.sqlite_errorname}). Stop vmwatch-node, move the file away together with "
            "its -wal and -shm, keep them for who wants to look into it, and start again. Events in it that were not "
            "delivered are then lost; the inventory after the start puts the panel's picture right"
        ) from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. The connection must be in autocommit mode (`isolation_level` None)."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # some errors, a full disk among them, have rolled back already
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def unflushed(connection: sqlite3.Connection) -> Iterator[None]:
    """Transactions inside are not flushed to the disk one by one: a failure of power may undo them, the death of the
    process does not (https://www.sqlite.org/pragma.html#pragma_synchronous)."""
    connection.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        connection.execute("PRAGMA synchronous = FULL")


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """The number that a pragma answers with."""
    with guarded():
        return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
