"""A worker process in the simulation: the real batcher and verdicts; one call of the panel at a time."""

from typing import TYPE_CHECKING

from tests.simulation.world import Process
from vmwatch.shared.report import Verdict
from vmwatch.workers.answers import reported
from vmwatch.workers.batcher import FAILURES_ALLOWED, Batcher, CallResult, Job
from vmwatch.workers.client import PanelFault
from vmwatch.workers.transport import Reply
from vmwatch.workers.verdicts import compose_report, judge

if TYPE_CHECKING:
    from tests.simulation.master import SimMaster

CALL_LIMIT_S = 1.0
BATCH_MAX = 8
DEADLY = b'"poison_worker"'
"""A message with this in it ends the worker that calls with it."""


def outcome(jobs: list[Job], reply: Reply | None) -> tuple[CallResult, list[Verdict]]:
    """How a call ended, as the client of the real panel sees it (`VmmgrClient.deliver`); None: no connection."""
    try:
        if reply is None:
            raise PanelFault("no connection", blameless=True)
        verdicts = reported(reply)
        return judge(jobs, verdicts), verdicts
    except PanelFault as fault:
        return fault.result(len(jobs)), []


def presence_outcome(reply: Reply | None) -> tuple[bool, list[Verdict]]:
    """How a report of signs of life ended: whether it was taken, and what the panel said."""
    try:
        return (False, []) if reply is None else (True, reported(reply))
    except PanelFault:
        return False, []


class SimWorker(Process):
    """One incarnation; it lives once."""

    def __init__(self, master: "SimMaster", generation: int) -> None:
        super().__init__(master.world)
        self.master = master
        self.generation = generation
        self.batcher = Batcher(BATCH_MAX, self.world.chance)
        self.calling: list[Job] = []
        self.lanes: dict[int, str] = {}
        """Of all that it was handed and has not settled, by id."""
        self.heard_at = self.world.now
        """When the supervisor process last heard of it."""
        self.successes = 0
        self.elsewhere = 0
        self.failed_alone: dict[int, set[int]] = {}
        """By job: how much had succeeded each time that a call with it alone failed for a reason of its own."""
        self._call = 0
        self._said_at = 0.0
        self._wait = 0
        self.start()
        self._beat()

    def _beat(self) -> None:
        """It says what it does each second; only a call may be longer."""
        if not self.calling:
            self.master.heard(self)
        self.later(1.0, self._beat)

    def hand(self, jobs: list[Job]) -> None:
        self.lanes.update((job.id, job.lane) for job in jobs)

        def take() -> None:
            self.batcher.add(jobs)
            self.turn()

        self.later(0.0005, take)

    def others_succeeded(self, count: int) -> None:
        """The supervisor process says what the panel has committed at others' calls."""

        def take() -> None:
            self.batcher.others_succeeded(count)
            self.elsewhere = count
            self.turn()

        self.later(0.0005, take)

    def turn(self) -> None:
        """What its loop does: a call, or waiting for the time of one."""
        if self.calling:
            return
        self.calling = self.batcher.next_call(self.world.now)
        if not self.calling:
            at = self.batcher.wait_until(self.world.now)
            if at is not None:
                self._wait += 1
                wait = self._wait
                self.later(max(0.001, at - self.world.now), lambda: self.turn() if wait == self._wait else None)
            return
        self.heard_at = self.world.now
        if any(DEADLY in job.raw for job in self.calling):
            self.later(0.001, lambda: self.master.lose(self))
            return
        self._call += 1
        call = self._call

        def answered(reply: Reply | None) -> None:
            # As requests does: what comes after the time limit finds the connection closed.
            self.later(0.0, lambda: self._finish(reply) if self.calling and call == self._call else None)

        self.master.panel.request(compose_report(self.master.name, self.calling), answered)
        self.later(CALL_LIMIT_S, lambda: answered(Reply(504, {}, b"")))

    def _finish(self, reply: Reply | None) -> None:
        jobs, self.calling = self.calling, []
        result, verdicts = outcome(jobs, reply)
        if len(jobs) == 1 and not result.blameless:
            self.failed_alone.setdefault(jobs[0].id, set()).add(self.successes + self.elsewhere)
        settlement = self.batcher.finished(self.world.now, jobs, result)
        self.successes += len(settlement.delivered)
        for id_ in (*settlement.delivered, *(refused.id for refused in settlement.refused)):
            del self.lanes[id_]
        # One connection: a slow result holds up those behind it.
        slow = self.world.happens(3 * self.master.network.weather.straggle)
        delay_s = self.world.between(0.1, 3.0) if slow else 0.0005
        self._said_at = max(self._said_at, self.world.now + delay_s)
        self.master.later(
            self._said_at - self.world.now, lambda: self.master.settled(self, settlement, verdicts)
        )
        self.turn()

    def gave_up_rightly(self, id_: int) -> bool:
        """By this record and not the batcher's, the message failed alone often enough with successes in between."""
        return len(self.failed_alone.get(id_, ())) >= FAILURES_ALLOWED
