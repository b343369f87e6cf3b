"""supervisord as the demo uses it: its configuration, its child processes, and the end of all of them.

It runs under a keeper (`kept`), which lives in a session of its own: when the demo is killed, or its terminal closed,
the keeper ends supervisord and whatever it started, and removes the folder.
"""

import os
import select
import shlex
import shutil
import signal
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from vmwatch.cli.demo_folder import DemoError, DemoFolder
from vmwatch.cli.kept import Kept
from vmwatch.shared.paths import PREFIX_VARIABLE

SERVICES = ("vmwatch-panel", "vmwatch-master", "vmwatch-node")
CHECKOUT = Path(__file__).resolve().parent.parent
TAIL_LINES = 15
POLL_S = 0.05
KEEPERLESS_END_S = 30.0

CONF = """\
; Written by `vmwatch demo`. supervisorctl -c {conf} status
[unix_http_server]
file = {socket}
chmod = 0700

[supervisord]
nodaemon = true
silent = true
logfile = {var}/supervisord.log
pidfile = {run}/supervisord.pid
childlogdir = {var}
{user}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{socket}

[include]
files = {conf_d}/*.conf
"""

PROGRAM = """\
[program:{name}]
command = {command}
environment = {environment}
{user}priority = {priority}
autorestart = true
startsecs = 0
stopwaitsecs = 10
killasgroup = true
redirect_stderr = true
stdout_logfile = {var}/{name}.out
"""


@dataclass(frozen=True)
class Program:
    """A program of the demo's own, beside the services in conf.d."""

    name: str
    command: Sequence[str]
    priority: int
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""


class Supervisord:
    """supervisord with the three services and some programs. `close` leaves no process of it."""

    def __init__(self, folder: DemoFolder, programs: Sequence[Program]) -> None:
        """Write its configuration, and start the keeper. Raises DemoError."""
        self._folder = folder
        self.names = [program.name for program in programs] + list(SERVICES)
        self._socket = folder.run / "supervisord.sock"
        conf = folder.etc / "supervisord.conf"
        user = "user = root\n" if os.geteuid() == 0 else ""  # it warns unless it is told that root is meant
        conf.write_text(
            CONF.format(conf=conf, socket=self._socket, var=folder.var, run=folder.run, conf_d=folder.conf_d, user=user)
        )
        for program in programs:
            (folder.conf_d / f"{program.name}.conf").write_text(_section(program, folder.var))
        for service in SERVICES:
            shutil.copy(conf_d_folder() / f"{service}.conf", folder.conf_d)
        self._kept = Kept(
            [sys.executable, "-I", "-m", "supervisor.supervisord", "-c", str(conf)],
            log=folder.var / "supervisord.out",
            removed=folder.path if folder.is_temporary else None,
            environment=_environment(folder),
        )
        self._process = -1

    def start(self) -> None:
        """Start supervisord, which starts everything."""
        # A descriptor, not a pid: it stays this process, also when we must wait for it without the keeper.
        self._process = os.pidfd_open(self._kept.start())

    @property
    def is_running(self) -> bool:
        """Whether supervisord lives."""
        try:
            return self._kept.is_running
        except RuntimeError:  # somebody has killed the keeper
            return False

    def failed(self) -> dict[str, str]:
        """Why, for each program that has ended since the start or could not be started; it may run again by now."""
        return {
            process["name"]: process["spawnerr"] or f"exit code {process['exitstatus']}"
            for process in self._processes()
            if process["stop"] or process["statename"] in ("BACKOFF", "FATAL", "EXITED")
        }

    def told_by(self, name: str) -> str:
        """The end of what a program has logged and printed, or of supervisord's own log for the name `supervisord`."""
        var = self._folder.var
        printed = [*sorted(var.glob(f"{name}-stdout*")), var / f"{name}.out"]
        lines: list[str] = []
        for path in [var / f"{name}.log", *printed]:
            if path.is_file():
                lines += path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (nothing)"

    def stop(self, limit_s: float, is_urgent: Callable[[], bool]) -> None:
        """Let all programs end in order, the node first, unless that takes too long or `is_urgent`.

        `close` must follow.
        """
        if not self.is_running:
            return
        self._kept.signal(signal.SIGTERM)
        deadline = time.monotonic() + limit_s
        while self.is_running and time.monotonic() < deadline and not is_urgent():
            time.sleep(POLL_S)

    def close(self) -> None:
        """End at once what still runs; a temporary folder goes. May be called again."""
        self._kept.close()
        if self._process < 0:
            return
        # Usually it is gone by now. If somebody has killed the keeper, it was told so and is stopping.
        ended, _, _ = select.select([self._process], [], [], KEEPERLESS_END_S)
        if not ended:
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        os.close(self._process)
        self._process = -1

    def _processes(self) -> list[dict[str, Any]]:
        """What supervisord says of its processes; nothing while it starts."""
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        try:
            with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
                told: Any = proxy.supervisor.getAllProcessInfo()
        except (OSError, xmlrpc.client.Error, ValueError):
            return []
        return list(told)


def conf_d_folder() -> Path:
    """Where the services' program files are: in a checkout beside this package, or where packages put them."""
    for folder in (CHECKOUT / "conf.d", Path(sys.prefix) / "conf.d", Path(sys.prefix) / "share" / "vmwatch" / "conf.d"):
        if all((folder / f"{service}.conf").is_file() for service in SERVICES):
            return folder
    raise DemoError("the program files of supervisord (conf.d/vmwatch-*.conf) are not installed")


def programs_path() -> str:
    """PATH with the folder of our own commands in front."""
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))


def _environment(folder: DemoFolder) -> dict[str, str]:
    """What all programs inherit. A desktop's message bus is not theirs: libvirtd would speak to it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DBUS_", "LIBVIRT_", "XDG_"))}
    kept.pop("DISPLAY", None)
    return {**kept, PREFIX_VARIABLE: str(folder.path), "PATH": programs_path()}


def _section(program: Program, var: Path) -> str:
    """Its part of the configuration; % begins an expansion there."""
    return PROGRAM.format(
        name=program.name,
        command=shlex.join(program.command).replace("%", "%%"),
        environment=",".join(f'{name}="{value}"' for name, value in program.environment.items()),
        user=f"user = {program.user}\n" if program.user else "",
        priority=program.priority,
        var=var,
    )
