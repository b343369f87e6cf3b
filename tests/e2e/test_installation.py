"""A guest installs itself on real QEMU, through the public commands (design 03, rule 7), whatever comes between."""

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import libvirt
import psutil
import pytest
import requests

from tests.testbed import guests
from tests.testbed.qemu import QemuDaemon, needs_root
from tests.testbed.stack import ADMIN, SERVICE, Row, Stack, short_folder
from tests.testbed.waiting import wait_until
from tests.unit.panel.reports import entry, event, report

pytestmark = needs_root()

TICKS = 20
"""Of 55 ms: how long the guest takes to install."""
LATER = 300
"""Long enough for what a test does while the guest installs, also on a slow machine."""
LONG = 60_000
NODE = "n"
CD_DRIVE = (
    "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>"
    "<target dev='hdc' bus='ide'/><readonly/></disk>"
)
LIMIT_S = 180


class Site:
    """One node that may install, and VMs on it."""

    def __init__(self, stack: Stack, daemon: QemuDaemon, folder: Path) -> None:
        self.stack = stack
        self.daemon = daemon
        self.folder = folder
        self.node = stack.start_node(NODE, daemon.uri)
        wait_until(lambda: self.stack.panel.rows("vmhostnode"), "the node to appear")
        self.allow("yes")

    def allow(self, word: str, uri: str | None = None) -> None:
        fields = {"allow_install": word, "libvirt_uri": uri or self.daemon.uri}
        post(self.stack, "vmhostnode.edit", elid=NODE, sok="ok", **fields)

    def vm(self, then: bytes, ticks: int = TICKS, *, drive: str = CD_DRIVE, on_reboot: str = "restart") -> "Machine":
        return Machine(self, then, ticks, drive, on_reboot)

    def restart_agent(self) -> None:
        self.node.close()
        self.node.start()
        self.stack.wait_listening(self.node)


def post(stack: Stack, func: str, **fields: str) -> dict[str, Any]:
    answer = requests.post(stack.panel.url, data={"func": func, "out": "json", **fields}, auth=ADMIN, timeout=60)
    answer.raise_for_status()
    doc: dict[str, Any] = answer.json()["doc"]
    return doc


class Machine:
    """One VM with an empty disk and a CD from which it installs itself."""

    def __init__(self, site: Site, then: bytes, ticks: int, drive: str, on_reboot: str) -> None:
        self.site = site
        self.uuid = str(uuid.uuid4())
        self.name = f"vm-{self.uuid[:8]}"
        self.disk = guests.write_disk(site.folder / f"{self.name}.img", bytes(512))
        self.cd = guests.write_cd(site.folder / f"{self.name}.iso", guests.installs(guests.wait(ticks), then=then))
        xml = guests.domain_xml(self.name, self.uuid, self.disk, on_reboot=on_reboot, extra_devices=drive)
        with closing(libvirt.open(site.daemon.uri)) as connection:
            connection.defineXML(xml)
            self.before = self.definition(connection)
        wait_until(lambda: self.uuid in site.stack.panel.vms(), f"{self.name} to be known")

    def definition(self, connection: libvirt.virConnect) -> str:
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        xml: str = connection.lookupByUUIDString(self.uuid).XMLDesc(flags)
        return xml

    @property
    def row(self) -> Row:
        return self.site.stack.panel.vms()[self.uuid]

    @property
    def installation(self) -> Row:
        """The newest one."""
        return (self.site.stack.panel.rows("vm.install.list", elid=self.uuid) or [{}])[0]

    def install(self, **fields: str) -> dict[str, Any]:
        given = {"image": str(self.cd), "time_limit": "600", **fields}
        return post(self.site.stack, "vm.install", elid=self.uuid, **(given | {"sok": "ok"}))

    def in_phase(self, *phases: str) -> None:
        wait_until(lambda: self.installation.get("phase") in phases, f"{self.name} to be {phases}", LIMIT_S)

    def ends(self, outcome: str) -> Row:
        """Wait until the definition is put back; the VM is not shown as installing any more."""
        wait_until(lambda: self.installation.get("phase") == "done", f"{self.name} to be {outcome}", LIMIT_S)
        found = self.installation
        assert found["outcome"] == outcome, found
        assert self.row["installing"] == "off"
        with closing(libvirt.open(self.site.daemon.uri)) as connection:
            assert self.definition(connection) == self.before
        return found

    def installed(self) -> Row:
        """As `ends`, and it boots from its disk, on which the installer has put something."""
        found = self.ends("installed")
        assert float(found["duration"]) > 0
        wait_until(lambda: self.disk.read_bytes()[512:1024] == guests.installed(), f"{self.name} to boot from its disk")
        wait_until(lambda: self.row["vmstatus"] == "running", f"{self.name} to be seen running")
        assert "<vmwatch:installation" not in self.live()
        return found

    def live(self) -> str:
        with closing(libvirt.open(self.site.daemon.uri)) as connection:
            xml: str = connection.lookupByUUIDString(self.uuid).XMLDesc(0)
            return xml

    def destroy(self) -> None:
        with closing(libvirt.open(self.site.daemon.uri)) as connection:
            connection.lookupByUUIDString(self.uuid).destroy()

    def starts(self) -> int:
        return len(self.site.stack.panel.events(uuid=self.uuid, event="started"))

    def problem(self) -> Row | None:
        rows = self.site.stack.panel.rows("problems")
        found = [row for row in rows if row["object"] == self.uuid and row["type"] == "vm_install_failed"]
        return found[0] if found else None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("install")
    short = short_folder()
    short.mkdir(mode=0o755)
    try:
        with QemuDaemon(folder / "libvirt") as daemon, Stack(short) as stack:
            yield Site(stack, daemon, folder)
    finally:
        subprocess.run(["rm", "-rf", str(short)], check=True)


