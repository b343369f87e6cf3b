"""The ledgers: what each outbox committed, and what the panel registered, written by triggers in their databases.

A trigger runs inside the very transaction that it records, so its ledger is exact across a kill -9 at any moment, in
the middle of a commit too: a row and its entry are both there or both not. A reader beside the programs would not
only miss rows that live for milliseconds, its open connection would also spare SQLite the recovery that a database
needs after its last user was killed; and that recovery is part of what is tried here.
"""

import contextlib
import sqlite3
import time
from pathlib import Path

from vmwatch.node.outboxfile import machine_id, open_outbox

MADE = "killing_made"
REGISTERED = "killing_registered"

_OUTBOX = f"""
CREATE TABLE {MADE} (
    id INTEGER PRIMARY KEY, epoch INTEGER, seq INTEGER, type TEXT, uuid TEXT, name TEXT, event TEXT, detail TEXT
);
CREATE TRIGGER {MADE} AFTER INSERT ON message BEGIN
    INSERT INTO {MADE} (epoch, seq, type, uuid, name, event, detail) VALUES (
        new.epoch, new.seq, new.type,
        json_extract(CAST(new.payload AS TEXT), '$.vm.uuid'),
        json_extract(CAST(new.payload AS TEXT), '$.vm.name'),
        json_extract(CAST(new.payload AS TEXT), '$.event'),
        coalesce(json_extract(CAST(new.payload AS TEXT), '$.detail'), '')
    );
END;
"""
_PANEL = f"""
CREATE TABLE {REGISTERED} (id INTEGER PRIMARY KEY, node INTEGER, epoch INTEGER, seq INTEGER);
CREATE TRIGGER {REGISTERED} AFTER INSERT ON keys BEGIN
    INSERT INTO {REGISTERED} (node, epoch, seq) VALUES (new.node, new.epoch, new.seq);
END;
"""


def keep_in_outbox(path: Path, node: str) -> None:
    """Make the outbox that the agent `node` will open, with a ledger of every message that it commits."""
    outbox, _ = open_outbox(path, node, machine_id(), lambda: time.time_ns() // 1000, limit_bytes=2**30)
    outbox.close()
    _execute(path, _OUTBOX)


def keep_in_panel(path: Path) -> None:
    """Give the panel's database, which must be there and not in use, a ledger of every message that it registers.

    The panel itself keeps the keys of messages only until their node has let go of them.
    """
    _execute(path, _PANEL)


def _execute(path: Path, script: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
