"""The generator: a node agent whose events are made up. Its outbox, sender and link are vmwatch-node's own.

    python -m bench.killing.generator --prefix FOLDER --seed TEXT --pace EVENTS_PER_S

It reads etc/vmwatch-node.conf as vmwatch-node does. SIGHUP: make nothing more, but go on delivering. SIGTERM: end.
"""

import argparse
import random
import sys
from functools import partial
from typing import Any

import zmq

from bench.killing.fleet import Fleet
from vmwatch.node.agent import MEGABYTE
from vmwatch.node.delivery import Delivery
from vmwatch.node.link import Link
from vmwatch.node.main import PROGRAM, load_settings
from vmwatch.node.outbox import Outbox
from vmwatch.node.outboxfile import machine_id, open_outbox
from vmwatch.node.sender import Sender
from vmwatch.node.steady import SteadyTime
from vmwatch.shared.clock import SystemClock
from vmwatch.shared.exits import Exit
from vmwatch.shared.messages import AgentReport, encode, encode_payload
from vmwatch.shared.paths import Paths
from vmwatch.shared.program import parser, run
from vmwatch.shared.settings import NodeSettings
from vmwatch.shared.signals import Signals
from vmwatch.shared.statussocket import StatusSocket

AGENT = "generator"
BURST_MOST = 400
"""Events at once."""
BACKLOG_MOST = 5_000
"""With so many in the outbox the generator waits: the kills shall hit a stream, not the draining of a heap."""
LISTED_EVERY_S = 3.0
SAMPLED_EVERY_S = 2.0
TURN_MOST_S = 0.5


class Generator:
    """The loop of `vmwatch.node.agent`, with a fleet in libvirt's place."""

    def __init__(self, settings: NodeSettings, outbox: Outbox, signals: Signals, seed: str, pace: float) -> None:
        self._clock = SystemClock()
        self._signals = signals
        self._outbox = outbox
        self._chance = random.Random(f"generator {seed}")
        self._fleet = Fleet(f"fleet {seed}")
        self._pace = pace
        now = self._clock.monotonic()
        self._sender = Sender(AGENT, outbox.epoch, settings.heartbeat_interval, now)
        self._link = Link(settings.node_id, settings.key, settings.masters)
        self._delivery = Delivery(outbox, self._sender, self._link, self._clock)
        self._poller = zmq.Poller()
        self._make_at = self._list_at = now
        self._sample_at = now + self._chance.uniform(0, SAMPLED_EVERY_S)
        self._token = ""
        self._made = 0
        self._quiet = False
        self._described: dict[str, Any] = {}

    def describe(self) -> dict[str, Any]:
        """For the status socket's thread: what the last turn left."""
        return self._described

    def run(self) -> Exit:
        """Until SIGTERM."""
        self._poller.register(self._signals.wakeup_fd, zmq.POLLIN)
        self._link.open()
        self._link.register(self._poller)
        self._sender.opened(self._clock.monotonic())
        started = AgentReport(seq=0, time=self._clock.wall(), what="started")
        self._outbox.add([("agent", encode_payload(started))])
        while not self._signals.stop_requests:
            self._wait()
            self._turn(self._clock.monotonic())
        self._link.unregister(self._poller)
        self._link.close()
        return Exit.OK

    def _wait(self) -> None:
        now = self._clock.monotonic()
        at = min(self._delivery.due_at(now), now + TURN_MOST_S)
        if not self._quiet:
            at = min(at, max(self._make_at, now))
        self._link.watch_writable(self._poller, self._delivery.blocked)
        self._poller.poll(max(0, int((at - now) * 1000 + 0.999)))
        self._signals.drain()

    def _turn(self, now: float) -> None:
        if self._signals.reload_requests:
            self._quiet = True
        elif now >= self._make_at:
            self._make(now)
        news = self._delivery.acknowledgements(now)
        self._token = news.token or self._token
        if news.new_epoch or self._token or (now >= self._list_at and not self._quiet):
            self._list(now)
        if now >= self._sample_at and not self._quiet:
            self._sample_at = now + SAMPLED_EVERY_S
            self._outbox.add([("stats", encode_payload(self._fleet.sample()))])
        status = {"outbox_depth": self._outbox.depth, "outbox_oldest_s": self._outbox.oldest_age_s()}
        self._delivery.send(now, lambda: encode(status))
        if self._delivery.silent(now):
            self._link.unregister(self._poller)
            self._delivery.reopen(now)
            self._link.register(self._poller)
        self._described = {
            "outbox": {"depth": self._outbox.depth},
            "made": self._made,
            "quiet": self._quiet,
            "vms": self._fleet.states if self._quiet else {},
        }

    def _make(self, now: float) -> None:
        """A burst: in one transaction, in some, or one by one."""
        if self._outbox.depth > BACKLOG_MOST:
            self._make_at = now + TURN_MOST_S / 10
            return
        burst = int(min(BURST_MOST, 1 + self._chance.expovariate(1 / 20)))
        together = self._chance.choice((1, 7, burst))
        payloads = [("event", encode_payload(self._fleet.happen())) for _ in range(burst)]
        for first in range(0, burst, together):
            self._outbox.add(payloads[first : first + together])
        self._made += burst
        # No sooner than this: what was missed in a slow moment is not made up for.
        self._make_at = now + burst / self._pace * self._chance.uniform(0.5, 1.5)

    def _list(self, now: float) -> None:
        self._list_at = now + LISTED_EVERY_S
        inventory = self._fleet.listing(self._outbox.last_seq, self._token)
        self._token = ""
        self._outbox.add_inventory(inventory, self._sender.first_unsent)


def serve(options: argparse.Namespace, settings: NodeSettings, paths: Paths) -> int:
    """As vmwatch-node's: signals, outbox, status socket, the loop."""
    signals = Signals()
    signals.install()
    now_us = SteadyTime(SystemClock()).now_us
    limit_bytes = settings.outbox_max_mb * MEGABYTE
    outbox, _ = open_outbox(paths.database, settings.node_id, machine_id(), now_us, limit_bytes=limit_bytes)
    generator = Generator(settings, outbox, signals, options.seed, options.pace)
    status = StatusSocket(paths.socket, generator.describe)
    status.start()
    try:
        return generator.run()
    finally:
        status.close()
        outbox.close()


def main() -> int:
    """The program; returns its exit code."""
    made = parser(PROGRAM, "Makes events up, and delivers them as vmwatch-node does.")
    made.add_argument("--seed", required=True)
    made.add_argument("--pace", type=float, required=True)
    options = made.parse_args()
    return run(options, PROGRAM, load_settings, partial(serve, options))


if __name__ == "__main__":
    sys.exit(main())
