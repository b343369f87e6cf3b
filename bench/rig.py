"""What the measurements stand on: an installation with agents, in a folder that is gone afterwards."""

import shutil
import signal
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.agent import AgentPlan
from tests.testbed.service import Service
from tests.testbed.stack import SECRET, Stack, short_folder
from tests.testbed.waiting import wait_until

NO_LIBVIRT = "test+unix:///default?socket=/nonexistent/vmwatch-bench"
"""For a vmwatch-node that only sends what its outbox holds."""


def end_with_us() -> None:
    """Let SIGTERM end this process as Ctrl-C does, so that all that it started ends too."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


@contextmanager
def installation(workers: int) -> Iterator[Stack]:
    """A running panel and master with all their workers."""
    folder = short_folder()
    folder.mkdir()
    try:
        with Stack(folder, workers=workers) as stack:
            wait_until(lambda: len(worker_pids(stack)) == workers, "the workers")
            yield stack
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def plans(stack: Stack, nodes: Sequence[str], *, interval_s: float = 1.0, vms: int = 20) -> list[AgentPlan]:
    """Agents of this installation."""
    return [AgentPlan(node, str(stack.folder / node), stack.port, SECRET, interval_s, vms) for node in nodes]


def database(stack: Stack) -> Path:
    """The panel's."""
    return stack.prefix / "var" / "vmwatch-panel.db"


def worker_pids(stack: Stack) -> list[int]:
    """Workers that are ready."""
    return [worker["pid"] for worker in stack.master.status.get("workers", []) if worker["state"] == "ready"]


def pids(stack: Stack) -> dict[str, int]:
    """Panel, master and workers, by name."""
    workers = {f"worker {number}": pid for number, pid in enumerate(sorted(worker_pids(stack)), 1)}
    return {"panel": stack.panel.pid, "master": stack.master.pid, **workers}


def depth(node: Service) -> int:
    """Messages in a vmwatch-node's outbox, or -1 while it does not say."""
    return int(node.status.get("outbox", {}).get("depth", -1))


def check_registered(stack: Stack, count: int) -> None:
    """A figure counts only if every event was registered, each once."""
    connection = sqlite3.connect(f"file:{database(stack)}?mode=ro", uri=True)
    try:
        query = "SELECT count(*) FROM eventlog"
        rows = connection.execute(query).fetchone()[0]
        query = "SELECT count(*) FROM (SELECT DISTINCT node, epoch, seq FROM eventlog)"
        places = connection.execute(query).fetchone()[0]
    finally:
        connection.close()
    if not rows == places == count:
        raise AssertionError(f"of {count} events {rows} were registered, {places} of them distinct")
