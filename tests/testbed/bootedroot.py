"""A clean Debian that was booted: systemd as its first process, with bus, polkit and a libvirtd of its own.

Unlike `initspace.SystemdSpace` it has none of this machine's files: packages are installed as on a real one, and their
units run as they lie there.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from tests.testbed.cleanroot import CleanRoot, base_with
from tests.testbed.controlgroup import ControlGroup

INCLUDED = ("systemd", "systemd-sysv", "dbus", "polkitd", "libvirt-daemon-system", "libvirt-clients", "iproute2")
NEEDED = ("python3", "acl", "sudo", "cron", "logrotate")
"""Of vmwatch's packages."""
LIBVIRT = "test+unix:///default?socket=/run/libvirt/libvirt-sock"
LIBVIRT_READONLY = f"{LIBVIRT}-ro"
"""The test driver in its libvirtd, at the sockets of the system."""

FIRST_PROCESS = """\
set -eu
place=$1
root=$place/root
ip link set lo up
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$place"
mkdir "$place/up" "$place/work" "$root"
mount -t overlay -o "lowerdir=$2,upperdir=$place/up,workdir=$place/work" overlay "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
# What an init does to the machine as a whole is not for this one.
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=0755 tmpfs dev
for name in null zero full random urandom tty; do
    touch "dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
mkdir dev/pts dev/shm .before
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
# Not chroot: the kernel lets nobody make a user namespace in one (PrivateUsers=).
pivot_root . .before
umount -l /.before
rmdir /.before
echo ready
export container=vmwatch
exec /lib/systemd/systemd --system --show-status=0 --log-target=journal </dev/null >/run/boot.log 2>&1
"""


class BootedRoot(CleanRoot):
    """One use of it; it is up when the `with` block is entered."""

    first_process = FIRST_PROCESS
    more_apart = ("--cgroup",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._group = ControlGroup(f"vmwatch-{os.getpid()}-{folder.name}")

    @property
    def base(self) -> Path:
        return base_with("booted", *INCLUDED, *NEEDED)

    def entering(self, command: Sequence[str]) -> Sequence[str]:
        return self._group.entering(command)

    def begin(self) -> None:
        super().begin()
        self.wait("systemd to be up", "systemctl", "is-active", "multi-user.target")

    def close(self) -> None:
        super().close()
        self._group.remove()

    def show(self, unit: str, name: str) -> str:
        """What `systemctl show` says of one property."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).strip()

    def failed(self) -> str:
        """Units that have failed."""
        return self.run("systemctl", "list-units", "--failed", "--plain", "--no-legend")

    def virsh(self, *words: str) -> str:
        return self.run("virsh", "--quiet", "--connect", LIBVIRT, *words)
