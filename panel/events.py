"""Reads the registered events: filters, pages, and a cursor."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select

from vmwatch.panel.convention import Params
from vmwatch.panel.labels import time_label, time_param
from vmwatch.panel.registration import EventRow
from vmwatch.panel.schema import eventlog, nodes, subjects, vms
from vmwatch.panel.store import Store

CHUNK = 1000
"""Rows of one read of an export: each is a short read of its own, so a slow client holds no old state of the
database, which could not be cleaned up meanwhile."""

Numbered = tuple[int, EventRow]

_SUBJECTS = select(subjects.c.id).join(vms, vms.c.id == subjects.c.vm)
_ROWS = (
    select(
        eventlog.c.id,
        nodes.c.name,
        eventlog.c.epoch,
        eventlog.c.seq,
        eventlog.c.time,
        eventlog.c.received,
        vms.c.uuid,
        subjects.c.name,
        eventlog.c.event,
        eventlog.c.detail,
        eventlog.c.state,
    )
    .join(nodes, nodes.c.id == eventlog.c.node)
    .join(subjects, subjects.c.id == eventlog.c.subject)
    .join(vms, vms.c.id == subjects.c.vm)
)
"""The columns of EventRow, after the id."""


@dataclass(frozen=True)
class Filter:
    """Empty or None: any. `since` and `until` bound `time`, the node's clock, in seconds; both are included."""

    node: str = ""
    uuid: str = ""
    name: str = ""
    event: str = ""
    since: float | None = None
    until: float | None = None

    @classmethod
    def of(cls, params: Params) -> "Filter":
        """Raises ApiError for a time that is none."""
        texts = {name: params.get(name).strip() for name in ("node", "uuid", "name", "event")}
        return cls(since=time_param(params, "since"), until=time_param(params, "until"), **texts)

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.node:
            found.append(eventlog.c.node == select(nodes.c.id).where(nodes.c.name == self.node).scalar_subquery())
        if self.uuid:
            found.append(eventlog.c.subject.in_(_SUBJECTS.where(vms.c.uuid == self.uuid)))
        if self.name:
            found.append(eventlog.c.subject.in_(_SUBJECTS.where(subjects.c.name == self.name)))
        if self.event:
            found.append(eventlog.c.event == self.event)
        if self.since is not None:
            found.append(eventlog.c.time >= self.since)
        if self.until is not None:
            found.append(eventlog.c.time <= self.until)
        return found


class Events:
    """Lists are ascending: newest last. Every method reads the database and may block."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def count(self, chosen: Filter) -> int:
        with self._store.reading() as connection:
            query = select(func.count()).select_from(eventlog).where(*chosen.conditions())
            return connection.execute(query).scalar() or 0

    def after(self, chosen: Filter, cursor: int, most: int) -> list[Numbered]:
        """The first rows after the one with this id."""
        query = _ROWS.where(eventlog.c.id > cursor, *chosen.conditions())
        return self._rows(query.order_by(eventlog.c.id).limit(most))

    def page(self, chosen: Filter, first: int, most: int) -> list[Numbered]:
        """Rows from the `first` one, counted from 0."""
        query = _ROWS.where(*chosen.conditions())
        return self._rows(query.order_by(eventlog.c.id).offset(first).limit(most))

    def newest(self, chosen: Filter, most: int, before: int | None = None) -> list[Numbered]:
        """The last rows, of those before an id if one is given."""
        query = _ROWS.where(*chosen.conditions())
        if before is not None:
            query = query.where(eventlog.c.id < before)
        return self._rows(query.order_by(eventlog.c.id.desc()).limit(most))[::-1]

    def all(self, chosen: Filter, cursor: int) -> Iterator[list[Numbered]]:
        """Everything after an id, in chunks."""
        while rows := self.after(chosen, cursor, CHUNK):
            yield rows
            cursor = rows[-1][0]

    def _rows(self, query: Select[Any]) -> list[Numbered]:
        with self._store.reading() as connection:
            return [(row[0], EventRow(*row[1:])) for row in connection.execute(query)]


def row_of(number: int, row: EventRow) -> dict[str, str]:
    """The row as the API shows it."""
    return {
        "id": str(number),
        "node": row.node,
        "epoch": str(row.epoch),
        "seq": str(row.seq),
        "time": time_label(row.time),
        "received": time_label(row.received),
        "uuid": row.uuid,
        "name": row.name,
        "event": row.event,
        "detail": row.detail,
        "state": row.state,
    }
