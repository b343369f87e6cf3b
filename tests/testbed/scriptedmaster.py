"""A real vmwatch-master between a node that is a plain ZeroMQ client and a panel that is scripted; fixtures for both.

Who imports `scripted_panel`, `scripted_master` and `plain_node` has the fixtures `panel`, `master` and `node`.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from msgspec import Raw

from tests.testbed.scriptedpanel import PASSWORD, USER, Reply, Request, ScriptedPanel
from tests.testbed.service import command
from tests.testbed.waiting import LOOPBACK, free_port_pair, wait_until
from vmwatch.shared.keys import down_mac, node_key, topic_of, up_mac
from vmwatch.shared.messages import (
    VERSION,
    Acknowledgement,
    Envelope,
    Heard,
    decode_acknowledgement,
    join_envelope,
    place_payload,
)
from vmwatch.shared.statussocket import read_status

SECRET = "A1B2C3D4E5F6G7H8"
EPOCH = 1_763_900_000_000_000


def event(seq: int, prev: int | None = None, vm: int = 1) -> bytes:
    payload = (
        b'{"time":1.0,"type":"event","vm":{"uuid":"00000000-0000-0000-0000-%012d","name":"vm%d"},"event":"started"}'
    )
    return place_payload(payload % (vm, vm), seq, seq - 1 if prev is None else prev)


class Node:
    """What design 02 asks of a node, as far as a test needs it."""

    def __init__(self, port: int, name: str = "n1", secret: str = SECRET) -> None:
        self.name = name.encode()
        self.key = node_key(secret, name)
        self.acks: list[Acknowledgement] = []
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.push = self._context.socket(zmq.PUSH)
        self.push.connect(f"tcp://{LOOPBACK}:{port}")
        self._sub = self._context.socket(zmq.SUB)
        self._sub.subscribe(topic_of(name))
        self._sub.connect(f"tcp://{LOOPBACK}:{port + 1}")

    def send(self, *messages: bytes, base: int = 1, status: bytes = b"", interval: float = 10.0) -> None:
        envelope = Envelope(EPOCH, base, interval, time.time(), "test/1", self.heard)
        if status:
            envelope.status = Raw(status)
        body = join_envelope(envelope, messages)
        self.send_raw(VERSION, self.name, up_mac(self.key, self.name, body), body)

    def send_raw(self, *frames: bytes) -> None:
        self.push.send_multipart(frames)

    @property
    def heard(self) -> Heard | None:
        return Heard(self.acks[-1].master, self.acks[-1].stamp) if self.acks else None

    def read(self) -> list[Acknowledgement]:
        """All acknowledgements so far; each is checked."""
        while self._sub.poll(0):
            topic, version, mac, body = self._sub.recv_multipart()
            assert (topic, version, mac) == (self.name + b"\0", VERSION, down_mac(self.key, topic, body))
            self.acks.append(decode_acknowledgement(body))
        return self.acks

    @property
    def received(self) -> int:
        return max((ack.received for ack in self.read()), default=0)

    @property
    def completed(self) -> int:
        return max((ack.completed for ack in self.read()), default=0)

    def wait_received(self, seq: int) -> None:
        wait_until(lambda: self.received >= seq, f"message {seq} received")

    def wait_completed(self, seq: int) -> None:
        wait_until(lambda: self.completed >= seq, f"message {seq} completed")

    def beacons(self, count: int) -> None:
        """Wait for so many more acknowledgements."""
        before = len(self.read())
        wait_until(lambda: len(self.read()) >= before + count, f"{count} more acknowledgements")

    def close(self) -> None:
        self._context.destroy(linger=0)


class Master:
    """A vmwatch-master below a prefix of its own."""

    def __init__(self, prefix: Path, panel_url: str) -> None:
        self.prefix = prefix
        self.port = free_port_pair()
        self.settings: dict[str, object] = {
            "listen": f"tcp://{LOOPBACK}:{self.port}",
            "secret": SECRET,
            "workers": 2,
            "panel_url": panel_url,
            "panel_user": USER,
            "panel_password": PASSWORD,
            "panel_timeout": 5,
        }
        self.process: subprocess.Popen[str] | None = None

    @property
    def dead_letters(self) -> Path:
        return self.prefix / "var/vmwatch-master.dead"

    @property
    def log(self) -> str:
        return (self.prefix / "var/vmwatch-master.log").read_text()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def configure(self, **settings: object) -> None:
        config = self.prefix / "etc/vmwatch-master.conf"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text("".join(f"{name}={value}\n" for name, value in (self.settings | settings).items()))
        config.chmod(0o600)

    def start(self, **settings: object) -> "Master":
        self.configure(**settings)
        words = [command("vmwatch-master"), "--prefix", str(self.prefix)]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        wait_until(lambda: self._checked() and self.ready_workers, "a worker that is ready")
        return self

    def _checked(self) -> bool:
        """It runs; else its last words."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"vmwatch-master ended: {self.process.communicate()[1]}")
        return True

    def status(self) -> dict[str, Any]:
        try:
            return read_status(self.prefix / "var/run/vmwatch-master.sock")
        except (OSError, ValueError):
            return {}

    @property
    def ready_workers(self) -> list[dict[str, Any]]:
        return [worker for worker in self.status().get("workers", ()) if worker["state"] == "ready"]

    @property
    def calling_worker(self) -> dict[str, Any] | None:
        """The worker that is in a call with messages."""
        return next((worker for worker in self.ready_workers if worker["calling"]), None)

    def wait_calling(self) -> dict[str, Any]:
        return wait_until(lambda: self.calling_worker, "a worker in a call") or {}

    def children(self) -> list[int]:
        """Process ids of the workers, from the kernel."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]

    def wait_end(self) -> int:
        assert self.process is not None
        return self.process.wait(timeout=60)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.communicate()


@pytest.fixture(name="panel")
def scripted_panel() -> Iterator[ScriptedPanel]:
    with ScriptedPanel() as panel:
        yield panel


@pytest.fixture(name="master")
def scripted_master(tmp_path: Path, panel: ScriptedPanel) -> Iterator[Master]:
    master = Master(tmp_path, panel.url)
    yield master
    master.close()


@pytest.fixture(name="node")
def plain_node(master: Master) -> Iterator[Node]:
    node = Node(master.port)
    yield node
    node.close()


def scripted(panel: ScriptedPanel, answer: Callable[[Request], Reply | None]) -> None:
    """Answer reports with messages by `answer`; signs of life and the rest honestly."""
    panel.script = lambda request: answer(request) if request.func == "vmwatch.report" and request.keys else None


def feed_until_a_dead_letter(master: Master, node: Node, last: int) -> int:
    """Send more events, of other VMs, after `last`: only others' success tells a poisoned message from an outage.

    Returns the seq of the last one.
    """

    def feed() -> bool:
        nonlocal last
        if node.received == last:
            last += 1
            node.send(event(last, vm=last))
        return master.dead_letters.exists() and master.dead_letters.stat().st_size > 0

    wait_until(feed, "a dead letter", 120)
    return last
