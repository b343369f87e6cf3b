"""What the measurements send: events of two hundred VMs that start and stop."""

import time
import uuid
from pathlib import Path

from vmwatch.node.outboxfile import machine_id, open_outbox
from vmwatch.shared.messages import Event, Vm, encode_payload, place_payload
from vmwatch.shared.states import state_of_event

VMS = 200
_EVENTS = (("started", "booted"), ("stopped", "destroyed"))
_NAMESPACE = uuid.UUID("c1f2b6c8-6c7b-4d59-9a53-7a1f0f1f9a01")


def payload(number: int) -> bytes:
    """The `number`-th event as the outbox keeps it."""
    vm = number % VMS
    event, detail = _EVENTS[number // VMS % 2]
    return encode_payload(
        Event(
            seq=0,
            time=1763900000.25,
            vm=Vm(str(uuid.uuid5(_NAMESPACE, str(vm))), f"customer-{vm:04d}.example.org"),
            event=event,
            detail=detail,
            state=state_of_event(event),
        )
    )


def event_json(number: int) -> bytes:
    """The same as a node sends it."""
    return place_payload(payload(number), number, number - 1)


def fill_outbox(prefix: Path, node: str, count: int) -> None:
    """Write `count` events into the outbox that vmwatch-node with this prefix will open."""
    path = prefix / "var" / "vmwatch-node.db"
    outbox, _ = open_outbox(path, node, machine_id(), lambda: time.time_ns() // 1000, limit_bytes=2**30)
    try:
        for first in range(0, count, 1000):
            outbox.add([("event", payload(number)) for number in range(first, min(first + 1000, count))])
    finally:
        outbox.close()
