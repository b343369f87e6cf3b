"""Retention beside a writer that commits: how long a step locks it out, and what reports notice of it.

The machine's own share is measured beside it: commits of one row to another database, which nobody else uses. The log
is put out of the system's memory first, as old rows are in life.
"""

import asyncio
import os
import random
import sqlite3
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from bench.delays import Delays
from bench.figures import Figures, Goal
from bench.longlog.database import DAYS, NODES, VMS, node_name, vm_name
from tests.unit.panel.reports import Message, entry, event, report
from vmwatch.panel.board import Board
from vmwatch.panel.functions import Panel
from vmwatch.panel.identity import Identity
from vmwatch.panel.live import Live
from vmwatch.panel.pace import Pace
from vmwatch.panel.recorder import Recorder
from vmwatch.panel.registration import register
from vmwatch.panel.retention import EVENTS, LEAST_ROWS, MOST_ROWS, STEP_S, Retention
from vmwatch.panel.settings import PanelSettings
from vmwatch.panel.store import Store
from vmwatch.panel.writer import Writer
from vmwatch.shared.clock import SystemClock
from vmwatch.shared.report import decode_report

ALONE_S = 20.0
EVENTS_OF_REPORT = 10
REST_S = 0.02
BARE_EVERY_S = 0.05
SHARE = 0.02
"""Of the log is removed."""
LOCKED_MS_MOST = 50.0
SLOWER_MOST = 5.0


@dataclass
class Removal:
    """The removal itself, in the writer's thread: its time and its processor time, of each step."""

    took_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def __call__(self, recorder: Recorder, last: int) -> None:
        begun_s, begun_cpu_s = time.perf_counter(), time.thread_time()
        EVENTS.remove(recorder, last)
        self.took_s.append(time.perf_counter() - begun_s)
        self.cpu_s.append(time.thread_time() - begun_cpu_s)


@dataclass
class Observed(Pace):
    """A pace that remembers how long each step took in the writer, its commit included."""

    steps_s: list[float] = field(default_factory=list)
    removed: int = 0

    def took(self, rows: int, seconds: float) -> None:
        self.steps_s.append(seconds)
        self.removed += rows
        super().took(rows, seconds)


class Reporter:
    """Reports events of any VMs without a pause worth the name."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._rng = random.Random(2)
        self._seqs = dict.fromkeys(range(1, NODES + 1), 0)
        self.delays_ms: list[float] = []

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            node = self._rng.randint(1, NODES)
            body = decode_report(report(entry(*self._events(node), node=node_name(node))))
            begun = time.perf_counter()
            await self._writer.do(lambda work, body=body: register(work.draft, body, work.now))  # type: ignore[misc]
            self.delays_ms.append((time.perf_counter() - begun) * 1000)
            await asyncio.sleep(REST_S)

    def _events(self, node: int) -> list[Message]:
        found = []
        for _ in range(EVENTS_OF_REPORT):
            self._seqs[node] += 1
            vm = node + NODES * self._rng.randrange(VMS // NODES)
            found.append(event(self._seqs[node], vm_name(vm), time=time.time()))
        return found


class BareCommits:
    """Commits of one row each, now and then, by a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.delays_ms: list[float] = []
        self._path = path
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "BareCommits":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE bare (id INTEGER)"):
            connection.execute(statement)
        while not self._ending.wait(BARE_EVERY_S):
            begun = time.perf_counter()
            connection.execute("INSERT INTO bare VALUES (1)")
            self.delays_ms.append((time.perf_counter() - begun) * 1000)
        connection.close()


@dataclass
class Run:
    """What was measured; delays of reports in milliseconds."""

    alone_ms: list[float]
    beside_ms: list[float]
    bare_ms: list[float]
    pace: Observed
    removal: Removal
    seconds: float


def measure(figures: Figures, database: Path) -> None:
    """The figures of a run of retention over a part of the log."""
    clock, store = SystemClock(), Store(f"sqlite:///{database}")
    store.open()
    stored = store.load()
    board = Board()
    board.fill(stored)
    writer = Writer(store, stored, board, clock)
    writer.start()
    try:
        identity = cast(Identity, None)  # nobody calls
        panel = Panel(PanelSettings(), store, identity, writer, board, Live(board), clock)
        run = asyncio.run(_run(panel, database))
    finally:
        writer.stop(60)
        store.close()
    _tell(figures, run)


async def _run(panel: Panel, database: Path) -> Run:
    reporter, pace, removal = Reporter(panel.writer), Observed(STEP_S, LEAST_ROWS, MOST_ROWS), Removal()
    task = asyncio.create_task(reporter.run())
    await asyncio.sleep(ALONE_S)
    alone = list(reporter.delays_ms)
    await asyncio.to_thread(_forget, database)  # takes a while that is nobody's delay
    reporter.delays_ms.clear()
    begun = time.monotonic()
    with BareCommits(database.with_name("bare.db")) as bare:
        await Retention(panel, pace).expire(replace(EVENTS, remove=removal), int(DAYS * (1 - SHARE)))
    seconds = time.monotonic() - begun
    beside = list(reporter.delays_ms)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return Run(alone, beside, bare.delays_ms, pace, removal, seconds)


def _forget(path: Path) -> None:
    """Put the file out of the system's memory, as far as it is not being written."""
    file = os.open(path, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


def _tell(figures: Figures, run: Run) -> None:
    alone, beside = Delays.of(run.alone_ms), Delays.of(run.beside_ms)
    figures.heading(f"a report of {EVENTS_OF_REPORT} events, to its commit")
    alone.tell(figures, "alone", "without retention")
    beside.tell(figures, "beside", "beside retention")
    goal = Goal(SLOWER_MOST, at_most=True)
    figures.add("beside_ratio", "medians: beside retention / without", beside.median / alone.median, "", goal)
    figures.heading(f"retention: {len(run.pace.steps_s)} steps (load average {os.getloadavg()[0]:.1f})")
    figures.add("removed_rate", "rows that it removes", run.pace.removed / run.seconds, "/s")
    steps_ms = [1000 * step for step in run.pace.steps_s]
    Delays.of(steps_ms).tell(figures, "locked", "a step locks the writer, its commit included")
    goal = Goal(LOCKED_MS_MOST, at_most=True)
    over = sum(step > LOCKED_MS_MOST for step in steps_ms) / len(steps_ms)
    figures.add("locked_over", f"  steps above {LOCKED_MS_MOST:g} ms", 100 * over, "%")
    Delays.of(run.bare_ms).tell(figures, "bare", "a bare commit beside it")
    over = sum(bare > LOCKED_MS_MOST for bare in run.bare_ms) / len(run.bare_ms)
    figures.add("bare_over", f"  those above {LOCKED_MS_MOST:g} ms", 100 * over, "%")
    Delays.of([1000 * took for took in run.removal.took_s]).tell(figures, "removal", "a step's removal alone")
    Delays.of([1000 * cpu for cpu in run.removal.cpu_s]).tell(figures, "removal_cpu", "  its processor time")
    figures.add("locked_most_goal", "the longest step", max(steps_ms), "ms", goal)
