"""The one writer: a thread that registers what waits, in one transaction, and only then answers.

Handlers hand it jobs and wait for their answers. It takes all that wait, does each in a savepoint of its own, makes
one commit, and merges the drafts into what is known; so many small reports share one write to the disk, and nothing
is answered, shown or remembered that could still be lost.
"""

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from vmwatch.panel.board import Board
from vmwatch.panel.history import follow
from vmwatch.panel.installation import Installation
from vmwatch.panel.knowledge import Draft, EventRow, Known
from vmwatch.panel.recorder import Recorder
from vmwatch.panel.registration import Registered
from vmwatch.panel.store import Host, Store, Stored
from vmwatch.panel.watch import MASTER_SILENT_S, NOT_WRITTEN, Watch
from vmwatch.shared.clock import Clock
from vmwatch.shared.errors import VmwatchError

log = logging.getLogger(__name__)

MAX_WAITING = 256
"""Jobs; each report is at most 4 MiB, and workers have one call each in flight, so a healthy queue is far shorter."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
MAX_TOGETHER = 64
"""Jobs in one transaction: enough to share the disk's flush, few enough that the first need not wait for long."""
SMALL_BYTES = 8 * 1024
"""A report below this has some dozens of messages at most."""

UNWRITTEN_S = MASTER_SILENT_S
"""No commit for so long although some were tried, and nobody knows what is true any more."""

_T = TypeVar("_T")


class WriterBusy(VmwatchError):
    """The queue is full, or the writer is stopping; nothing was registered, try again later."""


class NotCommitted(VmwatchError):
    """The database could not be written; nothing was registered, try again later."""


class Work:
    """What a job may use: its draft, and writes of its own beside the draft's."""

    def __init__(
        self,
        draft: Draft,
        known: Known,
        hosts: dict[str, Host],
        watch: Watch,
        now: float,
        monotonic: float,
        registered: Registered,
    ) -> None:
        self.draft = draft
        self.known = known
        """Committed knowledge, to read only; what this batch adds is in the draft."""
        self.hosts = hosts
        self.watch = watch
        self.now = now
        """Wall clock, seconds."""
        self.monotonic = monotonic
        """Seconds."""
        self.writes: list[Callable[[Recorder], None]] = []
        """Done after the draft is written, in the job's savepoint."""
        self.registered = registered

    def has_node(self, name: str) -> bool:
        """Is it in the list of nodes? One that was removed is not."""
        host = self.hosts.get(name)
        return host is not None and not host.hidden


Job = Callable[[Work], _T]
"""Runs in the writer's thread. What it raises is the caller's answer and takes back this job alone."""


@dataclass
class _Ticket(Generic[_T]):
    job: Job[_T]
    size: int
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[_T]"
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """In the event loop's thread; the caller may have gone away meanwhile."""
        if self.answer.done():
            return
        if self.error is not None:
            self.answer.set_exception(self.error)
        else:
            self.answer.set_result(self.result)


@dataclass
class _Batch:
    """What one transaction has done so far."""

    draft: Draft
    events: list[tuple[int, EventRow]] = field(default_factory=list)


