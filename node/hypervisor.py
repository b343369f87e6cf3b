"""The hypervisor as the main loop sees it: its events, inventories and statistics, none of which ever blocks it."""

import logging
import math
from functools import partial

from vmwatch.node.background import Background, Outcome
from vmwatch.node.definitions import MORE_S, Definitions, Listing
from vmwatch.node.inventory import LISTING_LIMIT_S, Inventories
from vmwatch.node.mounts import read_mounts
from vmwatch.node.places import Places, machine_label, remote_host
from vmwatch.node.source import Source, to_event
from vmwatch.node.statistics import STATS_LIMIT_S, collect
from vmwatch.node.wakeup import Wakeup
from vmwatch.shared.clock import Clock
from vmwatch.shared.logs import RateLimit
from vmwatch.shared.messages import DomainStats, Event, Inventory, Stats

log = logging.getLogger(__name__)

FIRST_STATS_S = 1.0
"""After connecting: the inventory goes first, so that the panel knows the domains that the statistics name."""
ANSWER_LIMIT_S = 10.0
"""A call that has run for so long is not called hung yet, but libvirt is not said to answer either."""
COMPLAIN_EVERY_S = 60.0


class Hypervisor:
    """One libvirt connection. Listing and statistics run in threads of their own; a hung one delays no event.

    `machine`: this machine's id, which stays here.
    """

    def __init__(
        self, uri: str, machine: str, inventory_interval_s: float, stats_interval_s: float, clock: Clock, wakeup: Wakeup
    ) -> None:
        now = clock.monotonic()
        self.definitions = Definitions()
        self.source = Source(uri, clock, wakeup.wake)
        self.inventories = Inventories(inventory_interval_s, now)
        self.listing: Background[Listing] = Background("inventory", LISTING_LIMIT_S, clock, wakeup.wake)
        self.sampling: Background[list[DomainStats]] = Background("statistics", STATS_LIMIT_S, clock, wakeup.wake)
        self.stats_interval_s = stats_interval_s
        self.stats_error = ""
        self.sampled_at: float | None = None
        """When statistics were last complete, monotonic seconds."""
        self._clock = clock
        self._places = partial(_places, remote_host(uri), machine)
        self._stats_due_at = now
        self._taken = 0.0
        self._limit = RateLimit(COMPLAIN_EVERY_S)

    @property
    def answers(self) -> bool:
        """libvirt answers: the connection stands, its event loop lives and no call of ours takes suspiciously long."""
        now = self._clock.monotonic()
        waiting_s = max(self.listing.running_s(now), self.sampling.running_s(now))
        return self.source.answers(now) and waiting_s < ANSWER_LIMIT_S

    @property
    def due_at(self) -> float:
        """When there is something to do if nothing happens before, monotonic seconds."""
        if self.source.connection is None:
            return self.source.open_at
        listing_at = math.inf if self.listing.busy else self.inventories.due_at
        return min(listing_at, math.inf if self.sampling.busy else self._stats_due_at)

    def set_stats_interval(self, interval_s: float) -> None:
        """From now on; the next statistics are due no later than that."""
        self.stats_interval_s = interval_s
        self._stats_due_at = min(self._stats_due_at, self._clock.monotonic() + interval_s)

    def events(self, now: float) -> list[Event]:
        """What libvirt told since the last call; opens the connection if there is none yet."""
        if self.source.turn(now):
            self.inventories.due_at, self._stats_due_at = now, now + FIRST_STATS_S
        events = [to_event(happened) for happened in self.source.take()]
        for event in events:
            self.inventories.observe(now, event)
            self.definitions.observe(event)
        for uuid in self.source.take_changes():
            self.definitions.changed(uuid)
        return events

    def begin(self, now: float, epoch: int, last_seq: int) -> None:
        """Begin what is due. `last_seq` of `epoch` was assigned before: it is the inventory's `as_of`."""
        connection = self.source.connection
        if connection is None or self.source.lost_reason:
            return
        if now >= self.inventories.due_at and not self.listing.busy:
            self.inventories.begin(now, epoch, last_seq)
            reading = self.definitions.begin(self._places, self._clock)
            self.listing.begin(partial(reading.list, connection))
        if now >= self._stats_due_at and not self.sampling.busy:
            self._stats_due_at = max(self._stats_due_at, now - self.stats_interval_s) + self.stats_interval_s
            self._taken = self._clock.wall()
            self.sampling.begin(partial(collect, connection))

    def inventory(self, now: float, epoch: int) -> Inventory | None:
        """The inventory of a listing that has ended well since the last call."""
        outcome = self.listing.take()
        if outcome is None:
            return None
        if outcome.result is None or outcome.late:
            wait_s = self.inventories.failed(now, _why(outcome))
            self._complain(now, f"no inventory: {self.inventories.last_error}; next try in {wait_s:.1f} s")
            return None
        listing = outcome.result
        domains = self.definitions.finished(listing)
        for why in listing.failed.values():
            self._complain(now, f"a definition cannot be read, its disks stay unknown: {why}")
        if listing.unread:
            self.inventories.due_at = min(self.inventories.due_at, now + MORE_S)
        return self.inventories.finished(now, self._clock.wall(), epoch, domains)

    def stats(self, now: float) -> Stats | None:
        """The statistics of a call that has ended well since the last call."""
        outcome = self.sampling.take()
        if outcome is None:
            return None
        if outcome.result is None or outcome.late:
            self.stats_error = _why(outcome)
            self._complain(now, f"no statistics: {self.stats_error}")
            return None
        self.stats_error = ""
        self.sampled_at = now
        wall = self._clock.wall()
        return Stats(seq=0, time=wall, interval=self.stats_interval_s, taken=self._taken, domains=outcome.result)

    def _complain(self, now: float, text: str) -> None:
        held = self._limit.allows(now)
        if held is not None:
            log.warning("%s (%d more such failures were not logged)", text, held)


def _places(remote: str, machine: str) -> Places:
    """What disks' paths mean at the time of a reading. Another machine's mounts cannot be seen from here."""
    return Places(machine_label(remote or machine), None if remote else read_mounts())


def _why(outcome: Outcome[Listing] | Outcome[list[DomainStats]]) -> str:
    if outcome.error is not None:
        return str(outcome.error) or type(outcome.error).__name__
    return "libvirt answered too late"
