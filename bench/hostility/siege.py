"""Attackers at the door of a real master: what they cost a genuine node, and what they leave behind."""

import contextlib
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil
import zmq

from bench.hostility.attacker import Knowledge
from bench.hostility.speakers import Frames, Speaker
from bench.load import fill_outbox
from tests.testbed.service import Service
from tests.testbed.stack import SECRET, Row, Stack
from tests.testbed.waiting import free_port_pair, wait_until
from vmwatch.shared.keys import topic_of
from vmwatch.shared.messages import decode_acknowledgement

VICTIM, DEAD, EVIL = "kvm-1", "kvm-2", "kvm-3"
NO_LIBVIRT = "test+unix:///default?socket=/nonexistent/vmwatch-bench"
EPOCH = 1_763_900_000_000_000
LIFE_MOST_S = 60.0
_MEGABYTE = 1024 * 1024
_SINK = """
import sys, zmq
pull = zmq.Context().socket(zmq.PULL)
pull.rcvhwm = 8
pull.bind(f"tcp://127.0.0.1:{sys.argv[1]}")
while True:
    pull.recv(copy=False)
"""

Processes = Sequence["subprocess.Popen[bytes]"]


class RanDry(AssertionError):
    """This machine is too fast for so few events."""


@dataclass
class SiegeResult:
    """Events per second of the genuine node, window by window, and what else was seen."""

    modes: Sequence[str]
    quiet_per_s: list[float] = field(default_factory=list)
    elsewhere_per_s: list[float] = field(default_factory=list)
    """While the same attackers send to a socket of nobody's: what they cost as neighbours on this machine alone."""
    attacked_per_s: list[float] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    """Messages of each attacker."""
    rejected: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    rss_before_mb: float = 0.0
    rss_peak_mb: float = 0.0
    rss_after_mb: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """What is left of the genuine node's rate, against the same attackers sending elsewhere just before.

        Round by round: where others work on the machine, its rates differ several times over from one to the next.
        """
        rounds = zip(self.attacked_per_s, self.elsewhere_per_s, strict=True)
        return statistics.median(attacked / elsewhere for attacked, elsewhere in rounds)

    @property
    def ratio_to_quiet(self) -> float:
        """Against no attackers at all: with few cores this says mostly how the processor is shared."""
        return statistics.median(self.attacked_per_s) / statistics.median(self.quiet_per_s)


class Overheard:
    """A plain node that speaks to the real master, while someone writes down both sides."""

    def __init__(self, port: int, name: str) -> None:
        self.speaker = Speaker(name, SECRET, EPOCH, interval_s=1.0)
        self.frames: list[Frames] = []
        self.replies: list[Frames] = []
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._push = self._context.socket(zmq.PUSH)
        self._push.linger = 0
        self._push.connect(f"tcp://127.0.0.1:{port}")
        self._sub = self._context.socket(zmq.SUB)
        self._sub.subscribe(topic_of(name))
        self._sub.connect(f"tcp://127.0.0.1:{port + 1}")

    def say(self) -> None:
        """One frame."""
        frames = self.speaker.frame(time.time())
        self.frames.append(frames)
        self._push.send_multipart(frames)

    def repeat(self, frames: Sequence[Frames]) -> None:
        """What was said before, once more."""
        for recorded in frames:
            self._push.send_multipart(recorded)

    def hear(self) -> None:
        """The next acknowledgement, and all that wait."""
        wait_until(lambda: self._sub.poll(100), f"an acknowledgement to {self.speaker.name}")
        while self._sub.poll(0):
            reply = self._sub.recv_multipart()
            self.replies.append(reply)
            self.speaker.hear(decode_acknowledgement(reply[3]))

    def live(self, seen: Callable[[], bool]) -> None:
        """An inventory, events, heartbeats, until all is acknowledged and the panel has `seen` that it lives."""
        self.speaker.list_domains()
        self.speaker.produce(40)
        give_up_at = time.monotonic() + LIFE_MOST_S
        while self.speaker.held or not seen():
            if time.monotonic() > give_up_at:
                raise AssertionError(f"{self.speaker.name} was never seen alive")
            self.say()
            self.hear()

    def close(self) -> None:
        self._context.destroy(linger=0)


