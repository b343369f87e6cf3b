"""The panel's way to a hypervisor over SSH: a real sshd, its host key, a key that is for libvirt alone, and silence."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.test_installations import installation
from tests.testbed.daemon import needed_programs, needs_libvirtd
from tests.testbed.sshd import Sshd, needs_sshd
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import LOOPBACK
from vmwatch.panel.hypervisors import Hypervisors
from vmwatch.panel.installation import Action, Answer, Kind, Verb
from vmwatch.panel.libvirtssh import LibvirtSsh
from vmwatch.panel.ssh import INSTALL, Ssh, Target
from vmwatch.panel.store import Host
from vmwatch.shared.paths import Paths

pytestmark = [
    needs_sshd(),
    pytest.mark.skipif(bool(needed_programs("virt-ssh-helper")), reason="needs virt-ssh-helper (make setup)"),
]

RESTORE = Action(Verb.RESTORE)


class Way:
    """A panel's prefix, and a node that it reaches over SSH."""

    def __init__(self, folder: Path, sshd: Sshd) -> None:
        self.sshd = sshd
        paths = Paths.of("vmwatch-panel", str(folder / "panel"))
        paths.etc.mkdir(parents=True)
        self.ssh = Ssh(paths, INSTALL)
        self.host = Host(1, "kvm-01", reach="ssh", ssh=sshd.target)

    def perform(self) -> Answer:
        async def done() -> Answer:
            hypervisors = Hypervisors(ssh=LibvirtSsh(self.ssh))
            return await hypervisors.perform(installation("kvm-01"), RESTORE, self.host)

        return asyncio.run(done())

    def trust(self) -> None:
        asyncio.run(self.ssh.trust(Target.of(self.sshd.target, ""), self.sshd.fingerprint))

    def authorize(self) -> str:
        line = asyncio.run(self.ssh.authorized())
        self.sshd.authorized_keys.write_text(f"{line}\n")
        return line


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    with Sshd(tmp_path / "sshd", tmp_path / "prefix") as sshd:
        yield Way(tmp_path, sshd)


def test_each_fault_of_a_key_says_what_to_do_and_the_right_one_reaches_libvirts_helper_alone(way: Way) -> None:
    answer = way.perform()
    assert answer.kind is Kind.AGAIN
    assert "is not known; look at its fingerprint, then: vmwatch node trust NODE" in answer.text
    way.trust()
    answer = way.perform()
    assert answer.kind is Kind.AGAIN
    line = asyncio.run(way.ssh.authorized())
    assert f"put this line into its authorized_keys: {line}" in answer.text
    assert line.startswith('command="virt-ssh-helper qemu:///system",restrict ssh-ed25519 ')
    way.authorize()
    answer = way.perform()
    # Here no libvirtd is behind it; whoever says so was reached.
    assert answer.kind is Kind.AGAIN
    assert "libvirt-sock" in answer.text
    way.sshd.stop()
    way.sshd.new_host_key()
    way.sshd.start()
    assert "shows another host key than the known one" in way.perform().text


def test_the_key_and_the_script_are_the_panels_own(way: Way) -> None:
    way.perform()
    modes = {path.name: path.stat().st_mode & 0o777 for path in way.ssh.key.parent.iterdir()}
    assert modes["vmwatch-libvirt-key"] == 0o600
    assert modes["vmwatch-libvirt-ssh"] == 0o700


@needs_libvirtd()
def test_a_hung_ssh_delays_no_other_hypervisor_and_is_ended_with_its_action(tmp_path: Path) -> None:
    """It is connected, and nothing answers."""

    async def both(way: Way, limit_s: float, good: Host) -> tuple[Answer, Answer]:
        hypervisors = Hypervisors(limit_s, ssh=LibvirtSsh(way.ssh))
        hung = asyncio.create_task(hypervisors.perform(installation("kvm-01"), RESTORE, way.host))
        connected, _ = await asyncio.to_thread(silent.accept)
        with connected:
            answer = await hypervisors.perform(installation("b"), RESTORE, good)
            assert not hung.done()
            return await hung, answer

    with TestDriverDaemon(tmp_path / "libvirt") as daemon, socket.create_server((LOOPBACK, 0)) as silent:
        way = Way(tmp_path, Sshd(tmp_path / "sshd", tmp_path / "prefix", port=silent.getsockname()[1]))
        late, answer = asyncio.run(both(way, 8.0, Host(2, "b", libvirt_uri=daemon.uri)))
    assert answer.kind is Kind.DONE
    assert late == Answer(Kind.AGAIN, "libvirt did not answer within 8 s")
    assert "ssh" not in {child.name() for child in psutil.Process().children(recursive=True)}
