"""A panel that its unit lets gain no rights configures master and node all the same, under a systemd of the test's."""

import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.daemon import needs_libvirtd
from tests.testbed.initspace import SystemdSpace, needs_systemd
from tests.testbed.managers import BIN, READ, status
from tests.testbed.ownusers import ROOT
from tests.testbed.service import command
from tests.testbed.stack import ADMIN, Panel, short_folder
from tests.testbed.supervised import environment
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import LOOPBACK, free_port_pair, wait_until
from vmwatch.shared.paths import DEFAULT_PREFIX
from vmwatch.shared.systemd import Systemd

pytestmark = [needs_libvirtd(), needs_systemd()]
SOCKETS = ("vmwatch-nodectl.socket", "vmwatch-servicectl.socket")
OWN_ETC = "mount -t tmpfs -o mode=755 tmpfs /mnt && cp -a /etc /mnt/etc && mount --bind /mnt/etc /etc"
KNOWN = 1
"""The number of a user and a group that every system has: libvirtd, which runs outside, asks who its client is."""
AGENT = f"groupadd -o --gid {KNOWN} vmwatch-node && useradd -o --uid {KNOWN} --gid {KNOWN} -M vmwatch-node"


class Hardened:
    """The panel's host as the packages leave it, with the very units; only where files are differs."""

    def __init__(self, folder: Path) -> None:
        self.prefix = folder / "p"
        self.panel = Panel(self.prefix)
        listen = f"VmwatchListenIp {LOOPBACK}\nVmwatchListenPort {free_port_pair()}\n"
        with (self.prefix / "etc" / "vmmgr.conf").open("a") as conf:
            conf.write(listen)
        shown = " ".join(map(str, READ))
        changes = f"[Service]\nBindReadOnlyPaths={shown}\nPrivateTmp=no\n"  # all that a test has lies in /tmp
        if any(path.is_relative_to(home) for path in READ for home in ("/home", "/root")):
            changes += "ProtectHome=tmpfs\n"
        places = {
            f"{DEFAULT_PREFIX}/lib/vmwatch/bin": str(BIN),
            "/usr/sbin/vmwatch": f"{BIN}/vmwatch",
            DEFAULT_PREFIX: str(self.prefix),
        }
        own = folder / "space"
        own.mkdir()
        self.space = SystemdSpace(own, changes, places)

    def within(self, *words: str) -> str:
        done = self.space.run(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def begin(self) -> None:
        """Users, rights, sockets, and the panel."""
        self.manager = Systemd((*self.space.enter, "systemctl"))
        self.within("sh", "-c", f"{OWN_ETC} && {AGENT}")
        for what in ("master", "node"):
            self.within(str(ROOT / "packaging" / "rights"), what, str(self.prefix))
        self.within("systemctl", "start", *SOCKETS)
        self.manager.start("vmwatch-panel")
        wait_until(lambda: status(self.prefix, "vmwatch-panel"), "the panel to serve")

    def vmwatch(self, *arguments: str) -> str:
        told = {**environment(), "VMWATCH_URL": self.panel.url, "VMWATCH_PASSWORD": ADMIN[1]}
        done = subprocess.run(
            [command("vmwatch"), *arguments], capture_output=True, text=True, env=told, timeout=300, check=False
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{self.panel.log}"
        return done.stdout


@pytest.fixture(scope="module")
def host() -> Iterator[Hardened]:
    folder = short_folder()
    folder.mkdir(mode=0o755)
    try:
        made = Hardened(folder)
        with made.space:
            made.begin()
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_first_node_brings_up_master_and_agent_through_the_sockets(host: Hardened, tmp_path: Path) -> None:
    conf = host.prefix / "etc" / "vmwatch-node.conf"
    with TestDriverDaemon(tmp_path / "libvirt", domains=("web",)) as daemon:
        conf.write_text(f"libvirt_uri={daemon.uri}\nheartbeat_interval=1\n")
        assert "hears the master" in host.vmwatch("node", "add", "kvm-01", "--local")
        wait_until(lambda: [row["name"] for row in host.panel.rows("vm")] == ["web"], "the VM to be known")
        assert (conf.stat().st_uid, stat.S_IMODE(conf.stat().st_mode)) == (KNOWN, 0o600)
        before = {name: host.manager.status(name).pid for name in ("vmwatch-master", "vmwatch-node")}
        host.vmwatch("configure", "--rotate-secret")
        assert {name: host.manager.status(name).pid for name in before} == before
        host.panel.change("periodic", interval="5")
        assert host.panel.rows("problems", state="unsolved") == []
        assert host.within("systemctl", "list-units", "--failed", "--plain", "--no-legend") == ""
