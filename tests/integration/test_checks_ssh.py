"""Checks of a node behind a real sshd: the machine and its agent are told apart, and what is wrong is solved."""

import os
import shutil
import signal
from collections.abc import Iterator

import pytest

from tests.integration.test_configure_ssh import Cluster
from tests.testbed.daemon import needs_libvirtd
from tests.testbed.sshd import needs_sshd
from tests.testbed.stack import Row, short_folder
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until

pytestmark = [needs_libvirtd(), needs_sshd()]

NODE = "kvm-02"


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestDriverDaemon]:
    with TestDriverDaemon(tmp_path_factory.mktemp("libvirt"), domains=("db",)) as daemon:
        yield daemon


@pytest.fixture
def cluster(daemon: TestDriverDaemon) -> Iterator[Cluster]:
    folder = short_folder()
    try:
        made = Cluster(folder, daemon)
        with made.here, made.there, made.sshd:
            made.here.wait_panel()
            made.sshd.authorized_keys.write_text(made.here.vmwatch("node", "key"))
            made.here.vmwatch("node", "add", NODE, "--ssh", made.sshd.target, "--host-key", made.sshd.fingerprint)
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check(cluster: Cluster) -> Row:
    """What a check says of the node."""
    doc = cluster.here.panel.change("periodic", interval="5")
    elements = doc["elem"] if isinstance(doc["elem"], list) else [doc["elem"]]
    return {name: cell["$"] for name, cell in elements[0].items()}


def open_kinds(cluster: Cluster) -> set[str]:
    rows = cluster.here.panel.rows("problems", state="unsolved")
    return {row["type"] for row in rows if row["object"] == NODE}


def test_agent_machine_and_libvirt_are_told_apart_and_each_is_over_when_its_cause_is_gone(
    cluster: Cluster, daemon: TestDriverDaemon
) -> None:
    wait_until(lambda: check(cluster)["state"] == "ok", "all to be well", 120)
    assert "node_unavailable" not in open_kinds(cluster)
    pid = int((cluster.there.prefix / "var" / "run" / "vmwatch-node.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: check(cluster)["state"] == "stuck", "the agent to be found stuck", 120)
        assert "vmwatch_node_stopped" in open_kinds(cluster)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: check(cluster)["state"] == "ok", "the agent to be well", 120)
    wait_until(lambda: open_kinds(cluster) == set(), "its silence to end as well, with a listing", 120)
    cluster.sshd.stop()
    assert check(cluster)["state"] == "unreachable"
    assert open_kinds(cluster) == {"node_unavailable"}
    cluster.sshd.start()
    assert check(cluster)["state"] == "ok"
    assert open_kinds(cluster) == set()
    daemon.kill()
    wait_until(lambda: check(cluster)["state"] == "no_libvirt", "libvirt to be missed", 120)
    # Also where a check in between met the agent on its way out, which it takes when its libvirt is lost.
    assert open_kinds(cluster) - {"vmwatch_node_silent"} == {"node_unavailable"}
