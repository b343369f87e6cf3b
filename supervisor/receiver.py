"""The receiver: frames of nodes, authenticated before anything of their body is looked at (design 02).

`Authenticator` and `Rejects` are pure; `Receiver` is the socket around them.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import zmq

from vmwatch.shared.endpoints import Endpoint
from vmwatch.shared.errors import MessageError
from vmwatch.shared.keys import KEY_BYTES, node_key, same_mac, up_mac
from vmwatch.shared.logs import RateLimit
from vmwatch.shared.messages import MAX_FRAME_BYTES, NODE_ID, NODE_ID_ALLOWED, VERSION, Envelope, decode_envelope
from vmwatch.shared.report import Rejected
from vmwatch.supervisor.sockets import bind, tcp_socket

log = logging.getLogger(__name__)

FRAMES = 4
PEERS_KEPT = 256
"""Peers whose rejects are told apart; names cost an attacker nothing, memory costs us."""
REJECTS_LOGGED_EVERY_S = 10.0
RECEIVE_HWM = 8
"""Messages that wait per connection, each of up to 8 MiB; beyond them TCP makes the node wait. ZeroMQ is a wire here,
not a store."""
LARGE_BYTES = 64 * 1024
READ_MOST_BYTES = MAX_FRAME_BYTES + 64 * 1024
"""What is a little too large is read, so that it can be counted and its sender named. What is larger than this libzmq
cuts off, silently, before it has the memory for it."""
DOUBTED_FROM_BYTES = 1024 * 1024
DOUBT_FACTOR = 10.0
"""After a larger body than this had a wrong MAC none is looked at for so many times as long as it took to find out:
anybody can send them, and to hash 8 MiB takes longer than to accept 500 events. No node of usual size sends any."""
TURN_MOST_S = 0.02
"""So long one turn may read: the largest frames, however many come, must not keep results and acknowledgements back."""


class Authenticator:
    """Checks frames against the cluster's secret, or the previous one while the secret is being changed."""

    def __init__(self, secret: str, secret_previous: str = "") -> None:
        self._secrets = [secret, secret_previous] if secret_previous else [secret]
        self._keys: dict[str, bytes] = {}
        """Key of each node's last valid frame: only who holds a key gets an entry."""

    def verify(self, frames: Sequence[bytes | memoryview]) -> tuple[str, Envelope]:
        """(node, envelope) of a genuine frame. Raises MessageError with one of the reasons `frames`, `version`, `node`,
        `oversized`, `mac`, `envelope`; only the last is said of a body that was parsed."""
        if len(frames) != FRAMES:
            raise MessageError("frames", f"not {FRAMES} frames")
        version, name, mac = map(bytes, frames[:3])
        body = frames[3]
        if version != VERSION:
            raise MessageError("version", f"not {VERSION.decode()}")
        node = claimed_name(frames)
        if not node:
            raise MessageError("node", f"{NODE_ID_ALLOWED} is allowed as node_id")
        if len(body) > MAX_FRAME_BYTES:
            raise MessageError("oversized", f"{len(body)} bytes; {MAX_FRAME_BYTES} are allowed")
        key = self._matching_key(node, name, mac, body)
        if key is None:
            raise MessageError("mac", "wrong key: secret or node_key of this node is not the master's")
        self._keys[node] = key
        return node, decode_envelope(bytes(body))

    def _matching_key(self, node: str, name: bytes, mac: bytes, body: bytes | memoryview) -> bytes | None:
        if len(mac) != KEY_BYTES:
            return None
        for secret in self._secrets:
            key = node_key(secret, node)
            if same_mac(mac, up_mac(key, name, body)):
                return key
        return None

    def key_of(self, node: str) -> bytes:
        """What to sign with to this node: the key of its last valid frame."""
        return self._keys.get(node) or node_key(self._secrets[0], node)

    def change(self, secret: str, secret_previous: str = "") -> None:
        """From now on these are valid, and no other (a SIGHUP, while nodes go on sending).

        Each node is still answered with the key of its last valid frame, as long as that key remains valid: it must
        be able to check the acknowledgements of what it sent before it has the new secret.
        """
        self._secrets = [secret, secret_previous] if secret_previous else [secret]
        self.forget([node for node, key in self._keys.items() if not self._is_valid(node, key)])

    def _is_valid(self, node: str, key: bytes) -> bool:
        return any(same_mac(key, node_key(secret, node)) for secret in self._secrets)

    def forget(self, nodes: Iterable[str]) -> None:
        """These nodes are no longer heard of."""
        for node in nodes:
            self._keys.pop(node, None)


def claimed_name(frames: Sequence[bytes | memoryview]) -> str:
    """The node_id that a message claims, not proven; empty if it is none."""
    name = bytes(frames[1]).decode("ascii", errors="replace") if len(frames) > 1 and len(frames[1]) <= 64 else ""
    return name if NODE_ID.fullmatch(name) else ""


