"""A panel's database with a long event log, made by SQLite itself: a minute or two for ten million rows."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from tests.unit.panel.reports import uuid_of
from vmwatch.panel.expiry import DAY_S
from vmwatch.panel.schema import SPAN_ROWS
from vmwatch.panel.store import Store

NODES = 100
VMS = 5_000
DAYS = 400
"""The log's length; rows come evenly."""
CHUNK = 1_000_000
RARE_EVERY = 100_000
EPOCH = 1_700_000_000_000_000

_INDEXES = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'eventlog' AND sql IS NOT NULL"
_HASH = 2_654_435_761
_ROWS = f"""
WITH RECURSIVE numbers(id) AS (SELECT :first UNION ALL SELECT id + 1 FROM numbers WHERE id < :last),
hashed AS (SELECT id, (id * {_HASH}) % 4294967296 AS hash FROM numbers),
drawn AS (SELECT id, hash, hash / 7 % {VMS} AS vm, hash / 13 % 20 AS word FROM hashed)
INSERT INTO eventlog
SELECT id, vm % {NODES} + 1, {EPOCH}, id,
  CASE vm % {NODES} WHEN {NODES - 1} THEN :began + hash / 4294967296.0 * {DAYS * DAY_S}
    ELSE :began + id * :step - hash % 1000 / 1000.0 END,
  :began + id * :step, vm + 1,
  CASE WHEN id % {RARE_EVERY} = 7 THEN 'io_error' WHEN word < 6 THEN 'started' WHEN word < 13 THEN 'stopped'
    WHEN word < 17 THEN 'resumed' WHEN word < 18 THEN 'suspended' WHEN word < 19 THEN 'reboot' ELSE 'defined' END,
  CASE WHEN word < 6 THEN 'booted' WHEN word < 10 THEN 'destroyed' WHEN word < 13 THEN 'shutdown'
    WHEN word < 17 THEN 'unpaused' WHEN word < 18 THEN 'paused' ELSE '' END,
  CASE WHEN word < 6 THEN 'running' WHEN word < 13 THEN 'shutoff' WHEN word < 17 THEN 'running'
    WHEN word < 18 THEN 'paused' ELSE '' END
FROM drawn
"""
"""The last node's clock says anything: the hardest case for filters by time."""


@dataclass(frozen=True)
class Plan:
    """`ends`: wall clock of the newest row."""

    rows: int
    ends: float

    @property
    def began(self) -> float:
        return self.ends - DAYS * DAY_S

    @property
    def step_s(self) -> float:
        return DAYS * DAY_S / self.rows


def node_name(number: int) -> str:
    """Of a node, counted from 1."""
    return f"kvm-{number:03}"


def vm_name(number: int) -> str:
    """Of a VM, counted from 1."""
    return f"vm-{number}"


def build(path: Path, plan: Plan) -> None:
    """Make the database. Indexes are made at the end: in the order of the ids their pages would be filled at random."""
    store = Store(f"sqlite:///{path}")
    store.open()
    store.close()
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-262144")
        connection.execute("BEGIN")
        _fill(connection, plan)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _fill(connection: sqlite3.Connection, plan: Plan) -> None:
    nodes = [(number, node_name(number)) for number in range(1, NODES + 1)]
    connection.executemany("INSERT INTO nodes (id, name) VALUES (?, ?)", nodes)
    vms = [(number, vm_name(number)) for number in range(1, VMS + 1)]
    connection.executemany("INSERT INTO vms VALUES (?, ?)", [(number, uuid_of(name)) for number, name in vms])
    connection.executemany("INSERT INTO subjects VALUES (?, ?, ?)", [(number, number, name) for number, name in vms])
    indexes = connection.execute(_INDEXES).fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    for first in range(1, plan.rows + 1, CHUNK):
        last = min(first + CHUNK - 1, plan.rows)
        connection.execute(_ROWS, {"first": first, "last": last, "began": plan.began, "step": plan.step_s})
        print(f"  {last:,} of {plan.rows:,} rows", end="\r", flush=True)
    for _, statement in indexes:
        connection.execute(statement)
    connection.execute(
        f"INSERT INTO spans SELECT id / {SPAN_ROWS}, node, min(time), max(time) FROM eventlog GROUP BY 1, node"
    )