class Siege:
    """Panel and master, a node that died and was overheard, and a genuine node with much to say."""

    def __init__(self, folder: Path, modes: Sequence[str], seed: int, events: int) -> None:
        self.stack = Stack(folder, workers=2)
        self.result = SiegeResult(modes)
        self._folder = folder
        self._seed = seed
        self._events = events
        self._dead: Row = {}
        self._dead_events = 0

    def run(self, rounds: int, window_s: float) -> SiegeResult:
        """So many times a quiet window, one with the attackers elsewhere and one under attack, of so many seconds."""
        with self.stack as stack, contextlib.ExitStack() as open_:
            overheard = Overheard(stack.port, DEAD)
            open_.callback(overheard.close)
            self._let_die(overheard)
            node = stack.node(VICTIM, NO_LIBVIRT)
            fill_outbox(node.prefix, VICTIM, self._events)
            node.start()
            wait_until(lambda: depth(node) < self._events, "the genuine node to be heard")
            nobody = open_.enter_context(_sink())
            elsewhere = open_.enter_context(self._attackers(overheard, nobody, []))
            attackers = open_.enter_context(self._attackers(overheard, stack.port, self.result.sent))
            self._measure(node, elsewhere, attackers, rounds, window_s)
            self._judge(node)
        return self.result

    def _let_die(self, overheard: Overheard) -> None:
        """The node lives, is recorded, and dies; then the master starts anew, and hears it all again."""
        panel = self.stack.panel
        overheard.live(lambda: self._state(DEAD) == "active")
        wait_until(lambda: self._state(DEAD) == "silent", "the overheard node to be dead")
        self._dead = self._row(DEAD)
        self._dead_events = len(panel.events(node=DEAD))
        overheard.repeat(overheard.frames)
        self.stack.master.restart_after_kill()
        overheard.repeat(overheard.frames)

    def _row(self, node: str) -> Row:
        return next((row for row in self.stack.panel.rows("vmhostnode") if row["name"] == node), {})

    def _state(self, node: str) -> str:
        return self._row(node).get("state", "")

    @contextlib.contextmanager
    def _attackers(self, overheard: Overheard, port: int, sent: list[int]) -> Iterator[Processes]:
        """A process for each mode; what each has sent is put into `sent` at the end."""
        told = self._folder / f"knowledge-{port}"
        knowledge = Knowledge(port, SECRET, EVIL, VICTIM, EPOCH, overheard.frames, overheard.replies)
        told.write_bytes(msgspec.msgpack.encode(knowledge))
        processes = []
        try:
            for number, mode in enumerate(self.result.modes):
                command = [sys.executable, "-m", "bench.hostility.attacker", mode, str(told), str(self._seed + number)]
                processes.append(subprocess.Popen(command, stdout=subprocess.PIPE))
            yield processes
        finally:
            for process in processes:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            for process in processes:
                output = process.communicate(timeout=60)[0]
                sent.append(int(output or b"-1"))

    def _measure(
        self, node: Service, elsewhere: Processes, attackers: Processes, rounds: int, window_s: float
    ) -> None:
        result, master = self.result, psutil.Process(self.stack.master.pid)
        wait_until(lambda: self._rejected() or self._taken(EVIL), "the attackers to be heard")
        _signal([*elsewhere, *attackers], signal.SIGSTOP)
        result.rss_before_mb = master.memory_info().rss / _MEGABYTE
        for _ in range(rounds):
            result.quiet_per_s.append(_rate(node, window_s))
            for processes, rates in ((elsewhere, result.elsewhere_per_s), (attackers, result.attacked_per_s)):
                _signal(processes, signal.SIGCONT)
                rates.append(_rate(node, window_s))
                _signal(processes, signal.SIGSTOP)
                result.rss_peak_mb = max(result.rss_peak_mb, master.memory_info().rss / _MEGABYTE)
        if any(process.poll() is not None for process in (*elsewhere, *attackers)):
            raise AssertionError("an attacker ended before its time")

    def _rejected(self) -> int:
        reasons = self.stack.master.status.get("rejects", {}).get("by_reason", {})
        return sum(reasons.values())

    def _taken(self, node: str) -> bool:
        return node in self.stack.master.status.get("nodes", {})

    # What they left behind

    def _judge(self, node: Service) -> None:
        result, stack = self.result, self.stack
        wait_until(lambda: depth(node) == 0, "the genuine node's outbox to drain", timeout_s=600)
        status = wait_until(lambda: stack.master.status, "the master's status")
        result.rejected = self._rejected()
        result.counters = status["counters"]
        result.rss_after_mb = psutil.Process(stack.master.pid).memory_info().rss / _MEGABYTE
        if stack.master.process_ended() or stack.panel.process_ended():
            result.wrong.append("a service ended")
        names = {row["name"] for row in stack.panel.rows("vmhostnode")}
        if not names <= {VICTIM, DEAD, EVIL}:
            result.wrong.append(f"nodes are listed that there are not: {sorted(names)}")
        if self._row(DEAD) != self._dead:
            result.wrong.append(f"the dead node changed from {self._dead} to {self._row(DEAD)}")
        events = {name: len(stack.panel.events(node=name)) for name in (VICTIM, DEAD)}
        if events != {VICTIM: self._events, DEAD: self._dead_events}:
            result.wrong.append(f"{events} are registered, not {self._events} and {self._dead_events}")
        seen = self._row(VICTIM)["last_seen"]
        wait_until(lambda: self._row(VICTIM)["last_seen"] != seen, "the genuine node to be seen alive")
        if status["nodes"].get(DEAD, {}).get("alive"):
            result.wrong.append("the dead node looks alive to the master")


@contextlib.contextmanager
def _sink() -> Iterator[int]:
    """A socket that reads and forgets, in a process of its own; its port."""
    port = free_port_pair()
    process = subprocess.Popen([sys.executable, "-c", _SINK, str(port)])
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def _signal(processes: Processes, number: signal.Signals) -> None:
    for process in processes:
        process.send_signal(number)


def depth(node: Service) -> int:
    """Messages in the node's outbox; as good as endless while it does not say."""
    return int(node.status.get("outbox", {}).get("depth", 10**12))


def _rate(node: Service, window_s: float) -> float:
    """Events per second that leave the node's outbox now."""
    begun, before = time.perf_counter(), depth(node)
    time.sleep(window_s)
    after, ended = depth(node), time.perf_counter()
    if not after:
        raise RanDry("the outbox ran dry within a window: it needs more events")
    return (before - after) / (ended - begun)
