"""A node written from the wire protocol's page alone: the standard library and pyzmq, nothing of vmwatch."""

import hashlib
import hmac
import json
import time

import zmq


def sha256(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).digest()


class IndependentNode:
    def __init__(self, node: str, secret: str, port: int) -> None:
        self.node = node.encode()
        self.topic = self.node + b"\x00"
        self.key = sha256(secret.encode(), b"VW1\x00key\x00" + self.node)
        self.epoch = int(time.time() * 1e6)
        self.rows: dict[int, dict[str, object]] = {}
        self.next_seq = 1
        self.heard: dict[str, object] | None = None
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self.push, self.sub = context.socket(zmq.PUSH), context.socket(zmq.SUB)
        self.push.linger = self.sub.linger = 0
        self.push.immediate, self.push.sndtimeo, self.sub.rcvtimeo = True, 10_000, 500
        self.push.connect(f"tcp://127.0.0.1:{port}")
        self.sub.subscribe(self.topic)
        self.sub.connect(f"tcp://127.0.0.1:{port + 1}")

    def add(self, message: dict[str, object]) -> None:
        self.rows[self.next_seq] = {"seq": self.next_seq, "time": time.time(), **message}
        self.next_seq += 1

    def send(self) -> None:
        base = min(self.rows, default=self.next_seq)
        prevs = [base - 1, *sorted(self.rows)]
        messages = [{**self.rows[seq], "prev": prev} for seq, prev in zip(sorted(self.rows), prevs, strict=False)]
        body = {"epoch": self.epoch, "base": base, "interval": 1, "sent": time.time(), "agent": "independent/1"}
        if self.heard:
            body["heard"] = self.heard
        text = json.dumps({**body, "messages": messages}).encode()
        mac = sha256(self.key, b"VW1\x00up\x00" + self.node + b"\x00" + text)
        self.push.send_multipart([b"VW1", self.node, mac, text])

    def receive(self) -> dict[str, object] | None:
        try:
            topic, version, mac, text = self.sub.recv_multipart()
        except zmq.Again:
            return None
        assert topic == self.topic
        assert version == b"VW1"
        assert hmac.compare_digest(mac, sha256(self.key, b"VW1\x00down\x00" + topic + b"\x00" + text))
        ack: dict[str, object] = json.loads(text)
        self.heard = {"master": ack["master"], "stamp": ack["stamp"]}
        if ack["epoch"] == self.epoch:
            self.rows = {seq: row for seq, row in self.rows.items() if seq > int(str(ack["completed"]))}
        return ack

    def close(self) -> None:
        self.push.close()
        self.sub.close()
