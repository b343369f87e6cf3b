"""The ZeroMQ sockets to one master at a time (design 02): frames out, authenticated acknowledgements in."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import zmq
from zmq.utils.monitor import parse_monitor_message

from vmwatch.shared.endpoints import Endpoint
from vmwatch.shared.errors import MessageError
from vmwatch.shared.keys import down_mac, same_mac, topic_of, up_mac
from vmwatch.shared.messages import VERSION, Acknowledgement, decode_acknowledgement

log = logging.getLogger(__name__)

SEND_QUEUE = 4
"""Frames that libzmq may hold: a wire, never a store."""
RECEIVE_QUEUE = 100
MAX_ACK_BYTES = 64 * 1024
"""An acknowledgement has a few hundred bytes; libzmq closes a connection that sends larger frames."""
HEARTBEAT_MS = 1000
HEARTBEAT_LIMIT_MS = 4000
"""ZMTP heartbeats (ZMQ_HEARTBEAT_IVL, _TIMEOUT): a peer that is gone without a word is noticed by then."""
RECONNECT_MS = 100
RECONNECT_MOST_MS = 2000
HANDSHAKE_MS = 5000
ACKS_AT_ONCE = 50

_UP = zmq.EVENT_HANDSHAKE_SUCCEEDED
_DOWN = zmq.EVENT_DISCONNECTED
_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
)
_WATCHED = _UP | _DOWN | _FAILED[0] | _FAILED[1] | _FAILED[2]

Master = tuple[Endpoint, Endpoint]
"""Where to push, where to subscribe."""


class Diagnosis(NamedTuple):
    """Why no acknowledgement comes: a word for programs (as `vmwatch-healthcheck`), a sentence for people."""

    kind: str
    text: str


class _Peer:
    """One socket, and its monitor that says whether it is connected."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", kind: int) -> None:
        self.socket = context.socket(kind)
        self.socket.linger = 0
        self.socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_LIMIT_MS)
        self.socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MOST_MS)
        self.socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self.connected = False
        self.failed_handshakes = 0
        self.monitor: Any = self.socket.get_monitor_socket(_WATCHED)

    def connect(self, endpoint: Endpoint) -> None:
        if ":" in endpoint.host:
            self.socket.setsockopt(zmq.IPV6, 1)
        self.socket.connect(str(endpoint))

    def turn(self) -> bool:
        """Read the monitor; True if a connection was made since the last time, even if it was lost again."""
        made = False
        while self.monitor.poll(0):
            event = parse_monitor_message(self.monitor.recv_multipart())["event"]
            if event == _UP:
                self.connected = made = True
            elif event == _DOWN:
                self.connected = False
            elif event in _FAILED:
                self.failed_handshakes += 1
        return made

    def close(self) -> None:
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close(linger=0)


