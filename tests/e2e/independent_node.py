"""A node written from the wire protocol's page alone: the standard library and pyzmq, nothing of vmwatch."""
import hashlib
import hmac
import json
import time
from typing import Any

import zmq


class IndependentNode:
    def __init__(self, node: str, secret: str, port: int) -> None:
        self.node, self.topic = node.encode(), node.encode() + b"\x00"
        self.key = hmac.digest(secret.encode(), b"VW1\x00key\x00" + self.node, hashlib.sha256)
        self.epoch, self.next_seq = int(time.time() * 1e6), 1
        self.rows: dict[int, dict[str, Any]] = {}
        self.heard: dict[str, Any] = {}
        self.clock_ahead_s = 0.0
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self.push, self.sub = context.socket(zmq.PUSH), context.socket(zmq.SUB)
        self.push.linger = self.sub.linger = 0
        self.push.immediate, self.push.sndtimeo = True, 10_000
        self.push.connect(f"tcp://127.0.0.1:{port}")
        self.sub.subscribe(self.topic)
        self.sub.connect(f"tcp://127.0.0.1:{port + 1}")

    def now(self) -> float:
        return time.time() + self.clock_ahead_s

    def add(self, message: dict[str, Any]) -> None:
        self.rows[self.next_seq] = {"seq": self.next_seq, "time": self.now(), **message}
        self.next_seq += 1

    def send(self) -> None:
        base = min(self.rows, default=self.next_seq)
        messages = [{**row, "prev": seq - 1} for seq, row in self.rows.items()]
        body = {"epoch": self.epoch, "base": base, "interval": 1, "sent": self.now(), "messages": messages}
        text = json.dumps(body | ({"heard": self.heard} if self.heard else {})).encode()
        mac = hmac.digest(self.key, b"VW1\x00up\x00" + self.topic + text, hashlib.sha256)
        self.push.send_multipart([b"VW1", self.node, mac, text])

    def receive(self) -> dict[str, Any] | None:
        if not self.sub.poll(500):
            return None
        topic, version, mac, text = self.sub.recv_multipart()
        assert mac == hmac.digest(self.key, version + b"\x00down\x00" + topic + b"\x00" + text, "sha256")
        ack: dict[str, Any] = json.loads(text)
        self.heard = {"master": ack["master"], "stamp": ack["stamp"]}
        self.rows = {s: row for s, row in self.rows.items() if ack["epoch"] != self.epoch or s > ack["completed"]}
        return ack

    def close(self) -> None:
        self.push.close()
        self.sub.close()