def test_one_reboot_and_the_vm_boots_from_its_disk_with_its_definition_as_it_was(site: Site) -> None:
    vm = site.vm(guests.RESET, LATER)
    vm.install()
    wait_until(lambda: vm.row["installing"] == "on", "the VM to be shown as installing")
    vm.in_phase("running")
    assert "<on_reboot>destroy</on_reboot>" in vm.live()
    vm.installed()
    assert "<on_reboot>restart</on_reboot>" in vm.live()
    assert vm.starts() == 2
    assert vm.row["install"].startswith("installed in ")
    assert vm.problem() is None


def test_three_reboots_are_counted_down_one_by_one(site: Site) -> None:
    vm = site.vm(guests.RESET)
    vm.install(reboots="3")
    found = vm.installed()
    assert (found["reboots"], found["left"]) == ("3", "0")
    assert vm.starts() == 4
    assert len(site.stack.panel.events(uuid=vm.uuid, event="stopped")) == 3


def test_a_power_off_counts_as_a_reboot(site: Site) -> None:
    vm = site.vm(guests.POWER_OFF)
    vm.install()
    vm.installed()
    assert vm.starts() == 2


def test_a_vm_without_a_cd_drive_gets_one_for_the_installation_only(site: Site) -> None:
    vm = site.vm(guests.RESET, drive="", on_reboot="destroy")
    vm.install()
    vm.installed()


def test_a_crash_is_a_failure_that_says_so(site: Site) -> None:
    vm = site.vm(guests.RESET, LONG)
    vm.install(reboots="2")
    vm.in_phase("running")
    psutil.Process(site.daemon.qemu_pid(vm.name)).kill()
    assert "crashed" in vm.ends("failed")["reason"]
    problem = vm.problem()
    assert problem is not None
    assert "crashed" in problem["description"]
    assert vm.starts() == 1


def test_an_operators_destroy_is_a_failure_that_says_so_and_the_next_success_closes_the_problem(site: Site) -> None:
    vm = site.vm(guests.RESET, LATER)
    vm.install()
    vm.in_phase("running")
    vm.destroy()
    assert "destroyed by an operator" in vm.ends("failed")["reason"]
    assert vm.problem() is not None
    vm.install()
    vm.installed()
    problem = vm.problem()
    assert problem is None or problem["state"] == "solved"


def test_the_time_limit_ends_the_installation_and_leaves_the_vm_running(site: Site) -> None:
    vm = site.vm(guests.RESET, LONG)
    vm.install(time_limit="40")
    vm.in_phase("running")
    found = vm.ends("failed")
    assert "time limit of 40 s" in found["reason"]
    wait_until(lambda: vm.row["vmstatus"] == "running", "the VM to be seen running")
    # its own reset will restart it, as before
    assert "<on_reboot>restart</on_reboot>" in vm.live(), found
    vm.destroy()


def test_a_cancelled_installation_puts_the_definition_back_and_leaves_the_vm_running(site: Site) -> None:
    vm = site.vm(guests.RESET, LATER)
    vm.install(reboots="3")
    vm.in_phase("running")
    post(site.stack, "vm.install.cancel", elid=vm.uuid, sok="ok")
    vm.ends("cancelled")
    assert vm.problem() is None
    wait_until(lambda: site.stack.panel.events(uuid=vm.uuid, event="reboot"), "the guest to reset itself", LIMIT_S)
    site.stack.wait_drained()
    wait_until(lambda: vm.row["vmstatus"] == "running", "the VM to be seen running")
    assert site.stack.panel.events(uuid=vm.uuid, event="stopped") == []
    vm.destroy()


