"""The ledger core: what was accepted, what is settled, what is acknowledged (design 02, *The master*).

No socket, file, clock or thread. Everything that counts is keyed by (node, epoch). Times are monotonic seconds.
`Ledger.settle` is the one place in vmwatch that makes a message acknowledged.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import Raw

from vmwatch.shared.errors import MessageError
from vmwatch.shared.messages import (
    MAX_BATCH_BYTES,
    Acknowledgement,
    Envelope,
    Head,
    decode_head,
    is_plain,
    place_payload,
)
from vmwatch.shared.nodestatus import libvirt_answers
from vmwatch.shared.report import ReportEntry, Verdict

BEACON_S = 1.0
FORGET_S = 600.0
"""A node not heard of for so long gets no more beacons and shares no more in the credit."""
PRESENCE_S = 5.0
"""The panel hears of the master, and of the nodes' signs of life, at least so often."""
LIFE_INTERVALS = 3
"""A sign of life names an acknowledgement younger than so many of the node's intervals."""
EPOCHS_MOST = 64
"""Of one node at a time; an agent that dies at each start makes one each. More are the work of a stolen key."""
EPOCH_IDLE_S = 60.0
"""An epoch that nothing was heard of for so long gives way to a new one, if it has nothing in flight."""
LEAST_CHARGE = 160
"""Bytes. A message counts at least so much against the credit, as the shortest event does: each has its cost here,
and a million of a few bytes would take many times the memory that was meant."""
MESSAGE_MOST_BYTES = MAX_BATCH_BYTES - 64 * 1024
"""A larger message fits into no call of the panel, however alone; each attempt would keep others waiting."""
_UNREADABLE = b'{"type":"unreadable"}'
"""Put in the place of a message that would spoil a report (`is_plain`, too large): the panel refuses it by name."""


@dataclass(slots=True, eq=False)
class Entry:
    """One accepted message, in flight until it is settled. `lane`: what must stay in order; `size`: what it counts
    against the credit, bytes."""

    id: int
    stream: "Stream"
    seq: int
    lane: str
    size: int
    raw: bytes
    token: str
    settled: bool = False


@dataclass(slots=True, eq=False)
class Stream:
    """One epoch of one node."""

    node: str
    epoch: int
    base: int
    received: int
    completed: int
    window: deque[Entry] = field(default_factory=deque)
    """Accepted and not completed, in order of seq."""
    used_at: float = 0.0


@dataclass(slots=True, eq=False)
class NodeRecord:
    """What the master knows of a node, for as long as it hears of it."""

    name: str
    epoch: int = 0
    sent: float = 0.0
    interval: float = 10.0
    agent: str = ""
    status: bytes = b""
    answers: bool = True
    """Its libvirt does, as its last status says."""
    heard_at: float = 0.0
    life_at: float | None = None
    """Last sign of life."""
    untold: dict[int, float] = field(default_factory=dict)
    """Signs of life that the panel has not been told of: the last one of each epoch, in the order in which they came.
    Of all epochs, or of two agents under one node_id the panel would hear only the one that always speaks last."""
    unsettled_bytes: int = 0
    newest_epoch: int = 0
    want_inventory: str = ""
    """A token of the panel."""
    want_own: str = ""
    """A token of this master."""
    settled_token: str = ""
    epochs: set[int] = field(default_factory=set)
    """Epochs that there is a stream of."""
    owed: set[int] = field(default_factory=set)
    """Epochs whose mark moved since the last acknowledgement."""
    beacon_at: float = 0.0


