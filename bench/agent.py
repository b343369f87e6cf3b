"""One simulated agent: the real outbox, sender, link and delivery, with a made-up source in libvirt's place."""

import time
from array import array
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import zmq
from msgspec import Struct

from bench.load import AT_ONCE, event, vm
from vmwatch.node.delivery import Delivery
from vmwatch.node.link import Link
from vmwatch.node.outboxfile import machine_id, open_outbox
from vmwatch.node.sender import Sender
from vmwatch.shared.clock import SystemClock
from vmwatch.shared.endpoints import LOOPBACK, Endpoint
from vmwatch.shared.keys import node_key
from vmwatch.shared.messages import Inventory, ListedDomain, encode, encode_payload
from vmwatch.shared.states import State

FULL_PACE = -1.0
"""A rate: so fast that the outbox always holds `HELD_AT_FULL_PACE` events, each of which was just written."""
HELD_AT_FULL_PACE = 8000
OUTBOX_BYTES = 4 * 2**30


class AgentPlan(Struct):
    """What an agent is: `prefix` is its folder; `interval_s` of its heartbeats; `vms` that its events are about."""

    node: str
    prefix: str
    port: int
    secret: str
    interval_s: float = 1.0
    vms: int = 20


class Account(Struct):
    """What an agent has done so far, and how long acknowledgements took since the last account (milliseconds)."""

    added: int
    acknowledged: int
    depth: int
    dropped: int
    connected: bool
    delays_ms: list[float] = msgspec.field(default_factory=list)


@dataclass
class Source:
    """What libvirt's callbacks are to the agent: a thread puts times of events here, the main loop takes them."""

    rate: float = 0.0
    happened: deque[float] = field(default_factory=deque)
    """When each event that was not taken yet happened, seconds since 1970."""
    next_at: float = 0.0
    """Of the next event, monotonic seconds."""

    def set_rate(self, rate: float, now: float) -> None:
        """`rate` in events per second, or FULL_PACE."""
        self.rate, self.next_at = rate, now

    def happen(self, now: float, wall: float) -> bool:
        """Let happen what is due; True if anything is."""
        if self.rate <= 0:
            return False
        before = len(self.happened)
        while self.next_at <= now:
            # Its own time and not that of this late look at the clock: a source does not wait for who watches it.
            self.happened.append(wall - (now - self.next_at))
            self.next_at += 1 / self.rate
        return len(self.happened) > before


class BenchAgent:
    """For one thread, as vmwatch-node's main loop is; `source` is fed by another."""

    def __init__(self, plan: AgentPlan, poller: zmq.Poller) -> None:
        self.plan = plan
        self.source = Source()
        self._poller = poller
        self._clock = SystemClock()
        now = self._clock.monotonic()
        path = Path(plan.prefix) / "var" / "vmwatch-node.db"
        self._outbox, _ = open_outbox(
            path, plan.node, machine_id(), lambda: time.time_ns() // 1000, limit_bytes=OUTBOX_BYTES
        )
        push, sub = (Endpoint(LOOPBACK.host, port) for port in (plan.port, plan.port + 1))
        self._sender = Sender("vmwatch-bench", self._outbox.epoch, plan.interval_s, now)
        self._link = Link(plan.node, node_key(plan.secret, plan.node), ((push, sub),))
        self._delivery = Delivery(self._outbox, self._sender, self._link, self._clock)
        self._first_seq = self._outbox.last_seq + 1
        self._times = array("d")
        """When each event happened, from `_first_seq` on, seconds since 1970; 0 for other messages."""
        self._added = 0
        self._acknowledged = 0
        self._base = self._first_seq
        self._delays_ms = array("d")
        self._link.open()
        self._link.register(poller)
        self._sender.opened(now)

    @property
    def due_at(self) -> float:
        """When `turn` has something to do by itself, monotonic seconds."""
        now = self._clock.monotonic()
        full = self.source.rate == FULL_PACE and self._outbox.depth < HELD_AT_FULL_PACE
        return now if full or self.source.happened else self._delivery.due_at(now)

    def turn(self) -> None:
        """What vmwatch-node's loop does in a turn, in its order."""
        now = self._clock.monotonic()
        self._take_events()
        news = self._delivery.acknowledgements(now)
        self._note_acknowledged()
        if news.token:
            self._list(news.token)
        self._delivery.send(now, self._status)
        if self._delivery.silent(now):
            self._link.unregister(self._poller)
            self._delivery.reopen(now)
            self._link.register(self._poller)
        self._link.watch_writable(self._poller, self._delivery.blocked)

    def account(self) -> Account:
        """So far; the delays begin anew."""
        delays, self._delays_ms = self._delays_ms.tolist(), array("d")
        dropped = sum(self._outbox.dropped.values())
        connected = self._sender.connected
        return Account(self._added, self._acknowledged, self._outbox.depth, dropped, connected, delays)

    def close(self) -> None:
        self._link.unregister(self._poller)
        self._link.close()
        self._outbox.close()

    def _take_events(self) -> None:
        happened = self.source.happened
        times = [happened.popleft() for _ in range(min(AT_ONCE, len(happened)))]
        if self.source.rate == FULL_PACE and self._outbox.depth < HELD_AT_FULL_PACE:
            times = [self._clock.wall()] * AT_ONCE
        if not times:
            return
        events = [event(self._added + offset, at, self.plan.node, self.plan.vms) for offset, at in enumerate(times)]
        self._outbox.add([("event", encode_payload(one)) for one in events])
        self._added += len(times)
        self._times.extend(times)

    def _list(self, token: str) -> None:
        """The inventory that the master asked for: which VMs run follows from how many events there were."""
        listed = []
        for number in range(self.plan.vms):
            events = self._added // self.plan.vms + (number < self._added % self.plan.vms)
            state = State.RUNNING if events % 2 else State.SHUTOFF
            one = vm(number, self.plan.node)
            listed.append(ListedDomain(one.uuid, one.name, state))
        inventory = Inventory(seq=0, time=self._clock.wall(), as_of=self._outbox.last_seq, domains=listed, token=token)
        seqs = self._outbox.add_inventory(inventory, self._sender.first_unsent)
        self._times.extend(0.0 for _ in seqs)

    def _note_acknowledged(self) -> None:
        """What the outbox has deleted since the last turn, and when it had happened."""
        held = self._outbox.held()
        if held.epoch != self._outbox.epoch or held.base == self._base:
            return
        wall = self._clock.wall()
        done = self._times[self._base - self._first_seq : held.base - self._first_seq]
        self._base = held.base
        events = [at for at in done if at]
        self._acknowledged += len(events)
        if self.source.rate != FULL_PACE:
            self._delays_ms.extend((wall - at) * 1e3 for at in events)

    def _status(self) -> bytes:
        return encode({"outbox_depth": self._outbox.depth, "outbox_oldest_s": round(self._outbox.oldest_age_s(), 3)})
