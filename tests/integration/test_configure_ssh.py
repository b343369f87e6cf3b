"""A node behind a real sshd: host keys, a key that can do one thing, partial failure, and the way back."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.service import command
from tests.testbed.sshd import Sshd, needs_sshd
from tests.testbed.stack import short_folder
from tests.testbed.supervised import Machine, PanelHost
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import LOOPBACK, free_port, wait_until
from vmwatch.shared.nodectl import Outcome, decode_word
from vmwatch.shared.services import ServiceState

pytestmark = [needs_libvirtd(), needs_sshd()]


class Cluster:
    """The panel's machine, and one that is reached over SSH alone."""

    def __init__(self, folder: Path, daemon: TestDriverDaemon) -> None:
        self.here = PanelHost(folder / "a", daemon.uri)
        self.there = Machine(folder / "b")
        self.there.conf("vmwatch-node").write_text(f"libvirt_uri={daemon.uri}\nheartbeat_interval=1\n")
        self.sshd = Sshd(folder / "s", folder / "b")

    @property
    def names(self) -> list[str]:
        return [row["name"] for row in self.here.panel.rows("vmhostnode")]

    def failed(self) -> list[str]:
        """The nodes that are a problem."""
        return [row["object"] for row in self.here.panel.rows("problems", type="vmwatch_node_stopped", state="open")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = short_folder()
    try:
        with TestDriverDaemon(tmp_path_factory.mktemp("libvirt"), domains=("db",)) as daemon:
            made = Cluster(folder, daemon)
            with made.here, made.there, made.sshd:
                made.here.wait_panel()
                yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_node_over_ssh_from_an_unknown_host_key_to_its_first_vm(cluster: Cluster) -> None:
    here, sshd = cluster.here, cluster.sshd
    add = ("node", "add", "kvm-02", "--ssh", sshd.target)
    assert f"is that its key? If so: --host-key {sshd.fingerprint}" in here.vmwatch(*add, code=1)
    wrong = here.vmwatch(*add, "--host-key", "SHA256:" + "A" * 43, code=1)
    assert f"shows {sshd.fingerprint} (ssh-ed25519), and not SHA256:AAA" in wrong
    line = here.vmwatch("node", "key")
    refused = here.vmwatch(*add, "--host-key", sshd.fingerprint, code=1)
    assert f"put this line into its authorized_keys: {line}" in refused
    assert cluster.names == []
    sshd.authorized_keys.write_text(line)
    assert "runs, and hears the master" in here.vmwatch(*add)
    assert cluster.there.state("vmwatch-node").is_up
    wait_until(lambda: [row["name"] for row in here.panel.rows("vm")] == ["db"], "the VM to be known")
    assert (here.prefix / "etc" / "vmwatch-ssh-key").stat().st_mode & 0o777 == 0o600


def test_the_panels_key_can_do_one_thing(cluster: Cluster) -> None:
    user, _, place = cluster.sshd.target.partition("@")
    key, known = (cluster.here.prefix / "etc" / name for name in ("vmwatch-ssh-key", "vmwatch-ssh-known-hosts"))
    options = [f"UserKnownHostsFile={known}", "BatchMode=yes", "IdentitiesOnly=yes"]
    ssh = ["ssh", "-F", "none", "-i", str(key), *(w for o in options for w in ("-o", o)), "-l", user]
    ssh += ["-p", place.partition(":")[2], LOOPBACK]
    told = subprocess.run([*ssh, "id"], input=b"", capture_output=True, timeout=120, check=False)
    word = decode_word(told.stdout.strip())
    assert isinstance(word, Outcome)
    assert not word.ok
    assert "no request" in word.text
    assert b"uid=" not in told.stdout


def test_the_key_for_installing_is_another_one_and_is_for_libvirt_alone(cluster: Cluster) -> None:
    line = cluster.here.vmwatch("node", "key", "--install")
    assert line.startswith('command="virt-ssh-helper qemu:///system",restrict ssh-ed25519 ')
    assert line.split()[-2] != cluster.here.vmwatch("node", "key").split()[-2]


def test_one_nodes_failure_stops_no_other_and_is_a_problem_until_it_is_gone(cluster: Cluster) -> None:
    here = cluster.here
    with socket.create_server((LOOPBACK, 0)) as mute:  # takes connections, and never says a word
        for name, port in (("kvm-03", free_port()), ("kvm-04", mute.getsockname()[1])):
            here.panel.change("vmhostnode.edit", name=name, reach="ssh", ssh=f"root@{LOOPBACK}:{port}")
        printed = here.vmwatch("configure", code=1)
        assert "kvm-02: runs, and hears the master" in printed
        assert "kvm-03: FAILED: root@127.0.0.1" in printed
        assert "kvm-04: FAILED: root@127.0.0.1" in printed
        assert sorted(cluster.failed()) == ["kvm-03", "kvm-04"]
    for name in ("kvm-03", "kvm-04"):
        here.vmwatch("node", "remove", name)
    assert cluster.names == ["kvm-02"]
    assert cluster.failed() == []


def test_another_host_key_is_refused_until_somebody_trusts_it(cluster: Cluster) -> None:
    here, sshd = cluster.here, cluster.sshd
    sshd.stop()
    sshd.new_host_key()
    sshd.start()
    assert "shows another host key than the known one" in here.vmwatch("configure", code=1)
    assert cluster.failed() == ["kvm-02"]
    here.vmwatch("node", "trust", "kvm-02", "--host-key", sshd.fingerprint)
    here.vmwatch("configure")
    assert cluster.failed() == []
    known = (here.prefix / "etc" / "vmwatch-ssh-known-hosts").read_text()
    assert len(known.splitlines()) == 1


def test_the_listing_of_nodes_says_how_each_is_reached(cluster: Cluster) -> None:
    row = cluster.here.vmwatch("node", "list").split("\t")
    assert (row[1], row[3], row[5]) == ("kvm-02", "ssh", cluster.sshd.target)


def test_a_node_that_is_removed_is_stopped_there_and_its_key_goes(cluster: Cluster) -> None:
    assert "vmwatch-node is stopped" in cluster.here.vmwatch("node", "remove", "kvm-02")
    assert cluster.there.state("vmwatch-node").state is ServiceState.MISSING
    assert not list((cluster.there.prefix / "etc").iterdir())
    assert cluster.here.values("vmwatch-master")["disabled"] == "yes"
    assert cluster.names == []


def test_the_command_is_there_for_a_forced_command() -> None:
    told = subprocess.run([command("vmwatch-nodectl"), "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("vmwatch-nodectl ")
