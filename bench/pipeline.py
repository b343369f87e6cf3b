"""The whole way: from a full outbox to the acknowledgement of its last row, and from an event to its commit."""

import shutil
import sqlite3
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from bench.load import fill_outbox
from tests.testbed.service import Service
from tests.testbed.stack import Stack, short_folder
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until

NO_LIBVIRT = "test+unix:///default?socket=/nonexistent/vmwatch-bench"
POLL_S = 0.001


def depth(node: Service) -> int:
    """Messages in the node's outbox, or -1 while it does not say."""
    return int(node.status.get("outbox", {}).get("depth", -1))


def throughput(workers: int, count: int) -> float:
    """Events per second from outbox to acknowledgement, over the middle nine tenths of `count`."""
    folder = short_folder()
    folder.mkdir()
    try:
        stack = Stack(folder, workers=workers)
        with stack:
            node = stack.node("bench", NO_LIBVIRT)
            fill_outbox(node.prefix, "bench", count)
            node.start()
            begin = _drained_to(node, int(count * 0.95))
            end = _drained_to(node, int(count * 0.05))
            wait_until(lambda: depth(node) == 0, "the last acknowledgement", timeout_s=120)
            _check_registered(stack.prefix / "var" / "vmwatch-panel.db", count)
            return (begin.depth - end.depth) / (end.at - begin.at)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_registered(database: Path, count: int) -> None:
    """A figure counts only if every event was registered, each once."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows, places = connection.execute("SELECT count(*), count(DISTINCT seq) FROM eventlog").fetchone()
    finally:
        connection.close()
    if not rows == places == count:
        raise AssertionError(f"of {count} events {rows} were registered, {places} of them distinct")


@dataclass(frozen=True)
class _Reading:
    at: float
    depth: int


def _drained_to(node: Service, limit: int) -> _Reading:
    """When the outbox was first seen with at most `limit` messages, and with how many."""
    while True:
        reading = _Reading(time.perf_counter(), depth(node))
        if 0 <= reading.depth <= limit:
            return reading
        time.sleep(0.005)


@dataclass(frozen=True)
class Latency:
    """Milliseconds from libvirt's callback to what another connection to the panel's database sees committed."""

    events: int
    median_ms: float
    p99_ms: float
    most_ms: float


def latency(events_per_second: float, seconds: float) -> Latency:
    """VMs of libvirt's test driver start and stop at this pace; every commit is watched for."""
    folder = short_folder()
    folder.mkdir()
    try:
        domains = tuple(f"vm{number}" for number in range(10))
        with TestDriverDaemon(folder / "libvirt", domains=domains) as daemon, Stack(folder, workers=2) as stack:
            node = stack.start_node("bench", daemon.uri)
            wait_until(lambda: depth(node) == 0, "the first inventory to be registered")
            watcher = CommitWatcher(stack.prefix / "var" / "vmwatch-panel.db")
            watcher.start()
            produced = _operate(daemon, events_per_second, seconds)
            wait_until(lambda: len(watcher.delays_s) >= produced, "all commits to be seen")
            watcher.stop()
        delays = sorted(watcher.delays_s)
        p99 = statistics.quantiles(delays, n=100)[98]
        return Latency(len(delays), statistics.median(delays) * 1e3, p99 * 1e3, delays[-1] * 1e3)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _operate(daemon: TestDriverDaemon, events_per_second: float, seconds: float) -> int:
    """Start and destroy domains in turn, one event each; returns how many events."""
    domains = daemon.connection.listAllDomains()
    total = int(events_per_second * seconds)
    started = time.perf_counter()
    for number in range(total):
        domain = domains[number // 2 % len(domains)]
        if number % 2:
            domain.destroy()
        else:
            domain.create()
        time.sleep(max(0.0, started + (number + 1) / events_per_second - time.perf_counter()))
    return total


class CommitWatcher(threading.Thread):
    """Sees each event as soon as it is committed, as any other reader of the database would."""

    def __init__(self, database: Path) -> None:
        super().__init__(daemon=True)
        self.delays_s: list[float] = []
        self._database = database
        self._ending = threading.Event()

    def run(self) -> None:
        connection = sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)
        try:
            last = connection.execute("SELECT coalesce(max(id), 0) FROM eventlog").fetchone()[0]
            while not self._ending.wait(POLL_S):
                rows = connection.execute("SELECT id, time FROM eventlog WHERE id > ? ORDER BY id", (last,)).fetchall()
                now = time.time()
                self.delays_s += [now - row[1] for row in rows]
                last = rows[-1][0] if rows else last
        finally:
            connection.close()

    def stop(self) -> None:
        self._ending.set()
        self.join()
