"""A private libvirtd that serves only QEMU: real VMs, and no trace of them in the machine's own libvirt."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import ClassVar

import libvirt
import pytest

from tests.testbed.daemon import PrivateDaemon, can_mask, needed_programs

EMULATOR = "qemu-system-x86_64"
LIBRARY_FOLDERS = (Path("/usr/lib"), Path("/usr/lib64"))
DRIVER = "libvirt/connection-driver/libvirt_driver_qemu.so"

CONFIGURATION_FOLDER = "etc/libvirt"
LOG_FOLDER = "var/log/libvirt/qemu"
PID_FOLDER = "run/libvirt/qemu"

QEMU_CONF = """\
stdio_handler = "file"
security_driver = "none"
user = "root"
group = "root"
namespaces = []
cgroup_controllers = []
remember_owner = 0
"""
"""What a hypervisor puts around its VMs (virtlogd, confinement, cgroups, owners of images) is left out: it would
need more daemons, or would change things outside this one's folders."""


def needs_root() -> pytest.MarkDecorator:
    """The mark of a test that uses `QemuDaemon`: skips it, with the reason, where that cannot work."""
    if os.geteuid() != 0:
        reason = "needs root, for a mount namespace"
    elif not can_mask():
        reason = "needs to make a mount namespace, which this container forbids"
    else:
        reason = needed_programs("libvirtd", EMULATOR)
    return pytest.mark.skipif(bool(reason), reason=reason)


def driver_module() -> Path:
    """Where libvirt keeps its QEMU driver."""
    for folder in LIBRARY_FOLDERS:
        for module in (folder / DRIVER, *sorted(folder.glob(f"*/{DRIVER}"))):
            if module.exists():
                return module
    raise RuntimeError("libvirt's QEMU driver is not installed")


def needs_network() -> pytest.MarkDecorator:
    """The mark of a test that uses `NetworkedQemuDaemon`."""
    trial = ["unshare", "--net", "ip", "tuntap", "add", "dev", "vwtrial", "mode", "tap"]
    reason = needed_programs("unshare", "ip")
    if not reason and (os.geteuid() != 0 or subprocess.run(trial, capture_output=True).returncode != 0):
        reason = "needs root, and to make taps in a network namespace of its own"
    return pytest.mark.skipif(bool(reason), reason=reason)


class QemuDaemon(PrivateDaemon):
    """One hypervisor. Two with different `host_uuid` serve as two hypervisors on one machine.

    `kill`, `terminate` and `restart` concern libvirtd alone: the VMs run on, as they do on a real hypervisor. `stop`
    ends the VMs too. VMs' definitions live as long as this object.
    """

    driver: ClassVar[str] = "qemu"
    path: ClassVar[str] = "/system"
    # All of /run, not only /run/libvirt: with the system bus in sight libvirtd would register VMs with systemd.
    masked: ClassVar[tuple[str, ...]] = (
        "/run",
        "/etc/libvirt",
        "/var/lib/libvirt",
        "/var/cache/libvirt",
        "/var/log/libvirt",
    )

    def furnish(self, root: Path) -> None:
        """libvirtd's view of the file system before its first start; qemu.conf has a fixed place."""
        if not can_mask():
            raise RuntimeError("a QEMU daemon without its own mount namespace would use the machine's own libvirt")
        (root / CONFIGURATION_FOLDER / "qemu.conf").write_text(QEMU_CONF)
        # libvirtd loads every driver that it finds; the others would touch the machine's networks and devices.
        module = driver_module()
        (self.drivers / module.name).symlink_to(module)

    def prepare(self) -> None:
        """Let libvirt ask QEMU now what it can do; the first start of a VM would otherwise wait for that."""
        connection = libvirt.open(self.private_uri)
        connection.getDomainCapabilities(None, None, None, "qemu")
        connection.close()

    def restart(self) -> None:
        """libvirtd stops in order, or has been killed before, and starts again beside its VMs."""
        if self.is_running:
            self.terminate()
        self.start()

    def qemu_pid(self, name: str) -> int:
        """The pid of a running VM's QEMU."""
        return int((self.root / PID_FOLDER / f"{name}.pid").read_text())

    def stop(self) -> None:
        """End libvirtd and all VMs; the same as `close`."""
        self.close()

    def close(self) -> None:
        # The reader of a failed test wants QEMU's own words, and they vanish with the mount namespace.
        if self.has_keeper:
            with contextlib.suppress(OSError):
                shutil.copytree(self.root / LOG_FOLDER, self.folder / "qemu", dirs_exist_ok=True)
        super().close()


class NetworkedQemuDaemon(QemuDaemon):
    """One whose VMs may have network cards: their taps are in a network namespace of its own and lead nowhere.

    libvirt counts what goes through a tap; of other kinds of interfaces (user, udp) it tells nothing.
    """

    prefix: ClassVar[tuple[str, ...]] = ("unshare", "--net")
