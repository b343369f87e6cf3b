"""`vmwatch.configure` under a real supervisord: from an empty prefix to services that work, and every change after."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.service import command
from tests.testbed.stack import ADMIN, Panel
from tests.testbed.supervised import Machine, environment
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import free_port_pair, wait_until
from vmwatch.shared.keys import node_key
from vmwatch.shared.services import ServiceState

pytestmark = needs_libvirtd()


class Host(Machine):
    """The panel's machine: a panel under supervisord, and nothing else yet."""

    def __init__(self, folder: Path, libvirt_uri: str) -> None:
        self.panel = Panel(folder)
        self.port = free_port_pair()
        self.listen(self.port)
        super().__init__(folder, "vmwatch-panel")
        self.write_node(libvirt_uri)

    def listen(self, port: int) -> None:
        self.port = port
        text = f"PanelListen 127.0.0.1:{self.panel.port}\nVmwatchListenIp 127.0.0.1\nVmwatchListenPort {port}\n"
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

    def wait_panel(self) -> None:
        wait_until(lambda: self.status("vmwatch-panel"), "the panel to serve")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestDriverDaemon]:
    with TestDriverDaemon(tmp_path_factory.mktemp("libvirt"), domains=("web",)) as made:
        yield made


@pytest.fixture
def host(short_path: Path, daemon: TestDriverDaemon) -> Iterator[Host]:
    with Host(short_path, daemon.uri) as made:
        made.wait_panel()
        yield made


def test_the_first_node_brings_up_everything_and_the_last_one_takes_it_down(host: Host) -> None:
    assert "hears the master" in host.vmwatch("node", "add", "kvm-01", "--local")
    master, node = host.values("vmwatch-master"), host.values("vmwatch-node")
    assert "disabled" not in master
    assert node["node_key"] == node_key(master["secret"], "kvm-01").hex()
    assert host.state("vmwatch-master").is_up
    assert host.state("vmwatch-node").is_up
    wait_until(lambda: [row["name"] for row in host.panel.rows("vm")] == ["web"], "the VM to be known")
    starts = [host.starts(name) for name in ("vmwatch-master", "vmwatch-node")]
    stamps = [host.conf(name).stat().st_mtime_ns for name in ("vmwatch-master", "vmwatch-node")]
    assert "is right already" in host.vmwatch("configure")
    assert starts == [host.starts(name) for name in ("vmwatch-master", "vmwatch-node")]
    assert stamps == [host.conf(name).stat().st_mtime_ns for name in ("vmwatch-master", "vmwatch-node")]
    assert "vmwatch-node is stopped" in host.vmwatch("node", "remove", "kvm-01")
    assert host.values("vmwatch-master")["disabled"] == "yes"
    assert host.state("vmwatch-master").state is ServiceState.STOPPED
    assert host.state("vmwatch-node").state is ServiceState.MISSING
    assert not host.conf("vmwatch-node").exists()
    assert host.panel.rows("vmhostnode") == []
