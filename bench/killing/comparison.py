"""Every message made against every row registered: what is lost, doubled, out of order or changed on the way."""

import contextlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.killing.ledger import MADE, REGISTERED

EXAMPLES = 5
"""Of each finding so many are shown."""

_TABLES = """
CREATE TABLE made (node, epoch, seq, type, uuid, name, event, detail, held);
CREATE TABLE logged (id, node, epoch, seq, uuid, name, event, detail, received);
CREATE TABLE keyed (node, epoch, seq);
"""
_LOAD_MADE = f"""
INSERT INTO made
SELECT ?, m.epoch, m.seq, m.type, m.uuid, m.name, m.event, m.detail, h.id IS NOT NULL
FROM one.{MADE} m LEFT JOIN one.message h ON h.epoch = m.epoch AND h.seq = m.seq
"""
_LOAD_LOGGED = """
INSERT INTO logged
SELECT e.id, n.name, e.epoch, e.seq, v.uuid, s.name, e.event, e.detail, e.received
FROM one.eventlog e JOIN one.nodes n ON n.id = e.node JOIN one.subjects s ON s.id = e.subject
JOIN one.vms v ON v.id = s.vm
"""
_LOAD_KEYED = f"""
INSERT INTO keyed SELECT n.name, k.epoch, k.seq FROM one.{REGISTERED} k JOIN one.nodes n ON n.id = k.node
"""
_INDEXES = """
CREATE INDEX made_place ON made (node, epoch, seq);
CREATE INDEX made_inventory ON made (node, epoch, seq) WHERE type = 'inventory';
CREATE INDEX logged_place ON logged (node, epoch, seq);
CREATE INDEX keyed_place ON keyed (node, epoch, seq);
"""
_SAME = "x.node = m.node AND x.epoch = m.epoch AND x.seq = m.seq"

# What each query finds is a defect; its rows are (node, epoch, seq, ...), as they are shown.
_LOST = f"""
SELECT m.node, m.epoch, m.seq, m.type, m.name, m.event, m.detail FROM made m WHERE NOT m.held
AND CASE WHEN m.type = 'event' THEN NOT EXISTS (SELECT 1 FROM logged x WHERE {_SAME})
    ELSE NOT EXISTS (SELECT 1 FROM keyed x WHERE {_SAME}) END
-- A newer inventory takes the place of one that was not sent (design 02).
AND NOT (m.type = 'inventory' AND EXISTS (
    SELECT 1 FROM made l LEFT JOIN keyed x ON x.node = l.node AND x.epoch = l.epoch AND x.seq = l.seq
    WHERE l.node = m.node AND l.type = 'inventory' AND (l.epoch, l.seq) > (m.epoch, m.seq)
    AND (l.held OR x.node IS NOT NULL)))
"""
_DOUBLED = """
SELECT node, epoch, seq, 'in the event log', count(*) FROM logged GROUP BY node, epoch, seq HAVING count(*) > 1
UNION ALL
SELECT node, epoch, seq, 'registered', count(*) FROM keyed GROUP BY node, epoch, seq HAVING count(*) > 1
UNION ALL
SELECT node, epoch, seq, 'assigned by the outbox', count(*) FROM made GROUP BY node, epoch, seq HAVING count(*) > 1
"""
_DISORDERED = """
SELECT node, epoch, seq, name, 'after', before_epoch, before_seq FROM (
    SELECT *, lag(epoch) OVER vm AS before_epoch, lag(seq) OVER vm AS before_seq FROM logged
    WINDOW vm AS (PARTITION BY node, uuid ORDER BY id))
WHERE (epoch, seq) < (before_epoch, before_seq)
"""
_CHANGED = """
SELECT x.node, x.epoch, x.seq, x.name, x.event, x.detail, 'was', m.name, m.event, m.detail
FROM logged x LEFT JOIN made m ON m.node = x.node AND m.epoch = x.epoch AND m.seq = x.seq
WHERE (x.uuid, x.name, x.event, x.detail) IS NOT (m.uuid, m.name, m.event, m.detail)
"""


@dataclass
class Comparison:
    """What was found; `examples` show some of each defect."""

    events_made: int = 0
    events_registered: int = 0
    others_made: int = 0
    others_registered: int = 0
    events_held: int = 0
    """Still in an outbox, so neither lost nor known to be delivered."""
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    changed: int = 0
    """Registered with other words than the outbox had, or never committed by any outbox."""
    examples: list[str] = field(default_factory=list)
    received: dict[str, list[float]] = field(default_factory=dict)
    """When each node's events were registered, seconds since 1970, ascending."""
    told: dict[str, dict[int, list[tuple[str, str, str]]]] = field(default_factory=dict)
    """(name, event, detail) of registered events, in their order, by node and epoch."""


def compare(outboxes: Mapping[str, Path], panel: Path) -> Comparison:
    """`outboxes` by node. The programs must have ended; the databases are only read."""
    found = Comparison()
    with contextlib.closing(sqlite3.connect(":memory:", uri=True, isolation_level=None)) as db:
        db.executescript(_TABLES)
        for node, path in outboxes.items():
            _attached(db, path, (_LOAD_MADE, (node,)))
        _attached(db, panel, (_LOAD_LOGGED, ()), (_LOAD_KEYED, ()))
        db.executescript(_INDEXES)
        _count(db, found)
        found.lost = _find(db, found, "lost", _LOST)
        found.doubled = _find(db, found, "doubled", _DOUBLED)
        found.disordered = _find(db, found, "out of order", _DISORDERED)
        found.changed = _find(db, found, "changed", _CHANGED)
        _read_log(db, found)
    return found


def damage(path: Path) -> str:
    """What SQLite finds wrong with a database; empty if it is sound."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        answer = str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    return "" if answer == "ok" else f"{path.name}: {answer}"


def _attached(db: sqlite3.Connection, path: Path, *statements: tuple[str, tuple[str, ...]]) -> None:
    db.execute("ATTACH ? AS one", (f"file:{path}?mode=ro",))
    for statement, values in statements:
        db.execute(statement, values)
    db.execute("DETACH one")


def _count(db: sqlite3.Connection, found: Comparison) -> None:
    query = """SELECT count(*), coalesce(sum(type = 'event'), 0),
        coalesce(sum(type = 'event' AND held), 0) FROM made"""
    made, found.events_made, found.events_held = db.execute(query).fetchone()
    found.others_made = made - found.events_made
    found.events_registered = db.execute("SELECT count(*) FROM logged").fetchone()[0]
    found.others_registered = db.execute("SELECT count(*) FROM keyed").fetchone()[0] - found.events_registered


def _find(db: sqlite3.Connection, found: Comparison, what: str, query: str) -> int:
    rows = db.execute(query).fetchall()
    found.examples += [f"{what}: {' '.join(map(str, row))}" for row in rows[:EXAMPLES]]
    return len(rows)


def _read_log(db: sqlite3.Connection, found: Comparison) -> None:
    for node, received in db.execute("SELECT node, received FROM logged ORDER BY received"):
        found.received.setdefault(node, []).append(received)
    query = "SELECT node, epoch, name, event, detail FROM logged ORDER BY node, epoch, seq"
    for node, epoch, name, event, detail in db.execute(query):
        found.told.setdefault(node, {}).setdefault(epoch, []).append((name, event, detail))
