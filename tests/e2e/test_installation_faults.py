"""A guest installs itself on real QEMU while the panel, the agent or libvirtd dies (design 03, rule 7)."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.testbed import guests
from tests.testbed.installing import LIMIT_S, Machine, Site, new_site
from tests.testbed.qemu import needs_root
from tests.testbed.waiting import wait_until

pytestmark = needs_root()

KILL_POINTS = {
    "during": (
        "prepare of {name} on n (",
        "start of {name} on n (start 1)",
        "start of {name} on n (start 2)",
        "start of {name} on n (start 3)",
        "restore of {name} on n (",
    ),
    "after": ("prepare of {name} on n: done", "start of {name} on n: done", "restore of {name} on n: done"),
}
"""What the panel has said last when it is killed: an action at libvirt is under way, or was done and its answer is not
committed, or just so."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with new_site(tmp_path_factory.mktemp("install")) as site:
        yield site


@dataclass(frozen=True)
class Waiting:
    """Installations whose guests wait, and are let go by the test that each is for; until then faults are nothing."""

    panel_away: Machine
    libvirtd_away: Machine
    libvirtd_restarts: Machine


@pytest.fixture(scope="module")
def waiting(site: Site) -> Waiting:
    machines = Waiting(site.vm(), site.vm(), site.vm())
    machines.panel_away.install(reboots="2")
    machines.libvirtd_away.install(reboots="2")
    machines.libvirtd_restarts.install()
    for vm in (machines.panel_away, machines.libvirtd_away, machines.libvirtd_restarts):
        vm.in_phase("running")
    return machines


def test_a_panel_that_is_away_while_the_guest_reboots_counts_it_when_it_is_back(site: Site, waiting: Waiting) -> None:
    vm = waiting.panel_away
    site.stack.panel.kill()
    vm.let_go()
    vm.wait_ended()
    site.stack.panel.start()
    vm.installed()
    assert vm.starts() == 3


def test_a_guest_that_reboots_while_libvirtd_is_away_is_counted_from_the_listing(site: Site, waiting: Waiting) -> None:
    vm = waiting.libvirtd_away
    site.daemon.kill()
    vm.let_go()
    site.node.wait()
    wait_until(lambda: vm.disk.read_bytes()[:512] == guests.installed(), "the guest to have installed", LIMIT_S)
    site.daemon.restart()
    site.restart_agent()
    vm.installed()


def test_libvirtd_that_restarts_while_the_guest_runs_on_changes_nothing(site: Site, waiting: Waiting) -> None:
    vm = waiting.libvirtd_restarts
    site.daemon.restart()
    site.node.wait()
    site.restart_agent()
    vm.let_go()
    vm.installed()
    assert vm.starts() == 2


@pytest.mark.parametrize("when", KILL_POINTS)
def test_a_panel_killed_at_each_step_goes_on_where_it_was(site: Site, when: str) -> None:
    vm, panel = site.free_vm(), site.stack.panel
    vm.install(reboots="2")
    for point in KILL_POINTS[when]:
        text = point.format(name=vm.name)
        wait_until(lambda: text in panel.log, text, LIMIT_S)  # noqa: B023
        panel.restart_after_kill()
    vm.installed()
    assert vm.starts() == 3
    assert vm.problem() is None
