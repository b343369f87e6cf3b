"""A log of events for tests of lists: several nodes, renamed VMs, rare events, clocks that differ."""

import random
from typing import Any

from tests.unit.panel.reports import uuid_of
from vmwatch.panel.store import Store

NODES = ("kvm-01", "kvm-02", "kvm-03")
VMS = ((uuid_of("a"), "a"), (uuid_of("a"), "twice"), (uuid_of("b"), "b"), (uuid_of("c"), "twice"))
"""(uuid, name): a was renamed, and to a name that c has too."""
_WORDS = (("started", "booted", "running"), ("stopped", "destroyed", "shutoff"), ("reboot", "", ""))


def fill(store: Store, count: int, span_rows: int, rng: random.Random) -> None:
    """`count` rows with the ids from 1 on, registered at 1, 2, 3, … s; the last node's clock says anything."""
    uuids = sorted({uuid for uuid, _ in VMS})
    with store.writing() as connection:
        for number, name in enumerate(NODES, 1):
            connection.exec_driver_sql("INSERT INTO nodes (id, name) VALUES (?, ?)", (number, name))
        for number, uuid in enumerate(uuids, 1):
            connection.exec_driver_sql("INSERT INTO vms VALUES (?, ?)", (number, uuid))
        for number, (uuid, name) in enumerate(VMS, 1):
            values = (number, uuids.index(uuid) + 1, name)
            connection.exec_driver_sql("INSERT INTO subjects VALUES (?, ?, ?)", values)
        rows = [_row(number, rng) for number in range(1, count + 1)]
        connection.exec_driver_sql("INSERT INTO eventlog VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        spans = "INSERT INTO spans SELECT id / ?, node, min(time), max(time) FROM eventlog GROUP BY 1, node"
        connection.exec_driver_sql(spans, (span_rows,))


def _row(number: int, rng: random.Random) -> tuple[Any, ...]:
    node = rng.randint(1, len(NODES))
    time = rng.uniform(0, 10_000) if node == len(NODES) else number - rng.random() - 500 * (rng.random() < 0.01)
    word = ("crashed", "panicked", "crashed") if rng.random() < 0.002 else rng.choice(_WORDS)
    return (number, node, 1, number, time, float(number), rng.randint(1, len(VMS)), *word)
