"""A guest installs itself on a hypervisor that the panel reaches over SSH alone (design 03, rule 7)."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.daemon import needed_programs
from tests.testbed.installing import NODE, Site, new_site, post
from tests.testbed.qemu import needs_root
from tests.testbed.sshd import Sshd, needs_sshd
from tests.testbed.stack import short_folder

pytestmark = [
    needs_root(),
    needs_sshd(),
    pytest.mark.skipif(bool(needed_programs("virt-ssh-helper", "nsenter")), reason="needs virt-ssh-helper, nsenter"),
]

LIBVIRT_RUN = "run/libvirt"
SSHD_RUN = "run/sshd"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with new_site(tmp_path) as site:
        yield site


@pytest.fixture
def sshd(site: Site) -> Iterator[Sshd]:
    """It sees the file system as libvirtd does, whose socket is at its usual place there and nowhere else."""
    usual = site.daemon.root / LIBVIRT_RUN
    (site.daemon.root / SSHD_RUN).mkdir(mode=0o755, exist_ok=True)
    (usual / "libvirt-sock").symlink_to(site.daemon.sockets / "listening" / "libvirt-sock")
    folder = short_folder()
    inside = ("nsenter", f"--mount=/proc/{site.daemon.kept.pid}/ns/mnt", "--")
    try:
        with Sshd(folder, folder, prefixed=inside) as sshd:
            yield sshd
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_guest_installs_itself_over_ssh(site: Site, sshd: Sshd) -> None:
    stack = site.stack
    site.allow(reach="ssh", ssh=sshd.target, libvirt_uri="")
    doc = post(stack, "vmwatch.configure.hostkey", ssh=sshd.target, fingerprint=sshd.fingerprint, sok="ok")
    assert "ok" in doc, doc
    line = post(stack, "vmwatch.configure.sshkey", install="on")["authorized_keys"]["$"]
    sshd.authorized_keys.write_text(f"{line}\n")
    vm = site.free_vm()
    vm.install()
    vm.installed()
    assert vm.starts() == 2
    assert stack.panel.rows("vmhostnode")[0]["libvirt_uri"] == ""
    assert "Accepted publickey" in sshd.log
    assert NODE in [row["name"] for row in stack.panel.rows("vmhostnode")]
