"""Master and panel inside one process: the real receiver on a real socket, the real cores and the real database.

What processes do between them is done here by calls: a report is encoded, decoded, registered, written and committed
just as worker and panel do it. What must never happen is noted as a breach.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

import zmq

from tests.testbed.waiting import LOOPBACK, free_port
from vmwatch.panel.knowledge import Draft
from vmwatch.panel.recorder import Recorder
from vmwatch.panel.registration import register
from vmwatch.panel.store import Store
from vmwatch.shared.endpoints import Endpoint
from vmwatch.shared.errors import MessageError
from vmwatch.shared.handover import StreamLabel
from vmwatch.shared.messages import MAX_BATCH_BYTES, Acknowledgement, encode
from vmwatch.shared.report import (
    Report,
    Verdict,
    decode_answer,
    decode_entries,
    decode_report,
    encode_answer,
    encode_entries,
)
from vmwatch.supervisor.deadletters import DeadLetters
from vmwatch.supervisor.dispatcher import Dispatcher
from vmwatch.supervisor.ledger import Entry, Ledger
from vmwatch.supervisor.receiver import Authenticator, Receiver
from vmwatch.workers.batcher import Job, Outcome
from vmwatch.workers.verdicts import compose_report, judge

MEMORY_BYTES = 64 * 1024 * 1024
PANEL_STACK = 60
"""Python calls below which the panel decodes a report: what its web framework takes of the depth allowed."""
IN_HAND = 1000
READ_MOST_MS = 60_000
_GENERATION = 1

_T = TypeVar("_T")


@dataclass
class Breaches:
    """What must never happen, and how often it did, with the first case of each kind."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def note(self, what: str, case: str = "") -> None:
        self.counts[what] += 1
        self.first.setdefault(what, case[:300])

    def lines(self) -> list[str]:
        """One line for each kind."""
        return [f"{what}: {count} times; first: {self.first[what]}" for what, count in self.counts.items()]


class PanelRig:
    """The panel's registration and its database, without its web server."""

    def __init__(self, folder: Path) -> None:
        self._store = Store(f"sqlite:///{folder / 'panel.db'}")
        self._store.open()
        self.stored = self._store.load()
        self.known = self.stored.known
        self._recorder = Recorder(self._store, self.stored)
        self.registered: dict[str, list[tuple[int, int]]] = {}
        """(epoch, seq) of the events of the nodes named here, in the order in which they were registered."""

    def report(self, body: bytes, now: float) -> bytes:
        """What `vmwatch.report` does and answers. `now`: wall clock, seconds.

        Raises MessageError if the whole report is not understood, and whatever else is the panel's own defect.
        """
        if len(body) > MAX_BATCH_BYTES:
            raise MessageError("413", f"{len(body)} bytes")
        report = _at_depth(PANEL_STACK, lambda: decode_report(body))
        draft = Draft(self.known)
        try:
            verdicts = _at_depth(PANEL_STACK, lambda: register(draft, report, now))
            with self._recorder.savepoint():
                self._recorder.write(draft, now)
        except BaseException:
            self._recorder.rollback()
            raise
        self._recorder.commit()
        draft.merge()
        for row in draft.events:
            if row.node in self.registered:
                self.registered[row.node].append((row.epoch, row.seq))
        return encode_answer(verdicts)

    def close(self) -> None:
        self._recorder.close()
        self._store.close()


