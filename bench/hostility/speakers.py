"""Who speaks to the master in these trials: nodes with a key, honest as far as they are made so."""

import uuid
from collections.abc import Sequence

from msgspec import Raw

from vmwatch.shared.keys import node_key, up_mac
from vmwatch.shared.messages import (
    VERSION,
    Acknowledgement,
    Envelope,
    Event,
    Heard,
    Inventory,
    ListedDomain,
    Vm,
    encode_payload,
    join_envelope,
    place_payload,
)
from vmwatch.shared.states import State, state_of_event

Frames = list[bytes]

_NAMESPACE = uuid.UUID("5d3c1f0e-3d0b-4a55-9a5b-0b8f0f1f9a02")
_EVENTS = (("started", "booted"), ("stopped", "destroyed"))
AGENT = "vmwatch-node/1.0.0"


def vm_uuid(node: str, number: int) -> str:
    """The UUID of the `number`-th VM of a node."""
    return str(uuid.uuid5(_NAMESPACE, f"{node}/{number}"))


class Signer:
    """Holds one node's key: whatever it signs passes the authentication."""

    def __init__(self, name: str, secret: str) -> None:
        self.name = name
        self._key = node_key(secret, name)

    def sign(self, body: bytes) -> Frames:
        """The four frames that carry `body`."""
        name = self.name.encode()
        return [VERSION, name, up_mac(self._key, name, body), body]


class Speaker(Signer):
    """An honest node: holds each message until it is acknowledged, and sends what the master has not received."""

    def __init__(self, name: str, secret: str, epoch: int, vms: int = 8, interval_s: float = 10.0) -> None:
        super().__init__(name, secret)
        self.epoch = epoch
        self.seq = 0
        self.held: dict[int, bytes] = {}
        """Messages that are not acknowledged, by seq."""
        self.completed = 0
        self._vms = vms
        self._interval_s = interval_s
        self._heard: Heard | None = None
        self._received = 0

    def produce(self, count: int) -> None:
        """So many more events."""
        for _ in range(count):
            event, detail = _EVENTS[self.seq // self._vms % 2]
            number = self.seq % self._vms
            self._hold(
                Event(
                    seq=0,
                    time=1763900000.25 + self.seq,
                    vm=Vm(vm_uuid(self.name, number), f"{self.name}-vm{number}"),
                    event=event,
                    detail=detail,
                    state=state_of_event(event),
                )
            )

    def list_domains(self) -> None:
        """One inventory: all VMs run."""
        domains = [
            ListedDomain(vm_uuid(self.name, number), f"{self.name}-vm{number}", State.RUNNING)
            for number in range(self._vms)
        ]
        self._hold(Inventory(seq=0, time=1763900000.5, as_of=self.seq, domains=domains))

    def _hold(self, message: Event | Inventory) -> None:
        self.seq += 1
        self.held[self.seq] = place_payload(encode_payload(message), self.seq, self.seq - 1)

    def frame(self, sent: float, status: bytes = b'{"outbox_depth":0}') -> Frames:
        """Everything held that the master has not received, or a heartbeat. `sent`: wall clock, seconds."""
        messages = [raw for seq, raw in self.held.items() if seq > self._received]
        base = min(self.held, default=self.seq + 1)
        envelope = Envelope(self.epoch, base, self._interval_s, sent, AGENT, self._heard)
        if not messages:
            envelope.status = Raw(status)
        return self.sign(join_envelope(envelope, messages))

    def hear(self, acknowledgement: Acknowledgement) -> None:
        """Take what the master says."""
        if self._heard is None or acknowledgement.master != self._heard.master:
            self._received = 0
        self._heard = Heard(acknowledgement.master, acknowledgement.stamp)
        if acknowledgement.epoch != self.epoch:
            return
        self._received = acknowledgement.received
        self.completed = max(self.completed, acknowledgement.completed)
        for seq in [seq for seq in self.held if seq <= self.completed]:
            del self.held[seq]

    @property
    def heard(self) -> Heard | None:
        """The last acknowledgement that it received."""
        return self._heard


def copy(frames: Sequence[bytes]) -> Frames:
    """Frames to be changed without changing the recording."""
    return list(frames)
