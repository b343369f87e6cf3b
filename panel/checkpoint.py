"""Checkpoints beside the writer: what is committed is copied from the write-ahead log into the database's file.

Left to itself, SQLite does so within the commit that fills the log, and every report waits for that one.
"""

import asyncio
import logging
import sqlite3

from sqlalchemy.exc import SQLAlchemyError

from vmwatch.panel.store import Store
from vmwatch.panel.writer import Writer

log = logging.getLogger(__name__)

EVERY_S = 1.0
"""A page that many commits of this time change is copied once; the log of it stays far below its bound."""


class Checkpoints:
    """Those of one database while a panel runs."""

    def __init__(self, store: Store, writer: Writer) -> None:
        self._store = store
        self._writer = writer

    async def keep(self) -> None:
        """Until cancelled. In a thread of its own: no list or export keeps it waiting."""
        done, failed = 0, False
        while True:
            await asyncio.sleep(EVERY_S)
            commits = self._writer.commits
            if commits == done:
                continue
            try:
                await asyncio.to_thread(self._store.checkpoint)
                done, failed = commits, False
            except (sqlite3.Error, SQLAlchemyError) as error:
                if not failed:
                    log.warning("the database's write-ahead log stays: %s", error)
                failed = True
