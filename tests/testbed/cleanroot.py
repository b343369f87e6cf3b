"""A clean Debian to install packages in: its own files, processes and network, which all end together.

debootstrap makes it once, into `build/`; each use begins with an overlay above that, in memory. Mounts are made in a
mount namespace and processes live in a process namespace, so whatever happens, nothing of either outlives its first
process, which the kernel ends with the test.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from tests.testbed.daemon import needed_programs
from tests.testbed.waiting import wait_until
from tests.testbed.withblock import WithBlock

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "clean-root"
SUITE = "bookworm"
MIRROR = os.environ.get("VMWATCH_MIRROR", "http://deb.debian.org/debian")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
END_LIMIT_S = 30
RUN_LIMIT_S = 300
GUARD = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "PATH": PATH, "HOME": "/root"}

FIRST_PROCESS = """\
set -eu
place=$1
base=$2
shift 2
ip link set lo up
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$place"
mkdir "$place/up" "$place/work" "$place/root"
root=$place/root
mount -t overlay -o "lowerdir=$base,upperdir=$place/up,workdir=$place/work" overlay "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
for folder; do
    mkdir -p "$root/$folder"
    mount --bind "$folder" "$root/$folder"
done
exec chroot "$root" /bin/sh -c 'echo ready; while :; do sleep 0.2; done'
"""
"""It reaps what others leave behind: each end of its `sleep` is a wait for all children."""


def needs_clean_root() -> list[pytest.MarkDecorator]:
    """The marks of a test that uses one."""
    reason = needed_programs("debootstrap", "unshare", "nsenter", "ip")
    return [
        pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a Debian root and namespaces"),
        pytest.mark.skipif(bool(reason), reason=reason),
    ]


def base() -> Path:
    """The clean system, made if it is not there yet; its packages' archives too, so that no test needs a network."""
    made = CACHE / SUITE
    if not (made / ".complete").exists():
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        told = _run_apart(["debootstrap", "--variant=minbase", SUITE, str(made), MIRROR])
        assert told == "", told
        (made / ".complete").touch()
    return made


def base_with(name: str, *packages: str) -> Path:
    """The same with some packages of the distribution installed; nothing of them is started."""
    made = CACHE / f"{SUITE}-{name}"
    if not (made / ".complete").exists():
        shutil.rmtree(made, ignore_errors=True)
        subprocess.run(["cp", "--archive", str(base()), str(made)], check=True)  # devices as devices
        (made / ".complete").unlink()
        policy = made / "usr" / "sbin" / "policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        install = "apt-get update && apt-get --yes --no-install-recommends install"
        told = _run_apart(
            ["sh", "-euc", f'mount -t proc proc "$0/proc"; chroot "$0" sh -c "{install} $*"', str(made), *packages]
        )
        assert told == "", told
        policy.unlink()
        (made / ".complete").touch()
    return made


def fetch(packages: Sequence[Path], *names: str) -> None:
    """Load into the base what these packages depend on, and what `names` names, without installing any of it."""
    made = base()
    for package in packages:
        shutil.copy(package, made / "tmp" / package.name)
    files = [f"/tmp/{package.name}" for package in packages]
    apt = ["chroot", str(made), "apt-get", "--yes", "--no-install-recommends"]
    download = [*apt, "--download-only", "install", *files, *names]
    try:
        if _run_apart(download):
            # What was the newest when the base was made may have left the mirror.
            for command in ([*apt, "update"], download):
                assert (told := _run_apart(command)) == "", f"{command}: {told}"
    finally:
        for package in packages:
            (made / "tmp" / package.name).unlink()


def _run_apart(command: Sequence[str]) -> str:
    """In a mount namespace of its own: what it mounts ends with it. What was printed, if it failed; else nothing."""
    done = subprocess.run(
        ["unshare", "--mount", *command],
        env={**os.environ, **GUARD},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return (done.stdout[-4000:] or "without a word") if done.returncode else ""


class CleanRoot(WithBlock):
    """One use of it. `shared`: folders of this machine that are seen at the same place inside."""

    first_process: ClassVar[str] = FIRST_PROCESS
    """A shell's words that mount the root and say `ready`. Arguments: where to mount, the base, what is shared."""
    more_apart: ClassVar[tuple[str, ...]] = ()
    """More options of unshare."""

    def __init__(self, folder: Path, *shared: Path) -> None:
        self._folder = folder
        self._shared = shared
        self._outer: subprocess.Popen[str] | None = None
        self._first = 0

    @property
    def base(self) -> Path:
        """What it begins with."""
        return base()

    def entering(self, command: Sequence[str]) -> Sequence[str]:
        """How its first command is started."""
        return command

    @property
    def path(self) -> Path:
        """Its files, as this machine sees them."""
        return Path(f"/proc/{self._first}/root")

    def begin(self) -> None:
        mount_point = self._folder / "mnt"
        mount_point.mkdir(parents=True)
        apart = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", *self.more_apart, "--fork", "--kill-child"]
        first = ["sh", "-c", self.first_process, "sh", str(mount_point), str(self.base), *map(str, self._shared)]
        self._outer = subprocess.Popen(
            self.entering(["setpriv", "--pdeathsig", "KILL", *apart, *first]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._outer.stdout is not None
        told = self._outer.stdout.readline()
        assert told == "ready\n", told + self._outer.stdout.read()
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        self._first = int(children[0])

    def close(self) -> None:
        """End all that runs inside; its mounts go with the last process."""
        outer, self._outer = self._outer, None
        if outer is None:
            return
        if self._first:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._first, signal.SIGKILL)
        else:
            outer.kill()
        outer.wait(END_LIMIT_S)

    def run(self, *command: str, code: int = 0, told: str = "", **environment: str) -> str:
        """Run a command inside; what it printed. `told`: its standard input."""
        apart = ["nsenter", "--target", str(self._first), "--all", f"--root={self.path}", "--wd=/"]
        done = subprocess.run(
            [*apart, *command],
            input=told,
            env={**GUARD, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )
        assert done.returncode == code, f"{command}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout

    def install(self, *packages: Path, code: int = 0) -> str:
        """apt-get, of package files of this machine; what they depend on was fetched before."""
        for package in packages:
            shutil.copy(package, self.path / "root" / package.name)
        names = [f"/root/{package.name}" for package in packages]
        options = ("--yes", "--no-install-recommends", "--no-download", "-o", "APT::Sandbox::User=root")
        return self.run("apt-get", *options, "install", *names, code=code)

    def wait(self, what: str, *command: str) -> None:
        """Until a command succeeds inside."""

        def succeeds() -> bool:
            try:
                self.run(*command)
            except AssertionError:
                return False
            return True

        wait_until(succeeds, what)
