"""Reports as a master would post them, for tests of the panel."""

import uuid
from typing import Any

import msgspec

Message = dict[str, Any]
NODE = "kvm-01"
EPOCH = 1_763_900_000_123_456
NAMESPACE = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
STATES = {"started": "running", "resumed": "running", "suspended": "paused", "stopped": "shutoff"}


def uuid_of(name: str) -> str:
    """The same UUID for the same name, in all tests."""
    return str(uuid.uuid5(NAMESPACE, name))


def event(seq: int, name: str = "web", word: str = "started", detail: str = "booted", time: float = 1000.0) -> Message:
    message: Message = {
        "seq": seq,
        "prev": seq - 1,
        "time": time,
        "type": "event",
        "vm": {"uuid": uuid_of(name), "name": name},
        "event": word,
        "detail": detail,
    }
    return message | ({"state": STATES[word]} if word in STATES else {})


def inventory(seq: int, as_of: int, **states: str) -> Message:
    domains = [{"uuid": uuid_of(name), "name": name, "state": state} for name, state in states.items()]
    return {"seq": seq, "prev": seq - 1, "time": 1000.0, "type": "inventory", "as_of": as_of, "domains": domains}


def stats(seq: int, name: str = "web", taken: float = 1000.0, **counters: int) -> Message:
    domain = {"uuid": uuid_of(name), "state": "running", **counters}
    head = {"seq": seq, "prev": seq - 1, "time": taken, "type": "stats", "interval": 600, "taken": taken}
    return head | {"domains": [domain]}


def entry(*messages: Message, node: str = NODE, epoch: int = EPOCH, base: int = 1, live: bool = False) -> Message:
    return {
        "node": node,
        "epoch": epoch,
        "base": base,
        "agent": "vmwatch-node/1.0.0",
        "live": live,
        "interval": 10,
        "messages": list(messages),
    }


def report(*entries: Message) -> bytes:
    return msgspec.json.encode({"master": "m1", "nodes": list(entries)})
