"""A machine as configuring sees it: a prefix, and a supervisord that reads the program files in it."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.testbed.service import command
from tests.testbed.stack import ADMIN, Panel
from tests.testbed.waiting import LOOPBACK, free_port_pair, wait_until
from tests.testbed.withblock import WithBlock
from vmwatch.cli.kept import Kept
from vmwatch.shared.paths import PREFIX_VARIABLE
from vmwatch.shared.services import ServiceState, ServiceStatus
from vmwatch.shared.statussocket import read_status
from vmwatch.shared.supervisord import Supervisord, program_file

CONF = """\
[unix_http_server]
file = {prefix}/var/run/supervisord.sock
[supervisord]
nodaemon = true
logfile = {prefix}/supervisord.log
pidfile = {prefix}/supervisord.pid
childlogdir = {prefix}/var
environment = VMWATCH_PREFIX="{prefix}"
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files = {prefix}/conf.d/*.conf
"""


class Machine(WithBlock):
    """Services below one prefix. `programs`: what its supervisord knows from the start.

    `prefixed`: a command before supervisord's own, such as one that enters a network namespace.
    """

    def __init__(
        self, prefix: Path, *programs: str, include: bool = True, prefixed: tuple[str, ...] = ()
    ) -> None:
        self.prefix = prefix
        for folder in ("etc", "var/run", "conf.d"):
            (prefix / folder).mkdir(parents=True, exist_ok=True)
        conf = CONF.format(prefix=prefix)
        (prefix / "supervisord.conf").write_text(conf if include else conf.partition("[include]")[0])
        for program in programs:
            (prefix / "conf.d" / f"{program}.conf").write_bytes(program_file(program).read_bytes())
        self.socket = prefix / "var" / "run" / "supervisord.sock"
        self.manager = Supervisord(self.socket, prefix)
        self.kept = Kept(
            [*prefixed, sys.executable, "-I", "-m", "supervisor.supervisord", "-c", str(prefix / "supervisord.conf")],
            log=prefix / "supervisord.out",
            environment=environment(prefix),
        )

    def begin(self) -> None:
        self.start()

    def close(self) -> None:
        self.kept.close()

    def start(self) -> None:
        """Start supervisord, and wait until it answers."""
        self.kept.start()
        wait_until(self.manager.answers, "supervisord to answer")

    def state(self, service: str) -> ServiceStatus:
        """What supervisord says of it."""
        return self.manager.status(service)

    def status(self, service: str) -> dict[str, Any]:
        """What its status socket says; empty while there is none."""
        try:
            return read_status(self.prefix / "var" / "run" / f"{service}.sock")
        except (OSError, ValueError):
            return {}

    def conf(self, name: str) -> Path:
        return self.prefix / "etc" / f"{name}.conf"

    def values(self, name: str) -> dict[str, str]:
        """What a NAME=VALUE file says."""
        lines = self.conf(name).read_text().splitlines()
        return dict(line.partition("=")[::2] for line in lines if line and not line.startswith("#"))

    def starts(self, service: str) -> int:
        """How often supervisord has started it."""
        return (self.prefix / "supervisord.log").read_text().count(f"spawned: '{service}'")

    def never_restart(self, *services: str) -> None:
        """From their first start on: what ends stays so."""
        for service in services:
            text = program_file(service).read_text().replace("autorestart=unexpected", "autorestart=false")
            (self.prefix / "conf.d" / f"{service}.conf").write_text(text)

    def kill_for_good(self, service: str) -> None:
        """kill -9 of one that is never restarted."""
        os.kill(self.state(service).pid, signal.SIGKILL)
        wait_until(lambda: self.state(service).state is ServiceState.ENDED, f"{service} to be gone")

    def log(self, service: str) -> str:
        path = self.prefix / "var" / f"{service}.log"
        return path.read_text() if path.exists() else ""


class PanelHost(Machine):
    """The panel's machine: a panel under supervisord, and nothing else yet."""

    def __init__(
        self, folder: Path, libvirt_uri: str, listen_ip: str = LOOPBACK, prefixed: tuple[str, ...] = ()
    ) -> None:
        self.listen_ip = listen_ip
        self.panel = Panel(folder)
        self.port = free_port_pair()
        self.listen(self.port)
        super().__init__(folder, "vmwatch-panel", prefixed=prefixed)
        self.write_node(libvirt_uri)

    def listen(self, port: int) -> None:
        self.port = port
        text = f"PanelListen 127.0.0.1:{self.panel.port}\nVmwatchListenIp {self.listen_ip}\nVmwatchListenPort {port}\n"
        path = self.panel.prefix / "etc" / "vmmgr.conf"
        path.write_text(text)
        path.chmod(0o600)

    def write_node(self, libvirt_uri: str) -> None:
        """What an operator has written before: lines that configuring leaves alone."""
        self.conf("vmwatch-node").write_text(f"# ours\nlibvirt_uri={libvirt_uri}\nheartbeat_interval=1\n")

    def vmwatch(self, *arguments: str, code: int = 0) -> str:
        """The operator's command; what it printed."""
        told = {**environment(), "VMWATCH_URL": self.panel.url, "VMWATCH_PASSWORD": ADMIN[1]}
        done = subprocess.run(
            [command("vmwatch"), *arguments], capture_output=True, text=True, env=told, timeout=300, check=False
        )
        assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def periodic(self, what: str) -> str:
        """What cron has checked; what was found."""
        done = subprocess.run(
            [command("vmwatch-periodic"), what, "--verbose"],
            capture_output=True,
            text=True,
            timeout=300,
            env=environment(self.prefix),
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def wait_panel(self) -> None:
        wait_until(lambda: self.status("vmwatch-panel"), "the panel to serve")


def environment(prefix: Path | None = None) -> dict[str, str]:
    """Ours, with our commands in PATH and nothing of a supervisord above us."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SUPERVISOR_", "VMWATCH_"))}
    kept["PATH"] = os.pathsep.join((str(Path(command("vmwatch")).parent), kept.get("PATH", os.defpath)))
    return {**kept, PREFIX_VARIABLE: str(prefix)} if prefix else kept

