"""The sender core: which rows go to the master, when, and when they may be deleted (design 02, *The node*).

No socket, file, clock or thread: the shell tells what happened and when, and asks what to do. Times are monotonic
seconds unless a name says otherwise.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Raw

from vmwatch.shared.messages import (
    MAX_MESSAGES,
    Acknowledgement,
    Envelope,
    Heard,
    join_envelope,
    place_payload,
)

RESEND_FIRST_S = 5.0
RESEND_MOST_S = 60.0
SILENCE_S = 5.0
"""No word from the master for so long: the connection is given up."""
FRAME_BYTES = 256 * 1024
"""Of messages in a frame, but for a single one. The wire allows more; but until a frame has come as a whole it is no
sign of life, neither for ZeroMQ's heartbeats nor for ours, and over a slow line 4 MiB would never arrive."""
UNSEEN_INTERVALS = 3
"""The master hears nothing of us for so many heartbeats although we hear it: the connection is given up."""
NEW_EPOCHS_S, NEW_EPOCHS_MOST = 300.0, 3
"""So many new epochs in so long: two agents under one node_id would otherwise chase each other's. More than one,
because what is known of the newest may be older than a frame that is still on its way."""
_NAMES_KEPT = 16


@dataclass(frozen=True, slots=True)
class Held:
    """What the outbox holds of the epoch that is being sent: the oldest one with rows, else this run's.

    `base` is the lowest seq held, `last` the highest; with no row `base` is the next seq and `last` = `base` - 1.
    """

    epoch: int
    base: int
    last: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the outbox: its message without `seq` and `prev`."""

    seq: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """Rows that may be sent now: those after `after`, at most `count` of them and `size` bytes.

    With `at_least_one` the first is allowed whatever its size.
    """

    after: int
    count: int
    size: int
    at_least_one: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """What follows from an acknowledgement.

    Rows of `epoch` up to `completed` are to be deleted. `want_inventory`: a token to list for, or empty.
    `newer_epoch`: begin an epoch above it, or 0.
    """

    epoch: int
    completed: int
    want_inventory: str = ""
    newer_epoch: int = 0


class Sender:
    """One node's window to one master at a time."""

    def __init__(self, agent: str, own_epoch: int, interval_s: float, now: float) -> None:
        self.agent = agent
        self.own_epoch = own_epoch
        self.interval_s = interval_s
        self.connected = False
        self.master = ""
        self.stamp = 0
        self.credit = 0
        self.received: int | None = None
        """The highest seq of `epoch` that the master has accepted, as far as it told."""
        self.epoch = own_epoch
        self.resends = 0
        self._cursor = 0
        self._in_flight: deque[tuple[int, int]] = deque()
        self._in_flight_bytes = 0
        self._greeted: deque[str] = deque(maxlen=_NAMES_KEPT)
        self._answered = False
        self._rewind = True
        self._opened_at = now
        self._heard_at = now
        self._seen = -1.0
        self._seen_at = now
        self.seen_at: float | None = None
        """When the master last showed that it has a newer frame of ours; None before the first."""
        self._heartbeat_at = -math.inf
        self._stalled_at: float | None = None
        self._resend_s = RESEND_FIRST_S
        self._new_epochs_at: deque[float] = deque([-math.inf] * NEW_EPOCHS_MOST, maxlen=NEW_EPOCHS_MOST)

    # What happened

    def opened(self, now: float) -> None:
        """Sockets were opened to an address, perhaps of another master: nothing was answered there yet."""
        self.connected = False
        self._answered = False
        self._opened_at = self._heard_at = self._seen_at = now

    def went_up(self, now: float) -> None:
        """A connection was made: say so at once, and send again what is not known to have arrived."""
        self.connected = True
        self._seen_at = now
        self._heartbeat_at = -math.inf
        self._rewind = True

    def went_down(self) -> None:
        """The connection was lost; nothing is sent while unconnected."""
        self.connected = False

    def begin_epoch(self, epoch: int) -> None:
        """A new epoch of this run has begun."""
        self.own_epoch = epoch

    def acknowledged(self, now: float, ack: Acknowledgement) -> Answered:
        """Take an acknowledgement (whose MAC was right). Only here rows become deletable."""
        self._heard_at = now
        self._answered = True
        newer = ack.master != self.master or ack.stamp > self.stamp
        if ack.master != self.master:
            self._meet(ack.master)
        if newer:
            self._take(now, ack)
        return Answered(
            ack.epoch,
            ack.completed,
            ack.want_inventory if newer else "",
            self._newer_epoch(now, ack.newest_epoch) if newer else 0,
        )

    def _meet(self, master: str) -> None:
        """Another run of the master: what the old one had received counts for nothing."""
        self.master = master
        self.stamp = -1
        self.received = None
        # Only a heartbeat that names this run is a sign of life; till then what it says of libvirt counts for nothing.
        self._heartbeat_at = -math.inf
        if master not in self._greeted:
            self._greeted.append(master)
            self._rewind = True

    def _take(self, now: float, ack: Acknowledgement) -> None:
        self.stamp = ack.stamp
        self.credit = ack.credit
        if ack.seen != self._seen:
            self._seen, self._seen_at, self.seen_at = ack.seen, now, now
        if ack.epoch != self.epoch:
            return
        self._forget_in_flight(ack.completed)
        if self.received is None or ack.received > self.received:
            self._resend_s = RESEND_FIRST_S
            self._stalled_at = now
        elif ack.received < self.received:
            self._rewind = True  # the master has forgotten
        self.received = ack.received
        if self._cursor <= ack.received:
            self._stalled_at = None

    def _newer_epoch(self, now: float, newest: int) -> int:
        if newest <= self.own_epoch or now - self._new_epochs_at[0] < NEW_EPOCHS_S:
            return 0
        self._new_epochs_at.append(now)
        return newest

    # What to do

    def must_reopen(self, now: float) -> bool:
        """The connection is no use: close both sockets and open them to the next address."""
        if now - self._heard_at >= self._silence_s:
            return True
        return self._answered and now - self._seen_at >= self._unseen_s

    @property
    def _silence_s(self) -> float:
        return SILENCE_S if self._answered else max(SILENCE_S, 2 * self.interval_s)

    @property
    def _unseen_s(self) -> float:
        """Beacons come each second, so heartbeats that follow each other faster are not seen one by one."""
        return max(SILENCE_S, UNSEEN_INTERVALS * self.interval_s)

    def beat(self) -> None:
        """The next heartbeat is due now: what it says has changed."""
        self._heartbeat_at = -math.inf

    def heartbeat_due(self, now: float) -> bool:
        """A frame with the agent's status is due, with or without messages."""
        return self.connected and now - self._heartbeat_at >= self.interval_s

    def wanted(self, now: float, held: Held) -> Wanted | None:
        """Which rows to send now; None if there are none or the window is full."""
        if not self.connected:
            return None
        self._follow(held)
        if self._rewind or (self._stalled_at is not None and now - self._stalled_at >= self._resend_s):
            self._send_again(held)
        if self._cursor >= held.last:
            return None
        empty = not self._in_flight
        if not empty and (not self._answered or self._in_flight_bytes >= self.credit):
            return None
        count = MAX_MESSAGES if self._answered else 1
        room = max(0, self.credit - self._in_flight_bytes)
        return Wanted(self._cursor, count, min(room, FRAME_BYTES), at_least_one=empty)

    def compose(
        self, now: float, wall: float, held: Held, before: int, rows: Sequence[Row], status: bytes | None = None
    ) -> bytes:
        """The body of the frame with `rows`, which count as sent from here on.

        `before` is the highest seq held below the first row (or anything lower than the base if there is none).
        With `status` (JSON) the frame is a heartbeat.
        """
        self._follow(held)
        prev = max(before, held.base - 1)
        messages = []
        for row in rows:
            message = place_payload(row.payload, row.seq, prev)
            messages.append(message)
            prev = row.seq
            self._in_flight.append((row.seq, len(message)))
            self._in_flight_bytes += len(message)
        if rows:
            self._cursor = rows[-1].seq
            if self._stalled_at is None:
                self._stalled_at = now
        envelope = Envelope(
            epoch=held.epoch, base=held.base, interval=self.interval_s, sent=wall, agent=self.agent, heard=self._heard()
        )
        if status is not None:
            envelope.status = Raw(status)
            self._heartbeat_at = now
        return join_envelope(envelope, messages)

    def deadline(self, now: float) -> float:
        """When to ask again at the latest, if nothing happens before."""
        times = [self._heard_at + self._silence_s]
        if self._answered:
            times.append(self._seen_at + self._unseen_s)
        if self.connected:
            times.append(self._heartbeat_at + self.interval_s)
            if self._stalled_at is not None:
                times.append(self._stalled_at + self._resend_s)
        return max(now, min(times))

    def first_unsent(self, epoch: int) -> int:
        """Rows of `epoch` from here on were not sent in this run (design 02: such an inventory may be replaced)."""
        return self._cursor + 1 if epoch == self.epoch else 1

    @property
    def in_flight(self) -> int:
        """Messages sent and not completed."""
        return len(self._in_flight)

    def _heard(self) -> Heard | None:
        return Heard(self.master, self.stamp) if self.master else None

    def _follow(self, held: Held) -> None:
        """Stay with the outbox: the next epoch once the older one is drained, never behind what is settled."""
        if held.epoch != self.epoch:
            self.epoch = held.epoch
            self.received = None
            self._in_flight.clear()
            self._in_flight_bytes = 0
            self._cursor = held.base - 1
            self._stalled_at = None
        self._cursor = max(self._cursor, held.base - 1)
        self._forget_in_flight(held.base - 1)

    def _send_again(self, held: Held) -> None:
        """Go back to what the master is known to have, or to the base."""
        start = held.base - 1 if self.received is None else max(self.received, held.base - 1)
        if self._stalled_at is not None and not self._rewind:
            self._resend_s = min(RESEND_MOST_S, 2 * self._resend_s)
        if start < self._cursor:
            self.resends += 1
        self._rewind = False
        self._stalled_at = None
        self._cursor = start
        while self._in_flight and self._in_flight[-1][0] > start:
            self._in_flight_bytes -= self._in_flight.pop()[1]

    def _forget_in_flight(self, completed: int) -> None:
        while self._in_flight and self._in_flight[0][0] <= completed:
            self._in_flight_bytes -= self._in_flight.popleft()[1]
