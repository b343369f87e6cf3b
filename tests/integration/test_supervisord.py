"""The program files of conf.d under a real supervisord: which end is final, and which is followed by a new start."""

import os
import re
import signal
import subprocess
import sys
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from supervisor.xmlrpc import SupervisorTransport

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.stack import SECRET
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import free_port, free_port_pair, wait_until
from vmwatch.cli.kept import Kept
from vmwatch.shared import conffile
from vmwatch.shared.exits import Exit
from vmwatch.shared.statussocket import read_status

CONF_D = Path(__file__).parents[2] / "conf.d"
SERVICES = ("vmwatch-master", "vmwatch-node", "vmwatch-panel")
CONF = """\
[unix_http_server]
file = {prefix}/s.sock
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


class Supervisord:
    """A supervisord with our program files, and nothing of its own but its socket and its log."""

    launched: tuple[str, ...] = ("-m", "supervisor.supervisord")
    """What the interpreter runs."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.port = free_port_pair()
        for folder in ("etc", "var", "conf.d"):
            (prefix / folder).mkdir()
        (prefix / "supervisord.conf").write_text(CONF.format(prefix=prefix))
        for service in SERVICES:
            (prefix / "conf.d" / f"{service}.conf").write_bytes((CONF_D / f"{service}.conf").read_bytes())
        conffile.write_atomically(prefix / "etc" / "vmmgr.conf", f"PanelListen 127.0.0.1:{free_port()}\n")
        self.configure_master()
        self.configure_node()
        bin_folder = str(Path(sys.executable).parent)
        self.kept = Kept(
            [sys.executable, "-I", *self.launched, "-c", str(prefix / "supervisord.conf")],
            log=prefix / "supervisord.out",
            environment={**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
        )

    def configure_master(self, **changes: str) -> None:
        values = {"listen": f"tcp://127.0.0.1:{self.port}", "secret": SECRET, "panel_password": "x", "workers": "2"}
        conffile.write(self.prefix / "etc" / "vmwatch-master.conf", values | changes)

    def configure_node(self, **changes: str) -> None:
        values = {
            "connect": f"tcp://127.0.0.1:{self.port}",
            "secret": SECRET,
            "node_id": "kvm-01",
            "libvirt_uri": f"qemu+unix:///system?socket={self.prefix}/nobody",
        }
        conffile.write(self.prefix / "etc" / "vmwatch-node.conf", values | changes)

    @property
    def processes(self) -> dict[str, dict[str, Any]]:
        """What supervisord says of its processes; nothing while it starts."""
        transport = SupervisorTransport(None, None, f"unix://{self.prefix}/s.sock")
        try:
            with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
                told: Any = proxy.supervisor.getAllProcessInfo()
        except (OSError, xmlrpc.client.Error):
            return {}
        return {process["name"]: process for process in told}

    def state(self, name: str) -> str:
        """Such as RUNNING."""
        state: str = self.processes.get(name, {}).get("statename", "")
        return state

    def pid(self, name: str) -> int:
        """0 while it does not run."""
        pid: int = self.processes.get(name, {}).get("pid", 0)
        return pid

    def starts(self, name: str) -> int:
        """How often it was started."""
        return self.log.count(f"spawned: '{name}'")

    @property
    def log(self) -> str:
        return (self.prefix / "supervisord.log").read_text()

    def wait_serving(self, name: str, other_than: int = 0) -> int:
        """Wait until it answers on its status socket, as another process than before; its pid."""

        def serving() -> int:
            pid = self.pid(name)
            try:
                read_status(self.prefix / "var" / "run" / f"{name}.sock")
                written = int((self.prefix / "var" / "run" / f"{name}.pid").read_text())
            except (OSError, ValueError):
                return 0
            return pid if pid == written != other_than else 0

        return wait_until(serving, f"{name} to serve")

    def node_is_connected(self) -> bool:
        try:
            return bool(read_status(self.prefix / "var" / "run" / "vmwatch-node.sock")["libvirt"]["connected"])
        except (OSError, ValueError, KeyError):
            return False


@pytest.fixture
def supervisord(short_path: Path) -> Iterator[Supervisord]:
    made = Supervisord(short_path)
    try:
        yield made
    finally:
        made.kept.close()


def test_disabled_services_end_as_exited(supervisord: Supervisord) -> None:
    supervisord.configure_master(disabled="yes")
    supervisord.configure_node(disabled="yes")
    supervisord.kept.start()
    for name in ("vmwatch-master", "vmwatch-node"):
        wait_until(lambda name=name: supervisord.state(name) == "EXITED", f"{name} to end")  # type: ignore[misc]
        assert supervisord.processes[name]["exitstatus"] == Exit.OK
    panel = supervisord.wait_serving("vmwatch-panel")
    os.kill(panel, signal.SIGKILL)
    supervisord.wait_serving("vmwatch-panel", other_than=panel)
    # While supervisord was at work for another program it has left these two alone.
    for name in ("vmwatch-master", "vmwatch-node"):
        assert supervisord.state(name) == "EXITED"
        assert supervisord.starts(name) == 1
    assert "gave up" not in supervisord.log


def test_a_wrong_configuration_is_not_tried_again(supervisord: Supervisord) -> None:
    supervisord.configure_node(stats_interval="often")
    supervisord.kept.start()
    wait_until(lambda: supervisord.state("vmwatch-node") == "EXITED", "the node to end")
    assert supervisord.processes["vmwatch-node"]["exitstatus"] == Exit.CONFIGURATION
    [output] = (supervisord.prefix / "var").glob("vmwatch-node-stdout*")
    assert "stats_interval" in output.read_text()
    master = supervisord.wait_serving("vmwatch-master")
    os.kill(master, signal.SIGKILL)
    supervisord.wait_serving("vmwatch-master", other_than=master)
    assert supervisord.starts("vmwatch-node") == 1
    supervisord.configure_node()
    proxy_start(supervisord, "vmwatch-node")
    supervisord.wait_serving("vmwatch-node")


@pytest.mark.parametrize("name", SERVICES)
def test_a_killed_service_is_started_again_each_time(supervisord: Supervisord, name: str) -> None:
    supervisord.kept.start()
    pid = supervisord.wait_serving(name)
    for _ in range(5):  # more often than supervisord's own patience with a program that "fails to start"
        children = psutil.Process(pid).children(recursive=True)
        os.kill(pid, signal.SIGKILL)
        pid = supervisord.wait_serving(name, other_than=pid)
        psutil.wait_procs(children, timeout=60)
        assert not [child for child in children if child.is_running()]
    assert supervisord.starts(name) == 6
    assert "gave up" not in supervisord.log


@needs_libvirtd()
def test_the_loss_of_libvirtd_never_ends_in_fatal(supervisord: Supervisord, tmp_path: Path) -> None:
    with TestDriverDaemon(tmp_path / "libvirt") as libvirtd:
        supervisord.configure_node(libvirt_uri=libvirtd.uri)
        supervisord.kept.start()
        pid = supervisord.wait_serving("vmwatch-node")
        for _ in range(5):
            wait_until(supervisord.node_is_connected, "the node to be connected")
            libvirtd.kill()
            pid = supervisord.wait_serving("vmwatch-node", other_than=pid)
            libvirtd.start()
    assert len(re.findall(r"exited: vmwatch-node \(exit status 69; not expected\)", supervisord.log)) == 5
    assert "gave up" not in supervisord.log


def test_the_end_of_supervisord_is_in_order(supervisord: Supervisord) -> None:
    supervisord.kept.start()
    pids = [supervisord.wait_serving(name) for name in SERVICES]
    started = [psutil.Process(pid) for pid in pids]
    started += [child for process in started for child in process.children(recursive=True)]
    supervisord.kept.signal(signal.SIGTERM)
    wait_until(lambda: not supervisord.kept.is_running, "supervisord to end")
    assert not [process for process in started if process.is_running()]
    stopped = re.findall(r"stopped: (\S+) \(exit status 0\)", supervisord.log)
    assert stopped == ["vmwatch-node", "vmwatch-master", "vmwatch-panel"]


def test_supervisord_accepts_the_files_without_the_prefix(short_path: Path) -> None:
    """On a host with the usual prefix nothing but the include is needed."""
    configuration = short_path / "supervisord.conf"
    files = " ".join(str(CONF_D / f"{service}.conf") for service in SERVICES)
    configuration.write_text(f"[supervisord]\nlogfile={short_path}/log\n[include]\nfiles = {files}\n")
    environment = {name: value for name, value in os.environ.items() if name != "VMWATCH_PREFIX"}
    script = (
        "import sys; from supervisor.options import ServerOptions; options = ServerOptions();"
        f"options.realize(['-c', {str(configuration)!r}]);"
        "print(*sorted(group.name for group in options.process_group_configs))"
    )
    read = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, env=environment)
    assert read.stdout.split() == list(SERVICES), read.stderr


def proxy_start(supervisord: Supervisord, name: str) -> None:
    """`supervisorctl start NAME`."""
    transport = SupervisorTransport(None, None, f"unix://{supervisord.prefix}/s.sock")
    with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
        proxy.supervisor.startProcess(name)
