"""A node that is nothing but the wire protocol, to say what no agent would say: a wrong time, a message of no kind."""

import time

import zmq

from tests.testbed.background import Background
from tests.testbed.stack import SECRET
from tests.testbed.waiting import LOOPBACK
from vmwatch.shared.keys import node_key, topic_of, up_mac
from vmwatch.shared.messages import VERSION, Envelope, Heard, decode_acknowledgement, join_envelope, place_payload

BEAT_S = 0.5
INTERVAL_S = 3.0
"""It says so of itself: late beats on a busy machine are no silence, and its end is soon noticed."""


class OddNode(Background):
    """Beats while the `with` block runs, with a clock that is `behind_s` seconds behind; `payload`: its one message."""

    def __init__(self, port: int, name: str, *, behind_s: float = 0.0, payload: bytes = b"") -> None:
        self._port = port
        self._name = name
        self._behind_s = behind_s
        self._payload = payload
        self._epoch = time.time_ns() // 1000
        super().__init__()

    def run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        push, sub = context.socket(zmq.PUSH), context.socket(zmq.SUB)
        push.linger = sub.linger = 0
        push.connect(f"tcp://{LOOPBACK}:{self._port}")
        sub.subscribe(topic_of(self._name))
        sub.connect(f"tcp://{LOOPBACK}:{self._port + 1}")
        key, name = node_key(SECRET, self._name), self._name.encode()
        heard: Heard | None = None
        try:
            while not self.ended.is_set():
                while sub.poll(0):
                    ack = decode_acknowledgement(sub.recv_multipart()[3])
                    heard = Heard(ack.master, ack.stamp)
                envelope = Envelope(self._epoch, 1, INTERVAL_S, time.time() - self._behind_s, "odd/1", heard)
                messages = [place_payload(self._payload, 1, 0)] if self._payload else []
                body = join_envelope(envelope, messages)
                push.send_multipart([VERSION, name, up_mac(key, name, body), body])
                self.ended.wait(BEAT_S)
        finally:
            context.destroy(linger=0)
