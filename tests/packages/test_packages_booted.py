"""The Debian packages on a machine that was booted with systemd: its own units, users, polkit, bus and libvirtd."""

import shutil
from collections.abc import Iterator

import pytest

from tests.packages.conftest import NEWER, Packages
from tests.testbed.bootedroot import LIBVIRT_READONLY, BootedRoot
from tests.testbed.cleanroot import needs_clean_root
from tests.testbed.initspace import needs_systemd
from tests.testbed.installed import NODE, PREFIX, Installed
from tests.testbed.stack import short_folder
from tests.testbed.waiting import wait_until

pytestmark = [needs_systemd(), *needs_clean_root()]

SERVICES = ("vmwatch-panel", "vmwatch-master", "vmwatch-node")
VM = "test"
"""The one that the test driver has."""
LIMIT_S = 120


class Booted(Installed):
    """Both packages, and a node that works."""

    def __init__(self, root: BootedRoot) -> None:
        super().__init__(root, LIBVIRT_READONLY)
        self.machine = root
        self.printed = ""

    def pids(self) -> dict[str, str]:
        return {service: self.machine.show(service, "MainPID") for service in SERVICES}

    def wait_until_connected(self) -> None:
        """The agent to hear libvirt; who changes a VM then is heard."""
        self.root.wait("the agent to hear libvirt", "vmwatch-healthcheck", "node")

    def live(self) -> int:
        """One more life of the VM; how many of its events are registered then."""
        before = len(self.events())
        self.machine.virsh("destroy", VM)
        self.machine.virsh("start", VM)
        wait_until(lambda: len(self.events()) >= before + 2, "both events to be registered", timeout_s=LIMIT_S)
        return len(self.events())

    def assert_nothing_failed(self) -> None:
        assert self.machine.failed() == ""
        # What was true while something was away is closed by the next list of VMs.
        wait_until(lambda: self.vmwatch("problems") == "", "no problem to be open", timeout_s=LIMIT_S)


@pytest.fixture(scope="module")
def booted(packages: Packages) -> Iterator[Booted]:
    folder = short_folder()
    folder.mkdir()
    try:
        with BootedRoot(folder) as root:
            # Somebody holds the test driver's VMs, or they are as new whenever the agent is not there.
            root.run("systemd-run", "--unit=holder", "virsh", "--connect", LIBVIRT_READONLY, "event", "--loop", "--all")
            made = Booted(root)
            made.printed = made.dpkg(packages.master, packages.node)
            made.begin()
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_first_node_is_set_up_by_systemd_and_its_events_arrive(booted: Booted) -> None:
    assert "vmwatch-panel: was started by systemd" in booted.printed
    assert "vmwatch-node: is not started before it is configured" in booted.printed
    booted.wait_until_connected()
    assert booted.live() == 2
    enabled = booted.root.run("systemctl", "is-enabled", *SERVICES)
    assert enabled.split() == ["enabled"] * len(SERVICES)
    booted.vmwatch("configure", "--rotate-secret")
    booted.root.run("systemctl", "start", "vmwatch-periodic-node.service")
    booted.assert_nothing_failed()


def test_the_panels_user_may_restart_the_services_and_nothing_else(booted: Booted) -> None:
    """By polkit's rule, asked of the real polkitd."""
    ask = ("setpriv", "--reuid=vmwatch", "--regid=vmwatch", "--init-groups", "--no-new-privs", "systemctl")
    before = booted.pids()
    booted.root.run(*ask, "--no-ask-password", "restart", "vmwatch-master")
    assert booted.pids()["vmwatch-master"] != before["vmwatch-master"]
    for words in (("restart", "cron"), ("disable", "vmwatch-master")):
        booted.root.run(*ask, "--no-ask-password", *words, code=1)
    assert booted.root.run("systemctl", "is-enabled", "vmwatch-master").strip() == "enabled"


def test_the_agent_comes_back_by_itself_after_a_restart_of_libvirtd_and_nothing_has_failed(booted: Booted) -> None:
    booted.wait_until_connected()
    before = booted.pids()
    booted.root.run("systemctl", "restart", "libvirtd")
    wait_until(lambda: booted.pids()["vmwatch-node"] not in ("0", before["vmwatch-node"]), "the agent's next run")
    booted.wait_until_connected()
    after = booted.pids()
    assert {name for name in SERVICES if after[name] != before[name]} == {"vmwatch-node"}
    booted.root.run("systemctl", "restart", "holder")
    booted.live()
    booted.assert_nothing_failed()


def test_all_services_start_with_the_machine_in_order(booted: Booted) -> None:
    """Down to the rescue target and up again: the same jobs as at a boot."""
    booted.root.run("systemctl", "isolate", "rescue.target")
    wait_until(lambda: set(booted.pids().values()) == {"0"}, "all services to be stopped")
    booted.root.run("systemctl", "isolate", "multi-user.target")
    booted.wait_until_connected()
    serves, begins = "ActiveEnterTimestampMonotonic", "ExecMainStartTimestampMonotonic"
    for earlier, later in (("vmwatch-panel", "vmwatch-master"), ("libvirtd", "vmwatch-node")):
        assert int(booted.machine.show(earlier, serves)) <= int(booted.machine.show(later, begins))
    booted.assert_nothing_failed()


def test_an_upgrade_starts_what_ran_again_by_systemd_and_leaves_disabled_what_is(
    booted: Booted, packages: Packages
) -> None:
    before, unwanted = booted.pids(), "vmwatch-periodic-master.timer"
    booted.root.run("systemctl", "disable", "--now", unwanted)
    told = booted.dpkg(packages.newer_master, packages.newer_node)
    for service in SERVICES:
        assert f"{service}: was started again by systemd" in told
    assert not set(before.values()) & set(booted.pids().values())
    wait_until(lambda: NEWER in booted.vmwatch("node", "list"), "the newer agent to be heard of")
    booted.wait_until_connected()
    assert booted.root.run("systemctl", "is-enabled", unwanted, code=1).strip() == "disabled"
    booted.assert_nothing_failed()


def test_a_node_is_removed_with_its_key_and_a_purge_leaves_no_unit_file_or_user(booted: Booted) -> None:
    told = booted.vmwatch("node", "remove", NODE)
    assert "could not" not in told
    assert not booted.file(f"{PREFIX}/etc/vmwatch-node.conf").exists()
    assert booted.root.run("systemctl", "is-enabled", "vmwatch-node", code=1).strip() == "disabled"
    booted.remove()
    booted.purge()
    assert booted.root.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "vmwatch*") == ""
    left = [name for name in booted.files() if "vmwatch" in name]
    assert [name for name in left if not name.startswith(("run/log", "var/log"))] == []
    assert not booted.file(PREFIX).exists()
    for database in ("passwd", "group"):
        assert "vmwatch" not in booted.file(f"etc/{database}").read_text()
    assert booted.machine.failed() == ""
