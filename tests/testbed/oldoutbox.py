"""Outboxes as earlier versions of vmwatch-node left them: their SQL, written down once and never changed."""

import contextlib
import sqlite3
from pathlib import Path

from vmwatch.node.outboxfile import machine_id

VERSION_1 = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    type TEXT NOT NULL,
    token TEXT NOT NULL,
    added INTEGER NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (epoch, seq)
);
CREATE INDEX message_type ON message (type, epoch, seq) WHERE type <> 'event';
PRAGMA application_id = 0x564D574E;
PRAGMA user_version = 1;
"""
EVENT = (
    '{"time":1763900000.5,"type":"event","vm":{"uuid":"00000000-0000-0000-0000-%012d","name":"old%d"},'
    '"event":"started","detail":"booted","state":"running"}'
)
EPOCH = 1_763_900_000_000_000


def write_outbox(path: Path, script: str, rows: int) -> None:
    """An outbox as a program of that version left it, with so many events that were not delivered."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
        facts = {"node_id": "n", "machine_id": machine_id(), "epoch": EPOCH, "seq": rows + 7, "dropped": "{}"}
        connection.executemany("INSERT INTO fact VALUES (?, ?)", facts.items())
        connection.executemany(
            "INSERT INTO message (epoch, seq, type, token, added, payload) VALUES (?, ?, 'event', '', ?, ?)",
            # A gap, as dropped statistics leave one.
            [(EPOCH, n + (7 if n > 10 else 0), EPOCH, (EVENT % (n, n)).encode()) for n in range(1, rows + 1)],
        )
        connection.commit()
