"""The shell around the sender core: outbox rows to the master, acknowledgements to the outbox (design 02)."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vmwatch.node.link import Diagnosis, Link
from vmwatch.node.outbox import MAX_EPOCH, Outbox
from vmwatch.node.sender import Sender
from vmwatch.shared.clock import Clock
from vmwatch.shared.logs import RateLimit

log = logging.getLogger(__name__)

FRAMES_AT_ONCE = 16
"""Then the loop looks at libvirt's events again."""
BLOCKED_POLL_S = 0.1
COMPLAIN_EVERY_S = 60.0


@dataclass(frozen=True)
class News:
    """What acknowledgements asked of the agent, and settled. `token`: of a wanted inventory, or empty.

    `completed`: by epoch, up to which seq the panel has everything.
    """

    token: str = ""
    new_epoch: bool = False
    completed: Mapping[int, int] = field(default_factory=dict)


class Delivery:
    """Sends what the outbox holds and deletes what the panel has. Never blocks."""

    def __init__(self, outbox: Outbox, sender: Sender, link: Link, clock: Clock) -> None:
        self.outbox = outbox
        self.sender = sender
        self.link = link
        self.diagnosis = Diagnosis("", "not connected yet")
        """Why no acknowledgement comes; its text is empty while they do."""
        self.heard_at: float | None = None
        """Of the last valid acknowledgement, monotonic seconds."""
        self._clock = clock
        self._limit = RateLimit(COMPLAIN_EVERY_S)
        self.blocked = False
        """A frame is due, and the connection takes none now."""
        self.more = False
        """More can be sent at once."""

    def due_at(self, now: float) -> float:
        """When to come again if nothing happens before, monotonic seconds."""
        if self.more:
            return now
        at = self.sender.deadline(now)
        # A heartbeat that cannot be sent stays due: the poll wakes when it can, and must not spin until then.
        return max(at, now + BLOCKED_POLL_S) if self.blocked else at

    def acknowledgements(self, now: float) -> News:
        """Take what has arrived; the only place that deletes what was acknowledged."""
        if self.link.turn() and self.link.connected:
            self.sender.went_up(now)
        if self.link.connected and not self.sender.connected:
            self.sender.went_up(now)
        elif self.sender.connected and not self.link.connected:
            self.sender.went_down()
        completed: dict[int, int] = {}
        token, new_epoch = "", False
        for ack in self.link.receive():
            answered = self.sender.acknowledged(now, ack)
            completed[answered.epoch] = max(answered.completed, completed.get(answered.epoch, 0))
            token = answered.want_inventory or token
            new_epoch = self._begin_epoch(answered.newer_epoch) or new_epoch
            self._heard(now)
        for epoch, upto in completed.items():
            self.outbox.complete(epoch, upto)
        return News("" if token and self.outbox.holds_token(token) else token, new_epoch, completed)

    def send(self, now: float, status: Callable[[], bytes]) -> None:
        """Send what the window allows, and a heartbeat with `status` if one is due."""
        self.blocked = self.more = False
        for _ in range(FRAMES_AT_ONCE):
            held = self.outbox.held()
            wanted = self.sender.wanted(now, held)
            beat = self.sender.heartbeat_due(now)
            if wanted is None and not beat:
                return
            if not self.link.writable():
                self.blocked = True
                return
            before, rows = self.outbox.read(wanted) if wanted else (0, [])
            if not rows and not beat:
                return
            body = self.sender.compose(now, self._clock.wall(), held, before, rows, status() if beat else None)
            if not self.link.send(body):
                # Lost in this moment: the next turn sees the connection again, or that there is none.
                self.sender.went_down()
                return
        self.more = True

    def silent(self, now: float) -> bool:
        """The connection is no use: the caller reopens (`reopen`)."""
        return self.sender.must_reopen(now)

    def reopen(self, now: float) -> None:
        """Say why, and go on to the next address."""
        self.diagnosis = self.link.diagnosis
        held = self._limit.allows(now)
        if held is not None:
            log.warning("no acknowledgement comes: %s", self.diagnosis.text)
        self.link.reopen()
        self.sender.opened(now)

    def _heard(self, now: float) -> None:
        self.heard_at = now
        if self.diagnosis.text:
            self.diagnosis = Diagnosis("", "")
            self._limit = RateLimit(COMPLAIN_EVERY_S)
            log.info("master %s at %s acknowledges", self.sender.master, self.link.address[0])

    def _begin_epoch(self, above: int) -> bool:
        if not above:
            return False
        if above >= MAX_EPOCH:
            log.error("the panel knows epoch %d of this node, and none can be above it", above)
            return False
        own = self.outbox.epoch
        self.sender.begin_epoch(self.outbox.begin_epoch(above))
        log.warning(
            "the panel knows a newer epoch of this node (%d) than this run's (%d): a new one begins (the clock went "
            "back and the outbox was lost, or a second agent runs as this node)",
            above,
            own,
        )
        return True