class Link:
    """PUSH and SUB, connected to one of `masters`; `reopen` goes on to the next. Nothing here ever blocks.

    `open` comes first, `close` last.
    """

    def __init__(self, node_id: str, key: bytes, masters: Sequence[Master]) -> None:
        self.bad_acknowledgements: Counter[str] = Counter()
        """Dropped ones, by reason."""
        self.acknowledgements = 0
        self.frames = 0
        self._node = node_id.encode()
        self._topic = topic_of(node_id)
        self._key = key
        self._masters = tuple(masters)
        self._index = 0
        self._bad = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._push: _Peer
        self._sub: _Peer

    @property
    def address(self) -> Master:
        """The master that is connected to, or tried."""
        return self._masters[self._index]

    @property
    def connected(self) -> bool:
        """Frames can be sent."""
        return self._push.connected

    @property
    def subscribed(self) -> bool:
        """Acknowledgements can arrive."""
        return self._sub.connected

    @property
    def diagnosis(self) -> Diagnosis:
        """What an operator should look at when no acknowledgement comes."""
        push, sub = self.address
        if not self._push.connected:
            return Diagnosis("unreachable", f"master not reachable: no connection to {push}")
        if not self._sub.connected:
            return Diagnosis(
                "acknowledgements_blocked",
                f"events arrive at the master, acknowledgements do not: no connection to {sub} (is its port open in "
                "the firewalls?)",
            )
        connected = f"the master at {push} is connected"
        if self._bad:
            invalid = f"{connected}, and no acknowledgement of it is valid (is the secret the same?)"
            return Diagnosis("acknowledgements_invalid", invalid)
        return Diagnosis(
            "unanswered", f"{connected} and does not answer (is the secret the same, the node known to it?)"
        )

    def open(self) -> None:
        """Begin to connect to the first address."""
        push, sub = self.address
        self._bad = 0
        self._push = _Peer(self._context, zmq.PUSH)
        self._push.socket.sndhwm = SEND_QUEUE
        self._push.socket.setsockopt(zmq.IMMEDIATE, 1)
        self._push.connect(push)
        self._sub = _Peer(self._context, zmq.SUB)
        self._sub.socket.rcvhwm = RECEIVE_QUEUE
        self._sub.socket.setsockopt(zmq.MAXMSGSIZE, MAX_ACK_BYTES)
        self._sub.socket.setsockopt(zmq.SUBSCRIBE, self._topic)
        self._sub.connect(sub)

    def register(self, poller: zmq.Poller) -> None:
        """Let `poller` wake for what can arrive here; again after each `reopen`."""
        for socket in (self._sub.socket, self._push.monitor, self._sub.monitor):
            poller.register(socket, zmq.POLLIN)

    def unregister(self, poller: zmq.Poller) -> None:
        """Before `reopen` and `close`."""
        for socket in (self._sub.socket, self._push.monitor, self._sub.monitor, self._push.socket):
            if socket in poller:
                poller.unregister(socket)

    def watch_writable(self, poller: zmq.Poller, watch: bool) -> None:
        """Let `poller` wake when a frame can be sent; only while one waits for that."""
        if watch:
            poller.register(self._push.socket, zmq.POLLOUT)
        elif self._push.socket in poller:
            poller.unregister(self._push.socket)

    def turn(self) -> bool:
        """Learn what became of the connections; True if one for frames was made."""
        self._sub.turn()
        return self._push.turn()

    def writable(self) -> bool:
        """A frame would be taken now."""
        return self._push.connected and bool(self._push.socket.poll(0, zmq.POLLOUT))

    def send(self, body: bytes) -> bool:
        """Hand one frame to the connection; False if it was lost just now, and nothing was sent."""
        mac = up_mac(self._key, self._node, body)
        try:
            self._push.socket.send_multipart([VERSION, self._node, mac, body], zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        self.frames += 1
        return True

    def receive(self) -> list[Acknowledgement]:
        """The acknowledgements that have arrived and are the master's; others are counted and dropped."""
        received = []
        for _ in range(ACKS_AT_ONCE):
            try:
                frames = self._sub.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            try:
                received.append(self._authentic(frames))
            except MessageError as error:
                self.bad_acknowledgements[error.reason] += 1
                self._bad += 1
                log.debug("an acknowledgement was dropped: %s", error)
        self.acknowledgements += len(received)
        return received

    def reopen(self, masters: Sequence[Master] = (), key: bytes = b"") -> None:
        """Close both sockets and open them to the next address, or to the first of new `masters`."""
        self._shut()
        if masters:
            self._masters, self._index = tuple(masters), 0
        else:
            self._index = (self._index + 1) % len(self._masters)
        self._key = key or self._key
        self.open()

    def close(self) -> None:
        """Close everything; what libzmq holds is thrown away, the outbox has it."""
        self._shut()
        self._context.destroy(linger=0)

    def _shut(self) -> None:
        self._push.close()
        self._sub.close()

    def _authentic(self, frames: list[bytes]) -> Acknowledgement:
        if len(frames) != 4:
            raise MessageError("frames", f"{len(frames)} frames instead of 4")
        topic, version, mac, body = frames
        if topic != self._topic:
            raise MessageError("topic", "the topic is another's")
        if version != VERSION:
            raise MessageError("version", "another version of the protocol")
        if not same_mac(mac, down_mac(self._key, topic, body)):
            raise MessageError("mac", "the MAC is wrong")
        return decode_acknowledgement(body)
