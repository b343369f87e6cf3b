"""The outbox: every message is here, committed, before it is sent, and until the panel has it (design 01)."""

import json
import logging
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random, SystemRandom

import msgspec

from vmwatch.node.database import LockedError, NotNowError, guarded, pragma, transaction, unflushed
from vmwatch.node.reserve import RESERVE_BYTES, NoReserve
from vmwatch.node.room import Room
from vmwatch.node.schema import migrate
from vmwatch.node.sender import Held, Row, Wanted
from vmwatch.shared.errors import StoreError
from vmwatch.shared.messages import MAX_FRAME_BYTES, AgentReport, Inventory, encode_payload

log = logging.getLogger(__name__)

MAX_PAYLOAD_BYTES = MAX_FRAME_BYTES - 128 * 1024
"""A row alone in a frame leaves this much for the envelope and the status."""
PLACE_BYTES = 64
"""At most so much larger is a message in a frame than its payload: `seq`, `prev`, a comma."""
ROW_BYTES = 128
"""What a row takes on disk beside its payload, generously."""
WAITING_MOST_BYTES = 16 * 1024 * 1024
"""What a full disk keeps in memory; beyond it the oldest is dropped."""
MAX_EPOCH = 2**53 - 1
_EPOCH_LEAP = 1_000_000
"""Microseconds."""
_SPLIT_PAGES = 4
"""Room that is left for splits of the tree's pages, which no message's size tells."""
LEAST_BYTES = RESERVE_BYTES // 2
"""A file of this size is not made smaller for a full disk. Of the reserve the rest is the write-ahead log's."""
_DELETES_AT_ONCE = 100
"""On a full disk: few enough for the write-ahead log's present size."""


class ForeignOutboxError(StoreError):
    """The outbox is another node's, or was made on another machine: a copied disk, a changed `node_id`."""


@dataclass(frozen=True, slots=True)
class _Item:
    """A message that has no place in the order yet. `replaces`: (epoch, seq) of inventories that it makes needless."""

    type: str
    payload: bytes
    added_us: int
    token: str = ""
    replaces: tuple[tuple[int, int], ...] = ()

    @property
    def need(self) -> int:
        return len(self.payload) + ROW_BYTES


