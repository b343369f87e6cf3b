"""The supervisor process: one loop in the main thread that moves messages between sockets and the cores.

The cores decide (ledger, dispatcher); receiver, publisher, pool and dead letters do; this module only connects them.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec
import zmq

from vmwatch.shared.handover import (
    HandOver,
    PresenceDone,
    Ready,
    Result,
    Settled,
    StreamLabel,
    Task,
    Trouble,
    WorkerSettings,
    decode_result,
)
from vmwatch.shared.logs import RateLimit
from vmwatch.shared.notify import Notifier
from vmwatch.shared.paths import Paths
from vmwatch.shared.report import encode_entries
from vmwatch.shared.settings import CONFIGURING, MASTER_CHANGEABLE, MOST_WORKERS, MasterSettings
from vmwatch.shared.signals import Signals
from vmwatch.supervisor.channels import Channels
from vmwatch.supervisor.child import Child
from vmwatch.supervisor.deadletters import DeadLetters
from vmwatch.supervisor.dispatcher import DEATHS_ALLOWED, Dispatcher
from vmwatch.supervisor.ledger import Entry, Ledger
from vmwatch.supervisor.pool import Lost, Pool
from vmwatch.supervisor.progress import Progress
from vmwatch.supervisor.publisher import Publisher
from vmwatch.supervisor.receiver import Authenticator, Receiver
from vmwatch.supervisor.returns import Returns

log = logging.getLogger(__name__)

TURN_S = 0.2
"""The loop turns at least so often: deaths of workers are noticed, beacons are due."""
FRAMES_A_TURN = 32
RESULTS_A_TURN = 1000
"""Bounds of one turn, so that a flood of one kind does not keep the other waiting."""
BATCHES_IN_HAND = 2
"""Of messages that a worker may hold: while it calls with one batch, the next one lies ready."""
FORGET_EVERY_S = 10.0
SUCCESS_TOLD_EVERY_S = 1.0
FINISH_MOST_S = 6.0
"""At the end: so long workers may take to finish what they hold. What they do not finish is sent again by its node."""
KILLED_MOST_S = 1.0
RESULTS_HWM = 100_000
INTERVAL_S = 10.0
"""Said of the node of a dead letter that is sent again; the panel keeps what it knows."""
PANEL_TROUBLE_LOGGED_EVERY_S = 30.0
SKEW_WORTH_A_WORD_S = 60.0
SKEW_LOGGED_EVERY_S = 600.0
CHANGEABLE = MASTER_CHANGEABLE | CONFIGURING
"""What SIGHUP changes while running."""

Reread = Callable[[MasterSettings], MasterSettings | None]
"""What applies after a SIGHUP instead of the present settings; None: nothing changes."""


class Master:
    """Everything that one run of vmwatch-master has. `run` serves until a signal ends it."""

    def __init__(
        self,
        settings: MasterSettings,
        paths: Paths,
        signals: Signals,
        worker_settings: Callable[[MasterSettings], WorkerSettings],
    ) -> None:
        """Binds all sockets; `worker_settings`: what workers need to know, without sockets and generation.

        Raises ConfigurationError if an address or a folder cannot be used.
        """
        now = time.monotonic()
        self.name = os.urandom(8).hex()
        self.counters: Counter[str] = Counter()
        self.turned_at = now
        self._settings = settings
        self._worker_settings = worker_settings
        self._signals = signals
        self._notifier = Notifier()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.authenticator = Authenticator(settings.secret, settings.secret_previous)
        self.receiver = Receiver(self._context, settings.listen, self.authenticator)
        self.publisher = Publisher(self._context, settings.ack_endpoint)
        self._channels = Channels(paths.run / f"{paths.program}.ipc")
        self._results = self._context.socket(zmq.PULL)
        self._results.linger = 0
        self._results.rcvhwm = RESULTS_HWM
        # Of this run: a worker of an earlier one, should it still live, must not find it.
        self._results_endpoint = self._channels.endpoint(f"r{self.name[:8]}")
        self._results.bind(self._results_endpoint)
        self.ledger = Ledger(self.name, settings.memory_mb * 1024 * 1024, now)
        self._most_in_hand = BATCHES_IN_HAND * settings.batch_max
        self.dispatcher = Dispatcher(self._most_in_hand)
        self.dead_letters = DeadLetters(paths.dead_letters)
        self.returns = Returns(paths.returned_letters, self.ledger.new_id)
        self.pool = Pool(settings.worker_count, silence_s(settings), self._spawner(settings))
        self.progress = Progress(now)
        self._resized = 0
        """Of `Signals.more_workers`, what was done."""
        self._presence_with: int | None = None
        """Generation of the worker that reports signs of life now."""
        self._forget_at = now + FORGET_EVERY_S
        self._success_at = now
        self._trouble_logged = RateLimit(PANEL_TROUBLE_LOGGED_EVERY_S)
        self._in_trouble = False
        self.skews: dict[str, float] = {}
        """By how many seconds each node's clock is behind this one, the way of a frame included."""
        self._skew_logged = RateLimit(SKEW_LOGGED_EVERY_S)

    @property
    def panel_timeout_s(self) -> float:
        """How long a call of the panel may take."""
        return self._settings.panel_timeout

    def _spawner(self, settings: MasterSettings) -> Callable[[int, int], Child]:
        told = msgspec.structs.replace(
            self._worker_settings(settings), results=self._results_endpoint, master=self.name
        )

        def spawn(slot: int, generation: int) -> Child:
            own = msgspec.structs.replace(told, generation=generation)
            return Child(self._context, self._channels, slot, own, os.getpid(), self._most_in_hand)

        return spawn

    # The loop

    def run(self, each_turn: Callable[[float], object], reread: Reread) -> None:
        """Serve until SIGTERM or SIGINT, then stop in order. `each_turn` is called with the time once a turn."""
        poller = zmq.Poller()
        for watched in (self.receiver.socket, self._results, self._signals.wakeup_fd):
            poller.register(watched, zmq.POLLIN)
        log.info("this run's name is %s", self.name)
        self._notifier.ready()
        while not self._signals.stop_requests:
            poller.poll(int(TURN_S * 1000))
            self._signals.drain()
            now = self.turned_at = time.monotonic()
            self._take_frames(now)
            self.dispatcher.add(self.returns.take(now))
            self._turn(now)
            self._hand_out()
            self._tell_presence(now)
            self._tell_success(now)
            self._forget(now)
            self._change(now, reread)
            each_turn(now)
            self._notifier.turned(self._doing)
        self._stop(each_turn)

    def _doing(self) -> str:
        return f"{len(self.pool.ready)} of {self.pool.count} workers ready, {len(self.ledger.nodes)} nodes"

    def _change(self, now: float, reread: Reread) -> None:
        """What signals asked for since the last turn: the file again, a worker more or less."""
        if self._signals.reload_requests:
            self._signals.reload_requests = 0
            self._notifier.reloading()
            new = reread(self._settings)
            if new is not None:
                self._apply(now, new)
            self._notifier.ready()
        asked = self._signals.more_workers
        if asked != self._resized:
            self._resize(self.pool.count + asked - self._resized)
            self._resized = asked

    def _apply(self, now: float, new: MasterSettings) -> None:
        old, self._settings = self._settings, new
        self.authenticator.change(new.secret, new.secret_previous)
        logging.getLogger().setLevel(new.log_level.upper())
        self._resize(new.worker_count)
        if self._worker_settings(new) != self._worker_settings(old):
            log.info("the workers are replaced, one after the other")
            self.pool.renew(now, silence_s(new), self._spawner(new))

    def _resize(self, wanted: int) -> None:
        count = min(max(wanted, 1), MOST_WORKERS)
        if count != wanted:
            log.warning("%d workers are not allowed: from 1 to %d are", wanted, MOST_WORKERS)
        if count != self.pool.count:
            log.info("%d workers instead of %d", count, self.pool.count)
            self.pool.resize(count)

    def _turn(self, now: float) -> None:
        """What is done in every turn, also while stopping: results, the state of workers, acknowledgements."""
        self._take_results(now)
        # After the results: who has said something is not silent, and what was settled is not handed out again.
        for lost in self.pool.tend(now):
            self._lose(now, lost)
        self._settle_dead_letters(now)
        self.progress.look(now, len(self.ledger.entries))
        self._acknowledge(now)

    def _stop(self, each_turn: Callable[[float], object]) -> None:
        """In order: intake, in flight, acknowledgements, children. A second signal skips to the children."""
        log.info("stopping: no more intake, workers finish what they hold")
        self._notifier.stopping()
        self.receiver.close()
        self.pool.stop()
        poller = zmq.Poller()
        poller.register(self._results, zmq.POLLIN)
        poller.register(self._signals.wakeup_fd, zmq.POLLIN)
        give_up_at = time.monotonic() + FINISH_MOST_S
        while self.pool.alive and self._signals.stop_requests < 2 and time.monotonic() < give_up_at:
            poller.poll(int(TURN_S * 1000 / 4))
            self._signals.drain()
            now = self.turned_at = time.monotonic()
            self._turn(now)
            each_turn(now)
        if self._signals.stop_requests > 1:
            log.info("a second signal: nobody is waited for")
        self._turn(time.monotonic())
        if self.ledger.entries:
            log.info("%d messages are not settled: their nodes keep them and send them again", len(self.ledger.entries))
        self._end_children()

    def _end_children(self) -> None:
        if self.pool.alive:
            log.warning("%d workers still run and are killed", self.pool.alive)
        self.pool.kill()
        give_up_at = time.monotonic() + KILLED_MOST_S
        while self.pool.alive and time.monotonic() < give_up_at:
            self.pool.tend(time.monotonic())
            time.sleep(0.01)

    def close(self) -> None:
        """Close all sockets; the last acknowledgements leave. Workers that still run are killed."""
        self._end_children()
        self.receiver.close()
        self.publisher.close()
        self._results.close()
        self._channels.close()
        # Not `term`: the socket of a worker that the kernel has not ended yet would make it wait for ever.
        self._context.destroy(linger=0)

    # From the nodes

    def _take_frames(self, now: float) -> None:
        for node, envelope in self.receiver.receive(now, FRAMES_A_TURN):
            self.dispatcher.add(self.ledger.receive(now, node, envelope))
            if self.ledger.nodes[node].sent == envelope.sent:  # else it was a recording
                self._note_skew(now, node, time.time() - envelope.sent)

    def _note_skew(self, now: float, node: str, skew_s: float) -> None:
        self.skews[node] = skew_s
        if abs(skew_s) > SKEW_WORTH_A_WORD_S and self._skew_logged.allows(now) is not None:
            log.warning("the clock of node %s is %.0f s %s", node, abs(skew_s), "behind" if skew_s > 0 else "ahead")

    # To the workers

    def _hand_out(self) -> None:
        if not self.dispatcher.waiting:
            return
        for generation in self.pool.ready:
            taken = self.dispatcher.take(generation)
            if taken:
                self.pool.hand_over(generation, self._work(taken))

    def _work(self, entries: Iterable[Entry]) -> HandOver:
        streams: list[StreamLabel] = []
        index: dict[tuple[str, int, bool], int] = {}
        tasks = []
        for entry in entries:
            returned = entry.id in self.returns
            key = (entry.stream.node, entry.stream.epoch, returned)
            if key not in index:
                index[key] = len(streams)
                if returned:
                    streams.append(StreamLabel(*key[:2], base=0, agent="", interval=INTERVAL_S, returned=True))
                else:
                    told = self.ledger.report_entry(entry.stream)
                    streams.append(StreamLabel(told.node, told.epoch, told.base, told.agent, told.interval))
            tasks.append(Task(entry.id, index[key], entry.seq, entry.lane, entry.raw))
        return HandOver(streams=streams, tasks=tasks)

    def _tell_presence(self, now: float) -> None:
        ready = self.pool.ready
        if not ready:
            return
        entries = self.ledger.presence(now)
        if entries is not None:
            for entry in entries:
                entry.skew = round(self.skews.get(entry.node, 0.0), 3)
            self._presence_with = min(ready, key=self.dispatcher.in_hand)
            rejects = self.receiver.rejects.summed_up()
            self.pool.hand_over(self._presence_with, HandOver(presence=encode_entries(entries), rejects=rejects))

    def _tell_success(self, now: float) -> None:
        """A worker that holds nothing but what fails must hear that others succeed: else it would wait for ever."""
        if now < self._success_at:
            return
        self._success_at = now + SUCCESS_TOLD_EVERY_S
        for generation in self.pool.ready:
            count = self.dispatcher.elsewhere(generation)
            if self.dispatcher.in_hand(generation) and count:
                self.pool.hand_over(generation, HandOver(elsewhere=count))

    # From the workers

    def _take_results(self, now: float) -> None:
        for _ in range(RESULTS_A_TURN):
            try:
                data = self._results.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            result = decode_result(data)
            if self.pool.heard(now, result):
                self.progress.heard(now, result)
                self._act_on(now, result)
            else:
                self.counters["late_results"] += 1

    def _act_on(self, now: float, result: Result) -> None:
        if isinstance(result, Settled):
            self._settle(result)
        elif isinstance(result, PresenceDone):
            if result.generation == self._presence_with:
                self._presence_done(now, result.delivered)
            if result.verdicts:
                self.dispatcher.witness()
            self.ledger.learn(result.verdicts)
        elif isinstance(result, Trouble):
            self._log_trouble(now)
        elif isinstance(result, Ready):
            self.dispatcher.worker_ready(result.generation)

    def _settle(self, result: Settled) -> None:
        """The panel has, or will never take, these messages. Only what this worker holds counts."""
        for id_ in result.delivered:
            entry = self.dispatcher.owned(result.generation, id_)
            if entry is None:
                self.counters["late_results"] += 1
                continue
            self.dispatcher.done(result.generation, id_, success=True)
            if not self.returns.settle(entry):
                self.ledger.settle(entry)
        for refused in result.refused:
            entry = self.dispatcher.owned(result.generation, refused.id)
            if entry is None:
                self.counters["late_results"] += 1
                continue
            # From here on it is the dead letters' and no worker's; it stays unsettled until it is on the disk.
            self.dispatcher.done(result.generation, refused.id, success=False)
            self.dead_letters.add(entry, refused.reason)
        self.ledger.learn(result.verdicts)

    def _lose(self, now: float, lost: Lost) -> None:
        for entry in self.dispatcher.worker_lost(lost.generation, lost.calling, crashed=lost.crashed):
            self.dead_letters.add(entry, f"{DEATHS_ALLOWED} workers ended in calls with it, while others succeeded")
        if lost.generation == self._presence_with:
            self._presence_done(now, delivered=False)

    def _presence_done(self, now: float, delivered: bool) -> None:
        self._presence_with = None
        self.ledger.presence_done(now, delivered)

    def _log_trouble(self, now: float) -> None:
        trouble = self.pool.panel_trouble
        if trouble is None:
            if self._in_trouble:
                log.info("calls of the panel succeed again")
            self._in_trouble = False
            return
        self._in_trouble = True
        held = self._trouble_logged.allows(now)
        if held is not None:
            level = logging.ERROR if trouble.needs_person else logging.WARNING
            log.log(level, "calls of the panel fail: %s; %d more since the last such line", trouble.text, held)

    # Back to the nodes

    def _settle_dead_letters(self, now: float) -> None:
        for entry in self.dead_letters.flush(now):
            if not self.returns.settle(entry, refused=True):
                self.ledger.refuse(entry)
            self.counters["refused"] += 1
        self.returns.flush(now)

    def _acknowledge(self, now: float) -> None:
        for node, acknowledgement in self.ledger.acknowledgements(now):
            self.publisher.publish(node, self.authenticator.key_of(node), acknowledgement)

    def _forget(self, now: float) -> None:
        if now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY_S
            gone = self.ledger.forget(now)
            self.authenticator.forget(gone)
            for node in gone:
                self.skews.pop(node, None)


def silence_s(settings: MasterSettings) -> float:
    """How long a worker may say nothing: two calls may follow each other without a word, and a machine may be slow."""
    return 2 * settings.panel_timeout + 10.0
