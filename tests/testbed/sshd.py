"""A real sshd on a loopback port, with keys and configuration of its own: how the panel reaches a node elsewhere."""

import getpass
import os
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.testbed.daemon import find_program, needed_programs
from tests.testbed.supervised import environment
from tests.testbed.waiting import LOOPBACK, free_port, wait_until

CONF = """\
ListenAddress {address}:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
PermitRootLogin prohibit-password
LogLevel VERBOSE
SetEnv VMWATCH_PREFIX={prefix} PATH={path}
"""
END_LIMIT_S = 30


def needs_sshd() -> pytest.MarkDecorator:
    """The mark of a test that uses it."""
    reason = needed_programs("sshd", "ssh", "ssh-keygen", "ssh-keyscan")
    return pytest.mark.skipif(bool(reason), reason=reason)


class Sshd:
    """Serves while the `with` block runs. `prefix`: of the vmwatch that is found behind it.

    `prefixed`: a command before sshd's own, such as one that enters a network namespace.
    """

    def __init__(
        self, folder: Path, prefix: Path, *, address: str = LOOPBACK, port: int = 0, prefixed: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder
        self.address = address
        self.port = port or free_port()
        self._prefixed = prefixed
        folder.mkdir(parents=True, exist_ok=True)
        self.new_host_key()
        self.authorized_keys = folder / "authorized_keys"
        self.authorized_keys.touch(0o600)
        path = environment()["PATH"]
        conf = CONF.format(address=address, port=self.port, folder=folder, prefix=prefix, path=path)
        (folder / "sshd_config").write_text(conf)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def target(self) -> str:
        """As `vmwatch node add --ssh` takes it."""
        return f"{getpass.getuser()}@{self.address}:{self.port}"

    @property
    def fingerprint(self) -> str:
        told = subprocess.run(
            ["ssh-keygen", "-l", "-f", str(self.folder / "host_key.pub")], capture_output=True, text=True, check=True
        )
        return told.stdout.split()[1]

    @property
    def log(self) -> str:
        return (self.folder / "sshd.log").read_text()

    def new_host_key(self) -> None:
        """Another one, as after an installation of the machine; it counts from the next start."""
        for name in ("host_key", "host_key.pub"):
            (self.folder / name).unlink(missing_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "host_key")], check=True
        )

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd wants it, and a machine without sshd lacks it
        program = find_program("sshd")
        assert program is not None
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefixed, program, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._listens, "sshd to listen")

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(END_LIMIT_S)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"sshd has ended:\n{self.log}"
        if self._prefixed:
            return "Server listening" in self.log
        try:
            socket.create_connection((self.address, self.port), 1).close()
        except OSError:
            return False
        return True