class Writer:
    """Owns what is known from `start` to `stop`."""

    def __init__(self, store: Store, stored: Stored, board: Board, clock: Clock) -> None:
        self._recorder = Recorder(store, stored)
        self._stored = stored
        self._watch = Watch(clock.monotonic())
        self._watch.duplicates.touch(stored.known.vms)
        self._board = board
        self._clock = clock
        self._waiting: deque[_Ticket[Any]] = deque()
        self._current: list[_Ticket[Any]] = []
        self._bytes = 0
        self._small_first = False
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.on_defect: Callable[[], None] = lambda: None
        """Called, in the writer's thread, when it cannot go on: memory and database may differ, so start again."""
        self.commits = 0
        self.commit_failures = 0
        self._failing_since: float | None = None
        """Monotonic seconds; None: the last commit succeeded."""
        self.last_turn = clock.monotonic()
        """Monotonic seconds when the loop last came round or was seen idle."""

    def start(self) -> None:
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that no transaction has taken yet."""
        return len(self._waiting)

    @property
    def hosts(self) -> Mapping[str, Host]:
        """What is committed of the nodes, by name. Any thread may look, and none may keep a view of it."""
        return self._stored.hosts

    @property
    def installations(self) -> Mapping[str, Installation]:
        """The last committed one of each VM, by UUID; as `hosts`."""
        return self._stored.known.installations

    def report_age_s(self) -> float | None:
        """How long ago a master's last report came; None: there was none yet. Any thread may ask."""
        return self._watch.report_age_s(self._clock.monotonic())

    def hears_master(self) -> bool:
        """Do a master's reports come?"""
        age_s = self.report_age_s()
        return age_s is not None and age_s <= MASTER_SILENT_S

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    async def do(self, job: Job[_T], size: int = 0) -> _T:
        """Have a job done and committed; `size` in bytes counts against the queue's limit.

        Raises WriterBusy or NotCommitted (nothing was done), or what the job raised (nothing of it was done).
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_T] = loop.create_future()
        ticket = _Ticket(job, size, loop, answer)
        with self._wake:
            full = len(self._waiting) >= MAX_WAITING or (self._waiting and self._bytes + size > MAX_WAITING_BYTES)
            if self._stopping or full:
                raise WriterBusy("stopping" if self._stopping else "too many reports wait already")
            self._waiting.append(ticket)
            self._bytes += size
            self._wake.notify()
        return await answer

    def stop(self, timeout_s: float) -> bool:
        """Finish what waits and end; False if that took longer than `timeout_s`."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while tickets := self._take():
                self._current = tickets
                self._do_together(tickets)
                self.last_turn = self._clock.monotonic()
            self._recorder.close()
        except Exception:
            log.exception("the writer cannot go on; the panel ends, and starts again with what is committed")
            self._refuse_all()
            self.on_defect()

    def _take(self) -> list[_Ticket[Any]]:
        """Wait for jobs; none: stop."""
        with self._wake:
            while not self._waiting and not self._stopping:
                self._wake.wait()
            taken = [self._waiting.popleft() for _ in range(min(MAX_TOGETHER, len(self._waiting)))]
            taken = self._small_ones(taken)
            self._bytes -= sum(ticket.size for ticket in taken)
            return taken

    def _small_ones(self, tickets: list[_Ticket[Any]]) -> list[_Ticket[Any]]:
        """Every other time small reports go before large ones, which take ten times as long; else all go together."""
        small = [ticket for ticket in tickets if ticket.size < SMALL_BYTES]
        self._small_first = bool(small) and len(small) < len(tickets) and not self._small_first
        if not self._small_first:
            return tickets
        self._waiting.extendleft(ticket for ticket in reversed(tickets) if ticket.size >= SMALL_BYTES)
        return small

    def _refuse_all(self) -> None:
        with self._wake:
            self._stopping = True
            # Those of the batch may be committed or not: who calls again finds out.
            tickets = self._current + list(self._waiting)
            self._waiting.clear()
        for ticket in tickets:
            ticket.error = WriterBusy("the writer has ended")
        _answer(tickets)

    def _do_together(self, tickets: list[_Ticket[Any]]) -> None:
        batch = _Batch(Draft(self._stored.known))
        now = self._clock.wall()
        try:
            for ticket in tickets:
                self._do(batch, ticket, now)
            if self._failing_since is not None:
                self._recorder.prove(now)
            self._recorder.commit()
        except sqlite3.Error as error:
            self._recorder.rollback()
            self._fail(tickets, error)
            return
        self.commits += 1
        self._failing_since = None
        batch.draft.merge()
        self._watch.duplicates.touch(uuid for uuid, _ in [*batch.draft.claims, *batch.draft.devices])
        self._show(batch)
        _answer(tickets)

    def _fail(self, tickets: list[_Ticket[Any]], error: sqlite3.Error) -> None:
        """The disk is full, or another process holds the lock: no report's fault, so it spoils none for good."""
        self.commit_failures += 1
        log.error("nothing of %d calls was committed: %s", len(tickets), error)
        for ticket in tickets:
            ticket.error = NotCommitted(f"the database could not be written: {error}")
        now = self._clock.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since > UNWRITTEN_S:
            self._board.doubt_all(NOT_WRITTEN, self._clock.wall())
        _answer(tickets)

    def _do(self, batch: _Batch, ticket: _Ticket[Any], now: float) -> None:
        hosts, monotonic = self._stored.hosts, self._clock.monotonic()
        work = Work(Draft(batch.draft), self._stored.known, hosts, self._watch, now, monotonic, self._recorder.holds)
        try:
            ticket.result = ticket.job(work)
            draft = work.draft
            told = draft.problems or draft.forgotten_problems
            if draft.durable or told or work.writes or self._reveals(draft):
                with self._recorder.savepoint():
                    first = self._recorder.write(work.draft, now)
                    for write in work.writes:
                        write(self._recorder)
                batch.events += enumerate(work.draft.events, first)
        except sqlite3.OperationalError:
            raise
        except Exception as error:
            if not isinstance(error, VmwatchError):
                log.exception("a call failed and nothing of it is registered; the others go on")
            ticket.error = error
            return
        work.draft.merge()

    def _reveals(self, draft: Draft) -> bool:
        """Does it name a node that is not in the list of nodes (deleted by a person, and alive again)?"""
        hosts = (self._stored.hosts.get(name) for name in draft.nodes)
        return any(host is None or host.hidden for host in hosts)

    def _show(self, batch: _Batch) -> None:
        now = self._clock.monotonic()
        uuids = [uuid for uuid, _ in batch.draft.claims] + list(batch.draft.installations)
        uuids += follow(self._stored, batch.draft, now)
        changed = bool(batch.draft.problems or batch.draft.forgotten_problems)
        told = {"problems": changed, "installations": bool(batch.draft.installations)}
        self._board.update(self._stored, uuids, batch.draft.nodes, batch.events, **told)


def _answer(tickets: list[_Ticket[Any]]) -> None:
    """One wake-up of each event loop, however many callers wait in it."""
    loops = {ticket.loop for ticket in tickets}
    for loop in loops:
        mine = [ticket for ticket in tickets if ticket.loop is loop]
        try:
            loop.call_soon_threadsafe(_settle, mine)
        except RuntimeError:
            log.debug("the event loop ended before %d answers", len(mine))


def _settle(tickets: list[_Ticket[Any]]) -> None:
    for ticket in tickets:
        ticket.settle()
