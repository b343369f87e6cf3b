"""Disks and MAC addresses in the inventories of real hypervisors, and how often libvirt is asked for them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import libvirt
import pytest

from tests.integration.test_node import Node, PlainMaster, master, prefix  # noqa: F401 - the two fixtures
from tests.testbed import guests
from tests.testbed.daemon import can_mask, needs_libvirtd
from tests.testbed.qemu import QemuDaemon, needs_root
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until
from vmwatch.node.outboxfile import machine_id
from vmwatch.node.places import machine_label

DOMAIN = """
<domain type='test'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory>8192</memory>
  <os><type>hvm</type></os>
  <devices>
    <disk type='file' device='disk'><source file='/images/{disk}'/><target dev='vda'/></disk>
    <disk type='file' device='cdrom'><source file='/images/install.iso'/><target dev='hdc'/><readonly/></disk>
    <interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/></interface>
  </devices>
</domain>
"""

# In a process of its own: a process has one event loop of libvirt, for good. Each line that comes in asks for a
# listing after so many events, or for the next that is begun by itself; what goes out is how many definitions were
# read until then, and the disks of all domains.
LISTER = """
import dataclasses, functools, json, sys, time
from vmwatch.node.hypervisor import Hypervisor
from vmwatch.node.source import Source
from vmwatch.node.wakeup import Wakeup
from vmwatch.shared.clock import SystemClock

reads = 0

class Counting:
    def __init__(self, real): self.real = real
    def __getattr__(self, name): return getattr(self.real, name)
    def listAllDomains(self, flags): return [Counting(one) for one in self.real.listAllDomains(flags)]
    def XMLDesc(self, flags):
        global reads
        reads += 1
        return self.real.XMLDesc(flags)

class Counted(Source):
    def _open(self):
        opened = super()._open()
        return dataclasses.replace(opened, connection=Counting(opened.connection))

clock, wakeup = SystemClock(), Wakeup()
hypervisor = Hypervisor(sys.argv[1], "", 3600, 3600, clock, wakeup)
hypervisor.source = Counted(sys.argv[1], clock, wakeup.wake)
hypervisor.definitions.begin = functools.partial(hypervisor.definitions.begin, limit_s=float(sys.argv[2]))
hypervisor.source.start()

def turn():
    now = clock.monotonic()
    hypervisor.events(now)
    inventory = hypervisor.inventory(now, 1)
    hypervisor.begin(now, 1, 0)
    time.sleep(0.01)
    return inventory

while hypervisor.source.connection is None:
    turn()
for line in sys.stdin:
    if line != "next\\n":
        while hypervisor.source.received < int(line) or hypervisor.listing.busy:
            turn()
        hypervisor.inventories.due_at = 0
    while (inventory := turn()) is None:
        pass
    disks = {d.name: d.disks and [disk.path for disk in d.disks] for d in inventory.domains}
    print(json.dumps([reads, disks]), flush=True)