class Outbox:
    """Rows by (epoch, seq), on an open SQLite connection that this object takes over.

    For one thread. `now_us` gives microseconds since 1970 and should not go back within a run. What is committed
    survives; what was not is rolled back when the next Outbox takes the connection. Raises ForeignOutboxError if
    the database is another node's or machine's (an empty `machine_id` is like any), StoreError if it is damaged.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        node_id: str,
        machine_id: str,
        now_us: Callable[[], int],
        *,
        limit_bytes: int = 512 * 1024 * 1024,
        reserve: NoReserve | None = None,
        chance: Random | None = None,
    ) -> None:
        self.limit_bytes = limit_bytes
        self.dropped: Counter[str] = Counter()
        """Messages dropped in this run, by type."""
        self.trouble = ""
        """Why a commit failed; empty when all is well again."""
        self._db = connection
        self._now_us = now_us
        self._reserve = reserve or NoReserve()
        self._chance = chance or SystemRandom()
        self._waiting: deque[_Item] = deque()
        self._waiting_bytes = 0
        self._held: Held | None = None
        self._stored: dict[str, object] = {}
        """Facts as they are on the disk."""
        self._oldest_us: int | None = None
        with guarded():
            connection.rollback()  # before the next line, which would commit
            connection.isolation_level = None
            migrate(connection)
            facts = dict(connection.execute("SELECT name, value FROM fact").fetchall())
            self._take_over(facts, node_id, machine_id)
            self._page_bytes = pragma(connection, "page_size")
            self._depth = int(connection.execute("SELECT count(*) FROM message").fetchone()[0])
            newest = connection.execute("SELECT max(epoch) FROM message").fetchone()[0] or 0
        self._unreported: Counter[str] = Counter(json.loads(facts.get("dropped", "{}")))
        self._machine_id = machine_id or str(facts.get("machine_id", ""))
        self._node_id = node_id
        self._last_seq = 0
        self._epoch = max(int(facts.get("epoch", 0)), newest)
        self.begin_epoch(0)

    @staticmethod
    def _take_over(facts: dict[str, object], node_id: str, machine_id: str) -> None:
        known = (facts.get("node_id", node_id), facts.get("machine_id") or machine_id)
        if known[0] != node_id:
            raise ForeignOutboxError(f"belongs to node {known[0]}, not to {node_id}")
        if machine_id and known[1] != machine_id:
            raise ForeignOutboxError("was made on another machine (its machine-id differs)")

    # What it holds

    @property
    def epoch(self) -> int:
        """The epoch of this run."""
        return self._epoch

    @property
    def last_seq(self) -> int:
        """The last seq assigned in this run's epoch; 0 before the first."""
        return self._last_seq

    @property
    def depth(self) -> int:
        """Messages held, those included that wait for room on the disk."""
        return self._depth + len(self._waiting)

    @property
    def waiting(self) -> int:
        """Messages in memory alone, because the disk took them not yet."""
        return len(self._waiting)

    @property
    def unreported(self) -> dict[str, int]:
        """Messages dropped, by type, that no `agent`/`dropped` message has told of; also of earlier runs."""
        return dict(self._unreported)

    def oldest_age_s(self) -> float:
        """Seconds since the oldest message was added; 0 if there is none."""
        self.held()
        oldest_us = self._oldest_us
        if oldest_us is None and self._waiting:
            oldest_us = self._waiting[0].added_us
        return 0.0 if oldest_us is None else max(0.0, (self._now_us() - oldest_us) / 1e6)

    def held(self) -> Held:
        """What is to be sent: the oldest epoch with rows, else this run's."""
        if self._held is None:
            with guarded():
                first = self._db.execute("SELECT epoch, seq, added FROM message ORDER BY epoch, seq LIMIT 1").fetchone()
                if first is None:
                    self._held, self._oldest_us = Held(self._epoch, self._last_seq + 1, self._last_seq), None
                else:
                    query = "SELECT max(seq) FROM message WHERE epoch = ?"
                    last = int(self._db.execute(query, (first[0],)).fetchone()[0])
                    self._held, self._oldest_us = Held(first[0], first[1], last), first[2]
        return self._held

    def read(self, wanted: Wanted) -> tuple[int, list[Row]]:
        """The rows that the sender wants, and the highest seq held at or below `wanted.after` (0 if there is none)."""
        epoch = self.held().epoch
        rows: list[Row] = []
        size = 0
        with guarded():
            query = "SELECT max(seq) FROM message WHERE epoch = ? AND seq <= ?"
            before = self._db.execute(query, (epoch, wanted.after)).fetchone()[0] or 0
            query = "SELECT seq, payload FROM message WHERE epoch = ? AND seq > ? ORDER BY seq LIMIT ?"
            cursor = self._db.execute(query, (epoch, wanted.after, wanted.count))
            for seq, payload in cursor:
                size += len(payload) + PLACE_BYTES
                if size > wanted.size and not (wanted.at_least_one and not rows):
                    break
                rows.append(Row(seq, payload))
            cursor.close()
        return before, rows

    def holds_token(self, token: str) -> bool:
        """Whether an inventory with this token is held."""
        query = "SELECT 1 FROM message WHERE type = 'inventory' AND type <> 'event' AND token = ?"
        with guarded():
            held = self._db.execute(query, (token,)).fetchone() is not None
        return held or any(item.token == token for item in self._waiting)

    # What changes it

    def begin_epoch(self, above: int) -> int:
        """Begin a new epoch: now, and above this run's, any that is held, and `above`; returns it."""
        epoch, least = self._now_us(), max(self._epoch, above) + 1
        if epoch < least:
            # The clock went back. If this outbox is an old copy as well, the very next epoch may have been used
            # since, and its messages would be taken for known.
            epoch = least + self._chance.randrange(_EPOCH_LEAP)
        if epoch > MAX_EPOCH:
            raise StoreError(f"epoch {epoch} is above 2^53 - 1: the clock of this machine is wrong")
        self._epoch, self._last_seq, self._held = epoch, 0, None
        try:
            with guarded(), transaction(self._db):
                stored = self._store(0, self._unreported)
            self._stored.update(stored)
        except NotNowError as error:
            # Each insert stores the counters too: no row of this epoch can exist before they are on the disk.
            self._complain(error)
        return epoch

    def add(self, payloads: Sequence[tuple[str, bytes]]) -> list[int]:
        """Commit (type, payload) pairs, and what waits, in one transaction; returns the seqs assigned.

        What cannot be committed now waits in memory for the next call; what finds no room is dropped and counted.
        """
        now_us = self._now_us()
        for kind, payload in payloads:
            self._put(_Item(kind, payload, now_us))
        return self.commit_waiting()

    def add_inventory(self, inventory: Inventory, first_unsent: Callable[[int], int]) -> list[int]:
        """Commit an inventory in the place of older ones that were not sent; it inherits their token.

        `first_unsent(epoch)`: rows of that epoch from there on were not sent (`Sender.first_unsent`).
        """
        query = "SELECT epoch, seq, token FROM message WHERE type = 'inventory' AND type <> 'event' ORDER BY epoch, seq"
        with guarded():
            older = [row for row in self._db.execute(query).fetchall() if row[1] >= first_unsent(row[0])]
        waiting = [item for item in self._waiting if item.type == "inventory"]
        tokens = [row[2] for row in older] + [item.token for item in waiting]
        token = inventory.token or next((token for token in reversed(tokens) if token), "")
        for item in waiting:
            self._waiting.remove(item)
            self._waiting_bytes -= item.need
        replaces = [(row[0], row[1]) for row in older] + [place for item in waiting for place in item.replaces]
        payload = encode_payload(msgspec.structs.replace(inventory, token=token))
        self._put(_Item("inventory", payload, self._now_us(), token, tuple(replaces)))
        return self.commit_waiting()

    def commit_waiting(self) -> list[int]:
        """Try again what the disk did not take; returns the seqs assigned."""
        if not self._waiting:
            return []
        items = list(self._waiting)
        try:
            seqs = self._insert(items, self._ceiling())
        except LockedError as error:
            self._complain(error)
            self._forget_too_much()
            return []
        except NotNowError as error:
            self._complain(error)
            return self._commit_one_by_one()
        self._waiting.clear()
        self._waiting_bytes = 0
        self._recovered()
        return seqs

    def report_drops(self, time: float) -> list[int]:
        """Add an `agent`/`dropped` message about drops that were not reported yet, if there is room.

        `time`: seconds since 1970, the message's label. The counts survive a restart.
        """
        if not self._unreported or self._waiting:
            return []
        report = AgentReport(seq=0, time=time, what="dropped", counts=dict(self._unreported))
        item = _Item("agent", encode_payload(report), self._now_us())
        try:
            if self._used() + item.need > self._ceiling():
                return []
            return self._insert([item], self._ceiling(), reported=True)
        except NotNowError as error:
            self._complain(error)
            return []

    def complete(self, epoch: int, upto: int) -> int:
        """Delete the rows of `epoch` up to `upto`: the panel has them. Returns how many they were.

        On a disk too full even for that they stay; the next acknowledgement names them again.
        """
        held = self.held()
        if not self._depth or epoch < held.epoch or (epoch == held.epoch and upto < held.base):
            return 0
        try:
            return self._delete_settled(epoch, upto, -1)
        except LockedError as error:
            self._complain(error)  # the next acknowledgement names them again
            return 0
        except NotNowError as error:
            self._complain(error)
            self._reserve.release()
        count = 0
        try:
            while deleted := self._delete_settled(epoch, upto, _DELETES_AT_ONCE):
                count += deleted
                self._checkpoint()
        except NotNowError as error:
            self._complain(error)
        return count

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    # Inside

    def _put(self, item: _Item) -> None:
        if len(item.payload) > MAX_PAYLOAD_BYTES:
            log.error("a message of type %s with %d bytes fits no frame and is dropped", item.type, len(item.payload))
            self._count({item.type: 1})
            return
        self._waiting.append(item)
        self._waiting_bytes += item.need

    def _commit_one_by_one(self) -> list[int]:
        """On a full disk: in what the file has already, with the reserve for the deletes that make room there."""
        self._reserve.release()
        self._checkpoint()
        seqs: list[int] = []
        while self._waiting:
            item = self._waiting[0]
            try:
                seqs += self._insert([item], self._tight_ceiling())
            except NotNowError as error:
                self._complain(error)
                if isinstance(error, LockedError):
                    self._forget_too_much()
                    break
                if item.type != "stats" and self._shed():
                    continue
                if item.type not in ("inventory", "stats") and self._waiting_bytes <= WAITING_MOST_BYTES:
                    break
                self._count({item.type: 1})
            self._waiting.popleft()
            self._waiting_bytes -= item.need
        return seqs

    def _shed(self) -> bool:
        """Drop something that matters less than an event: its place in the file is free then. False: nothing went."""
        before = self._depth
        with suppress(NotNowError):
            self._insert((), 0, shed=True)
        return self._depth < before

    def _forget_too_much(self) -> None:
        """Somebody locks the database for very long: the oldest that wait in memory go, and are counted."""
        while self._waiting_bytes > WAITING_MOST_BYTES:
            item = self._waiting.popleft()
            self._waiting_bytes -= item.need
            self._count({item.type: 1})

    def _insert(
        self, items: Sequence[_Item], ceiling: int, *, reported: bool = False, shed: bool = False
    ) -> list[int]:
        """One transaction. What is in memory changes only when it has been committed."""
        room = Room(self._db, self._used, ceiling)
        seq, replaced = self._last_seq, 0
        with guarded(), transaction(self._db):
            if shed:
                room.shed()
            for item in items:
                replaced += sum(self._delete("epoch = ? AND seq = ?", place) for place in item.replaces)
                if room.make(item.type, item.need):
                    seq += 1
                    self._db.execute(
                        "INSERT INTO message (epoch, seq, type, token, added, payload) VALUES (?, ?, ?, ?, ?, ?)",
                        (self._epoch, seq, item.type, item.token, item.added_us, item.payload),
                    )
            stored = self._store(seq, (Counter() if reported else self._unreported) + room.dropped + room.untold)
        self._stored.update(stored)
        first, self._last_seq = self._last_seq + 1, seq
        self._depth += seq + 1 - first - replaced - room.deleted
        if replaced or room.deleted:
            self._held = None
        elif seq >= first:  # else none found room, and the last seq may be one that was dropped before
            self._held = self._grown(self._held)
        if reported:
            self._unreported.clear()
        self._count(room.dropped)
        self._unreported.update(room.untold)
        return list(range(first, seq + 1))

    def _delete_settled(self, epoch: int, upto: int, most: int) -> int:
        """One transaction; `most` rows, or all if that is negative. The oldest go first.

        Rows that a failure of power brings back are sent once more, and are known. So the disk is left to new events.
        """
        with guarded(), unflushed(self._db), transaction(self._db):
            count = self._delete(
                "id IN (SELECT id FROM message WHERE epoch = ? AND seq <= ? ORDER BY seq LIMIT ?)", (epoch, upto, most)
            )
        self._depth -= count
        self._held = None
        return count

    def _grown(self, held: Held | None) -> Held | None:
        """What is held after rows were added and none was taken."""
        if held is None or held.base > held.last:
            return None
        return Held(held.epoch, held.base, self._last_seq) if held.epoch == self._epoch else held

    def _store(self, seq: int, unreported: Counter[str]) -> dict[str, object]:
        """Write the facts that have changed; returns them, to be noted once they are committed."""
        facts: dict[str, object] = {
            "node_id": self._node_id,
            "machine_id": self._machine_id,
            "epoch": self._epoch,
            "seq": seq,
            "dropped": json.dumps(unreported) if unreported else "{}",
        }
        changed = {name: value for name, value in facts.items() if self._stored.get(name) != value}
        self._db.executemany("REPLACE INTO fact (name, value) VALUES (?, ?)", changed.items())
        return changed

    def _delete(self, condition: str, values: tuple[int, ...]) -> int:
        return self._db.execute(f"DELETE FROM message WHERE {condition}", values).rowcount

    def _ceiling(self) -> int:
        """How many bytes the messages may take now: without the reserve the file must not grow."""
        if self._reserve.held or self._reserve.restore():
            return self.limit_bytes - _SPLIT_PAGES * self._page_bytes
        return self._tight_ceiling()

    def _tight_ceiling(self) -> int:
        """As much as the file has already, or may have of the reserve: a small file is all in use, and would hold
        nothing new. Where the disk does not give even that, the commit fails, and messages wait in memory."""
        return min(self.limit_bytes, max(self._file_bytes(), LEAST_BYTES)) - _SPLIT_PAGES * self._page_bytes

    def _file_bytes(self) -> int:
        return pragma(self._db, "page_count") * self._page_bytes

    def _used(self) -> int:
        return self._file_bytes() - pragma(self._db, "freelist_count") * self._page_bytes

    def _checkpoint(self) -> None:
        """Move the write-ahead log into the database, so that the log's space can be used again."""
        try:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.OperationalError as error:
            log.debug("the write-ahead log could not be moved into the outbox: %s", error)

    def _count(self, drops: Mapping[str, int]) -> None:
        self.dropped.update(drops)
        self._unreported.update(drops)

    def _complain(self, error: NotNowError) -> None:
        if str(error) != self.trouble:
            log.error("the outbox could not be written; messages wait in memory, or go where that is full: %s", error)
        self.trouble = str(error)

    def _recovered(self) -> None:
        if self.trouble and self._reserve.held:
            log.info("the outbox can be written again")
            self.trouble = ""
