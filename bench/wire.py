"""The raw limit of the way in: PUSH to PULL, each frame authenticated and decoded by the real receiver."""

import subprocess
import sys
import time

import msgspec
import zmq

from bench.load import NODE, event_json
from tests.testbed.stack import SECRET
from tests.testbed.waiting import free_port
from vmwatch.shared.endpoints import LOOPBACK, Endpoint
from vmwatch.shared.keys import node_key, up_mac
from vmwatch.shared.messages import MAX_MESSAGES, VERSION, Envelope, decode_head, join_envelope
from vmwatch.supervisor.receiver import Authenticator, Receiver

FRAMES_KEPT = 20
"""So many different frames are made beforehand and pushed in turn: making events is not what is measured here."""
BEGIN_S = 30.0


def push(port: int) -> None:
    """In a process of its own: push frames without end, each with its MAC."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.linger = 0
    socket.connect(f"tcp://127.0.0.1:{port}")
    key, node = node_key(SECRET, NODE), NODE.encode()
    bodies = []
    for number in range(FRAMES_KEPT):
        first = 1 + number * MAX_MESSAGES
        envelope = Envelope(epoch=1, base=first, interval=1, sent=time.time())
        bodies.append(join_envelope(envelope, [event_json(seq) for seq in range(first, first + MAX_MESSAGES)]))
    while True:
        for body in bodies:
            socket.send_multipart([VERSION, node, up_mac(key, node, body), body], copy=False)


def measure(seconds: float) -> float:
    """Events per second that the receiver takes; each message's head is decoded, as the ledger does."""
    port = free_port()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    receiver = Receiver(context, Endpoint(LOOPBACK.host, port), Authenticator(SECRET))
    pusher = subprocess.Popen([sys.executable, "-c", f"from bench.wire import push; push({port})"])
    try:
        if not receiver.socket.poll(int(BEGIN_S * 1000)):
            raise AssertionError("nothing was received")
        return _receive(receiver, seconds)
    finally:
        pusher.kill()
        pusher.wait()
        receiver.close()
        context.term()


def _receive(receiver: Receiver, seconds: float) -> float:
    taken = 0
    started = now = time.perf_counter()
    while (now := time.perf_counter()) < started + seconds:
        receiver.socket.poll(100)
        for _, envelope in receiver.receive(now, 32):
            taken += sum(decode_head(raw).seq > 0 for raw in envelope.messages)
    if receiver.rejects.by_reason:
        raise AssertionError(f"frames were rejected: {msgspec.json.encode(receiver.rejects.describe())!r}")
    return taken / (now - started)
