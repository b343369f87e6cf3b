"""What is done to VMs: the test driver's, and real ones on two hypervisors."""

import contextlib
import random
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import libvirt
import psutil

from bench.veracity.script import REAL, Step, pick
from tests.testbed import guests
from tests.testbed.migration import Hypervisor, Migration, Way, boot
from tests.testbed.testdriver import DOMAIN_XML, TestDriverDaemon
from vmwatch.shared.states import State, state_of_libvirt

TRANSIENT = 2
"""So many of a node's VMs have no definition: they vanish when they end."""
BUSY_REAL = 2
"""So many of the real VMs write to all their memory, so that their migration can be seen, and cancelled, under way."""

WAYS: dict[State, dict[str, int]] = {
    State.RUNNING: {"destroy": 30, "shut down": 20, "suspend": 25, "restart": 15, "undefine": 2},
    State.PAUSED: {"resume": 75, "destroy": 25},
    State.SHUTOFF: {"start": 90, "undefine": 10},
    State.ABSENT: {"define": 100},
}
"""Of a VM of the test driver, by its state: what may be done next, and how often."""
TRANSIENT_WAYS: dict[State, dict[str, int]] = {
    State.RUNNING: {"destroy": 70, "suspend": 30},
    State.PAUSED: {"resume": 50, "destroy": 50},
    State.ABSENT: {"start": 100},
}
REAL_WAYS: dict[State, dict[str, int]] = {
    State.RUNNING: {
        "migrate": 40, "cancel a migration": 10, "destroy": 12, "kill -9": 12, "suspend": 12, "reset": 14, "restart": 8,
    },
    State.PAUSED: {"resume": 80, "destroy": 20},
    State.SHUTOFF: {"start": 100},
}  # fmt: skip

Look = Callable[[str], AbstractContextManager[None]]
"""Surrounds a call that changes the VM with this UUID, so that no state that it leads to falls between two samples."""


class Operator:
    """VMs of one node with the test driver. `done` counts what was done."""

    def __init__(self, daemon: TestDriverDaemon, names: list[str]) -> None:
        self.daemon = daemon
        self.done: Counter[str] = Counter()
        self._names = names
        self._transient = set(names[:TRANSIENT])

    def begin(self, chance: random.Random) -> None:
        """Two of three VMs run at the start."""
        for name in self._names:
            if chance.random() < 2 / 3:
                self._do(name, "start")

    def change(self, step: Step, look: Look) -> None:
        """One change of one VM."""
        name = self._names[int(step.which * len(self._names))]
        ways = TRANSIENT_WAYS if name in self._transient else WAYS
        what = pick(ways[self._state(name)], step.how)
        for call in ("destroy", "start") if what == "restart" else (what,):
            with look(self.daemon.uuid_of(name)):
                self._do(name, call)
        self.done[what] += 1

    def _state(self, name: str) -> State:
        try:
            return state_of_libvirt(self.daemon.connection.lookupByName(name).state()[0])
        except libvirt.libvirtError:
            return State.ABSENT

    def _do(self, name: str, what: str) -> None:
        connection = self.daemon.connection
        if what == "define":
            self.daemon.define(name)
        elif what == "start" and self._state(name) is State.ABSENT:
            connection.createXML(DOMAIN_XML.format(name=name, uuid=self.daemon.uuid_of(name)))
        else:
            domain = connection.lookupByName(name)
            {
                "start": domain.create,
                "destroy": domain.destroy,
                "shut down": domain.shutdown,
                "suspend": domain.suspend,
                "resume": domain.resume,
                "undefine": domain.undefine,
            }[what]()


class RealOperator:
    """VMs of two hypervisors, each of which is on one of them at a time."""

    def __init__(self, daemons: dict[str, Hypervisor], folder: Path, count: int) -> None:
        self.done: Counter[str] = Counter()
        self._daemons = daemons
        self._folder = folder
        self._names = [f"real-vm{number}" for number in range(count)]
        self._uuids = {name: str(uuid.uuid4()) for name in self._names}
        self._connections: dict[str, libvirt.virConnect] = {}

    def begin(self) -> None:
        """All run, half of them on each hypervisor."""
        for number, name in enumerate(self._names):
            sector = guests.dirties_memory() if number < BUSY_REAL else guests.idle()
            image = guests.write_disk(self._folder / f"{name}.img", sector)
            xml = guests.domain_xml(name, self._uuids[name], image)
            boot(self._connection(REAL[number % len(REAL)]), xml)

    def change(self, step: Step, look_at: Callable[[str, str], None]) -> None:
        """One change of one VM. `look_at` is told of a node and a VM there that will soon be something else."""
        number = int(step.which * len(self._names))
        node, domain = self._find(self._names[number])
        ways = dict(REAL_WAYS[state_of_libvirt(domain.state()[0])])
        if number >= BUSY_REAL:
            ways.pop("cancel a migration", None)
        what = pick(ways, step.how)
        way = list(Way)[int(step.at_s * 1000) % len(Way)]
        {
            "start": domain.create,
            "destroy": domain.destroy,
            "suspend": domain.suspend,
            "resume": domain.resume,
            "reset": domain.reset,
            "restart": lambda: self._restart(domain, lambda: look_at(node, domain.UUIDString())),
            "kill -9": lambda: self._kill(node, domain),
            "migrate": lambda: self._migrate(node, domain, way, definition_moves=int(step.at_s * 100) % 4 > 0),
            "cancel a migration": lambda: self._cancel(node, domain),
        }[what]()
        self.done[what] += 1

    def running_on(self, node: str) -> list[str]:
        """Names of the VMs that run there."""
        domains = self._connection(node).listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return sorted(domain.name() for domain in domains)

    def _find(self, name: str) -> tuple[str, libvirt.virDomain]:
        """Where the VM is active, or else where it is defined."""
        found = []
        for node in self._daemons:
            with contextlib.suppress(libvirt.libvirtError):
                domain = self._connection(node).lookupByUUIDString(self._uuids[name])
                found.append((not domain.isActive(), node, domain))
        if not found:
            raise AssertionError(f"{name} is on neither hypervisor")
        _, node, domain = min(found, key=lambda one: one[:2])
        return node, domain

    def _connection(self, node: str) -> libvirt.virConnect:
        """An open one: libvirtd may have been restarted since the last time."""
        known = self._connections.get(node)
        if known is None or not known.isAlive() or not _answers(known):
            known = self._connections[node] = libvirt.open(self._daemons[node].uri)
        return known

    @staticmethod
    def _restart(domain: libvirt.virDomain, look: Callable[[], None]) -> None:
        domain.destroy()
        look()
        domain.create()

    def _kill(self, node: str, domain: libvirt.virDomain) -> None:
        """As the kernel's out-of-memory killer does."""
        psutil.Process(self._daemons[node].qemu_pid(domain.name())).kill()

    def _migrate(self, node: str, domain: libvirt.virDomain, way: Way, *, definition_moves: bool) -> None:
        flags = libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE if definition_moves else 0
        with Migration(domain, self._other(node), way, flags=flags) as migration:
            migration.finish()
        if migration.error is not None:
            raise migration.error

    def _cancel(self, node: str, domain: libvirt.virDomain) -> None:
        with Migration(domain, self._other(node), slow=True) as migration:
            migration.wait_under_way()
            migration.cancel()
            migration.finish()

    def _other(self, node: str) -> Hypervisor:
        return next(daemon for other, daemon in self._daemons.items() if other != node)


def _answers(connection: libvirt.virConnect) -> bool:
    try:
        connection.getLibVersion()
    except libvirt.libvirtError:
        return False
    return True