def test_an_image_that_is_not_there_is_a_failure_in_libvirts_words(site: Site) -> None:
    vm = site.vm(guests.RESET)
    vm.install(image="/none/such.iso")
    assert "/none/such.iso" in vm.ends("failed")["reason"]


def test_what_an_operator_changes_meanwhile_stays(site: Site) -> None:
    vm = site.vm(guests.RESET, LATER)
    vm.install()
    vm.in_phase("running")
    with closing(libvirt.open(site.daemon.uri)) as connection:
        now = vm.definition(connection)
        connection.defineXML(now.replace("<vcpu placement='static'>1<", "<vcpu placement='static'>2<"))
    vm.before = vm.before.replace("<vcpu placement='static'>1<", "<vcpu placement='static'>2<")
    vm.installed()


KILL_POINTS = (
    "prepare of {name} on n (",
    "prepare of {name} on n: done",
    "start of {name} on n (start 1)",
    "start of {name} on n: done",
    "start of {name} on n (start 2)",
    "start of {name} on n (start 3)",
    "restore of {name} on n (",
    "restore of {name} on n: done",
)


@pytest.mark.parametrize("point", KILL_POINTS)
def test_a_panel_killed_at_any_step_goes_on_where_it_was(site: Site, point: str) -> None:
    vm = site.vm(guests.RESET)
    vm.install(reboots="2")
    wait_until(lambda: point.format(name=vm.name) in site.stack.panel.log, point, LIMIT_S)
    site.stack.panel.restart_after_kill()
    vm.installed()
    assert vm.starts() == 3
    assert vm.problem() is None


def test_a_panel_that_is_away_while_the_guest_reboots_counts_it_when_it_is_back(site: Site) -> None:
    vm = site.vm(guests.RESET, LATER)
    vm.install(reboots="2")
    vm.in_phase("running")
    site.stack.panel.kill()
    with closing(libvirt.open(site.daemon.uri)) as connection:
        domain = connection.lookupByUUIDString(vm.uuid)
        wait_until(lambda: not domain.isActive(), "the guest to end", LIMIT_S)
    site.stack.panel.start()
    vm.installed()
    assert vm.starts() == 3


def test_events_that_come_again_or_are_of_an_older_start_count_nothing(site: Site) -> None:
    vm = site.vm(guests.RESET, LATER)
    vm.install(reboots="2")
    wait_until(lambda: vm.starts() == 2, "the second start", LIMIT_S)
    vm.in_phase("running", "awaiting")
    ended = site.stack.panel.events(uuid=vm.uuid, event="stopped")[-1]
    epoch, seq = int(ended["epoch"]), int(ended["seq"])
    again = event(seq, vm.name, "stopped", "shutdown") | {"vm": {"uuid": vm.uuid, "name": vm.name}}
    older = [
        event(number, vm.name, word, detail) | {"vm": {"uuid": vm.uuid, "name": vm.name}}
        for number, (word, detail) in enumerate((("started", "booted"), ("stopped", "shutdown")), 1)
    ]
    for body in (
        report(entry(again, node=NODE, epoch=epoch, live=False)),
        report(entry(*older, node=NODE, epoch=epoch - 10, live=False)),
    ):
        answer = requests.post(
            site.stack.panel.url,
            params={"func": "vmwatch.report"},
            data=body,
            headers={"Content-Type": "application/json"},
            auth=SERVICE,
            timeout=60,
        )
        assert answer.status_code == 200
        assert vm.installation["left"] == "1"
    vm.installed()
    assert vm.starts() == 3 + len(older) // 2


def test_a_guest_that_reboots_while_libvirtd_is_away_is_counted_from_the_listing(site: Site) -> None:
    vm = site.vm(guests.RESET, LATER)
    vm.install(reboots="2")
    vm.in_phase("running")
    site.daemon.kill()
    site.node.wait()
    wait_until(lambda: vm.disk.read_bytes()[:512] == guests.installed(), "the guest to have installed", LIMIT_S)
    site.daemon.restart()
    site.restart_agent()
    vm.installed()


def test_libvirtd_that_restarts_while_the_guest_runs_on_changes_nothing(site: Site) -> None:
    vm = site.vm(guests.RESET, LATER)
    vm.install()
    vm.in_phase("running")
    site.daemon.restart()
    site.node.wait()
    site.restart_agent()
    vm.installed()
    assert vm.starts() == 2
