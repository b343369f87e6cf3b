"""A node's outbox full of events: it drains as fast as all goes, with much in flight at every step."""

import contextlib
import sqlite3
import time
import uuid
from pathlib import Path

from tests.testbed.stack import Row
from tests.testbed.stream import assert_none_twice_and_in_order
from vmwatch.node.outboxfile import machine_id, open_outbox
from vmwatch.shared.messages import Event, Vm, encode_payload
from vmwatch.shared.states import state_of_event

VMS = 50
LIFE = (("started", "booted"), ("suspended", "paused"), ("resumed", "unpaused"), ("stopped", "destroyed"))
NO_LIBVIRT = "test+unix:///default?socket=/nonexistent/vmwatch"
"""A node with this address has nothing to tell beside its backlog."""
_NAMESPACE = uuid.UUID("6f0f5c44-7a39-4b52-8f7e-3a0f3a4ad0a1")


def fill(prefix: Path, node: str, count: int) -> None:
    """Write so many events into the outbox that a vmwatch-node with this prefix will open."""
    path = prefix / "var" / "vmwatch-node.db"
    outbox, _ = open_outbox(path, node, machine_id(), lambda: time.time_ns() // 1000, limit_bytes=2**30)
    with contextlib.closing(outbox):
        for first in range(0, count, 1000):
            outbox.add([("event", _payload(number)) for number in range(first, min(first + 1000, count))])


def registered(prefix: Path) -> int:
    """How many events the panel with this prefix has registered, also while it is away."""
    with contextlib.closing(sqlite3.connect(f"file:{prefix}/var/vmwatch-panel.db?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT count(*) FROM eventlog").fetchone()[0])


def assert_all_registered(rows: list[Row], count: int) -> None:
    """Each of `count` events once, and each VM's in their order; `rows`: the event log, oldest first."""
    assert_none_twice_and_in_order(rows)
    assert sorted(int(row["seq"]) for row in rows) == list(range(1, count + 1))


def _payload(number: int) -> bytes:
    vm = number % VMS
    event, detail = LIFE[number // VMS % len(LIFE)]
    named = Vm(str(uuid.uuid5(_NAMESPACE, str(vm))), f"backlog{vm:02d}")
    return encode_payload(
        Event(seq=0, time=1763900000.25, vm=named, event=event, detail=detail, state=state_of_event(event))
    )
