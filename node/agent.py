"""The main loop of vmwatch-node: from libvirt to the outbox, from the outbox to the master."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from vmwatch.node.canary import Canary
from vmwatch.node.delivery import Delivery
from vmwatch.node.drops import Drops
from vmwatch.node.hypervisor import Hypervisor
from vmwatch.node.link import Link
from vmwatch.node.outbox import Outbox
from vmwatch.node.sender import Sender
from vmwatch.node.status import heartbeat, snapshot
from vmwatch.node.wakeup import Wakeup
from vmwatch.shared.clock import Clock
from vmwatch.shared.exits import Exit
from vmwatch.shared.messages import AgentReport, encode, encode_payload
from vmwatch.shared.notify import Notifier
from vmwatch.shared.settings import CONFIGURING, NODE_CHANGEABLE, NodeSettings
from vmwatch.shared.signals import Signals
from vmwatch.shared.version import VERSION

log = logging.getLogger(__name__)

AGENT = f"vmwatch-node/{VERSION}"
MEGABYTE = 1024 * 1024
TURN_MOST_S = 1.0
"""The loop turns at least so often: what it does not wait for by time, it looks at then."""
FLUSH_S = 2.0
"""After the last message was written: how long its acknowledgement is waited for before the program ends."""
REPORT_DROPS_EVERY_S = 60.0
CHANGEABLE = NODE_CHANGEABLE | CONFIGURING
"""What SIGHUP changes while running."""


class Agent:
    """Owns everything that runs; `run` is its life. For the main thread, except `describe`.

    `machine`: from `machine_id`; a machine without one is known by its node_id.
    """

    def __init__(
        self,
        settings: NodeSettings,
        outbox: Outbox,
        clock: Clock,
        signals: Signals,
        machine: str,
        set_aside: Path | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._signals = signals
        self._set_aside = set_aside
        self._started_at = now = clock.monotonic()
        self._report_drops_at = now
        self._wakeup = Wakeup()
        self._poller = zmq.Poller()
        self._outbox = outbox
        self._sender = Sender(AGENT, outbox.epoch, settings.heartbeat_interval, now)
        self._link = Link(settings.node_id, settings.key, settings.masters)
        self._delivery = Delivery(outbox, self._sender, self._link, clock)
        self.canary = Canary(self._wakeup.wake)
        self._drops = Drops()
        self._hypervisor = Hypervisor(
            settings.libvirt_uri,
            machine or settings.node_id,
            settings.inventory_interval,
            settings.stats_interval,
            clock,
            self._wakeup,
        )
        self._notifier = Notifier()
        self._phase = "starting"
        self._answers = False
        """What the last heartbeat said of libvirt."""
        self._turn: tuple[float, dict[str, Any]] = (now, {})

    def run(self, reload: Callable[[NodeSettings], NodeSettings | None]) -> Exit:
        """Work until a signal asks to stop, or libvirt is lost; returns the exit code.

        `reload` says what applies after a SIGHUP instead of the present settings; None: nothing changes.
        """
        self._poller.register(self._wakeup.fd, zmq.POLLIN)
        self._poller.register(self._signals.wakeup_fd, zmq.POLLIN)
        self._link.open()
        self._link.register(self._poller)
        self._sender.opened(self._clock.monotonic())
        self._hypervisor.source.start()
        aside = self._set_aside
        self._say("started", f"the outbox was another node's or machine's: set aside as {aside.name}" if aside else "")
        self._phase = "running"
        self._notifier.ready()  # libvirt is not waited for: that may take any time, and is no failed start
        while not self._signals.stop_requests and not self._hypervisor.source.lost_reason:
            self._turn_once()
            self._notifier.turned(self._doing)
            if self._signals.reload_requests:
                self._signals.reload_requests = 0
                self._notifier.reloading()
                self._reload(reload)
                self._notifier.ready()
        return self._end()

    def describe(self) -> dict[str, Any]:
        """The status, for the status socket's thread: what the last turn left, and how long ago that was."""
        at, described = self._turn
        now = self._clock.monotonic()
        loop = self._hypervisor.source.loop
        libvirt = {**described.get("libvirt", {}), "tick_age_s": round(loop.tick_age_s(now), 3)}
        return {
            "program": "vmwatch-node",
            "version": VERSION,
            "phase": self._phase,
            "uptime_s": round(now - self._started_at, 3),
            "turn_age_s": round(now - at, 3),
            **described,
            "libvirt": libvirt,
            "canary": self.canary.describe(now),
        }

    def _doing(self) -> str:
        libvirt, depth = self._turn[1].get("libvirt", {}), self._outbox.depth
        if libvirt.get("connected"):
            return f"connected to libvirt at {libvirt.get('uri')}, {depth} messages in the outbox"
        return f"waits for libvirt at {libvirt.get('uri')}, {depth} messages in the outbox"

    def _turn_once(self) -> None:
        self._wait(self._hypervisor.due_at)
        now = self._clock.monotonic()
        # Events first: the disk has them before anything else takes time.
        self._take_events(now)
        self._take_acknowledgements(now)
        inventory = self._hypervisor.inventory(now, self._outbox.epoch)
        if inventory is not None:
            self._outbox.add_inventory(inventory, self._sender.first_unsent)
        stats = self._hypervisor.stats(now)
        if stats is not None:
            self._outbox.add([("stats", encode_payload(stats))])
        self._hypervisor.begin(now, self._outbox.epoch, self._outbox.last_seq)
        self._report_drops(now)
        self._send_canary(now)
        if self._hypervisor.answers != self._answers:
            # The panel must not take it for silent, or for well, until the next heartbeat comes by itself.
            self._answers = not self._answers
            self._sender.beat()
        self._send(now)

    def _wait(self, until: float) -> None:
        now = self._clock.monotonic()
        at = min(self._delivery.due_at(now), until, now + TURN_MOST_S)
        self._link.watch_writable(self._poller, self._delivery.blocked)
        self._poller.poll(max(0, int((at - now) * 1000 + 0.999)))
        self._wakeup.drain()
        self._signals.drain()

    def _take_events(self, now: float) -> bool:
        """One transaction for what libvirt told since the last turn, and for what the disk did not take then.

        False if libvirt told nothing.
        """
        events = self._hypervisor.events(now)
        if events or self._outbox.waiting:
            self._outbox.add([("event", encode_payload(event)) for event in events])
        return bool(events)

    def _take_acknowledgements(self, now: float) -> None:
        news = self._delivery.acknowledgements(now)
        self.canary.settled(now, news.completed, self._outbox.held())
        if news.token:
            self._hypervisor.inventories.ask(now, news.token)
        if news.new_epoch:
            self._hypervisor.inventories.due_at = now

    def _send(self, now: float) -> None:
        self._delivery.send(now, self._heartbeat)
        if self._delivery.silent(now):
            self._link.unregister(self._poller)
            self._delivery.reopen(now)
            self._link.register(self._poller)
        described = snapshot(now, self._settings, self._delivery, self._hypervisor, self._set_aside)
        described["outbox"]["drop_age_s"] = self._drops.age_s(now, self._outbox.dropped)
        self._turn = (now, described)

    def _heartbeat(self) -> bytes:
        return encode(heartbeat(self._outbox, self._hypervisor, self._settings))

    def _report_drops(self, now: float) -> None:
        drops = self._outbox.unreported
        if drops and now >= self._report_drops_at:
            self._report_drops_at = now + REPORT_DROPS_EVERY_S
            counts = ", ".join(f"{count} {kind}" for kind, count in sorted(drops.items()))
            log.error("the outbox had no room, messages were dropped: %s", counts)
            if self._outbox.report_drops(self._clock.wall()):
                self._hypervisor.inventories.due_at = now  # the panel's picture lacks what was dropped

    def _send_canary(self, now: float) -> None:
        """If somebody asked for one."""
        if not self.canary.wanted:
            return
        if self.canary.under_way:
            self.canary.share()
            return
        dropped = self._outbox.dropped.total()
        seqs = self._say("canary")
        if seqs and self._outbox.dropped.total() == dropped:
            self.canary.sent(now, self._outbox.epoch, seqs[-1])
        else:
            self.canary.refused(self._outbox.trouble or "the outbox has no room")

    def _say(self, what: str, reason: str = "") -> list[int]:
        report = AgentReport(seq=0, time=self._clock.wall(), what=what, reason=reason[:256])
        return self._outbox.add([("agent", encode_payload(report))])

    # The end

    def _end(self) -> Exit:
        """Stop in order: no more intake, a last word, what is acknowledged in a short time, the sockets."""
        requests = self._signals.stop_requests
        source = self._hypervisor.source
        self._phase = "stopping"
        self._notifier.stopping()
        source.stop()
        while self._take_events(self._clock.monotonic()):
            pass
        if requests:
            log.info("asked to stop")
            self._say("stopping")
        else:
            log.error("the connection to libvirt at %s was lost: %s", source.uri, source.lost_reason)
            self._say("libvirt_lost", source.lost_reason)
            self._sender.beat()  # the panel must not take what it knows for true while libvirt is away
        deadline = self._clock.monotonic() + FLUSH_S
        while requests < 2 and self._signals.stop_requests == requests:
            now = self._clock.monotonic()
            self._take_acknowledgements(now)
            self._delivery.send(now, self._heartbeat)
            if not self._outbox.depth or not self._sender.connected or now >= deadline:
                break
            self._wait(deadline)
        log.info("%d messages stay in the outbox", self._outbox.depth)
        self._link.unregister(self._poller)
        self._link.close()
        source.loop.stop()
        return Exit.OK if requests else Exit.LIBVIRT_LOST

    # SIGHUP

    def _reload(self, reload: Callable[[NodeSettings], NodeSettings | None]) -> None:
        old, new = self._settings, reload(self._settings)
        if new is None:
            return
        self._settings = new
        logging.getLogger().setLevel(new.log_level.upper())
        self._outbox.limit_bytes = new.outbox_max_mb * MEGABYTE
        self._sender.interval_s = new.heartbeat_interval
        now = self._clock.monotonic()
        inventories = self._hypervisor.inventories
        inventories.interval_s = new.inventory_interval
        inventories.due_at = min(inventories.due_at, now + new.inventory_interval)
        self._hypervisor.set_stats_interval(new.stats_interval)
        if old.masters != new.masters or old.key != new.key:
            self._link.unregister(self._poller)
            self._link.reopen(new.masters, new.key)
            self._link.register(self._poller)
            self._sender.opened(now)
