"""A machine within this one, as far as service managers see it: an init of its own in namespaces of its own.

Its init is process 1 of a PID namespace, so everything that it ever started ends with it; what it writes to /etc,
/run and the like goes to file systems in memory of its mount namespace. Nothing of it is seen by this machine.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import psutil
import pytest

from tests.testbed import controlgroup
from tests.testbed.controlgroup import ControlGroup
from tests.testbed.waiting import wait_until
from tests.testbed.withblock import WithBlock
from vmwatch.cli.kept import Kept

PACKAGING = Path(__file__).parents[2] / "packaging"
CHECKOUT = Path(__file__).parents[2]
MASK = 'for folder in {folders}; do if [ -d "$folder" ]; then mount -t tmpfs -o mode=755 tmpfs "$folder"; fi; done\n'


class InitSpace(WithBlock):
    """`script`: a shell's words as process 1, which must end in an init. `cgroup`: the group that it gets, if any."""

    def __init__(self, folder: Path, masked: Sequence[str], script: str, cgroup: ControlGroup | None = None) -> None:
        self.folder = folder
        self._cgroup = cgroup
        text = "set -e\n" + MASK.format(folders=" ".join(masked)) + script
        (folder / "init.sh").write_text(text)
        unshare = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = [*unshare, *(["--cgroup"] if cgroup else []), "sh", str(folder / "init.sh")]
        if cgroup:
            command = cgroup.entering(command)
        self.kept = Kept(command, log=folder / "init.log")
        self.pid = 0
        """Of its process 1, as this machine counts."""

    def close(self) -> None:
        """Process 1 ends, and with it everything within."""
        self.kept.close()
        if self._cgroup is not None:
            self._cgroup.remove()

    @property
    def enter(self) -> tuple[str, ...]:
        """Before a command: runs it within."""
        return ("nsenter", "-t", str(self.pid), "--mount", "--pid", *(["--cgroup"] if self._cgroup else []), "--")

    @property
    def log(self) -> str:
        return (self.folder / "init.log").read_text(errors="replace")

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """A command within, when it has ended."""
        return subprocess.run(
            [*self.enter, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
        )

    def path(self, path: str) -> Path:
        """A file within, as this machine reaches it."""
        return Path(f"/proc/{self.pid}/root{path}")

    def serves(self) -> bool:
        """Whether its init is up."""
        return (self.path("/run") / "up").exists()

    def begin(self) -> None:
        outer = psutil.Process(self.kept.start())
        [inner] = wait_until(lambda: self._living(outer).children(), "process 1 to start")
        self.pid = inner.pid
        wait_until(lambda: self._living(outer) and self.serves(), "its init to be up")

    def _living(self, outer: psutil.Process) -> psutil.Process:
        assert self.kept.is_running, f"it has ended:\n{self.log}"
        return outer


class SysvSpace(InitSpace):
    """A machine with System V scripts: `service` and the tools for boot links work on folders of its own.

    `services`: whose scripts are there. `settings`: lines for /etc/default of each.
    """

    MASKED = ("/run", "/etc/init.d", "/etc/default", "/etc/sysconfig", *(f"/etc/rc{level}.d" for level in "0123456S"))

    def __init__(self, folder: Path, services: Sequence[str], settings: str) -> None:
        defaults = folder / "default"
        defaults.write_text(settings)
        scripts = " ".join(str(PACKAGING / "sysv" / service) for service in services)
        lines = [f"install -m 755 {scripts} /etc/init.d"]
        lines += [f"cp {defaults} /etc/default/{service}" for service in services]
        # Who is process 1 must collect what others leave behind.
        reaper = "import signal,os\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nopen('/run/up','w').close()\n"
        lines.append(f'exec python3 -I -c "{reaper}while 1: signal.pause()"')
        super().__init__(folder, self.MASKED, "\n".join(lines))


class SystemdSpace(InitSpace):
    """A machine that was booted with systemd, with the units of packaging/systemd and few others.

    `changes`: lines of a drop-in for the services. `places`: what their paths become.
    """

    SYSTEMD = Path("/lib/systemd/systemd")
    MASKED = (
        "/run",
        "/etc/init.d",
        "/etc/systemd/system",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/usr/lib/systemd/system-generators",
    )
    STUBS = ("sysinit", "basic", "shutdown", "multi-user", "network-online", "network", "time-sync", "timers")

    def __init__(self, folder: Path, changes: str, places: Mapping[str, str]) -> None:
        units = folder / "units"
        units.mkdir()
        for name in self.STUBS:
            (units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        for unit in (PACKAGING / "systemd").glob("*.*"):
            text = unit.read_text()
            for old, new in places.items():
                text = text.replace(old, new)
            (units / unit.name).write_text(text)
            if unit.suffix == ".service":
                (units / f"{unit.name}.d").mkdir()
                (units / f"{unit.name}.d" / "test.conf").write_text(changes)
        lines = [
            "mkdir -p /run/systemd /run/lock",
            "umount -R /sys/fs/cgroup",
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
            # What an init does to the machine as a whole is not for this one.
            "mount --bind /proc/sys /proc/sys",
            "mount -o remount,ro,bind /proc/sys",
            "mount -o remount,ro,bind /sys",
            f"cp -r {units}/. /usr/lib/systemd/system",
            "export container=vmwatch",
            f"exec {self.SYSTEMD} --system --unit=multi-user.target --show-status=0 --log-target=null",
        ]
        group = ControlGroup(f"vmwatch-{os.getpid()}-{folder.name}")
        super().__init__(folder, self.MASKED, "\n".join(lines), group)

    def serves(self) -> bool:
        told = self.run("systemctl", "is-active", "multi-user.target")
        return told.stdout.strip() == "active"


@cache
def _why_no_namespaces() -> str:
    if os.geteuid() != 0:
        return "namespaces of its own need root"
    trial = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    done = subprocess.run(trial, capture_output=True, text=True, check=False)
    return f"no namespaces: {done.stderr.strip()}" if done.returncode else ""


@cache
def _why_no_systemd() -> str:
    if why := _why_no_namespaces():
        return why
    if not SystemdSpace.SYSTEMD.exists():
        return f"{SystemdSpace.SYSTEMD} is not installed"
    try:
        trial = controlgroup.root() / f"vmwatch-trial-{os.getpid()}"
        trial.mkdir()
        trial.rmdir()
    except (OSError, RuntimeError) as error:
        return f"no control groups for a systemd of its own: {error}"
    return ""


def needs_sysv() -> pytest.MarkDecorator:
    """Skips where there can be no such space."""
    why = _why_no_namespaces() or ("" if shutil.which("service") else "`service` is not installed")
    return pytest.mark.skipif(bool(why), reason=why)


def needs_systemd() -> pytest.MarkDecorator:
    """Skips where there can be no such space."""
    return pytest.mark.skipif(bool(_why_no_systemd()), reason=_why_no_systemd())