hypervisor.source.loop.stop()
"""


class Lister:
    """A hypervisor's listings, each on demand."""

    def __init__(self, uri: str, limit_s: float = 60.0) -> None:
        command = [sys.executable, "-c", LISTER, uri, str(limit_s)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def list(self, events: int | str) -> tuple[int, dict[str, list[str] | None]]:
        """After so many events arrived, or `next`: definitions read until then, and disks by name."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{events}\n")
        self._process.stdin.flush()
        reads, disks = json.loads(self._process.stdout.readline())
        return reads, disks

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TestDriverDaemon]:
    with TestDriverDaemon(tmp_path / "libvirt") as made:
        yield made


def define(daemon: TestDriverDaemon, name: str, disk: str) -> libvirt.virDomain:
    return daemon.connection.defineXML(DOMAIN.format(name=name, uuid=daemon.uuid_of(name), disk=disk))


@needs_libvirtd()
def test_libvirt_is_asked_once_per_definition(daemon: TestDriverDaemon) -> None:
    domains = [define(daemon, f"vm{number}", f"{number}.img") for number in range(3)]
    with closing(Lister(daemon.uri)) as lister:
        expected: dict[str, list[str] | None] = {f"vm{number}": [f"/images/{number}.img"] for number in range(3)}
        for _ in range(3):
            assert lister.list(0) == (3, expected)
        domains[0].create()
        domains[1].create()
        assert lister.list(2) == (5, expected)
        domains[0].suspend()
        domains[0].resume()
        domains[0].destroy()
        assert lister.list(5) == (5, expected)
        define(daemon, "vm2", "other.img")
        expected["vm2"] = ["/images/other.img"]
        for _ in range(2):
            assert lister.list(6) == (6, expected)
        domains[2].undefine()
        del expected["vm2"]
        assert lister.list(7) == (6, expected)
        define(daemon, "vm2", "2.img")
        expected["vm2"] = ["/images/2.img"]
        assert lister.list(8) == (7, expected)


@needs_libvirtd()
def test_what_there_was_no_time_for_comes_by_itself_soon_after(daemon: TestDriverDaemon) -> None:
    for number in range(3):
        define(daemon, f"vm{number}", "x.img")
    with closing(Lister(daemon.uri, limit_s=0.0)) as lister:
        known = []
        for _ in range(3):
            reads, disks = lister.list("next")
            known.append((reads, sum(found is not None for found in disks.values()), len(disks)))
    assert known == [(1, 1, 3), (2, 2, 3), (3, 3, 3)]


# In a mount namespace of its own: a glusterfs whose other end never answers, so whoever looks at it waits for ever.
HUNG = """
import ctypes, os, sys, threading
from vmwatch.node.mounts import read_mounts
from vmwatch.node.places import Places

mounted, link = sys.argv[1:]
device = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
if libc.mount(b"nas:/gv0", mounted.encode(), b"fuse.glusterfs", 0, options):
    sys.exit(os.strerror(ctypes.get_errno()))
places = Places("machine:1", read_mounts())
for path in (mounted, link):
    found = places.file(f"{path}/vm/a.img")
    print(found.path, found.on)
looks = threading.Thread(target=os.stat, args=(f"{mounted}/vm",), daemon=True)
looks.start()
looks.join(0.5)
print("hangs" if looks.is_alive() else "answers", flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not can_mask() or not Path("/dev/fuse").exists(), reason="needs root and FUSE, to mount")
def test_a_network_file_system_that_hangs_is_known_and_not_touched(tmp_path: Path) -> None:
    mounted, link = tmp_path / "mounted", tmp_path / "images"
    mounted.mkdir()
    link.symlink_to("mounted")
    command = ["unshare", "--mount", sys.executable, "-c", HUNG, str(mounted.resolve()), str(link)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["vm/a.img nas:/gv0", "vm/a.img nas:/gv0", "hangs"]


def listed(master: PlainMaster, name: str) -> dict[str, Any]:  # noqa: F811
    """A domain in the last inventory that has it."""
    inventories = master.of("inventory")
    return next((d for d in inventories[-1]["domains"] if d["name"] == name), {}) if inventories else {}


@needs_libvirtd()
def test_an_inventory_has_disks_and_macs(daemon: TestDriverDaemon, master: PlainMaster, prefix: Path) -> None:  # noqa: F811
    define(daemon, "vm1", "a.img")
    daemon.define("bare")
    with Node(prefix, daemon.uri, master) as node:
        wait_until(lambda: master.of("inventory"), "the inventory")
        assert listed(master, "vm1")["disks"] == [
            {"path": "/images/a.img", "on": machine_label(machine_id() or node.settings["node_id"])}
        ]
        assert listed(master, "vm1")["macs"] == ["52:54:00:00:00:01"]
        assert (listed(master, "bare")["disks"], listed(master, "bare")["macs"]) == ([], [])
        wait_until(lambda: node.part("inventory").get("definitions") == 2, "the status to say so")
        assert node.part("inventory")["definition_error"] == ""


@needs_root()
def test_disks_and_macs_of_a_running_guest_and_one_that_is_plugged_in(
    tmp_path: Path,
    master: PlainMaster,  # noqa: F811
    prefix: Path,  # noqa: F811
) -> None:
    first, second = (guests.write_disk(tmp_path / f"{name}.img", guests.idle()) for name in ("first", "second"))
    card = "<interface type='user'><mac address='52:54:00:aa:bb:cc'/><model type='rtl8139'/></interface>"
    plugged = (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{second}'/>"
        "<target dev='vdb' bus='virtio'/></disk>"
    )

    def paths() -> list[str]:
        return [disk["path"] for disk in listed(master, "web").get("disks", ())]

    with QemuDaemon(tmp_path / "libvirt") as daemon, closing(libvirt.open(daemon.uri)) as connection:
        domain = connection.defineXML(guests.domain_xml("web", str(uuid4()), first, extra_devices=card))
        domain.create()
        with Node(prefix, daemon.uri_readonly, master, inventory_interval=1) as node:
            wait_until(paths, "the first disk in an inventory")
            assert paths() == [str(first.resolve())]
            assert listed(master, "web")["macs"] == ["52:54:00:aa:bb:cc"]
            domain.attachDeviceFlags(plugged, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            wait_until(lambda: len(paths()) == 2, "the disk that was plugged in")
            assert paths() == [str(first.resolve()), str(second.resolve())]
            assert master.of("event") == []
            assert node.part("libvirt")["callback_errors"] == 0
        domain.destroy()
