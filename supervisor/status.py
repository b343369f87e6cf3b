"""The master's status: a snapshot that its loop takes, told by the thread of the status socket."""

import os
import time
from typing import Any

from vmwatch.shared.version import VERSION
from vmwatch.supervisor.ledger import Ledger, NodeRecord, Stream
from vmwatch.supervisor.master import Master

SNAPSHOT_S = 0.5
"""Taken so often: describing a thousand nodes at every turn would be the loop's main work."""


class Status:
    """`take` is called by the loop; `describe` by another thread, which only ever sees finished snapshots."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._started = time.monotonic()
        self._next = 0.0
        self._snapshot: dict[str, Any] = {}

    def take(self, now: float) -> None:
        """Take a snapshot, if it is time. `now`: monotonic seconds."""
        if now >= self._next:
            self._next = now + SNAPSHOT_S
            self._snapshot = self._taken(now)

    def describe(self) -> dict[str, Any]:
        """The last snapshot, and how long ago the loop turned: a loop that hangs shows in that, not in silence."""
        now = time.monotonic()
        return {"turn_age_s": round(now - self._master.turned_at, 3)} | self._snapshot

    def _taken(self, now: float) -> dict[str, Any]:
        master = self._master
        trouble = master.pool.panel_trouble
        return {
            "program": "vmwatch-master",
            "version": VERSION,
            "pid": os.getpid(),
            "master": master.name,
            "uptime_s": round(now - self._started, 3),
            "workers_wanted": master.pool.count,
            "workers": master.pool.describe(now, master.dispatcher.in_hand),
            "nodes": {
                name: _node(now, master.ledger, record, master.skews.get(name, 0.0))
                for name, record in master.ledger.nodes.items()
            },
            "streams": [_stream(stream) for stream in master.ledger.streams.values()],
            "in_flight": len(master.ledger.entries),
            "waiting": master.dispatcher.waiting,
            "stall_s": round(master.progress.stall_s(now), 3),
            "credit_bytes": master.ledger.credit(),
            "counters": dict(master.ledger.counters) | dict(master.counters),
            "acknowledgements": master.publisher.published,
            "rejects": master.receiver.rejects.describe(),
            "dead_letters": master.dead_letters.describe() | master.returns.describe(),
            "panel_timeout_s": master.panel_timeout_s,
            "panel_answer_age_s": _rounded(master.progress.panel_answer_age_s(now)),
            "panel_trouble": trouble.text if trouble else "",
            "panel_needs_person": trouble.needs_person if trouble else False,
        }


def _rounded(age_s: float | None) -> float | None:
    return None if age_s is None else round(age_s, 3)


def _node(now: float, ledger: Ledger, record: NodeRecord, skew_s: float) -> dict[str, Any]:
    stream = ledger.streams.get((record.name, record.epoch))
    return {
        "alive": ledger.is_alive(now, record),
        "life_age_s": _rounded(None if record.life_at is None else now - record.life_at),
        "heard_age_s": round(now - record.heard_at, 3),
        "epoch": record.epoch,
        "received": stream.received if stream else 0,
        "completed": stream.completed if stream else 0,
        "unsettled_bytes": record.unsettled_bytes,
        "interval_s": record.interval,
        "agent": record.agent,
        "clock_skew_s": round(skew_s, 3),
        "newest_epoch": record.newest_epoch,
    }


def _stream(stream: Stream) -> dict[str, Any]:
    return {
        "node": stream.node,
        "epoch": stream.epoch,
        "base": stream.base,
        "received": stream.received,
        "completed": stream.completed,
        "in_flight": len(stream.window),
    }
