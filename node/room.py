"""Which messages go when the outbox has no room (design 01, *disk full or outbox limit*)."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable

# No RETURNING: SQLite has it since 3.35, and distributions that are still in use are older.
SUPERSEDED = """
    SELECT id, type FROM message WHERE type = 'inventory' AND type <> 'event' AND id < (
        SELECT max(id) FROM message WHERE type = 'inventory' AND type <> 'event')"""
OLDEST_STATS = """
    SELECT id, type FROM message WHERE type = 'stats' AND type <> 'event' ORDER BY epoch, seq LIMIT 1"""
# Room is counted in pages, and one small row less frees none: events go by the dozen.
OLDEST_EVENTS = """
    SELECT id, type FROM message WHERE type NOT IN ('inventory', 'stats') ORDER BY epoch, seq LIMIT 32"""
LAST_INVENTORY = "SELECT id, type FROM message WHERE type = 'inventory' AND type <> 'event'"

_GOES_FIRST: dict[str, tuple[str, ...]] = {
    "inventory": (SUPERSEDED, OLDEST_STATS, LAST_INVENTORY),  # the new one supersedes what is held
    "stats": (SUPERSEDED, OLDEST_STATS),
}
_BEFORE_EVENTS = (SUPERSEDED, OLDEST_STATS, OLDEST_EVENTS, LAST_INVENTORY)
"""For events, and for the few words of the agent about itself. An event never goes for an inventory or statistics."""


class Room:
    """The room for one transaction's messages, and what was dropped for them; all of it inside that transaction."""

    def __init__(self, connection: sqlite3.Connection, used: Callable[[], int], ceiling: int) -> None:
        self.dropped: Counter[str] = Counter()
        """By type; those that found no room themselves are among them."""
        self.untold: Counter[str] = Counter()
        """Drops of before, by type: the messages that would have told of them went too."""
        self.deleted = 0
        """Rows dropped that had been held."""
        self._db = connection
        self._used = used
        self._ceiling = ceiling
        self._free = 0

    def make(self, kind: str, need: int) -> bool:
        """Make room for `need` bytes of a message of type `kind`; False: there is none, and it is dropped itself."""
        if need > self._free:
            self._free = self._ceiling - self._used()
        while need > self._free:
            if not self._drop_some(kind):
                self.dropped[kind] += 1
                return False
            self._free = self._ceiling - self._used()
        self._free -= need
        return True

    def shed(self) -> None:
        """Drop an inventory that is superseded, or the oldest statistics, if there is one."""
        self._drop_some("stats")

    def _drop_some(self, kind: str) -> bool:
        for statement in _GOES_FIRST.get(kind, _BEFORE_EVENTS):
            gone = self._db.execute(statement).fetchall()
            if gone:
                for id_, _ in filter(lambda row: row[1] == "agent", gone):
                    self._take_back_report(id_)
                self._db.executemany("DELETE FROM message WHERE id = ?", [(id_,) for id_, _ in gone])
                self.dropped.update(kind_ for _, kind_ in gone)
                self.deleted += len(gone)
                return True
        return False

    def _take_back_report(self, id_: int) -> None:
        payload = self._db.execute("SELECT payload FROM message WHERE id = ?", (id_,)).fetchone()[0]
        report = json.loads(payload)
        if report.get("what") == "dropped":
            self.untold.update(report.get("counts", {}))
