"""A libvirtd of the tests' own: what the test driver's daemon and QEMU's have in common."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import ClassVar

import libvirt
import pytest

from tests.testbed.waiting import wait_until
from tests.testbed.withblock import WithBlock
from vmwatch.cli.kept import Kept, keeper_command

SOCKETS_PARENT = Path("/tmp")
"""Not the test's own folder, nor TMPDIR: a socket's path must stay below 108 characters, and a temporary folder of
pytest is closed to other users."""

LIBVIRTD_CONF = """\
unix_sock_dir = "{sockets}"
unix_sock_rw_perms = "0777"
unix_sock_ro_perms = "0777"
auth_unix_rw = "none"
auth_unix_ro = "none"
host_uuid = "{host_uuid}"
log_outputs = "3:stderr"
"""
"""The permissions let an agent without privileges in; the default, polkit, needs a system bus."""

START_LIMIT_S = 60
END_LIMIT_S = 30


def find_program(name: str) -> str | None:
    """A program's path; libvirtd lies in a folder that is not on every user's PATH."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))


def needed_programs(*names: str) -> str:
    """Why a test must be skipped: a program that is not there. Empty if all are there, and always empty in CI.

    A developer may do without; a CI run that silently tests less than it should is worse than one that fails.
    """
    absent = [name for name in names if find_program(name) is None]
    return f"needs {', '.join(absent)} (make setup)" if absent and not os.environ.get("CI") else ""


def needs_libvirtd() -> pytest.MarkDecorator:
    """The mark of a test that uses a private libvirtd with the test driver, and virsh."""
    reason = needed_programs("libvirtd", "virsh")
    return pytest.mark.skipif(bool(reason), reason=reason)


@cache
def can_mask() -> bool:
    """Whether this process may give a child its own mount namespace: root can, root in many containers cannot."""
    if os.geteuid() != 0:
        return False
    trial = keeper_command(("/run",), None, ["true"])
    return subprocess.run(trial, stdin=subprocess.DEVNULL, capture_output=True, timeout=END_LIMIT_S).returncode == 0


@contextlib.contextmanager
def quiet_libvirt() -> Iterator[None]:
    """libvirt prints each error on standard error besides raising it; here a failure is what is waited for.

    Several threads may be inside at a time: the handler is the whole process's.
    """
    with _quiet_lock:
        _quiet.append(None)
        libvirt.registerErrorHandler(lambda context, error: None, None)
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet.pop()
            if not _quiet:
                libvirt.registerErrorHandler(None, None)


_quiet: list[None] = []
"""One for each that is inside."""
_quiet_lock = threading.Lock()