class Ledger:
    """The master's memory of one run. `master` names the run; `memory_bytes` is shared as credit."""

    def __init__(self, master: str, memory_bytes: int, now: float) -> None:
        self.master = master
        self.nodes: dict[str, NodeRecord] = {}
        self.streams: dict[tuple[str, int], Stream] = {}
        self.entries: dict[int, Entry] = {}
        """In flight, by id."""
        self.counters: Counter[str] = Counter()
        self._memory_bytes = memory_bytes
        self._started = now
        self._stamp = 0
        self._next_id = 1
        self._tokens = 0
        self._presence_at = now
        self._presence_told: set[str] | None = None
        self._came_to_life = False
        """A node did since the last report was begun, or its libvirt began or ceased to answer: the panel shall not
        learn it only after the usual time."""

    def new_id(self) -> int:
        """A number that no entry of this run has; they grow in the order of acceptance."""
        self._next_id += 1
        return self._next_id - 1

    # From the nodes

    def receive(self, now: float, node: str, envelope: Envelope) -> list[Entry]:
        """Take an authenticated frame; returns what was accepted, to be dispatched in this order."""
        record = self._note(now, node, envelope)
        stream = self._stream(now, record, envelope)
        if stream is None:
            self.counters["too_many_epochs"] += 1
            return []
        accepted = []
        for raw in envelope.messages:
            try:
                head = decode_head(raw)
            except MessageError as error:
                # It has no place in the order, so it can neither be handed on nor be answered.
                self.counters[error.reason] += 1
                continue
            entry = self._accept(record, stream, head, bytes(raw))
            if entry is not None:
                accepted.append(entry)
        return accepted

    def _note(self, now: float, node: str, envelope: Envelope) -> NodeRecord:
        record = self.nodes.get(node)
        if record is None:
            record = self.nodes[node] = NodeRecord(node)
        alive = self._is_sign_of_life(now, envelope)
        was_alive, answered = self.is_alive(now, record), record.answers
        record.heard_at = now
        if alive or not was_alive:
            # A recording of an earlier frame must not redirect the acknowledgements of a living node.
            record.epoch, record.sent, record.interval = envelope.epoch, envelope.sent, envelope.interval
            record.agent = envelope.agent
            if status := bytes(envelope.status):
                record.status, record.answers = status, libvirt_answers(status)
        if alive:
            record.life_at = now
            record.untold.pop(envelope.epoch, None)
            record.untold[envelope.epoch] = now
            if len(record.untold) > EPOCHS_MOST:
                del record.untold[next(iter(record.untold))]
            if not was_alive or record.answers != answered:
                self._came_to_life = True
                self._presence_at = min(self._presence_at, now)
        return record

    def _is_sign_of_life(self, now: float, envelope: Envelope) -> bool:
        heard = envelope.heard
        if heard is None or heard.master != self.master or heard.stamp > self._stamp:
            return False
        return now - self._started - heard.stamp / 1e6 < LIFE_INTERVALS * envelope.interval

    def is_alive(self, now: float, record: NodeRecord) -> bool:
        """A sign of life came within the node's last intervals."""
        return record.life_at is not None and now - record.life_at < LIFE_INTERVALS * record.interval

    def _stream(self, now: float, record: NodeRecord, envelope: Envelope) -> Stream | None:
        """The epoch's stream; None if it is one too many."""
        key = (record.name, envelope.epoch)
        settled = max(0, envelope.base - 1)
        stream = self.streams.get(key)
        if stream is None:
            if len(record.epochs) >= EPOCHS_MOST and not self._give_way(now, record):
                return None
            stream = self.streams[key] = Stream(record.name, envelope.epoch, envelope.base, settled, settled)
            record.epochs.add(envelope.epoch)
            record.owed.add(envelope.epoch)
        stream.used_at = now
        if envelope.base > stream.base:
            stream.base = envelope.base
            stream.received = max(stream.received, settled)
            self._advance(record, stream)
        return stream

    def _give_way(self, now: float, record: NodeRecord) -> bool:
        """Drop the node's epoch that was not heard of for longest; False if all of them are in use."""
        streams = [self.streams[record.name, epoch] for epoch in record.epochs]
        idle = [stream for stream in streams if not stream.window and now - stream.used_at > EPOCH_IDLE_S]
        if not idle:
            return False
        self._drop(min(idle, key=lambda stream: stream.used_at))
        return True

    def _drop(self, stream: Stream) -> None:
        del self.streams[stream.node, stream.epoch]
        self.nodes[stream.node].epochs.discard(stream.epoch)

    def _accept(self, record: NodeRecord, stream: Stream, head: Head, raw: bytes) -> Entry | None:
        if head.seq <= stream.received:
            self.counters["repeated"] += 1
            if head.seq <= stream.completed:
                record.owed.add(stream.epoch)
            return None
        if head.prev > stream.received:
            self.counters["out_of_order"] += 1
            return None
        if len(raw) > MESSAGE_MOST_BYTES or not is_plain(raw):
            self.counters["unreadable"] += 1
            raw = place_payload(_UNREADABLE, head.seq, head.prev)
        size = max(len(raw), LEAST_CHARGE)
        if record.unsettled_bytes and record.unsettled_bytes + size > self.credit():
            self.counters["over_credit"] += 1
            return None
        lane = lane_of(record.name, head)
        entry = Entry(self.new_id(), stream, head.seq, lane, size, raw, head.token)
        self.entries[entry.id] = entry
        stream.window.append(entry)
        stream.received = head.seq
        record.unsettled_bytes += entry.size
        self.counters["accepted"] += 1
        return entry

    # From the panel, by way of the workers

    def settle(self, entry: Entry) -> None:
        """The panel has committed this message, or it lies in the dead letters: it may be acknowledged.

        The only place where a message becomes acknowledged. Settling twice is a defect of the caller.
        """
        del self.entries[entry.id]
        entry.settled = True
        entry.raw = b""
        record = self.nodes[entry.stream.node]
        record.unsettled_bytes -= entry.size
        if entry.token:
            record.settled_token = entry.token
            if record.want_inventory == entry.token:
                record.want_inventory = ""
            if record.want_own == entry.token:
                record.want_own = ""
        self.counters["settled"] += 1
        self._advance(record, entry.stream)

    def refuse(self, entry: Entry) -> None:
        """It lies in the dead letters: settled, but the panel's picture lacks what it says, so its node shall list."""
        self.settle(entry)
        self._tokens += 1
        self.nodes[entry.stream.node].want_own = f"{self.master}-{self._tokens}"

    def _advance(self, record: NodeRecord, stream: Stream) -> None:
        completed = max(stream.completed, stream.base - 1)
        while stream.window and (stream.window[0].settled or stream.window[0].seq < stream.base):
            completed = max(completed, stream.window.popleft().seq)
        if completed > stream.completed:
            stream.completed = completed
            record.owed.add(stream.epoch)

    def learn(self, verdicts: Iterable[Verdict]) -> None:
        """Take what the panel says of nodes beside its verdicts: the newest epoch, and inventories that it wants."""
        for verdict in verdicts:
            record = self.nodes.get(verdict.node)
            if record is None:
                continue
            record.newest_epoch = verdict.newest_epoch
            wanted = verdict.want_inventory
            record.want_inventory = "" if wanted == record.settled_token else wanted

    # To the panel

    def report_entry(self, stream: Stream) -> ReportEntry:
        """What a report says of a stream beside its messages."""
        record = self.nodes[stream.node]
        return ReportEntry(
            node=stream.node, epoch=stream.epoch, base=stream.base, agent=record.agent, interval=record.interval
        )

    def presence(self, now: float) -> list[ReportEntry] | None:
        """The signs of life that the panel must hear of now, or None if it is not time or the last ones are under way.

        Made afresh each time, so that an old sign of life is never delivered late as a new one.
        """
        if self._presence_told is not None or now < self._presence_at:
            return None
        told = []
        for record in self.nodes.values():
            limit_s = LIFE_INTERVALS * record.interval
            told += [self._sign_of_life(record, epoch) for epoch, at in record.untold.items() if now - at < limit_s]
            record.untold.clear()
        self._came_to_life = False
        self._presence_told = {entry.node for entry in told}
        return told

    def _sign_of_life(self, record: NodeRecord, epoch: int) -> ReportEntry:
        stream = self.streams.get((record.name, epoch))
        entry = ReportEntry(record.name, epoch, stream.base if stream else 0, agent=record.agent, live=True)
        entry.interval = record.interval
        if record.status and epoch == record.epoch:  # an empty Raw would be encoded as nothing, which is no JSON
            entry.status = Raw(record.status)
        return entry

    def presence_done(self, now: float, delivered: bool) -> None:
        """The panel has, or has not, taken the last `presence`."""
        for name in self._presence_told or ():
            record = self.nodes.get(name)
            if not delivered and record is not None and record.life_at is not None and not record.untold:
                # The last one alone: told twice, since only the answer was lost, an earlier epoch would speak again.
                record.untold[record.epoch] = record.life_at
        self._presence_told = None
        if not delivered:
            self._presence_at = now + BEACON_S
        else:
            alive = [record.interval for record in self.nodes.values() if self.is_alive(now, record)]
            self._presence_at = now if self._came_to_life else now + min(PRESENCE_S, *alive, PRESENCE_S)

    # Back to the nodes

    def acknowledgements(self, now: float) -> list[tuple[str, Acknowledgement]]:
        """What to publish now: for marks that moved, and a beacon each second to every node heard of lately."""
        due = []
        for record in self.nodes.values():
            epochs = set(record.owed)
            if now - record.beacon_at >= BEACON_S:
                epochs.add(record.epoch)
            if not epochs:
                continue
            if record.epoch in epochs:
                record.beacon_at = now
            record.owed.clear()
            due += [(record.name, self._acknowledgement(now, record, epoch)) for epoch in sorted(epochs)]
        return due

    def _acknowledgement(self, now: float, record: NodeRecord, epoch: int) -> Acknowledgement:
        self._stamp = max(self._stamp + 1, int((now - self._started) * 1e6))
        stream = self.streams.get((record.name, epoch))
        return Acknowledgement(
            master=self.master,
            stamp=self._stamp,
            epoch=epoch,
            received=stream.received if stream else 0,
            completed=stream.completed if stream else 0,
            credit=self.credit(),
            seen=record.sent,
            # Also one of which nothing is registered yet: a node that lost its outbox on its way would begin below it.
            newest_epoch=max(record.newest_epoch, *record.epochs, 0),
            want_inventory=record.want_inventory or record.want_own,
        )

    def credit(self) -> int:
        """Bytes that each node may have unsettled."""
        return self._memory_bytes // max(1, len(self.nodes))

    def forget(self, now: float) -> list[str]:
        """Drop nodes and streams that nothing was heard of for long and that have nothing in flight."""
        for stream in list(self.streams.values()):
            if not stream.window and now - stream.used_at > FORGET_S:
                self._drop(stream)
        gone = [
            name
            for name, record in self.nodes.items()
            if now - record.heard_at > FORGET_S and not record.unsettled_bytes
        ]
        for name in gone:
            del self.nodes[name]
        return gone


def lane_of(node: str, head: Head) -> str:
    """What a message must stay in order with: its VM's, or else its node's."""
    return f"vm {head.vm.uuid}" if head.vm is not None else f"node {node}"
