"""Who sees, from outside, when an event is committed and when it is acknowledged."""

import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import zmq

from vmwatch.shared.keys import topic_of
from vmwatch.shared.messages import decode_acknowledgement

POLL_S = 0.0005
"""How exactly the time of a commit is known."""
Place = tuple[int, int]
"""(epoch, seq)."""


class _Watcher(threading.Thread):
    """A thread that looks from `with` on to its end."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ending = threading.Event()
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        if not self._ready.wait(30):
            raise AssertionError(f"{type(self).__name__} did not begin")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self.join()


class CommitWatcher(_Watcher):
    """Sees each event as soon as it is committed, as any other reader of the panel's database would."""

    def __init__(self, database: Path) -> None:
        super().__init__()
        self.count = 0
        self._delays_ms: dict[str, list[float]] = defaultdict(list)
        self._happened: dict[str, dict[Place, float]] = defaultdict(dict)
        self._database = database
        self._names: dict[int, str] = {}

    def delays_ms(self, node: str) -> list[float]:
        """From when an event happened, by its own label, to when its commit was seen."""
        return self._delays_ms[node]

    def happened(self, node: str) -> Mapping[Place, float]:
        """When each committed event had happened, seconds since 1970."""
        return self._happened[node]

    def clear(self) -> None:
        """Begin anew."""
        self._delays_ms.clear()
        self._happened.clear()
        self.count = 0

    def run(self) -> None:
        connection = sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)
        try:
            last = connection.execute("SELECT coalesce(max(id), 0) FROM eventlog").fetchone()[0]
            version = -1
            self._ready.set()
            while not self._ending.wait(POLL_S):
                before, version = version, connection.execute("PRAGMA data_version").fetchone()[0]
                if version != before:
                    last = self._look(connection, last)
        finally:
            connection.close()

    def _look(self, connection: sqlite3.Connection, last: int) -> int:
        query = "SELECT id, node, epoch, seq, time FROM eventlog WHERE id > ? ORDER BY id"
        rows = connection.execute(query, (last,)).fetchall()
        now = time.time()
        for _, number, epoch, seq, at in rows:
            if number not in self._names:
                self._names = dict(connection.execute("SELECT id, name FROM nodes"))
            node = self._names[number]
            self._delays_ms[node].append((now - at) * 1e3)
            self._happened[node][epoch, seq] = at
        self.count += len(rows)
        return rows[-1][0] if rows else last


class AcknowledgementWatcher(_Watcher):
    """Hears what the master publishes to one node, as that node does. Anyone may; only the node's key proves it."""

    def __init__(self, port: int, node: str) -> None:
        super().__init__()
        self._endpoint = f"tcp://127.0.0.1:{port}"
        self._topic = topic_of(node)
        self._heard: list[tuple[float, int, int]] = []
        """(when, epoch, completed)."""

    def run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        socket = context.socket(zmq.SUB)
        socket.linger = 0
        socket.setsockopt(zmq.SUBSCRIBE, self._topic)
        socket.connect(self._endpoint)
        try:
            while not self._ending.is_set():
                if socket.poll(100):
                    body = socket.recv_multipart()[3]
                    now = time.time()
                    acknowledgement = decode_acknowledgement(body)
                    self._heard.append((now, acknowledgement.epoch, acknowledgement.completed))
                    self._ready.set()  # by the master's beacon at the latest
        finally:
            socket.close()
            context.term()

    def delays_ms(self, happened: Mapping[Place, float]) -> list[float]:
        """How long after each of these events its acknowledgement was heard."""
        delays = []
        completed: dict[int, int] = {}
        waiting = sorted(happened)
        position = 0
        for now, epoch, upto in list(self._heard):
            completed[epoch] = max(upto, completed.get(epoch, 0))
            while position < len(waiting) and waiting[position][1] <= completed.get(waiting[position][0], 0):
                delays.append((now - happened[waiting[position]]) * 1e3)
                position += 1
        return delays