class PrivateDaemon(WithBlock):
    """One private libvirtd: started, killed, frozen and started again; after `close` nothing of it is left.

    It starts when the `with` block is entered. `folder` receives its configuration and its log, and stays for the
    reader of a failed test; the sockets lie in a short-lived folder of their own, whose name (and so `uri`) is
    known before the first start. Who does not use `with` calls `close`, also without ever having started.
    """

    driver: ClassVar[str]
    """The part of the address before `+unix`."""
    path: ClassVar[str]
    masked: ClassVar[tuple[str, ...]] = ()
    """Folders that the daemon must see empty."""
    prefix: ClassVar[tuple[str, ...]] = ()
    """A command that sets something up and then becomes the daemon."""

    def __init__(self, folder: Path, *, host_uuid: str | None = None) -> None:
        self.folder = folder
        self.host_uuid = host_uuid or str(uuid.uuid4())
        self.pid = 0
        self._keeper: Kept | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.sockets = Path(tempfile.mkdtemp(prefix="vmwatch-", dir=SOCKETS_PARENT))
        self._listening = self.sockets / "listening"
        self._private = self.sockets / "private"
        self.drivers = self._private / "drivers"
        for own in (self._listening, self._private, self.drivers):
            own.mkdir()
        for public in (self.sockets, self._listening):
            public.chmod(0o755)  # whatever the umask is: an agent of another user must get through

    def begin(self) -> None:
        self.start()

    @property
    def uri(self) -> str:
        """The address that a program under test gets."""
        return self._address(self.sockets / "libvirt-sock")

    @property
    def uri_readonly(self) -> str:
        """The address of the read-only socket. An unprivileged libvirtd has none: there it is the same as `uri`."""
        return self._address(self.sockets / ("libvirt-sock-ro" if os.geteuid() == 0 else "libvirt-sock"))

    @property
    def log(self) -> Path:
        """What libvirtd and the keeper printed."""
        return self.folder / "libvirtd.log"

    @property
    def is_running(self) -> bool:
        """Whether libvirtd lives; a frozen one does."""
        return self._keeper is not None and self._keeper.is_running

    def start(self) -> None:
        """Start libvirtd, again after a kill, and return when it serves."""
        if self.is_running:
            raise RuntimeError("libvirtd runs already")
        if self._keeper is None:
            self._keeper = self._new_keeper()
            _ = self.kept.is_running  # once the keeper answers, its folders are masked
            self.furnish(self.root)
        self._hide()
        self.pid = self.kept.start()
        wait_until(self._listens, f"libvirtd to listen in {self._listening} (its log: {self.log})", START_LIMIT_S)
        self.prepare()
        self._show()

    def kill(self) -> None:
        """SIGKILL to libvirtd, as the kernel's out-of-memory killer does it; returns when it is gone."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM, which stops libvirtd in order; returns when it is gone."""
        self.thaw()
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: libvirtd keeps its connections and answers nothing."""
        self.kept.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: a frozen libvirtd goes on."""
        self.kept.signal(signal.SIGCONT)

    def close(self) -> None:
        """End libvirtd and everything that it started, and remove its sockets. May be called again."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            shutil.rmtree(self.sockets, ignore_errors=True)
            return
        keeper.close()

    @property
    def has_keeper(self) -> bool:
        """Whether this was started and not closed since."""
        return self._keeper is not None

    @property
    def kept(self) -> Kept:
        """libvirtd under its keeper."""
        if self._keeper is None:
            raise RuntimeError("not started, or closed")
        return self._keeper

    @property
    def root(self) -> Path:
        """The file system as libvirtd sees it, masked folders included."""
        return Path(f"/proc/{self.kept.pid}/root")

    def furnish(self, root: Path) -> None:
        """A subclass's work before libvirtd's first start; `root` is the file system as libvirtd will see it."""

    def prepare(self) -> None:
        """A subclass's work between "it listens" and "a program under test may see it"."""

    def environment(self) -> dict[str, str]:
        """libvirtd's environment. An unprivileged one keeps its files below XDG_*, so these are our own."""
        private = str(self._private)
        own = dict.fromkeys(("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"), private)
        return {**os.environ, **own, "LIBVIRT_DRIVER_DIR": str(self.drivers)}

    @property
    def private_uri(self) -> str:
        """The address that works before `_show`."""
        return self._address(self._listening / "libvirt-sock")

    def _address(self, socket: Path) -> str:
        return f"{self.driver}+unix://{self.path}?socket={socket}"

    def _hide(self) -> None:
        for link in self.sockets.glob("libvirt-sock*"):
            link.unlink()

    def _show(self) -> None:
        """Give the sockets their public names.

        An agent that tries again and again to connect would otherwise see the daemon before the test has prepared
        it. A killed daemon's names stay, as a real one's do.
        """
        for socket in self._listening.glob("libvirt-sock*"):
            (self.sockets / socket.name).symlink_to(socket)

    def _listens(self) -> bool:
        if not self.is_running:
            raise AssertionError(f"libvirtd ended while starting; its log:\n{self.log.read_text()}")
        try:
            with quiet_libvirt():
                libvirt.open(self.private_uri).close()
        except libvirt.libvirtError:
            return False
        return True

    def _new_keeper(self) -> Kept:
        program = find_program("libvirtd")
        if program is None:
            raise RuntimeError("libvirtd is not installed")
        configuration = self.folder / "libvirtd.conf"
        configuration.write_text(LIBVIRTD_CONF.format(sockets=self._listening, host_uuid=self.host_uuid))
        return Kept(
            [*self.prefix, program, "--config", str(configuration), "--pid-file", str(self._private / "libvirtd.pid")],
            log=self.log,
            masked=self.masked if can_mask() else (),
            removed=self.sockets,
            environment=self.environment(),
        )

    def _end(self, number: signal.Signals) -> None:
        self.kept.signal(number)
        wait_until(lambda: not self.is_running, f"libvirtd to end after {number.name}", END_LIMIT_S)
        self.pid = 0
