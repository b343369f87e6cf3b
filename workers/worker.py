"""A worker's loop: takes hand-overs, calls the panel with what it holds, and tells the supervisor what came of it."""

import logging
import os
import time
from collections.abc import Sequence

import zmq

from vmwatch.shared.handover import (
    Doing,
    HandOver,
    PresenceDone,
    Ready,
    Result,
    Settled,
    Trouble,
    decode_hand_over,
    encode,
)
from vmwatch.shared.report import Rejected, ReportEntry, decode_entries
from vmwatch.shared.signals import Signals
from vmwatch.workers.batcher import Batcher, Job
from vmwatch.workers.client import PanelClient, PanelFault

log = logging.getLogger(__name__)

BEAT_S = 1.0
"""The supervisor hears what the worker does at each change and so often beside; only a call may be longer."""
_LONG_S = 3600.0


class Worker:
    """One worker process. The supervisor's pipe is its standard input: its end means that the supervisor is gone."""

    def __init__(
        self,
        generation: int,
        batcher: Batcher,
        client: PanelClient,
        tasks: zmq.Socket[bytes],
        results: zmq.Socket[bytes],
        signals: Signals,
        parent_pipe: int,
    ) -> None:
        self._generation = generation
        self._batcher = batcher
        self._client = client
        self._tasks = tasks
        self._results = results
        self._signals = signals
        self._parent_pipe = parent_pipe
        self._presence: list[ReportEntry] | None = None
        self._rejects: Rejected | None = None
        self._finishing = False
        self._orphaned = False
        self._said = Doing(generation, "")
        self._said_at = 0.0
        self._trouble = ""
        self._poller = zmq.Poller()
        for watched in (tasks, parent_pipe, signals.wakeup_fd):
            self._poller.register(watched, zmq.POLLIN)

    def run(self) -> None:
        """Work until the supervisor says stop, or ends, or a SIGTERM comes."""
        self._tell(Ready(self._generation))
        while not self._must_end():
            self._take_hand_overs()
            self._tell_presence()
            now = time.monotonic()
            jobs = self._batcher.next_call(now)
            if jobs:
                self._call(jobs)
            else:
                self._wait(now)

    @property
    def orphaned(self) -> bool:
        """The supervisor is gone: nobody waits for our last words."""
        return self._orphaned

    def _must_end(self) -> bool:
        if self._orphaned or self._signals.stop_requests:
            return True
        # A panel that does not answer is not waited for: what is unsettled stays with its node.
        return self._finishing and (not len(self._batcher) or self._batcher.in_trouble)

    # What the supervisor hands over

    def _take_hand_overs(self) -> None:
        while True:
            try:
                work = decode_hand_over(self._tasks.recv(zmq.NOBLOCK))
            except zmq.Again:
                return
            self._take(work)

    def _take(self, work: HandOver) -> None:
        self._batcher.add(Job(task.id, work.streams[task.stream], task.seq, task.lane, task.raw) for task in work.tasks)
        if work.presence is not None:
            self._presence, self._rejects = decode_entries(work.presence), work.rejects
        self._batcher.others_succeeded(work.elsewhere)
        self._finishing = self._finishing or work.stop

    # Calls of the panel

    def _call(self, jobs: Sequence[Job]) -> None:
        self._say("calling", [job.id for job in jobs])
        delivery = self._client.deliver(jobs)
        settlement = self._batcher.finished(time.monotonic(), jobs, delivery.result)
        if settlement.delivered or settlement.refused or delivery.verdicts:
            self._tell(Settled(self._generation, settlement.delivered, settlement.refused, delivery.verdicts))
        self._say_trouble(delivery.fault)

    def _tell_presence(self) -> None:
        """Signs of life are news only now: one attempt, also while messages wait for a better time."""
        entries, self._presence = self._presence, None
        if entries is None:
            return
        self._say("calling", [])
        try:
            verdicts = self._client.tell_presence(entries, self._rejects)
        except PanelFault as fault:
            self._tell(PresenceDone(self._generation, delivered=False))
            self._say_trouble(fault)
        else:
            self._tell(PresenceDone(self._generation, delivered=True, verdicts=verdicts))
            self._say_trouble(None)

    # What the supervisor hears

    def _wait(self, now: float) -> None:
        """Until there may be something to do."""
        self._say("backing off" if len(self._batcher) else "waiting", [])
        at = self._batcher.wait_until(now)
        until = min(self._said_at + BEAT_S, now + _LONG_S if at is None else at)
        # Rounded up: a wait that ends a moment too early would be followed by a busy loop.
        ready = dict(self._poller.poll(max(0, int((until - now) * 1000) + 1)))
        self._signals.drain()
        if self._parent_pipe in ready and not os.read(self._parent_pipe, 4096):
            self._orphaned = True

    def _say(self, what: str, calling: list[int]) -> None:
        now = time.monotonic()
        doing = Doing(self._generation, what, calling)
        if doing != self._said or now - self._said_at >= BEAT_S:
            self._said, self._said_at = doing, now
            self._tell(doing)

    def _say_trouble(self, fault: PanelFault | None) -> None:
        text = str(fault) if fault is not None else ""
        if text != self._trouble:
            self._trouble = text
            self._tell(Trouble(self._generation, text, fault is not None and fault.needs_person))

    def _tell(self, result: Result) -> None:
        self._results.send(encode(result))
