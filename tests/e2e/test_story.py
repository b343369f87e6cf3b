"""An observer that is not ours (`virsh event`) and the event log tell the same story, event by event, in order."""

import random
import uuid
from collections.abc import Callable
from pathlib import Path

import libvirt
import psutil

from tests.testbed import guests
from tests.testbed.daemon import PrivateDaemon, needs_libvirtd
from tests.testbed.observer import Observer
from tests.testbed.qemu import QemuDaemon, needs_root
from tests.testbed.stack import Stack
from tests.testbed.testdriver import DOMAIN_XML, TestDriverDaemon
from tests.testbed.waiting import wait_until
from vmwatch.shared.states import state_of_libvirt

pytestmark = needs_libvirtd()

SEED = 20


class Operator:
    """Operates VMs at random, as libvirt accepts it."""

    def __init__(self, connection: libvirt.virConnect, seed: int, make: Callable[[str], str]) -> None:
        self.connection = connection
        self.chance = random.Random(seed)
        self.make = make
        self.made = 0

    def operate(self) -> None:
        domains = self.connection.listAllDomains()
        if not domains or (len(domains) < 5 and self.chance.random() < 0.2):
            self._create()
            return
        domain = self.chance.choice(sorted(domains, key=libvirt.virDomain.UUIDString))
        state, persistent = domain.state()[0], domain.isPersistent()
        choices: list[Callable[[], object]]
        if state == libvirt.VIR_DOMAIN_SHUTOFF:
            choices = [domain.create, domain.create, domain.undefine, lambda: self._rename(domain)]
        elif state == libvirt.VIR_DOMAIN_PAUSED:
            choices = [domain.resume, domain.destroy]
        else:
            choices = [domain.suspend, domain.destroy, *self.only_when_running(domain)]
            if persistent:
                choices.append(domain.undefine)
        self.chance.choice(choices)()

    def only_when_running(self, domain: libvirt.virDomain) -> list[Callable[[], object]]:
        return [domain.shutdown]

    def _create(self) -> None:
        self.made += 1
        xml = self.make(f"made-{self.made}")
        if self.chance.random() < 0.8:
            self.connection.defineXML(xml)
        else:
            self.connection.createXML(xml)

    def _rename(self, domain: libvirt.virDomain) -> None:
        self.made += 1
        domain.rename(f"renamed-{self.made}")


class QemuOperator(Operator):
    """Real guests do not answer a shutdown request; they can be reset, and their process can be killed."""

    def __init__(self, daemon: QemuDaemon, connection: libvirt.virConnect, make: Callable[[str], str]) -> None:
        super().__init__(connection, SEED, make)
        self.daemon = daemon

    def only_when_running(self, domain: libvirt.virDomain) -> list[Callable[[], object]]:
        return [domain.reset, lambda: self._kill(domain)]

    def _kill(self, domain: libvirt.virDomain) -> None:
        psutil.Process(self.daemon.qemu_pid(domain.name())).kill()
        wait_until(lambda: not self._is_active(domain.UUIDString()), "libvirt to notice that QEMU is gone")

    def _is_active(self, uuid_text: str) -> bool:
        active = self.connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return any(one.UUIDString() == uuid_text for one in active)


def tell_the_story(stack: Stack, daemon: PrivateDaemon, operator: Operator, count: int, folder: Path) -> None:
    """`count` operations with kills in the middle; then both records and both pictures are compared."""
    stack.start_node("n", daemon.uri)
    stack.wait_drained()
    faults: dict[int, Callable[[], None]] = {
        count // 4: stack.master.restart_after_kill,
        count // 2: stack.panel.restart_after_kill,
        3 * count // 4: stack.master.restart_after_kill,
    }
    with Observer(daemon.uri, folder) as observer:
        for number in range(count):
            faults.get(number, lambda: None)()
            operator.operate()
        stack.wait_drained()

        def ours() -> list[tuple[str, str, str]]:
            rows = sorted(stack.panel.events(), key=lambda row: (int(row["epoch"]), int(row["seq"])))
            return [(row["name"], row["event"], row["detail"]) for row in rows]

        def theirs() -> list[tuple[str, str, str]]:
            return [
                (one.domain, one.event, one.detail)
                for one in observer.events
                if one.event not in UNWATCHED
            ]

        wait_until(lambda: len(ours()) == len(theirs()), "both records to be complete")
        assert ours() == theirs()
        assert len(ours()) > count // 2
    domains = operator.connection.listAllDomains()
    truth = {one.UUIDString(): (one.name(), state_of_libvirt(one.state()[0])) for one in domains}

    def picture() -> dict[str, tuple[str, str]]:
        return {key: (vm["name"], vm["vmstatus"]) for key, vm in stack.panel.vms().items()}

    wait_until(lambda: picture() == truth, f"the picture to be libvirt's {truth}")


UNWATCHED = frozenset({"metadata_change", "migration_iteration", "job_completed", "device_removed", "rtc_change"})
"""Events that virsh prints and that are no part of the protocol."""


def test_300_operations_on_the_test_driver(stack: Stack, tmp_path: Path) -> None:
    with TestDriverDaemon(tmp_path / "libvirt", domains=("first", "second")) as daemon:

        def make(name: str) -> str:
            return DOMAIN_XML.format(name=name, uuid=daemon.uuid_of(name))

        tell_the_story(stack, daemon, Operator(daemon.connection, SEED, make), 300, tmp_path / "observer")


@needs_root()
def test_50_operations_on_real_qemu(stack: Stack, tmp_path: Path) -> None:
    with QemuDaemon(tmp_path / "libvirt") as daemon:
        connection = libvirt.open(daemon.uri)
        try:

            def make(name: str) -> str:
                image = guests.write_disk(tmp_path / f"{name}.img", guests.idle())
                return guests.domain_xml(name, str(uuid.uuid5(uuid.NAMESPACE_DNS, name)), image)

            tell_the_story(stack, daemon, QemuOperator(daemon, connection, make), 50, tmp_path / "observer")
        finally:
            connection.close()