class MasterRig:
    """One run of the master without its processes; `settle` does what its workers would."""

    def __init__(self, name: str, secret: str, panel: PanelRig, folder: Path, breaches: Breaches) -> None:
        self.panel = panel
        self.breaches = breaches
        self.now = 1000.0
        """Monotonic seconds: the trial moves them."""
        self.wall = 1_763_900_000.0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.authenticator = Authenticator(secret)
        endpoint = Endpoint(LOOPBACK, free_port())
        self.receiver = Receiver(self._context, endpoint, self.authenticator)
        self.ledger = Ledger(name, MEMORY_BYTES, self.now)
        self.dispatcher = Dispatcher(IN_HAND)
        self.dispatcher.worker_ready(_GENERATION)
        self.dead_letters = DeadLetters(folder / "dead")
        self._push = self._context.socket(zmq.PUSH)
        self._push.linger = 0
        self._push.connect(str(endpoint))
        self.sent = 0
        self.genuine = 0
        """Frames that passed the authentication."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    @property
    def rejects(self) -> Counter[str]:
        """Frames that did not, by reason."""
        return self.receiver.rejects.by_reason

    def send(self, batch: Sequence[Sequence[bytes]]) -> None:
        """Put these on the wire and take them in, all of them."""
        for frames in batch:
            self._push.send_multipart(frames)
        self.sent += len(batch)
        while not self._read():
            if not self.receiver.socket.poll(READ_MOST_MS):
                raise AssertionError(f"of {self.sent} frames {self.genuine} + {self.rejects.total()} were read")

    def _read(self) -> bool:
        for node, envelope in self.receiver.receive(self.now, 64):
            self.genuine += 1
            self.dispatcher.add(self.ledger.receive(self.now, node, envelope))
        return self.genuine + self.rejects.total() >= self.sent

    def settle(self) -> None:
        """Let the panel have all that waits; report the signs of life."""
        while entries := self.dispatcher.take(_GENERATION):
            self._deliver(entries)
        self._tell_presence()

    def _deliver(self, entries: Sequence[Entry]) -> None:
        jobs = []
        for entry in entries:
            told = self.ledger.report_entry(entry.stream)
            label = StreamLabel(told.node, told.epoch, told.base, told.agent, told.interval)
            jobs.append(Job(entry.id, label, entry.seq, entry.lane, entry.raw))
        result = self._call(jobs)
        if result is None:
            # A worker would halve the batch until what spoils it is alone; here each message goes alone.
            for entry, job in zip(entries, jobs, strict=True):
                if len(jobs) > 1 and self._call([job]) is not None:
                    self._delivered(entry)
                else:
                    self._refused(entry, "spoils its report")
        for entry, job, outcome in zip(entries, jobs, result or (), strict=result is not None):
            if outcome is Outcome.DELIVERED:
                self._delivered(entry)
            elif outcome is Outcome.REFUSED:
                self._refused(entry, "refused by name")
            else:
                self.breaches.note("an answer does not settle a message", str(job.raw))
                self._refused(entry, "not settled")
        for done in self.dead_letters.flush(self.now):
            self.ledger.settle(done)

    def _call(self, jobs: Sequence[Job]) -> list[Outcome] | None:
        try:
            verdicts = decode_answer(self.panel.report(compose_report(self.ledger.master, jobs), self.wall))
        except Exception as error:
            if len(jobs) == 1:
                what = f"one message spoils a whole report ({type(error).__name__} {getattr(error, 'reason', '')})"
                self.breaches.note(what, f"{error}: {jobs[0].raw!r}")
            return None
        self.ledger.learn(verdicts)
        return judge(jobs, verdicts).outcomes

    def _delivered(self, entry: Entry) -> None:
        self.dispatcher.done(_GENERATION, entry.id, success=True)
        self.ledger.settle(entry)

    def _refused(self, entry: Entry, reason: str) -> None:
        self.dispatcher.done(_GENERATION, entry.id, success=False)
        self.dead_letters.add(entry, reason)

    def _tell_presence(self) -> None:
        entries = self.ledger.presence(self.now)
        if entries is None:
            return
        verdicts: list[Verdict] = []
        delivered = True
        try:
            told = decode_entries(encode_entries(entries))
            verdicts = decode_answer(self.panel.report(encode(Report(self.ledger.master, told)), self.wall))
        except Exception as error:
            delivered = False
            statuses = [bytes(entry.status)[:60] for entry in entries]
            self.breaches.note(f"signs of life are not taken ({type(error).__name__})", f"{error}: {statuses}")
        self.ledger.presence_done(self.now, delivered)
        self.ledger.learn(verdicts)

    def acknowledgements(self) -> list[tuple[str, Acknowledgement]]:
        """What would be published now."""
        return self.ledger.acknowledgements(self.now)


def _at_depth(calls: int, function: Callable[[], _T]) -> _T:
    return function() if not calls else _at_depth(calls - 1, function)
