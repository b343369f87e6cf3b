"""Which rows of the event log a filter fits: strands, each in the order of the list, merged into one.

A strand is a whole key of an index and a range of ids, so SQLite walks it in order from any cursor, and stops when it
has enough: no scan of the log and no sort, whatever is combined. A filter that leaves a part of the key open takes a
strand for each value that there is: a VM has few nodes and an event few words. Times are no order of the list; `spans`
says which ranges of ids can hold them.
"""

import heapq
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from vmwatch.panel.schema import SPAN_ROWS

Ids = tuple[int, int]
"""A range of ids; both ends are in it."""
EVERY_ID: Ids = (0, 2**63 - 1)
FOREVER_S = sys.float_info.max
BY_SUBJECT = "INDEXED BY eventlog_subject_node_event"
BY_NODE = "INDEXED BY eventlog_node_event"
BY_ID = "NOT INDEXED"


@dataclass(frozen=True)
class Wanted:
    """Empty or None: any. `since` and `until` bound `time`, in seconds; both are in it."""

    node: str = ""
    uuid: str = ""
    name: str = ""
    event: str = ""
    since: float | None = None
    until: float | None = None

    @property
    def is_timed(self) -> bool:
        return self.since is not None or self.until is not None


@dataclass(frozen=True)
class Strand:
    """Rows that one walk along one index gives. `ranges` of ids ascend."""

    index: str
    key: tuple[tuple[str, Any], ...]
    ranges: tuple[Ids, ...]

    def query(self, columns: str, ids: Ids, wanted: Wanted, tail: str) -> tuple[str, list[Any]]:
        """The SQL of the walk, and its parameters."""
        conditions = [f"{name} = ?" for name, _ in self.key] + ["id >= ?", "id <= ?"]
        values = [value for _, value in self.key] + list(ids)
        for bound, sign in ((wanted.since, ">="), (wanted.until, "<=")):
            if bound is not None:
                conditions.append(f"+time {sign} ?")
                values.append(bound)
        return f"SELECT {columns} FROM eventlog {self.index} WHERE {' AND '.join(conditions)} {tail}", values


