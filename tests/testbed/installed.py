"""A machine on which vmwatch's packages are installed, as its operator uses it: only the public commands."""

import contextlib
import csv
import hashlib
import io
import os
from pathlib import Path

from tests.testbed.cleanroot import CleanRoot
from tests.testbed.stack import ADMIN, Row
from tests.testbed.waiting import wait_until

PREFIX = "usr/local/mgr5"
HOST_FILE = "etc/default/vmwatch"
NAMES = ("vmwatch-master", "vmwatch-node")
NODE = "kvm-01"
VOLATILE = (
    *("proc", "dev", "sys", "tmp", "root", "var/log", "var/cache"),
    *("var/lib/dpkg", "var/lib/apt", "var/lib/logrotate"),
)
"""What installing anything at all changes."""
BACKUPS = ("etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-", "etc/.pwd.lock")


class Installed:
    """`libvirt_uri`: of the VMs that its node watches."""

    def __init__(self, root: CleanRoot, libvirt_uri: str) -> None:
        self.root = root
        self.libvirt_uri = libvirt_uri

    def file(self, name: str) -> Path:
        """Such as `etc/passwd`; its path on this machine."""
        return self.root.path / name

    def say_of_machine(self, **values: str) -> None:
        """Write /etc/default/vmwatch."""
        self.file(HOST_FILE).write_text("".join(f"{name}={value}\n" for name, value in values.items()))

    def dpkg(self, *packages: Path, code: int = 0) -> str:
        """Install package files; what was printed."""
        names = [f"/root/{package.name}" for package in packages]
        for package, name in zip(packages, names, strict=True):
            self.file(name[1:]).write_bytes(package.read_bytes())
        try:
            return self.root.run("dpkg", "--install", *names, code=code)
        finally:
            for name in names:
                self.file(name[1:]).unlink()

    def remove(self) -> None:
        self.root.run("dpkg", "--remove", *NAMES)

    def purge(self) -> None:
        self.root.run("dpkg", "--purge", *NAMES)

    def installed(self) -> list[str]:
        """Our packages that are installed, or have left their configuration."""
        told = self.root.run("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n")
        return [line for line in told.splitlines() if line.startswith("vmwatch")]

    def vmwatch(self, *arguments: str, code: int = 0) -> str:
        """The operator's command, as the administrator."""
        return self.root.run("vmwatch", *arguments, code=code, VMWATCH_PASSWORD=ADMIN[1])

    def begin(self, etc: str = f"{PREFIX}/etc") -> None:
        """From installed packages to a node that works: what an operator does, and nothing more."""
        self.root.run("vmwatch-panel", "user", "set", ADMIN[0], "--role", "admin", told=f"{ADMIN[1]}\n")
        # A libvirt other than the usual one is the operator's to say; configuring leaves that line alone.
        text = f"libvirt_uri={self.libvirt_uri}\nheartbeat_interval=1\n"
        self.root.run("sh", "-c", f"umask 077; cat >/{etc}/vmwatch-node.conf", told=text)
        self.root.run("chown", "vmwatch-node:", f"/{etc}/vmwatch-node.conf")
        self.root.wait("the panel to answer", "env", f"VMWATCH_PASSWORD={ADMIN[1]}", "vmwatch", "node", "list")
        self.vmwatch("node", "add", NODE, "--local")

    def events(self) -> list[Row]:
        """The event log, oldest first."""
        return list(csv.DictReader(io.StringIO(self.vmwatch("events", "--format", "csv"))))

    def wait_for_event(self, name: str, event: str) -> None:
        def told() -> bool:
            return any((row["name"], row["event"]) == (name, event) for row in self.events())

        wait_until(told, f"{event} of {name} to be registered", timeout_s=120)

    def command_lines(self) -> str:
        """Of all that runs there, a line each."""
        found = []
        for folder in self.file("proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                found.append(os.fsdecode((folder / "cmdline").read_bytes().replace(b"\0", b" ")))
        return "\n".join(found)

    def processes(self) -> dict[str, list[str]]:
        """Users of our programs' processes, by program."""
        found: dict[str, list[str]] = {}
        for folder in self.file("proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                names = [Path(os.fsdecode(word)).name for word in words[:3]]
                owner = folder.stat().st_uid
            except OSError:
                continue
            for name in ("vmwatch-panel", "vmwatch-master", "vmwatch-node"):
                if name in names:
                    found.setdefault(name, []).append(self.user_name(owner))
        return found

    def user_name(self, uid: int) -> str:
        lines = (line.split(":") for line in self.file("etc/passwd").read_text().splitlines())
        return next((line[0] for line in lines if line[2] == str(uid)), str(uid))

    def files(self) -> dict[str, tuple[int, int, int, str]]:
        """All that lies on the machine: mode, owner, group, and what is in it."""
        found = {}
        for folder, folders, names in os.walk(self.root.path):
            inside = Path(folder).relative_to(self.root.path)
            folders[:] = [name for name in folders if str(inside / name) not in VOLATILE]
            for name in (*folders, *names):
                path = Path(folder) / name
                if (key := str(inside / name)) not in BACKUPS:
                    found[key] = described(path)
        return found


def described(path: Path) -> tuple[int, int, int, str]:
    """A file's mode, owner, group and content."""
    status = path.lstat()
    content = ""
    if path.is_symlink():
        content = str(path.readlink())
    elif path.is_file():
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    return status.st_mode, status.st_uid, status.st_gid, content
