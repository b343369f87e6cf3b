"""The outbox's tables, and how a file of an older version becomes one of this version (design 04, *Files*)."""

import sqlite3

from vmwatch.node.database import pragma, transaction
from vmwatch.shared.errors import StoreError

APPLICATION_ID = 0x564D574E
"""`VMWN` in the file's header (https://sqlite.org/pragma.html#pragma_application_id): this is an outbox."""

_FIRST = (
    "CREATE TABLE fact (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    # `added`: microseconds since 1970, a label for a row's age. `token`: of an inventory that was asked for.
    """CREATE TABLE message (
        id INTEGER PRIMARY KEY,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        type TEXT NOT NULL,
        token TEXT NOT NULL,
        added INTEGER NOT NULL,
        payload BLOB NOT NULL,
        UNIQUE (epoch, seq)
    )""",
    # Events are nearly all rows and are never looked for by type: they stay out of this index. A query uses it
    # only if it repeats the index's condition (https://sqlite.org/partialindex.html).
    "CREATE INDEX message_type ON message (type, epoch, seq) WHERE type <> 'event'",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST,)
"""What makes version n + 1 of version n; the index is n. Only ever appended to."""

VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database to this version, each step in one transaction.

    Raises StoreError if a newer vmwatch has written it, or something that is not vmwatch; it is left as it is.
    """
    check(connection)
    for number in range(pragma(connection, "user_version"), VERSION):
        with transaction(connection):
            for statement in MIGRATIONS[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number + 1}")


def check(connection: sqlite3.Connection) -> None:
    """Raise StoreError unless the database is empty or an outbox that this version knows; writes nothing."""
    version = pragma(connection, "user_version")
    application = pragma(connection, "application_id")
    tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if application != APPLICATION_ID and (application or version or tables):
        raise StoreError("is an SQLite database, but not an outbox of vmwatch-node; it is left as it is")
    if version > VERSION:
        raise StoreError(
            f"has schema version {version}, and this vmwatch-node knows {VERSION}: a newer one has written it. It is "
            "left as it is: install that version again, or move the file away (what it holds is then not delivered)"
        )
