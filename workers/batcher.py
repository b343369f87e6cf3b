"""The batcher core: which messages a worker's next call carries, and what follows from its outcome (design 01, faults).

No socket or clock. Times are monotonic seconds. Everything that a call does not settle by name stays here and is
tried again; messages of one lane keep their order.

A failing batch is halved until what fails is alone. A message that fails alone is set aside (*parked*) with its lane
and tried again by itself; after `FAILURES_ALLOWED` such failures, with others succeeding in between, it is
refused. In an outage nothing succeeds, so nothing is counted and nothing is refused.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from random import Random

from vmwatch.shared.backoff import Backoff
from vmwatch.shared.handover import Refused, StreamLabel
from vmwatch.shared.messages import MAX_BATCH_BYTES
from vmwatch.shared.report import Refusal

FAILURES_ALLOWED = 5
GOOD_CALLS = 3
"""So many calls must succeed in a row before one more failure is counted: a panel, or what stands before it, that
fails every other call says nothing about a message."""
RETRY_FIRST_S = 0.05
RETRY_MOST_S = 30.0
_ENVELOPE_BYTES = 64 * 1024
"""Left of the panel's limit for what a report says beside its messages."""


class Outcome(Enum):
    """What became of one message in one call. Unanswered is RETRY: not delivered."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REFUSED = "refused"


@dataclass(slots=True, eq=False)
class Job:
    """A message in this worker's hands."""

    id: int
    stream: StreamLabel
    seq: int
    lane: str
    raw: bytes
    attempts: int = 0
    """Calls with it alone that failed."""
    failures: int = 0
    """Those of them that count."""
    good_at_failure: int = 0
    """Good calls when a failure was last counted."""
    retry_at: float = 0.0


@dataclass(slots=True)
class CallResult:
    """How a call ended: an outcome per job of the call, by position, and `refusals` for those REFUSED.

    `too_large`: the panel wants less at once; `wait_s`: its Retry-After, seconds; `blameless`: it cannot have looked
    at the messages (no connection, no session), so that the failure says nothing about any of them.
    """

    outcomes: list[Outcome]
    refusals: dict[int, Refusal] = field(default_factory=dict)
    too_large: bool = False
    wait_s: float = 0.0
    blameless: bool = False


@dataclass(slots=True)
class Settlement:
    """What the supervisor process may be told: ids delivered, and messages refused with the reason."""

    delivered: list[int] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