class Strands:
    """Of one state of the database; for use inside one transaction."""

    def __init__(self, connection: sqlite3.Connection, wanted: Wanted, within: Ids = EVERY_ID) -> None:
        self._connection = connection
        self._wanted = wanted
        self._within = within
        self.found = self._find()

    def ids(self, most: int, *, newest_first: bool = False) -> list[int]:
        """The first `most` ids, or the last ones."""
        walks = [self._walk(strand, most, newest_first) for strand in self.found]
        merged = walks[0] if len(walks) == 1 else heapq.merge(*walks, reverse=newest_first)
        return list(islice(merged, most))

    def count(self, most: int) -> int:
        """How many there are, `most` at most."""
        total = 0
        for strand in self.found:
            for ids in strand.ranges:
                query, values = strand.query("1", ids, self._wanted, "LIMIT ?")
                limited = f"SELECT count(*) FROM ({query})"
                total += int(self._connection.execute(limited, (*values, most - total)).fetchone()[0])
                if total >= most:
                    return total
        return total

    def _walk(self, strand: Strand, most: int, newest_first: bool) -> Iterator[int]:
        order = "ORDER BY id DESC LIMIT ?" if newest_first else "ORDER BY id LIMIT ?"
        for ids in reversed(strand.ranges) if newest_first else strand.ranges:
            query, values = strand.query("id", ids, self._wanted, order)
            for row in self._connection.execute(query, (*values, most)):
                yield row[0]

    def _find(self) -> list[Strand]:
        wanted = self._wanted
        node = self._one("SELECT id FROM nodes WHERE name = ?", wanted.node) if wanted.node else None
        if wanted.node and node is None:
            return []
        ranges: Callable[[int], tuple[Ids, ...]] = lambda _: (self._within,)  # noqa: E731
        if wanted.is_timed:
            ranges = self._timed_ranges(node)
        if wanted.uuid or wanted.name:
            keys = [(s, n, e) for s in self._subjects() for n, e in self._pairs(s) if node in (None, n)]
            keys = [key for key in keys if wanted.event in ("", key[2])]
            made = [Strand(BY_SUBJECT, (("subject", s), ("node", n), ("event", e)), ranges(n)) for s, n, e in keys]
        elif node is not None or wanted.event or wanted.is_timed:
            # A time alone too: one node whose clock says anything must not make a walk over everybody's rows.
            nodes = self._column("SELECT id FROM nodes") if node is None else [node]
            pairs = [(n, e) for n in nodes for e in ([wanted.event] if wanted.event else self._words(n))]
            made = [Strand(BY_NODE, (("node", n), ("event", e)), ranges(n)) for n, e in pairs]
        else:
            made = [Strand(BY_ID, (), (self._within,))]
        return [strand for strand in made if strand.ranges]

    def _timed_ranges(self, node: int | None) -> Callable[[int], tuple[Ids, ...]]:
        """Ranges of ids in which a node has events of the wanted time, and perhaps others."""
        since = -FOREVER_S if self._wanted.since is None else self._wanted.since
        until = FOREVER_S if self._wanted.until is None else self._wanted.until
        bounds = [number // SPAN_ROWS for number in self._within]
        query = "SELECT node, span, last >= ? AND first <= ? FROM spans WHERE span >= ? AND span <= ?"
        values: list[Any] = [since, until, *bounds]
        if node is not None:
            query, values = f"{query} AND node = ?", [*values, node]
        fits: dict[int, list[tuple[int, bool]]] = {}
        for owner, span, fit in self._connection.execute(f"{query} ORDER BY span", values):
            fits.setdefault(owner, []).append((span, bool(fit)))
        made = {owner: tuple(runs(found, self._within)) for owner, found in fits.items()}
        return lambda owner: made.get(owner, ())

    def _subjects(self) -> list[int]:
        conditions, values = [], []
        for column, value in (("vms.uuid", self._wanted.uuid), ("subjects.name", self._wanted.name)):
            if value:
                conditions.append(f"{column} = ?")
                values.append(value)
        query = "SELECT subjects.id FROM subjects JOIN vms ON vms.id = subjects.vm WHERE " + " AND ".join(conditions)
        return self._column(query, *values)

    def _pairs(self, subject: int) -> Iterator[tuple[int, str]]:
        """(node, event) that a subject has, each found by one step into the index."""
        query = f"SELECT node FROM eventlog {BY_SUBJECT} WHERE subject = ? AND node > ? ORDER BY node LIMIT 1"
        words = f"SELECT event FROM eventlog {BY_SUBJECT} WHERE subject = ? AND node = ? AND event > ?"
        node = -1
        while (found := self._one(query, subject, node)) is not None:
            node = int(found)
            for word in self._steps(f"{words} ORDER BY event LIMIT 1", subject, node):
                yield node, word

    def _words(self, node: int) -> Iterator[str]:
        """The events that a node has."""
        words = f"SELECT event FROM eventlog {BY_NODE} WHERE node = ? AND event > ? ORDER BY event LIMIT 1"
        return self._steps(words, node)

    def _steps(self, query: str, *key: object) -> Iterator[str]:
        """The words under a part of an index's key, each found by one step into the index."""
        word = ""
        while (found := self._one(query, *key, word)) is not None:
            word = str(found)
            yield word

    def _one(self, query: str, *values: object) -> Any:  # noqa: ANN401 - a value of SQLite
        row = self._connection.execute(query, values).fetchone()
        return None if row is None else row[0]

    def _column(self, query: str, *values: object) -> list[int]:
        return [row[0] for row in self._connection.execute(query, values)]


def runs(fits: Iterable[tuple[int, bool]], within: Ids) -> Iterator[Ids]:
    """Ranges of ids of spans that fit, ascending. Those with none that does not fit between them are one range."""
    first: int | None = None
    last = 0
    for span, fit in fits:
        if fit:
            first, last = span if first is None else first, span
        elif first is not None:
            yield from _cut(first, last, within)
            first = None
    if first is not None:
        yield from _cut(first, last, within)


def _cut(first: int, last: int, within: Sequence[int]) -> Iterator[Ids]:
    low, high = max(first * SPAN_ROWS, within[0]), min((last + 1) * SPAN_ROWS - 1, within[1])
    if low <= high:
        yield low, high
