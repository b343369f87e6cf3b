"""Random operations on the domains of libvirt's test driver, each of which leads to one event."""

import random
from collections.abc import Callable

import libvirt

from bench.killing.reference import Told
from tests.testbed.testdriver import DOMAIN_XML, TestDriverDaemon

PERSISTENT = tuple(f"vm{number}" for number in range(10))
TRANSIENT = tuple(f"brief{number}" for number in range(3))
"""These vanish when they stop, of which no event tells."""

Operation = tuple[str, Callable[[], object], str, str, str]
"""Domain, the call, its event and detail, the state that it leads to (empty: the domain is gone)."""


class Operations:
    """What may be done next, with what is true of each domain; for a libvirtd that has just started."""

    def __init__(self, daemon: TestDriverDaemon, chance: random.Random) -> None:
        self._daemon = daemon
        self._chance = chance
        self._states = dict.fromkeys(PERSISTENT, "shutoff") | dict.fromkeys(TRANSIENT, "")

    def next(self) -> Operation:
        """One that can be done now."""
        name = self._chance.choice(PERSISTENT + TRANSIENT)
        return self._chance.choice(self._possible(name))

    def done(self, operation: Operation) -> Told:
        """It succeeded; what libvirt tells of it."""
        name, _, event, detail, state = operation
        self._states[name] = state
        return name, event, detail

    def _possible(self, name: str) -> list[Operation]:
        daemon, state = self._daemon, self._states[name]
        if not state and name in TRANSIENT:
            xml = DOMAIN_XML.format(name=name, uuid=daemon.uuid_of(name))
            return [(name, lambda: daemon.connection.createXML(xml, 0), "started", "booted", "running")]
        if not state:
            return [(name, lambda: daemon.define(name), "defined", "added", "shutoff")]
        domain: libvirt.virDomain = daemon.connection.lookupByName(name)
        gone = "" if name in TRANSIENT else "shutoff"
        ways: dict[str, list[Operation]] = {
            "shutoff": [
                (name, domain.create, "started", "booted", "running"),
                (name, domain.undefine, "undefined", "removed", ""),
            ],
            "running": [
                (name, domain.suspend, "suspended", "paused", "paused"),
                (name, domain.destroy, "stopped", "destroyed", gone),
                (name, domain.shutdown, "stopped", "shutdown", gone),
            ],
            "paused": [
                (name, domain.resume, "resumed", "unpaused", "running"),
                (name, domain.destroy, "stopped", "destroyed", gone),
            ],
        }
        return ways[state]
