"""Where a path of this machine really lies, from the table of mounts alone (proc(5), /proc/PID/mountinfo).

A network file system that hangs must not hang the agent too: nothing on it is ever looked at. Only symbolic links on
file systems of this machine's own are followed.
"""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")
LINKS_MOST = 40
"""As many as the kernel follows in one path (path_resolution(7))."""
LOCAL = frozenset(
    ("btrfs", "devtmpfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "rootfs", "tmpfs", "xfs", "zfs")
)
"""Kinds that never wait for another machine. A kind that is not named here is not touched."""
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo. `device`: major:minor; `root`: which folder of the file system is mounted at `point`."""

    number: int
    parent: int
    device: str
    root: str
    point: str
    kind: str
    source: str


@dataclass(frozen=True, slots=True)
class Place:
    """A path after its symbolic links. `mount`: the one that it lies on; None where that is not certain."""

    path: str
    mount: Mount | None


def parse(text: str) -> list[Mount]:
    """The lines of a mountinfo; one that is no such line is left out."""
    found = []
    for line in text.split("\n"):
        left, _, right = line.partition(" - ")
        with suppress(ValueError):  # too few fields, or not these numbers
            number, parent, device, root, point, *_ = left.split(" ")
            kind, source, *_ = right.split(" ")
            found.append(Mount(int(number), int(parent), device, *map(_plain, (root, point, kind, source))))
    return found


def _plain(field: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), field)


def read_mounts(path: Path = MOUNTINFO) -> "Mounts":
    """This process's mounts; none if they cannot be read. Bytes that are no UTF-8 stay apart as escapes."""
    try:
        text = path.read_text(encoding="utf-8", errors="backslashreplace")
    except OSError:
        return Mounts(())
    return Mounts(parse(text))


def read_link(path: str) -> str | None:
    """Where a symbolic link points to; None if it is none, or may not be seen."""
    try:
        return str(Path(path).readlink())
    except OSError:
        return None


class Mounts:
    """A table of mounts, and the way of a path through it."""

    def __init__(self, mounts: Iterable[Mount], link: Callable[[str], str | None] = read_link) -> None:
        self._link = link
        self._top: Mount | None = None
        self._below: dict[tuple[int, str], Mount] = {}
        table = list(mounts)
        numbers = {mount.number for mount in table}
        for mount in table:
            if mount.point == "/" and mount.parent not in numbers - {mount.number}:
                self._top = self._top or mount
            self._below[mount.parent, mount.point] = mount

    def mount_of(self, path: str) -> Mount | None:
        """The mount that an absolute path without `.`, `..` and links lies on, as the kernel finds it.

        That is the longest mount point, but for those hidden by a later mount above them.
        """
        mount = self._top
        if mount is None:
            return None
        mount = self._over(mount, "/")
        here = ""
        for part in path.strip("/").split("/"):
            here = f"{here}/{part}"
            mount = self._over(mount, here)
        return mount

    def locate(self, path: str) -> Place:
        """Follow an absolute path."""
        rest = path.split("/")[::-1]
        done, links, mount = "", 0, self.mount_of("/")
        while rest:
            part = rest.pop()
            if part in ("", "."):
                continue
            if mount is None or (part == ".." and mount.kind not in LOCAL):
                return Place(path, None)
            if part == "..":
                done = done.rpartition("/")[0]
                mount = self.mount_of(done or "/")
                continue
            mount = self.mount_of(f"{done}/{part}")
            target = self._link(f"{done}/{part}") if mount is not None and mount.kind in LOCAL else None
            if target is None:
                done = f"{done}/{part}"
                continue
            links += 1
            if links > LINKS_MOST:
                return Place(path, None)
            rest += target.split("/")[::-1]
            done = "" if target.startswith("/") else done
            mount = self.mount_of(done or "/")
        return Place(done or "/", mount)

    def _over(self, mount: Mount, point: str) -> Mount:
        """What is mounted last at `point` of `mount`."""
        seen = {mount.number}
        while (above := self._below.get((mount.number, point))) is not None and above.number not in seen:
            seen.add(above.number)
            mount = above
        return mount
