"""Each operation on a VM: its events in libvirt's names, once each, and the right state in the picture."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import libvirt
import psutil
import pytest

from tests.testbed import guests
from tests.testbed.daemon import needs_libvirtd
from tests.testbed.qemu import QemuDaemon, needs_root
from tests.testbed.stack import Stack
from tests.testbed.testdriver import DOMAIN_XML, TestDriverDaemon
from tests.testbed.waiting import wait_until

pytestmark = needs_libvirtd()

TICKS = 20
"""Of 55 ms: a guest runs so long before it resets itself or switches itself off."""


class Watched:
    """One VM as the panel shows it; each look at its events begins where the last one ended."""

    def __init__(self, stack: Stack, vm: str) -> None:
        self.stack = stack
        self.vm = vm
        self.seen = 0

    def _events(self) -> list[tuple[str, str]]:
        rows = sorted(self.stack.panel.events(uuid=self.vm), key=lambda row: int(row["seq"]))
        # libvirt may report that QEMU's monitor broke off when its process ends: sometimes, and at no fixed place.
        return [(row["event"], row["detail"]) for row in rows if row["event"] != "control_error"]

    def expect(self, *events: tuple[str, str], state: str | None) -> None:
        """Exactly these events come next, and then the VM is in this state (None: there is none)."""
        count = self.seen + len(events)
        wait_until(lambda: len(self._events()) >= count, f"{events} of {self.vm}")
        self.stack.wait_drained()
        assert self._events()[self.seen :] == list(events)
        self.seen = count

        def shown() -> str | None:
            row = self.stack.panel.vms().get(self.vm)
            return None if row is None else row["vmstatus"]

        # A transient domain's end is told by the listing that follows.
        wait_until(lambda: shown() == state, f"{self.vm} to be {state}, not {shown()}")

    @property
    def name(self) -> str:
        return self.stack.panel.vms()[self.vm]["name"]


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[QemuDaemon]:
    with QemuDaemon(tmp_path / "libvirt") as daemon:
        yield daemon


@needs_root()
def test_the_life_of_a_vm_on_real_qemu(stack: Stack, tmp_path: Path, qemu: QemuDaemon) -> None:
    stack.start_node("n", qemu.uri)
    vm = str(uuid.uuid4())
    image = guests.write_disk(tmp_path / "idle.img", guests.idle())
    watched = Watched(stack, vm)
    started = (("resumed", "unpaused"), ("started", "booted"))
    with closing(libvirt.open(qemu.uri)) as connection:
        domain = connection.defineXML(guests.domain_xml("web", vm, image))
        watched.expect(("defined", "added"), state="shutoff")
        domain.create()
        watched.expect(*started, state="running")
        domain.suspend()
        watched.expect(("suspended", "paused"), state="paused")
        domain.resume()
        watched.expect(("resumed", "unpaused"), state="running")
        domain.destroy()
        watched.expect(("shutdown", "host"), ("stopped", "destroyed"), state="shutoff")
        domain.rename("mail")
        watched.expect(("undefined", "renamed"), ("defined", "renamed"), state="shutoff")
        assert watched.name == "mail"
        domain.create()
        watched.expect(*started, state="running")
        psutil.Process(qemu.qemu_pid("mail")).kill()
        watched.expect(("stopped", "failed"), state="shutoff")
        domain.undefine()
        watched.expect(("undefined", "removed"), state=None)


@needs_root()
def test_a_guest_that_switches_itself_off(stack: Stack, tmp_path: Path, qemu: QemuDaemon) -> None:
    stack.start_node("n", qemu.uri)
    vm = str(uuid.uuid4())
    image = guests.write_disk(tmp_path / "off.img", guests.powers_off_after(TICKS))
    watched = Watched(stack, vm)
    with closing(libvirt.open(qemu.uri)) as connection:
        connection.createXML(guests.domain_xml("batch", vm, image))
        watched.expect(
            ("resumed", "unpaused"), ("started", "booted"), ("shutdown", "guest"), ("stopped", "shutdown"), state=None
        )


@needs_root()
def test_a_reset_is_a_reboot_and_no_stop(stack: Stack, tmp_path: Path, qemu: QemuDaemon) -> None:
    stack.start_node("n", qemu.uri)
    vm = str(uuid.uuid4())
    image = guests.write_disk(tmp_path / "idle.img", guests.idle())
    with closing(libvirt.open(qemu.uri)) as connection:
        domain = connection.createXML(guests.domain_xml("web", vm, image))
        stack.wait_drained()
        domain.reset()
        wait_until(lambda: stack.panel.events(uuid=vm, event="reboot"), "the reboot to be registered")
        stack.wait_drained()
        wait_until(lambda: stack.panel.vms()[vm]["vmstatus"] == "running", "the VM to be seen running")
        assert stack.panel.events(uuid=vm, event="stopped") == []
        domain.destroy()


def test_the_life_of_a_vm_on_the_test_driver(stack: Stack, tmp_path: Path) -> None:
    with TestDriverDaemon(tmp_path / "libvirt") as daemon:
        stack.start_node("n", daemon.uri)
        vm = daemon.uuid_of("web")
        watched = Watched(stack, vm)
        domain = daemon.define("web")
        steps: list[tuple[Callable[[], object], tuple[tuple[str, str], ...], str | None]] = [
            (lambda: None, (("defined", "added"),), "shutoff"),
            (domain.create, (("started", "booted"),), "running"),
            (domain.suspend, (("suspended", "paused"),), "paused"),
            (domain.resume, (("resumed", "unpaused"),), "running"),
            (domain.shutdown, (("stopped", "shutdown"),), "shutoff"),
            (lambda: domain.rename("mail"), (("undefined", "renamed"), ("defined", "renamed")), "shutoff"),
            (domain.create, (("started", "booted"),), "running"),
            (domain.undefine, (("undefined", "removed"),), "running"),
            (domain.destroy, (("stopped", "destroyed"),), None),
        ]
        for operate, events, state in steps:
            operate()
            watched.expect(*events, state=state)


def test_a_transient_vm_is_gone_when_it_stops(stack: Stack, tmp_path: Path) -> None:
    with TestDriverDaemon(tmp_path / "libvirt") as daemon:
        stack.start_node("n", daemon.uri)
        vm = daemon.uuid_of("brief")
        domain = daemon.connection.createXML(DOMAIN_XML.format(name="brief", uuid=vm))
        watched = Watched(stack, vm)
        watched.expect(("started", "booted"), state="running")
        domain.destroy()
        watched.expect(("stopped", "destroyed"), state=None)
