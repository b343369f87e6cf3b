"""Retention: old events and samples go, in steps so small that no report waits for them. Keys never go this way.

Old rows lie on pages that nobody has read for long. A reader touches those of a step before it, so that the writer
need not wait for the disk while it holds the lock.

Samples are thinned out before: all are kept for two days, then one an hour until their time is over.
"""

import asyncio
import logging
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec
from sqlalchemy import Connection, Table, func, select

from vmwatch.panel.attempts import forgettable as forgettable_problems
from vmwatch.panel.expiry import DAY_S, Finished, Label, Sample, Thinning, forgettable, last_old, present
from vmwatch.panel.functions import Panel
from vmwatch.panel.installation import Installation
from vmwatch.panel.pace import Pace
from vmwatch.panel.recorder import Recorder
from vmwatch.panel.schema import SPAN_ROWS, eventlog, installations, stats
from vmwatch.panel.statements import EXPIRE_EVENTS, EXPIRE_SPANS, EXPIRE_STATS, REMOVE_STATS
from vmwatch.panel.store import Store
from vmwatch.panel.writer import Job, NotCommitted, Work, WriterBusy

log = logging.getLogger(__name__)

EVERY_S = 60.0
STEP_S = 0.01
"""A step's time in the writer, its commit included: far below the 50 ms for which a report may be kept waiting."""
LEAST_ROWS = 20
MOST_ROWS = 2000
REST_S = 0.05
"""Between two steps: reports come first."""
WITNESSES = 1000
"""So many of the newest rows say which nodes there are, and what time it is."""
FULL_DAYS = 2
"""Samples younger than this are all kept."""
THIN_EVERY_S = 3600.0
"""Of older ones one per VM and node in each hour."""


def _pace() -> Pace:
    return Pace(STEP_S, LEAST_ROWS, MOST_ROWS)


@dataclass(frozen=True)
class Aging:
    """A table whose old rows go; `told`: the column with the node's time; `remove`: those up to an id.

    `touch`: queries that read the index pages of the rows from one id to another.
    """

    table: Table
    told: str
    remove: Callable[[Recorder, int], None]
    touch: tuple[str, ...]


