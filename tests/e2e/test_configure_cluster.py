"""A cluster from nothing: a node here, one behind a real sshd in a network of its own, and a firewall in between."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.netns import Namespace, needs_namespaces, program
from tests.testbed.sshd import Sshd, needs_sshd
from tests.testbed.stack import short_folder
from tests.testbed.supervised import Machine, PanelHost
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until

pytestmark = [needs_libvirtd(), needs_sshd(), needs_namespaces("iptables")]
SSH_PORT = 2222


@pytest.fixture
def folder() -> Iterator[Path]:
    made = short_folder()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def test_both_nodes_come_up_and_a_closed_port_is_told_with_the_command_that_opens_it(
    folder: Path, tmp_path: Path
) -> None:
    with (
        TestDriverDaemon(tmp_path / "one", domains=("web",)) as one,
        TestDriverDaemon(tmp_path / "two", domains=("db",)) as two,
        Namespace() as elsewhere,
        PanelHost(folder / "a", one.uri, elsewhere.here) as here,
        Machine(folder / "b", prefixed=elsewhere.prefix) as there,
        Sshd(folder / "s", folder / "b", address=elsewhere.there, port=SSH_PORT, prefixed=elsewhere.prefix) as sshd,
    ):
        there.conf("vmwatch-node").write_text(f"libvirt_uri={two.uri}\nheartbeat_interval=1\n")
        here.wait_panel()
        here.vmwatch("node", "add", "kvm-01", "--local")
        sshd.authorized_keys.write_text(here.vmwatch("node", "key"))
        closed = here.port + 1
        rule = ("OUTPUT", "-p", "tcp", "--dport", str(closed), "-j", "DROP")
        elsewhere.run(program("iptables"), "-A", *rule)
        add = ("node", "add", "kvm-02", "--ssh", sshd.target, "--host-key", sshd.fingerprint)
        printed = here.vmwatch(*add, code=1)
        assert f"tcp://{elsewhere.here}:{closed} timeout; if a firewall on the master's host does that: " in printed
        assert any(command in printed for command in (f"dport {{ {closed} }}", f"--add-port={closed}/tcp"))
        problems = here.panel.rows("problems", type="vmwatch_node_stopped", state="open")
        assert [row["object"] for row in problems] == ["kvm-02"]
        elsewhere.run(program("iptables"), "-D", *rule)
        here.vmwatch("configure")
        wait_until(lambda: {row["name"] for row in here.panel.rows("vm")} == {"web", "db"}, "both nodes' VMs")
        assert here.panel.rows("problems", type="vmwatch_node_stopped", state="open") == []
        assert {row["name"]: row["state"] for row in here.panel.rows("vmhostnode")} == {
            "kvm-01": "active",
            "kvm-02": "active",
        }
