"""What a disk's path means, and where: so that equal disks of two hypervisors are one and the same disk.

A path of the machine's own means something on that machine alone. On a network file system it is the server's file,
on a cluster file system that of the file system's UUID, and a SAN's volume may have a name that is the only one in
the world. In doubt a path is the machine's own: a duplicate that is not seen is better than one that is none.
"""

import hashlib
import hmac
import re
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from vmwatch.node.mounts import Mount, Mounts
from vmwatch.shared.messages import Disk

UDEV = Path("/run/udev/data")
"""udev's notes of each block device, on a tmpfs (udev keeps a file system's UUID in ID_FS_UUID)."""
MAX_ON = 256
MAX_PATH = 4096

_NETWORK = frozenset(("ceph", "cifs", "fuse.glusterfs", "glusterfs", "lustre", "nfs", "nfs4", "smb3"))
"""Kinds whose source names a server; whether it really does is looked at too."""
_CLUSTER = frozenset(("gfs2", "ocfs2"))
"""Kinds that several machines mount from one shared device."""
_SOURCE = re.compile(r"(?P<hosts>[^/]+):(?P<path>/.*)|//(?P<server>[^/]+)(?P<share>/.*)|[^/@]+@[^/=]+=/.*")
"""server:/export, //server/share, and ceph's user@fsid.name=/path."""
_WORLD_WIDE = re.compile(
    r"/dev/disk/by-id/(wwn-0x[0-9a-f]{16}|scsi-3[0-9a-f]{16}|dm-uuid-mpath-3[0-9a-f]{16}|nvme-eui\.[0-9a-f]{16})"
    r"|/dev/mapper/3(?=[0-9a-f]{16})[0-9a-f]{16}([0-9a-f]{16})?(-part|p)?\d*$"
)
"""Names made of an identifier that a device's maker gave to this one volume."""


def machine_label(machine: str) -> str:
    """A short name for a machine that its id (machine-id(5), which is confidential) cannot be found from."""
    return f"machine:{hmac.digest(machine.encode(), b'vmwatch disks', hashlib.sha256).hex()[:16]}"


def remote_host(uri: str) -> str:
    """The other machine that a libvirt URI names; empty if it is this one."""
    with suppress(ValueError):
        host = urlsplit(uri).hostname or ""
        return "" if _is_loopback(host) else host
    return ""


def _is_loopback(host: str) -> bool:
    """Whether a server's name means another machine on each machine."""
    with suppress(ValueError):
        return ip_address(host.strip("[]")).is_loopback
    return host.lower() in ("localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost")


class Places:
    """Says what paths mean on one hypervisor, whose label is `machine`. `mounts`: None if they are another's."""

    def __init__(self, machine: str, mounts: Mounts | None, udev: Path = UDEV) -> None:
        self.machine = machine
        self._mounts = mounts
        self._udev = udev

    def local(self, path: str) -> Disk | None:
        """Something that only this machine knows by this name; None if the name is too long to be one."""
        return disk(path, self.machine)

    def file(self, path: str) -> Disk | None:
        """A file or a block device."""
        if _WORLD_WIDE.match(path):
            return disk(path, "")
        # Symbolic links of devices stay: people know /dev/vg/web, not the number that it has today.
        if self._mounts is None or not path.startswith("/") or path.startswith("/dev/"):
            return self.local(path)
        place = self._mounts.locate(path)
        mount = place.mount
        on = "" if mount is None else self._shared(mount)
        if mount is None or not on:
            return self.local(place.path)
        inside = place.path[len(mount.point.rstrip("/")) :]
        return disk(f"{mount.root.rstrip('/')}{inside}".lstrip("/") or ".", on)

    def host(self, name: str, port: str = "") -> str:
        """A server: `name` or `name:port`. What calls itself loopback is another one on each machine."""
        known = self.machine if _is_loopback(name) else name.lower()
        return f"{known}:{port}" if port else known

    def _shared(self, mount: Mount) -> str:
        """The file system that several machines see, or nothing if only this one sees it, as far as can be told."""
        if mount.kind in _CLUSTER:
            uuid = self._filesystem_uuid(mount.device)
            return f"{mount.kind}:{uuid}" if uuid else ""
        match = _SOURCE.fullmatch(mount.source) if mount.kind in _NETWORK else None
        if match is None:
            return ""
        if match["hosts"]:
            hosts = sorted(self._server(host) for host in match["hosts"].split(","))
            return f"{','.join(hosts)}:{_no_end(match['path'])}"
        if match["server"]:
            return f"//{self.host(match['server'])}{_no_end(match['share'])}"
        return mount.source

    def _server(self, text: str) -> str:
        """A host of a mount's source, which may have a port."""
        name, colon, port = text.rpartition(":")
        return self.host(name, port) if colon and port.isdecimal() and not name.endswith(":") else self.host(text)

    def _filesystem_uuid(self, device: str) -> str:
        try:
            notes = (self._udev / f"b{device}").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        found = re.search(r"^E:ID_FS_UUID=(\S+)$", notes, re.MULTILINE)
        return found[1] if found else ""


def disk(path: str, on: str) -> Disk | None:
    """A disk within the limits of a message; None if there is none of this path."""
    if not 0 < len(path) <= MAX_PATH:
        return None
    return Disk(path, on if len(on) <= MAX_ON else f"sha256:{hashlib.sha256(on.encode()).hexdigest()}")


def _no_end(path: str) -> str:
    return path.rstrip("/") or "/"