def _remove_events(recorder: Recorder, last: int) -> None:
    recorder.execute(EXPIRE_EVENTS, (last,))
    recorder.execute(EXPIRE_SPANS, ((last + 1) // SPAN_ROWS,))


def _remove_stats(recorder: Recorder, last: int) -> None:
    recorder.execute(EXPIRE_STATS, (last,))


def _touch(table: str, index: str, *key: str) -> str:
    same = " AND ".join(f"page.{name} = old.{name}" for name in (*key, "id"))
    return (
        f"SELECT count(*) FROM {table} AS old CROSS JOIN {table} AS page INDEXED BY {index} ON {same}"
        " WHERE old.id >= ? AND old.id <= ?"
    )


EVENTS = Aging(
    eventlog,
    "time",
    _remove_events,
    (
        _touch("eventlog", "eventlog_node_event", "node", "event"),
        _touch("eventlog", "eventlog_subject_node_event", "subject", "node", "event"),
    ),
)
STATS = Aging(stats, "taken", _remove_stats, (_touch("stats", "stats_uuid", "uuid"),))


@dataclass
class Retention:
    """One panel's retention."""

    panel: Panel
    pace: Pace = field(default_factory=_pace)
    thinning: Thinning = field(default_factory=lambda: Thinning(THIN_EVERY_S))
    thinned: int = 0
    """The id up to which samples are thinned out. Not stored: a restarted panel looks through them again."""

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.expire(EVENTS, self.panel.settings.event_retention_days)
                await self.expire(STATS, self.panel.settings.stats_retention_days)
                await self.thin_out()
                await self.forget_problems(self.panel.settings.event_retention_days)
                await self.forget_installations(self.panel.settings.event_retention_days)
            except (WriterBusy, NotCommitted) as error:
                log.warning("old rows stay for now: %s", error)
            except Exception:
                log.exception("old rows could not be removed; tried again in %g s", EVERY_S)
            await asyncio.sleep(EVERY_S)

    async def expire(self, aging: Aging, days: int) -> int:
        """Remove what is older than `days`; returns how many steps that took."""
        steps = 0
        while (last := await self._expired(aging, days)) is not None:
            await self._step(_removal(aging, last), self.pace.rows)
            steps += 1
        return steps

    async def _expired(self, aging: Aging, days: int) -> int | None:
        store, wall, rows = self.panel.store, self.panel.clock.wall(), self.pace.rows
        return await self.panel.read(lambda: expired(store, aging, wall, days, rows))

    async def forget_problems(self, days: int) -> int:
        """Remove problems that were solved longer ago than that, with their logs; returns how many."""
        now = await self.panel.read(self._present)

        def job(work: Work) -> int:
            keys = forgettable_problems(list(work.draft.all_problems().values()), now, days)
            for key in keys:
                work.draft.forget_problem(key)
            return len(keys)

        return await self.panel.writer.do(job)

    def _present(self) -> float:
        with self.panel.store.reading() as connection, connection.begin():
            return _newest(connection, EVENTS, self.panel.clock.wall())[1]

    async def thin_out(self) -> int:
        """Remove surplus samples among those that have become old enough; returns how many."""
        removed, store, wall = 0, self.panel.store, self.panel.clock.wall()
        newest = 0.0
        while samples := await self.panel.read(lambda: old_samples(store, wall, self.thinned)):
            surplus = self.thinning.surplus(samples)
            removed += len(surplus)
            while surplus:
                part, surplus = surplus[: self.pace.rows], surplus[self.pace.rows :]
                await self.panel.read(partial(touch_pages, store, STATS, part[0], part[-1]))
                await self._step(_removal_of_samples(part), len(part))
            self.thinned = samples[-1].id
            newest = max(newest, samples[-1].taken)
        self.thinning.forget(newest - DAY_S)
        return removed

    async def forget_installations(self, days: int) -> int:
        """Remove finished ones that ended longer ago than that; returns how many."""
        store, wall = self.panel.store, self.panel.clock.wall()
        there = {row.uuid for row in self.panel.board.vms()}
        old = await self.panel.read(lambda: old_installations(store, wall, days, there))
        for first in range(0, len(old), LEAST_ROWS):
            part = old[first : first + LEAST_ROWS]
            await self._step(partial(_forget_installations, part), len(part))
        return len(old)

    async def _step(self, write: Callable[[Recorder], None], rows: int) -> None:
        """A step of so many rows in the writer, which says how large the next one may be; then a rest."""
        clock = self.panel.clock
        begun = await self.panel.writer.do(_timed(write, clock.monotonic))
        self.pace.took(rows, clock.monotonic() - begun)
        await asyncio.sleep(REST_S)


def _timed(write: Callable[[Recorder], None], monotonic: Callable[[], float]) -> Job[float]:
    """The job of a step; its answer is when it began."""

    def job(work: Work) -> float:
        work.writes += [write, Recorder.copy_soon]
        return monotonic()

    return job


def _removal(aging: Aging, last: int) -> Callable[[Recorder], None]:
    return lambda recorder: aging.remove(recorder, last)


def _removal_of_samples(ids: Sequence[int]) -> Callable[[Recorder], None]:
    return lambda recorder: recorder.execute_many(REMOVE_STATS, [(number,) for number in ids])


def _forget_installations(finished: Sequence[Finished], recorder: Recorder) -> None:
    recorder.forget_installations(finished)


def old_installations(store: Store, wall: float, days: int, there: Container[str]) -> list[Finished]:
    """Finished installations that may go; `there`: UUIDs of VMs that some node has."""
    with store.reading() as connection, connection.begin():
        now = _newest(connection, EVENTS, wall)[1]
        query = select(installations.c.content).where(~installations.c.unfinished)
        rows = [msgspec.json.decode(content, type=Installation) for content in connection.execute(query).scalars()]
    found = [Finished(row.id, row.uuid, row.ended or row.began) for row in rows]
    return forgettable(found, now - days * DAY_S, there)


def expired(store: Store, aging: Aging, wall: float, days: int, rows: int) -> int | None:
    """The id up to which a step may remove rows, at most so many of them; None if there is nothing old. Their pages
    are touched.

    The last row of all stays, however old: its id is where counting goes on after a restart, and ids never repeat.
    """
    table = aging.table.c
    first = select(table.id, table.received, table[aging.told]).order_by(table.id).limit(rows)
    with store.reading() as connection, connection.begin():
        newest, now = _newest(connection, aging, wall)
        labels = [Label(*row) for row in connection.execute(first.where(table.id < newest))]
    last = last_old(labels, now - days * DAY_S, wall)
    if last is not None:
        touch_pages(store, aging, 0, last)
    return last


def touch_pages(store: Store, aging: Aging, first: int, last: int) -> None:
    """Read the pages of these rows, so that they are in the system's memory."""
    with store.reading() as connection:
        for query in aging.touch:
            connection.exec_driver_sql(query, (first, last)).fetchall()


def old_samples(store: Store, wall: float, after: int) -> list[Sample]:
    """The next samples after an id that are old enough to be thinned out."""
    columns = (stats.c.id, stats.c.received, stats.c.taken, stats.c.uuid, stats.c.node)
    with store.reading() as connection, connection.begin():
        newest, now = _newest(connection, STATS, wall)
        query = select(*columns).where(stats.c.id > after, stats.c.id < newest).order_by(stats.c.id).limit(MOST_ROWS)
        rows = connection.execute(query).all()
    last = last_old((Label(*row[:3]) for row in rows), now - FULL_DAYS * DAY_S, wall) or 0
    return [Sample(row[0], row[3], row[4], row[2]) for row in rows if row[0] <= last]


def _newest(connection: Connection, aging: Aging, wall: float) -> tuple[int, float]:
    """(the last id, the time from which ages are counted)"""
    table = aging.table.c
    last: int = connection.execute(select(func.max(table.id))).scalar() or 0
    query = select(table.node, table[aging.told], table.received).order_by(table.id.desc()).limit(WITNESSES)
    told: dict[str, float] = {}
    received = wall
    for row in reversed(connection.execute(query).all()):
        told[str(row[0])], received = row[1], row[2]
    return last, present(wall, received, told)
