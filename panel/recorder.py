"""Writes drafts into the database: the writer's transactions, and the numbers that rows get."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
from msgspec.structs import astuple

from vmwatch.panel import statements
from vmwatch.panel.expiry import Finished
from vmwatch.panel.installation import Installation
from vmwatch.panel.knowledge import Draft, EventRow, StatsRow
from vmwatch.panel.rules import Claim
from vmwatch.panel.schema import COUNTERS, SPAN_ROWS
from vmwatch.panel.store import SHORT_WAL_PAGES, WAL_PAGES, Host, Store, Stored
from vmwatch.shared.messages import Event, Message, Stats

Rows = Iterable[Sequence[Any]]
EventValues = tuple[int, int, int, int, float, float, int, str, str, str]
"""A row of `eventlog`, in the order of its columns."""


class Recorder:
    """One connection, one transaction at a time, used by the writer's thread alone.

    Numbers of nodes, VMs and events are given here and not by the database, so that they are known without asking.
    What a transaction or a savepoint gave is taken back with it.
    """

    def __init__(self, store: Store, stored: Stored) -> None:
        self._connection = store.raw()
        self._cursor = self._connection.cursor()
        self._stored = stored
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []
        self._committed = (stored.last_event, stored.last_stats)
        self._open = False
        self._wal_pages = WAL_PAGES

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What is written inside is taken back, alone, if it raises; begins the transaction if there is none yet."""
        if not self._open:
            self._cursor.execute("BEGIN IMMEDIATE")
            self._open = True
        before = (len(self._undo), self._stored.last_event, self._stored.last_stats)
        self._cursor.execute("SAVEPOINT report")
        try:
            yield
            self._cursor.execute("RELEASE report")
        except BaseException:
            self._take_back(*before)
            if self._connection.driver_connection.in_transaction:  # a full disk may have ended it already
                self._cursor.execute("ROLLBACK TO report")
                self._cursor.execute("RELEASE report")
            raise

    def commit(self) -> None:
        """Make it durable; on an error nothing of the transaction is."""
        if self._open:
            self._cursor.execute("COMMIT")
            self._open = False
        self._copy_from(WAL_PAGES)
        self._undo.clear()
        self._committed = (self._stored.last_event, self._stored.last_stats)

    def copy_soon(self) -> None:
        """This transaction's commit copies the WAL into the file also where it is short."""
        self._copy_from(SHORT_WAL_PAGES)

    def _copy_from(self, pages: int) -> None:
        if pages != self._wal_pages:
            self._cursor.execute(f"PRAGMA wal_autocheckpoint={pages}")
            self._wal_pages = pages

    def prove(self, now: float) -> None:
        """Write something new in any case: a transaction that changes nothing says nothing of the disk."""
        with self.savepoint():
            self._cursor.execute(statements.PROVE, ("written", str(now)))

    def rollback(self) -> None:
        """Take back the whole transaction, if there is one. Raises nothing that the caller could mend."""
        self._take_back(0, *self._committed)
        self._open = False
        if self._connection.driver_connection.in_transaction:  # a full disk may have ended it already
            self._cursor.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()

    def write(self, draft: Draft, now: float) -> int:
        """Write what a draft changes; returns the id of its first event. The order is that of the foreign keys."""
        for name in draft.nodes:
            self._reveal(name)
        self._many(statements.SAVE_NODE, self._node_rows(draft))
        hosts = self._stored.hosts
        ids = {key: (hosts[key[0]].id, key[1]) for key in draft.epochs}
        self._many(statements.SAVE_EPOCH, [(*ids[k], e.base, e.active) for k, e in draft.epochs.items()])
        self._many(
            statements.ADD_KEY,
            [(*ids[k], seq) for k, seqs in draft.keys.items() for seq in seqs if seq >= draft.epochs[k].base],
        )
        self._many(statements.PRUNE_KEYS, [(*ids[k], e.base) for k, e in draft.epochs.items()])
        self._write_claims(draft)
        self._many(statements.ADD_STATS, self._stats_rows(draft.stats, now))
        self._many(statements.FORGET_ATTEMPTS, draft.forgotten_problems)
        self._many(statements.FORGET_PROBLEM, draft.forgotten_problems)
        self._many(statements.SAVE_PROBLEM, [astuple(problem) for problem in draft.problems.values()])
        self._many(statements.SAVE_INSTALLATION, map(_installation_row, draft.installations.values()))
        begun = [astuple(found) for found in draft.maintenance.values() if found is not None]
        self._many(statements.SAVE_MAINTENANCE, begun)
        self._many(statements.END_MAINTENANCE, [(name,) for name, found in draft.maintenance.items() if found is None])
        return self._write_events(draft.events)

    def save_host(self, host: Host) -> None:
        """What a person says of a node; the node's row must exist."""
        self._note(self._stored.hosts, host.name, host)
        told = host.address, host.reach, host.hidden, host.allow_install, host.libvirt_uri, host.ssh
        self._cursor.execute(statements.SAVE_HOST, (*told, host.id))

    def save_policies(self, values: Mapping[str, str]) -> None:
        """Values by name."""
        for name, value in values.items():
            self._note(self._stored.policies, name, value)
        self._many(statements.SAVE_POLICY, list(values.items()))

    def holds(self, node: str, epoch: int, message: Message) -> bool:
        """Is this message registered? One that may be applied again without harm (a listing) is said not to be."""
        host = self._stored.hosts.get(node)
        if host is None:
            return False
        if isinstance(message, Event):
            subject = self._stored.subjects.get((message.vm.uuid, message.vm.name))
            place = (subject, host.id, message.event, epoch, message.seq)
            return subject is not None and self._finds(statements.FIND_EVENT, place)
        if isinstance(message, Stats) and message.domains:
            return self._finds(statements.FIND_STATS, (message.domains[0].uuid, node, message.taken))
        return False

    def _finds(self, statement: str, parameters: Sequence[Any]) -> bool:
        return self._cursor.execute(statement, parameters).fetchone() is not None

    def forget_installations(self, finished: Iterable[Finished]) -> None:
        """Finished ones go, also from what is in memory."""
        known = self._stored.known.installations
        for row in finished:
            self._cursor.execute(statements.FORGET_INSTALLATION, (row.id,))
            if (now := known.get(row.uuid)) is not None and now.id == row.id:
                self._undo.append((known, row.uuid, now))
                del known[row.uuid]

    def execute(self, statement: str, parameters: Sequence[Any]) -> None:
        """One of `statements`, inside the savepoint."""
        self._cursor.execute(statement, parameters)

    def execute_many(self, statement: str, rows: Rows) -> None:
        """The same with many rows of parameters."""
        self._many(statement, rows)

    def _many(self, statement: str, rows: Rows) -> None:
        self._cursor.executemany(statement, rows)

    def _reveal(self, name: str) -> None:
        """A node that a report names is in the list, also one that is new or was deleted."""
        host = self._stored.hosts.get(name)
        if host is None:
            number = 1 + max((known.id for known in self._stored.hosts.values()), default=0)
            self._note(self._stored.hosts, name, Host(number, name))
        elif host.hidden:
            self.save_host(replace(host, hidden=False))

    def _node_rows(self, draft: Draft) -> Rows:
        for name, node in draft.nodes.items():
            number = self._stored.hosts[name].id
            status = node.status.decode()
            told = (node.agent, node.interval, status, node.said, node.seen, node.doubted, node.doubt)
            yield number, name, node.newest_epoch, *node.floor, *told, *node.emptied

    def _write_claims(self, draft: Draft) -> None:
        saved: list[tuple[int, int, Claim]] = []
        forgotten: list[tuple[int, int]] = []
        for (uuid, node), claim in draft.claims.items():
            key = (self._stored.hosts[node].id, self._vm_id(uuid))
            if claim is None:
                forgotten.append(key)
            else:
                saved.append((*key, claim))
        rows = [
            (
                *(*key, c.told.value, c.name, *c.mark, c.since, c.turn, *c.stated),
                *(c.persistent, *c.persisted, c.moving, c.departed),
            )
            for *key, c in saved
        ]
        self._many(statements.SAVE_CLAIM, rows)
        self._many(statements.FORGET_CLAIM, forgotten)

    def _write_events(self, events: Sequence[EventRow]) -> int:
        first = self._stored.last_event + 1
        hosts = self._stored.hosts
        rows: list[EventValues] = []
        for number, (node, epoch, seq, time, received, uuid, name, event, detail, state) in enumerate(events, first):
            subject = self._subject(uuid, name)
            rows.append((number, hosts[node].id, epoch, seq, time, received, subject, event, detail, str(state)))
        self._many(statements.ADD_EVENT, rows)
        self._many(statements.WIDEN_SPAN, _spans(rows))
        self._stored.last_event += len(events)
        return first

    def _vm_id(self, uuid: str) -> int:
        """The VM's number, given here if it has none. No row is ever removed, so the next is their count."""
        number: int | None = self._stored.vm_ids.get(uuid)
        if number is None:
            number = 1 + len(self._stored.vm_ids)
            self._note(self._stored.vm_ids, uuid, number)
            self._cursor.execute(statements.ADD_VM, (number, uuid))
        return number

    def _subject(self, uuid: str, name: str) -> int:
        """The number of the VM under this name."""
        number: int | None = self._stored.subjects.get((uuid, name))
        if number is None:
            number = 1 + len(self._stored.subjects)
            self._note(self._stored.subjects, (uuid, name), number)
            self._cursor.execute(statements.ADD_SUBJECT, (number, self._vm_id(uuid), name))
        return number

    def _stats_rows(self, rows: Sequence[StatsRow], now: float) -> Rows:
        for row in rows:
            self._stored.last_stats += 1
            domain = row.domain
            counters = [getattr(domain, name) for name in COUNTERS]
            head = (self._stored.last_stats, domain.uuid, row.node, row.taken, now, row.interval, domain.state.value)
            yield *head, *counters

    def _note(self, into: dict[Any, Any], key: object, value: object) -> None:
        """Change what is in memory so that it can be taken back."""
        self._undo.append((into, key, into.get(key)))
        into[key] = value

    def _take_back(self, length: int, last_event: int, last_stats: int) -> None:
        while len(self._undo) > length:
            into, key, value = self._undo.pop()
            if value is None:
                del into[key]
            else:
                into[key] = value
        self._stored.last_event, self._stored.last_stats = last_event, last_stats


def _spans(rows: Sequence[EventValues]) -> Rows:
    """(span, node, earliest, latest) of the rows: a report has many, in few spans."""
    found: dict[tuple[int, int], list[float]] = {}
    for number, node, _epoch, _seq, time, *_rest in rows:
        times = found.setdefault((number // SPAN_ROWS, node), [time, time])
        if time < times[0]:
            times[0] = time
        elif time > times[1]:
            times[1] = time
    return [(*key, *times) for key, times in found.items()]


def _installation_row(now: Installation) -> Sequence[Any]:
    return now.id, now.uuid, now.began, now.unfinished, msgspec.json.encode(now).decode()
