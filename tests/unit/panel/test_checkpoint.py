"""Checkpoints of a real database beside its writer: the write-ahead log goes into the file and begins anew."""

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.testbed.waiting import wait_until
from tests.unit.panel.clock import FakeClock
from tests.unit.panel.reports import entry, event, report
from vmwatch.panel import checkpoint as checkpoint_module
from vmwatch.panel import store as store_module
from vmwatch.panel.board import Board
from vmwatch.panel.checkpoint import Checkpoints
from vmwatch.panel.registration import register
from vmwatch.panel.store import Store
from vmwatch.panel.writer import Writer
from vmwatch.shared.report import decode_report

EVENTS = 50


class Written:
    """A panel's database with its writer."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "panel.db"
        self.wal = folder / "panel.db-wal"
        self.store = Store(f"sqlite:///{self.file}")
        self.store.open()
        stored = self.store.load()
        board = Board()
        board.fill(stored)
        self.writer = Writer(self.store, stored, board, FakeClock(1_800_000_000.0))
        self.writer.start()
        self._seq = 0

    async def report(self) -> None:
        """A commit of some events."""
        self._seq += EVENTS
        body = decode_report(report(entry(*(event(self._seq - EVENTS + n) for n in range(1, EVENTS + 1)))))
        await self.writer.do(lambda work: register(work.draft, body, work.now))

    def in_file(self) -> int:
        """How many events are in the file itself, the write-ahead log apart."""
        copy = self.file.with_name("copy.db")
        shutil.copyfile(self.file, copy)
        with closing(sqlite3.connect(copy)) as connection:
            return int(connection.execute("SELECT count(*) FROM eventlog").fetchone()[0])


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    monkeypatch.setattr(checkpoint_module, "EVERY_S", 0.01)
    written = Written(tmp_path)
    written.store.checkpoint()  # the tables themselves
    yield written
    written.writer.stop(10)
    written.store.close()


def test_what_is_committed_reaches_the_file_while_the_panel_runs(written: Written) -> None:
    async def run() -> int:
        await written.report()
        before = written.in_file()
        task = asyncio.create_task(Checkpoints(written.store, written.writer).keep())
        await asyncio.to_thread(wait_until, lambda: written.in_file() == EVENTS, "the checkpoint")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return before

    assert asyncio.run(run()) == 0


def test_the_write_ahead_log_begins_anew_after_each_checkpoint(written: Written) -> None:
    sizes = set()
    for _ in range(20):
        asyncio.run(written.report())
        written.store.checkpoint()
        sizes.add(written.wal.stat().st_size)
    assert max(sizes) < 3 * min(sizes)  # twenty times as large otherwise


def test_a_reader_keeps_its_view_and_the_file_gets_the_rest_after_it(written: Written) -> None:
    asyncio.run(written.report())
    with written.store.reading() as reader, reader.begin():
        count = "SELECT count(*) FROM eventlog"
        assert reader.exec_driver_sql(count).scalar() == EVENTS
        asyncio.run(written.report())
        written.store.checkpoint()
        assert reader.exec_driver_sql(count).scalar() == EVENTS
    written.store.checkpoint()
    assert written.in_file() == 2 * EVENTS


def test_a_reader_of_a_long_log_keeps_neither_the_checkpoint_nor_the_writer_waiting(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LONG_WAL_PAGES", 0)
    asyncio.run(written.report())
    with written.store.reading() as reader, reader.begin():
        assert reader.exec_driver_sql("SELECT count(*) FROM eventlog").scalar() == EVENTS
        asyncio.run(written.report())
        written.store.checkpoint()
        asyncio.run(written.report())
    written.store.checkpoint()
    assert written.in_file() == 3 * EVENTS
    with written.store.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == store_module.BUSY_TIMEOUT_MS


def test_a_checkpoint_that_fails_is_said_once_and_tried_until_it_succeeds(
    written: Written, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []
    real = written.store.checkpoint

    def full() -> None:
        tries.append(1)
        if len(tries) <= 3:
            raise sqlite3.OperationalError("database or disk is full")
        real()

    monkeypatch.setattr(written.store, "checkpoint", full)

    async def run() -> None:
        await written.report()
        task = asyncio.create_task(Checkpoints(written.store, written.writer).keep())
        await asyncio.to_thread(wait_until, lambda: written.in_file() == EVENTS, "the checkpoint")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    said = [record.getMessage() for record in caplog.records if "write-ahead" in record.getMessage()]
    assert said == ["the database's write-ahead log stays: database or disk is full"]