class Batcher:
    """The messages in one worker's hands."""

    def __init__(self, batch_max: int, source: Random | None = None) -> None:
        self._batch_max = batch_max
        self._limit = batch_max
        self._queue: deque[Job] = deque()
        self._parked: list[Job] = []
        self._queue_first = False
        """The last call was a parked job's: it must not keep others from the success that tells it from an outage."""
        self._good = 0
        """Calls that succeeded with messages that never failed alone; the others' calls too, a few of them and late."""
        self._good_at_bad = 0
        """How many they were when a call failed last, except with a message that had failed alone before."""
        self._elsewhere = 0
        self._not_before = 0.0
        self._asked_until = 0.0
        """Until when the panel asked to be left alone."""
        self._backoff = Backoff(RETRY_FIRST_S, RETRY_MOST_S, source or Random())
        self._parked_not_before = 0.0
        self._parked_backoff = Backoff(RETRY_FIRST_S, RETRY_MOST_S, self._backoff.chance)
        """Apart: a parked message that fails again is no reason for a fresh one to wait."""

    def __len__(self) -> int:
        return len(self._queue) + len(self._parked)

    @property
    def in_trouble(self) -> bool:
        """The last call settled nothing."""
        return self._backoff.failures + self._parked_backoff.failures > 0

    def add(self, jobs: Iterable[Job]) -> None:
        """More messages, behind those that are here."""
        self._queue.extend(jobs)

    def others_succeeded(self, count: int) -> None:
        """So much has the panel committed in all at others' calls: their success counts as well as ours.

        And whatever we wait for, unless the panel asked for it, may be over.
        """
        if count > self._elsewhere:
            self._elsewhere = count
            self._good += 1
            # Each parked message has a time of its own; were they tried one after another, many would take hours.
            self._not_before = self._parked_not_before = self._asked_until

    def next_call(self, now: float) -> list[Job]:
        """The jobs of the next call, or none: nothing to do yet (see `wait_until`)."""
        parked = min(self._parked, key=lambda job: job.retry_at, default=None)
        alone = [parked] if parked is not None and max(parked.retry_at, self._parked_not_before) <= now else []
        if alone and not self._queue_first:
            return alone
        return (self._batch() if now >= self._not_before else []) or alone

    def _batch(self) -> list[Job]:
        """The oldest jobs that fit into a call and wait for no parked one."""
        blocked = {job.lane for job in self._parked}
        taken: list[Job] = []
        kept: deque[Job] = deque()
        size = 0
        while self._queue and len(taken) < self._limit:
            job = self._queue.popleft()
            if job.lane in blocked:
                kept.append(job)
                continue
            if taken and size + len(job.raw) > MAX_BATCH_BYTES - _ENVELOPE_BYTES:
                self._queue.appendleft(job)
                break
            taken.append(job)
            size += len(job.raw)
        # All stay in the queue: a job leaves only when it is settled.
        self._queue.extendleft(reversed(kept))
        self._queue.extendleft(reversed(taken))
        return taken

    def wait_until(self, now: float) -> float | None:
        """When `next_call` may have something; None: not before more messages come."""
        blocked = {job.lane for job in self._parked}
        times = [max(self._parked_not_before, min(job.retry_at for job in self._parked))] if self._parked else []
        if any(job.lane not in blocked for job in self._queue):
            times.append(max(self._not_before, now))
        return min(times) if times else None

    def finished(self, now: float, call: Sequence[Job], result: CallResult) -> Settlement:
        """A call has ended; returns what is settled. All else is tried again."""
        settlement = Settlement()
        settled: set[int] = set()
        self._queue_first = call[0] in self._parked
        for position, (job, outcome) in enumerate(zip(call, result.outcomes, strict=True)):
            if outcome is Outcome.DELIVERED:
                settlement.delivered.append(job.id)
            elif outcome is Outcome.REFUSED:
                refusal = result.refusals[position]
                settlement.refused.append(Refused(job.id, f"{refusal.type} {refusal.object}: {refusal.msg}"))
            else:
                continue
            settled.add(job.id)
        self._remove(settled)
        if settled:
            # That a message passes at its second try says nothing of one that fails at each.
            self._good += bool(settlement.delivered) and not self._queue_first
            self._backoff.reset()
            self._parked_backoff.reset()
            self._limit = min(self._batch_max, 2 * self._limit)
        if len(settled) < len(call):
            self._failed(now, call, len(call) - len(settled), result, settlement)
        return settlement

    def _failed(
        self, now: float, call: Sequence[Job], unsettled: int, result: CallResult, settlement: Settlement
    ) -> None:
        alone, again = len(call) == 1, self._queue_first
        if again:
            self._parked_not_before = now + self._parked_backoff.next_s()
        elif not result.too_large or alone:
            self._not_before = now + self._backoff.next_s()
        if result.wait_s:
            self._asked_until = now + result.wait_s
            self._not_before = max(self._not_before, self._asked_until)
            self._parked_not_before = max(self._parked_not_before, self._asked_until)
        if not result.blameless:
            if alone:
                self._failed_alone(now, call[0], settlement)
            else:
                self._limit = max(1, unsettled // 2)
        if not again:
            self._good_at_bad = self._good

    def _failed_alone(self, now: float, job: Job, settlement: Settlement) -> None:
        if job.failures == 0 or self._good - max(job.good_at_failure, self._good_at_bad) >= GOOD_CALLS:
            job.failures += 1
            job.good_at_failure = self._good
        if job.failures >= FAILURES_ALLOWED:
            self._remove({job.id})
            settlement.refused.append(Refused(job.id, f"failed alone {job.failures} times while others succeeded"))
            return
        job.attempts += 1
        wait = Backoff(RETRY_FIRST_S, RETRY_MOST_S, self._backoff.chance, failures=job.attempts)
        job.retry_at = now + wait.next_s()
        if job not in self._parked:
            self._limit = 1
            self._queue = deque(other for other in self._queue if other is not job)
            self._parked.append(job)

    def _remove(self, ids: set[int]) -> None:
        if not ids:
            return
        self._queue = deque(job for job in self._queue if job.id not in ids)
        self._parked = [job for job in self._parked if job.id not in ids]
