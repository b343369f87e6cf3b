"""The three service managers, each as a machine of its own has it, with vmwatch's services below one prefix."""

import contextlib
import os
import pwd
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from tests.testbed.initspace import CHECKOUT, SystemdSpace, SysvSpace
from tests.testbed.stack import SECRET
from tests.testbed.waiting import free_port_pair, wait_until
from vmwatch.shared import conffile
from vmwatch.shared.paths import DEFAULT_PREFIX
from vmwatch.shared.services import SERVICES, ServiceManager
from vmwatch.shared.statussocket import read_status
from vmwatch.shared.systemd import Systemd
from vmwatch.shared.sysv import SystemV

BIN = Path(sys.executable).parent
NOBODY = "nobody"


READ = tuple(sorted({CHECKOUT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()} - {Path("/usr")}))
"""What the services need to read beside the system itself: the checkout, and the environment that runs the tests."""


def service_user() -> str:
    """Who runs the services: somebody without any rights, if he can read all that is needed."""
    folders = {path for start in READ for path in (start, *start.parents)}
    return NOBODY if all(folder.stat().st_mode & 0o005 == 0o005 for folder in folders) else "root"


class Host(Protocol):
    """A machine with one service manager."""

    @property
    def manager(self) -> ServiceManager: ...

    @property
    def prefix(self) -> Path: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Spaced:
    """What the two others share."""

    def __init__(self, prefix: Path, user: str) -> None:
        self.prefix = prefix
        self.own = prefix.with_name(f"{prefix.name}.space")
        self.own.mkdir()
        for folder in ("etc", "var/run"):
            (prefix / folder).mkdir(parents=True, exist_ok=True)
        self.user = pwd.getpwnam(user)
        os.chown(prefix, self.user.pw_uid, self.user.pw_gid)
        hand_over(prefix)


class UnderSysv(_Spaced):
    """Under System V scripts, in a space of its own."""

    def __init__(self, prefix: Path, services: Sequence[str] = SERVICES) -> None:
        super().__init__(prefix, service_user())
        settings = f"PREFIX={prefix}\nDAEMON={BIN}/$PROGRAM\nRUN_AS={self.user.pw_name}\n"
        self.space = SysvSpace(self.own, services, settings)

    def __enter__(self) -> Self:
        self.space.__enter__()
        scripts = self.space.path("/etc/init.d")
        self.manager = SystemV(self.space.enter, scripts)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.space.close()


class UnderSystemd(_Spaced):
    """Under a systemd of its own, with the very units; only where files are, and who runs them, differs."""

    def __init__(self, prefix: Path) -> None:
        super().__init__(prefix, NOBODY)
        shown = " ".join(map(str, (*READ, prefix)))
        changes = f"[Service]\nUser={self.user.pw_uid}\nGroup={self.user.pw_gid}\nBindReadOnlyPaths={shown}\n"
        changes += "PrivateTmp=no\n"  # all that a test has lies in /tmp
        if any(path.is_relative_to(home) for path in READ for home in ("/home", "/root")):
            changes += "ProtectHome=tmpfs\n"
        places = {f"{DEFAULT_PREFIX}/lib/vmwatch/bin": str(BIN), DEFAULT_PREFIX: str(prefix)}
        self.space = SystemdSpace(self.own, changes, places)

    def __enter__(self) -> Self:
        self.space.__enter__()
        self.manager = Systemd((*self.space.enter, "systemctl"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.space.close()


def hand_over(prefix: Path) -> None:
    """Everything below it becomes its owner's."""
    owner = prefix.stat()
    for path in prefix.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a service at work
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def write_node(prefix: Path, **changes: str) -> Path:
    """A node's file: no libvirt and no master answer where it says, unless `changes` do."""
    values = {
        "connect": f"tcp://127.0.0.1:{free_port_pair()}",
        "secret": SECRET,
        "node_id": "kvm-01",
        "libvirt_uri": f"qemu+unix:///system?socket={prefix}/nobody",
    }
    path = prefix / "etc" / "vmwatch-node.conf"
    conffile.write(path, values | changes)
    hand_over(prefix)
    return path


def status(prefix: Path, service: str) -> dict[str, Any]:
    """What its status socket says; empty while there is none."""
    try:
        return read_status(prefix / "var" / "run" / f"{service}.sock")
    except (OSError, ValueError):
        return {}


def wait_serving(host: Host, service: str, other_than: int = 0) -> int:
    """Wait until the manager's process answers on its status socket, as another one than before; its pid."""

    def serving() -> int:
        managed, told = host.manager.status(service), status(host.prefix, service)
        return managed.pid if managed.is_up and told.get("pid") == managed.pid != other_than else 0

    return wait_until(serving, f"{service} to serve under {host.manager.name}")

