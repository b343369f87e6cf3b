"""A node on which the panel may install, on real QEMU, and VMs whose guests install themselves (design 03, rule 7)."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import libvirt
import requests

from tests.testbed import guests
from tests.testbed.qemu import QemuDaemon
from tests.testbed.stack import ADMIN, Row, Stack, short_folder
from tests.testbed.waiting import wait_until

NODE = "n"
CD_DRIVE = (
    "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>"
    "<target dev='hdc' bus='ide'/><readonly/></disk>"
)
LIMIT_S = 180


def post(stack: Stack, func: str, **fields: str) -> dict[str, Any]:
    """One call as the administrator; `doc` of its answer, which may be an error."""
    answer = requests.post(stack.panel.url, data={"func": func, "out": "json", **fields}, auth=ADMIN, timeout=60)
    answer.raise_for_status()
    doc: dict[str, Any] = answer.json()["doc"]
    return doc


class Site:
    """One node that may install, and VMs on it."""

    def __init__(self, stack: Stack, daemon: QemuDaemon, folder: Path) -> None:
        self.stack = stack
        self.daemon = daemon
        self.folder = folder
        self.node = stack.start_node(NODE, daemon.uri)
        wait_until(lambda: self.stack.panel.rows("vmhostnode"), "the node to appear")
        self.allow(libvirt_uri=daemon.uri)

    def allow(self, **fields: str) -> None:
        doc = post(self.stack, "vmhostnode.edit", elid=NODE, sok="ok", allow_install="yes", **fields)
        assert "ok" in doc, doc

    def vm(self, then: bytes = guests.RESET, *, drive: str = CD_DRIVE, on_reboot: str = "restart") -> "Machine":
        return Machine(self, then, drive, on_reboot)

    def free_vm(self, then: bytes = guests.RESET, *, drive: str = CD_DRIVE, on_reboot: str = "restart") -> "Machine":
        """One whose guest waits for nobody."""
        machine = self.vm(then, drive=drive, on_reboot=on_reboot)
        machine.let_go()
        return machine

    def restart_agent(self) -> None:
        self.node.close()
        self.node.start()
        self.stack.wait_listening(self.node)

    def told(self) -> Iterator[tuple[str, str]]:
        """As `Telling`."""
        yield from self.stack.told()
        yield "libvirtd", self.daemon.log.read_text()


class Machine:
    """One VM with an empty disk and a CD from which it installs itself, each time when it is let go."""

    def __init__(self, site: Site, then: bytes, drive: str, on_reboot: str) -> None:
        self.site = site
        self.uuid = str(uuid.uuid4())
        self.name = f"vm-{self.uuid[:8]}"
        self.disk = guests.write_disk(site.folder / f"{self.name}.img", bytes(512))
        self.cd = guests.write_cd(site.folder / f"{self.name}.iso", guests.installs(guests.gate(), then=then))
        xml = guests.domain_xml(self.name, self.uuid, self.disk, on_reboot=on_reboot, extra_devices=drive)
        with closing(libvirt.open(site.daemon.uri)) as connection:
            connection.defineXML(xml)
            self.before = self.definition(connection)
        wait_until(lambda: self.uuid in site.stack.panel.vms(), f"{self.name} to be known")

    def let_go(self, times: int = guests.ALWAYS) -> None:
        """The guest, when it waits, goes on so many times."""
        guests.open_gate(self.disk, times)

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

    def install(self, **fields: str) -> None:
        """Have it begun; again where it is refused because the node, on a slow machine, seems silent for a while."""
        given = {"image": str(self.cd), "time_limit": "600", **fields}

        def begun() -> bool:
            doc = post(self.site.stack, "vm.install", elid=self.uuid, **(given | {"sok": "ok"}))
            assert "ok" in doc or doc["error"]["$object"] == "hostnode", doc
            return "ok" in doc

        wait_until(begun, f"{NODE} to report", LIMIT_S)

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

    def wait_ended(self) -> None:
        """Wait until the guest has ended, as libvirt sees it."""
        with closing(libvirt.open(self.site.daemon.uri)) as connection:
            domain = connection.lookupByUUIDString(self.uuid)
            wait_until(lambda: not domain.isActive(), f"{self.name} to end", LIMIT_S)

    def starts(self) -> int:
        """How often it was started, once all is told: a listing may show it running before the event does."""
        self.site.stack.wait_drained()
        return len(self.site.stack.panel.events(uuid=self.uuid, event="started"))

    def problem(self) -> Row | None:
        rows = self.site.stack.panel.rows("problems")
        found = [row for row in rows if row["object"] == self.uuid and row["type"] == "vm_install_failed"]
        return found[0] if found else None


@contextmanager
def new_site(folder: Path) -> Iterator[Site]:
    """A site of its own, for the tests of a module; `folder`: for disks, and libvirtd's log."""
    short = short_folder()
    short.mkdir(mode=0o755)
    try:
        with QemuDaemon(folder / "libvirt") as daemon, Stack(short) as stack:
            yield Site(stack, daemon, folder)
    finally:
        shutil.rmtree(short, ignore_errors=True)