@dataclass
class PeerRejects:
    """What was rejected of one address. `claimed`: the node_id that its last one claimed, which anybody can."""

    reasons: Counter[str] = field(default_factory=Counter)
    claimed: str = ""


class Rejects:
    """Counts what was dropped, by reason and by the peer's address, in bounded memory."""

    def __init__(self) -> None:
        self.by_reason: Counter[str] = Counter()
        self.by_peer: dict[str, PeerRejects] = {}
        self.peers_not_kept = 0
        """Rejects of addresses that came when the table was full."""

    def count(self, reason: str, address: str, claimed: str) -> None:
        self.by_reason[reason] += 1
        peer = self.by_peer.get(address)
        if peer is None:
            if len(self.by_peer) >= PEERS_KEPT:
                self.peers_not_kept += 1
                return
            peer = self.by_peer[address] = PeerRejects()
        peer.reasons[reason] += 1
        peer.claimed = claimed

    def summed_up(self) -> Rejected:
        """For the panel."""
        none = ("", PeerRejects())
        address, worst = max(self.by_peer.items(), key=lambda item: item[1].reasons.total(), default=none)
        return Rejected(self.by_reason.total(), address, worst.claimed)

    def describe(self) -> dict[str, Any]:
        """For the status."""
        return {
            "by_reason": dict(self.by_reason),
            "by_peer": {
                address: {"reasons": dict(peer.reasons), "claimed_node": peer.claimed}
                for address, peer in self.by_peer.items()
            },
            "peers_not_kept": self.peers_not_kept,
        }


class Receiver:
    """The PULL socket that nodes push to."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: Endpoint, keys: Authenticator) -> None:
        """Raises ConfigurationError if the address cannot be used."""
        self.rejects = Rejects()
        self._authenticator = keys
        self._logged = RateLimit(REJECTS_LOGGED_EVERY_S)
        self._doubt_until = 0.0
        self.socket = tcp_socket(context, zmq.PULL, endpoint)
        self.socket.rcvhwm = RECEIVE_HWM
        self.socket.setsockopt(zmq.MAXMSGSIZE, READ_MOST_BYTES)
        bind(self.socket, endpoint, "listen")

    def receive(self, now: float, most: int) -> list[tuple[str, Envelope]]:
        """What genuine messages wait, after reading at most `most` of any kind, or for TURN_MOST_S. Never blocks."""
        genuine = []
        enough_at = time.monotonic() + TURN_MOST_S
        for _ in range(most):
            read = self._read()
            if read is None:
                break
            frames, address = read
            try:
                genuine.append(self._verify(frames))
            except MessageError as error:
                self._reject(now, error, address, claimed_name(frames))
            if time.monotonic() > enough_at:
                break
        return genuine

    def _verify(self, frames: Sequence[bytes | memoryview]) -> tuple[str, Envelope]:
        """See `Authenticator.verify`; also raises MessageError (`doubted`)."""
        if len(frames) != FRAMES or len(frames[3]) <= DOUBTED_FROM_BYTES:
            return self._authenticator.verify(frames)
        begun = time.monotonic()
        if begun < self._doubt_until:
            raise MessageError("doubted", "not looked at: bodies of this size with a wrong MAC come; sent again later")
        try:
            return self._authenticator.verify(frames)
        except MessageError as error:
            if error.reason == "mac":
                ended = time.monotonic()
                self._doubt_until = ended + DOUBT_FACTOR * (ended - begun)
            raise

    def _read(self) -> tuple[list[bytes | memoryview], str] | None:
        """One message's frames, none if they are not four, and its sender's address."""
        try:
            frame = self.socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        address = _address_of(frame)
        frames = [frame]
        count = 1
        while frame.more:
            # Drained to its end but not collected: a message of a million frames must not cost a million objects.
            frame = self.socket.recv(zmq.NOBLOCK, copy=False)
            count += 1
            if count <= FRAMES:
                frames.append(frame)
        return ([_content(frame) for frame in frames] if count == FRAMES else []), address

    def _reject(self, now: float, error: MessageError, address: str, claimed: str) -> None:
        self.rejects.count(error.reason, address, claimed)
        held = self._logged.allows(now)
        if held is not None:
            log.warning(
                "a message from %s (node %s, as it says) was dropped: %s: %s; %d more since the last such line",
                address,
                claimed or "without a name",
                error.reason,
                str(error)[:200],
                held,
            )

    def close(self) -> None:
        """Stop intake: what is not accepted yet is dropped here, and sent again by its node."""
        self.socket.close()


def _content(frame: zmq.Frame) -> bytes | memoryview:
    """What is large is not copied: it may well be rejected."""
    return frame.bytes if len(frame) < LARGE_BYTES else frame.buffer


def _address_of(frame: zmq.Frame) -> str:
    try:
        return str(frame.get("Peer-Address"))
    except zmq.ZMQError:
        return "an unknown address"
