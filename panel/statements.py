"""The writer's SQL, made once from the tables.

SQLAlchemy renders it; the driver's own `executemany` runs it: going through SQLAlchemy's execution for each batch
costs several times what SQLite itself needs for a row.
"""

from typing import Any

from sqlalchemy import Column, Select, Table, bindparam, delete, func, select, update
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.sql.dml import UpdateBase

from vmwatch.panel.schema import (
    attempts,
    claims,
    epochs,
    eventlog,
    installations,
    keys,
    maintenance,
    meta,
    nodes,
    policies,
    problems,
    spans,
    stats,
    subjects,
    vms,
)

_HOST = ("address", "reach", "hidden", "allow_install", "libvirt_uri", "ssh")
_NODE_STATE = (
    *("newest_epoch", "floor_epoch", "floor_seq", "agent", "interval", "status", "said", "seen"),
    *("doubted", "doubt", "emptied_epoch", "emptied_at"),
)


def _sql(statement: UpdateBase | Select[Any]) -> str:
    return str(statement.compile(dialect=sqlite_dialect(paramstyle="qmark")))


def _insert(table: Table, *columns: str) -> Any:  # noqa: ANN401 - SQLAlchemy's own type is private to it
    return insert(table).values({name: bindparam(name) for name in columns or table.columns.keys()})


def _upsert(table: Table, *columns: str) -> str:
    """Insert a row, or replace what is not its primary key."""
    statement = _insert(table, *columns)
    key = [column.name for column in table.primary_key]
    names = columns or tuple(table.columns.keys())
    return _sql(
        statement.on_conflict_do_update(
            index_elements=key, set_={name: statement.excluded[name] for name in names if name not in key}
        )
    )


def _equals(*columns: Column[Any]) -> list[Any]:
    return [column == bindparam(f"key_{column.name}") for column in columns]


# Parameters are in the order of the table's columns (of the named ones, where only some are written).
PROVE = _upsert(meta)
SAVE_NODE = _upsert(nodes, "id", "name", *_NODE_STATE)
SAVE_EPOCH = _upsert(epochs)
ADD_KEY = _sql(_insert(keys))
PRUNE_KEYS = _sql(delete(keys).where(*_equals(keys.c.node, keys.c.epoch), keys.c.seq < bindparam("base")))
"""Parameters: node, epoch, base."""
ADD_VM = _sql(_insert(vms))
ADD_SUBJECT = _sql(_insert(subjects))
SAVE_CLAIM = _upsert(claims)
FORGET_CLAIM = _sql(delete(claims).where(*_equals(claims.c.node, claims.c.vm)))
ADD_EVENT = _sql(_insert(eventlog))
ADD_STATS = _sql(_insert(stats))
SAVE_PROBLEM = _upsert(problems)
_FORGOTTEN = _equals(problems.c.type, problems.c.object)
FORGET_ATTEMPTS = _sql(delete(attempts).where(attempts.c.problem.in_(select(problems.c.id).where(*_FORGOTTEN))))
FORGET_PROBLEM = _sql(delete(problems).where(*_FORGOTTEN))
"""Parameters of both: type, object."""
SAVE_ATTEMPT = _upsert(attempts)
CUT_ATTEMPTS = _sql(
    update(attempts)
    .values({name: bindparam(name) for name in ("ended", "outcome", "text")})
    .where(*_equals(attempts.c.outcome))
)
"""Parameters: ended, outcome, text, and the outcome of those that are to be cut."""
_NEWEST_FIRST = select(attempts.c.id).where(*_equals(attempts.c.problem)).order_by(attempts.c.id.desc())
PRUNE_ATTEMPTS = _sql(delete(attempts).where(attempts.c.id.in_(_NEWEST_FIRST.limit(-1).offset(bindparam("kept")))))
"""Parameters: problem, -1 (no limit), how many of the newest stay."""
_SPAN = _insert(spans)
WIDEN_SPAN = _sql(
    _SPAN.on_conflict_do_update(
        index_elements=["span", "node"],
        set_={
            "first": func.min(spans.c.first, _SPAN.excluded.first),
            "last": func.max(spans.c.last, _SPAN.excluded.last),
        },
    )
)
SAVE_INSTALLATION = _upsert(installations)
FORGET_INSTALLATION = _sql(delete(installations).where(*_equals(installations.c.id)))
SAVE_HOST = _sql(
    update(nodes)
    .values({name: bindparam(name) for name in _HOST})
    .where(*_equals(nodes.c.id))
)
"""Parameters: address, reach, hidden, allow_install, libvirt_uri, ssh, id."""
SAVE_MAINTENANCE = _upsert(maintenance)
END_MAINTENANCE = _sql(delete(maintenance).where(*_equals(maintenance.c.object)))
SAVE_POLICY = _upsert(policies)
EXPIRE_EVENTS = _sql(delete(eventlog).where(eventlog.c.id <= bindparam("last")))
EXPIRE_STATS = _sql(delete(stats).where(stats.c.id <= bindparam("last")))
EXPIRE_SPANS = _sql(delete(spans).where(spans.c.span < bindparam("span")))
REMOVE_STATS = _sql(delete(stats).where(stats.c.id == bindparam("key_id")))
FIND_EVENT = _sql(
    select(eventlog.c.id).where(*_equals(*(eventlog.c[name] for name in ("subject", "node", "event", "epoch", "seq"))))
)
FIND_STATS = _sql(select(stats.c.id).where(*_equals(stats.c.uuid, stats.c.node, stats.c.taken)))
