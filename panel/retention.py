"""Retention: old events and samples go, in steps so small that no report waits for them. Keys never go this way."""

import asyncio
import logging

from sqlalchemy import Column, Table, func, select

from vmwatch.panel.functions import Panel
from vmwatch.panel.schema import eventlog, stats
from vmwatch.panel.statements import EXPIRE_EVENTS, EXPIRE_STATS
from vmwatch.panel.store import Store
from vmwatch.panel.writer import Job, NotCommitted, Work, WriterBusy

log = logging.getLogger(__name__)

EVERY_S = 60.0
STEP = 1000
"""Rows of one step: a few milliseconds of the writer's time."""
REST_S = 0.05
"""Between two steps: reports come first."""
DAY_S = 86400.0


async def keep_within_limits(panel: Panel) -> None:
    """Until cancelled."""
    while True:
        try:
            await expire(panel, eventlog, EXPIRE_EVENTS, panel.settings.event_retention_days)
            await expire(panel, stats, EXPIRE_STATS, panel.settings.stats_retention_days)
        except (WriterBusy, NotCommitted) as error:
            log.warning("old rows stay for now: %s", error)
        except Exception:
            log.exception("old rows could not be removed; tried again in %g s", EVERY_S)
        await asyncio.sleep(EVERY_S)


async def expire(panel: Panel, table: Table, statement: str, days: int) -> int:
    """Remove what came in more than `days` ago; returns how many steps that took."""
    steps = 0
    oldest = panel.clock.wall() - days * DAY_S
    while last := await panel.read(lambda: last_expired(panel.store, table, oldest)):
        await panel.writer.do(_removal(statement, last))
        steps += 1
        await asyncio.sleep(REST_S)
    return steps


def last_expired(store: Store, table: Table, oldest: float) -> int | None:
    """The id up to which a step may remove rows: at most STEP of them; None if there is nothing old.

    Ids follow the order in which rows came, so the old ones are the first. The last row of all stays, however old:
    its id is where counting goes on after a restart, and ids never repeat.
    """
    number: Column[int] = table.c.id
    first = select(number, table.c.received).order_by(number).limit(STEP).subquery()
    with store.reading() as connection:
        newest = connection.execute(select(func.max(number))).scalar() or 0
        query = select(func.max(first.c.id)).where(first.c.received < oldest, first.c.id < newest)
        found: int | None = connection.execute(query).scalar()
        return found


def _removal(statement: str, last: int) -> Job[None]:
    def job(work: Work) -> None:
        work.writes.append(lambda recorder: recorder.execute(statement, (last,)))

    return job
