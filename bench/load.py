"""What the measurements send: events of VMs that start and stop, and an outbox that is full of them."""

import time
import uuid
from functools import cache
from pathlib import Path

from vmwatch.node.outboxfile import machine_id, open_outbox
from vmwatch.shared.messages import Event, Vm, encode_payload, place_payload
from vmwatch.shared.states import state_of_event

VMS = 200
NODE = "bench"
AT_ONCE = 1000
"""Events in one transaction of an outbox that is filled: as many as the agent takes of a flood."""
_EVENTS = (("started", "booted"), ("stopped", "destroyed"))
_NAMESPACE = uuid.UUID("c1f2b6c8-6c7b-4d59-9a53-7a1f0f1f9a01")


@cache
def vm(number: int, node: str = NODE) -> Vm:
    """The `number`-th VM of a node: each node has VMs of its own."""
    return Vm(str(uuid.uuid5(_NAMESPACE, f"{node} {number}")), f"customer-{number:04d}.{node}.example.org")


def event(number: int, at: float, node: str = NODE, vms: int = VMS) -> Event:
    """The `number`-th event of a node with so many VMs; `at`: seconds since 1970, its label."""
    what, detail = _EVENTS[number // vms % 2]
    return Event(seq=0, time=at, vm=vm(number % vms, node), event=what, detail=detail, state=state_of_event(what))


def payload(number: int) -> bytes:
    """The `number`-th event as the outbox keeps it."""
    return encode_payload(event(number, 1763900000.25))


def event_json(number: int) -> bytes:
    """The same as a node sends it."""
    return place_payload(payload(number), number, number - 1)


def fill_outbox(prefix: Path, node: str, count: int) -> None:
    """Write `count` events into the outbox that vmwatch-node with this prefix will open."""
    path = prefix / "var" / "vmwatch-node.db"
    limit_bytes = max(2**30, 1024 * count)
    outbox, _ = open_outbox(path, node, machine_id(), lambda: time.time_ns() // 1000, limit_bytes=limit_bytes)
    try:
        for first in range(0, count, AT_ONCE):
            outbox.add([("event", payload(number)) for number in range(first, min(first + AT_ONCE, count))])
        if outbox.depth != count:
            raise AssertionError(f"the outbox holds {outbox.depth} of {count} events")
    finally:
        outbox.close()
