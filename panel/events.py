"""Reads the registered events: filters, pages, and a cursor."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from vmwatch.panel.convention import Params
from vmwatch.panel.knowledge import EventRow
from vmwatch.panel.labels import time_label, time_param
from vmwatch.panel.schema import eventlog, nodes, subjects, vms
from vmwatch.panel.store import Store
from vmwatch.panel.strands import EVERY_ID, Ids, Strands, Wanted

CHUNK = 1000
"""Rows of one read of an export: each is a short read of its own, so a slow client holds no old state of the
database, which could not be cleaned up meanwhile."""

Numbered = tuple[int, EventRow]

ROWS = (
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
class Filter(Wanted):
    """What a call wants to see; times are the nodes' clocks."""

    @classmethod
    def of(cls, params: Params) -> "Filter":
        """Raises ApiError for a time that is none."""
        texts = {name: params.get(name).strip() for name in ("node", "uuid", "name", "event")}
        return cls(since=time_param(params, "since"), until=time_param(params, "until"), **texts)


class Events:
    """Lists are ascending: newest last. Every method reads the database and may block."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def count(self, chosen: Filter, most: int) -> int:
        """How many there are, `most` at most."""
        with self._strands(chosen) as (_, strands):
            return strands.count(most)

    def after(self, chosen: Filter, cursor: int, most: int) -> list[Numbered]:
        """The first rows after the one with this id."""
        with self._strands(chosen, (cursor + 1, EVERY_ID[1])) as (connection, strands):
            return _rows(connection, strands.ids(most))

    def page(self, chosen: Filter, first: int, most: int) -> list[Numbered]:
        """Rows from the `first` one, counted from 0: all before it are walked over, so not for far ones."""
        with self._strands(chosen) as (connection, strands):
            return _rows(connection, strands.ids(first + most)[first:])

    def newest(self, chosen: Filter, most: int, before: int | None = None) -> list[Numbered]:
        """The last rows, of those before an id if one is given."""
        last = EVERY_ID[1] if before is None else before - 1
        with self._strands(chosen, (EVERY_ID[0], last)) as (connection, strands):
            return _rows(connection, strands.ids(most, newest_first=True))

    def all(self, chosen: Filter, cursor: int) -> Iterator[list[Numbered]]:
        """Everything after an id, in chunks."""
        while rows := self.after(chosen, cursor, CHUNK):
            yield rows
            cursor = rows[-1][0]

    @contextmanager
    def _strands(self, chosen: Filter, within: Ids = EVERY_ID) -> Iterator[tuple[Connection, Strands]]:
        """In one transaction: what is found and what is read of it are of one state of the database."""
        with self._store.reading() as connection, connection.begin():
            driver: Any = connection.connection.driver_connection
            yield connection, Strands(driver, chosen, within)


def _rows(connection: Connection, ids: list[int]) -> list[Numbered]:
    """The rows with these ids, ascending."""
    found = []
    for first in range(0, len(ids), CHUNK):
        query = ROWS.where(eventlog.c.id.in_(ids[first : first + CHUNK]))
        found += [(row[0], EventRow(*row[1:])) for row in connection.execute(query)]
    return sorted(found)


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


COLUMNS = tuple(row_of(0, EventRow("", 0, 0, 0.0, 0.0, "", "", "", "", "")))
"""The names of a row's values, in their order."""
