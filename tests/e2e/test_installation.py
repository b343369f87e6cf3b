"""A guest installs itself on real QEMU, through the public commands (design 03, rule 7): how it may come out."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import libvirt
import psutil
import pytest
import requests

from tests.testbed import guests
from tests.testbed.installing import LIMIT_S, NODE, Machine, Site, new_site, post
from tests.testbed.qemu import needs_root
from tests.testbed.stack import SERVICE
from tests.testbed.waiting import wait_until
from tests.unit.panel.reports import entry, event, report

pytestmark = needs_root()

TIME_LIMITS_S = (15, 60, 240)
"""The first one in which the VM can be started, which depends on the machine."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with new_site(tmp_path_factory.mktemp("install")) as site:
        yield site


@dataclass(frozen=True)
class Begun:
    """Installations in which nobody has a hand: they go on side by side while the first tests have theirs."""

    limited: Machine
    three_reboots: Machine
    power_off: Machine
    no_drive: Machine
    no_image: Machine


@pytest.fixture(scope="module", autouse=True)
def begun(site: Site) -> Begun:
    limited, no_image = site.vm(), site.vm()
    three_reboots, power_off = site.free_vm(), site.free_vm(guests.POWER_OFF)
    no_drive = site.free_vm(drive="", on_reboot="destroy")
    limited.install(time_limit=str(TIME_LIMITS_S[0]))
    three_reboots.install(reboots="3")
    no_image.install(image="/none/such.iso")
    for vm in (power_off, no_drive):
        vm.install()
    return Begun(limited, three_reboots, power_off, no_drive, no_image)


def test_one_reboot_and_the_vm_boots_from_its_disk_with_its_definition_as_it_was(site: Site) -> None:
    vm = site.vm()
    vm.install()
    wait_until(lambda: vm.row["installing"] == "on", "the VM to be shown as installing")
    vm.in_phase("running")
    assert "<on_reboot>destroy</on_reboot>" in vm.live()
    vm.let_go()
    vm.installed()
    assert "<on_reboot>restart</on_reboot>" in vm.live()
    assert vm.starts() == 2
    assert vm.row["install"].startswith("installed in ")
    assert vm.problem() is None


def test_three_reboots_are_counted_down_one_by_one(site: Site, begun: Begun) -> None:
    vm = begun.three_reboots
    found = vm.installed()
    assert (found["reboots"], found["left"]) == ("3", "0")
    assert vm.starts() == 4
    assert len(site.stack.panel.events(uuid=vm.uuid, event="stopped")) == 3


def test_a_power_off_counts_as_a_reboot(begun: Begun) -> None:
    begun.power_off.installed()
    assert begun.power_off.starts() == 2


def test_a_vm_without_a_cd_drive_gets_one_for_the_installation_only(begun: Begun) -> None:
    begun.no_drive.installed()


def test_an_image_that_is_not_there_is_a_failure_in_libvirts_words(begun: Begun) -> None:
    assert "/none/such.iso" in begun.no_image.ends("failed")["reason"]


def test_a_crash_is_a_failure_that_says_so(site: Site) -> None:
    vm = site.vm()
    vm.install(reboots="2")
    vm.in_phase("running")
    psutil.Process(site.daemon.qemu_pid(vm.name)).kill()
    assert "crashed" in vm.ends("failed")["reason"]
    problem = vm.problem()
    assert problem is not None
    assert "crashed" in problem["description"]
    assert vm.starts() == 1


def test_an_operators_destroy_is_a_failure_that_says_so_and_the_next_success_closes_the_problem(site: Site) -> None:
    vm = site.vm()
    vm.install()
    vm.in_phase("running")
    vm.destroy()
    assert "destroyed by an operator" in vm.ends("failed")["reason"]
    assert vm.problem() is not None
    vm.let_go()
    vm.install()
    vm.installed()
    problem = vm.problem()
    assert problem is None or problem["state"] == "solved"


def test_a_cancelled_installation_puts_the_definition_back_and_leaves_the_vm_running(site: Site) -> None:
    vm = site.vm()
    vm.install(reboots="3")
    vm.in_phase("running")
    post(site.stack, "vm.install.cancel", elid=vm.uuid, sok="ok")
    vm.ends("cancelled")
    assert vm.problem() is None
    vm.let_go(times=1)
    wait_until(lambda: site.stack.panel.events(uuid=vm.uuid, event="reboot"), "the guest to reset itself", LIMIT_S)
    site.stack.wait_drained()
    wait_until(lambda: vm.row["vmstatus"] == "running", "the VM to be seen running")
    assert site.stack.panel.events(uuid=vm.uuid, event="stopped") == []
    vm.destroy()


def test_what_an_operator_changes_meanwhile_stays(site: Site) -> None:
    vm = site.vm()
    vm.install()
    vm.in_phase("running")
    with closing(libvirt.open(site.daemon.uri)) as connection:
        now = vm.definition(connection)
        connection.defineXML(now.replace("<vcpu placement='static'>1<", "<vcpu placement='static'>2<"))
    vm.before = vm.before.replace("<vcpu placement='static'>1<", "<vcpu placement='static'>2<")
    vm.let_go()
    vm.installed()


def test_events_that_come_again_or_are_of_an_older_start_count_nothing(site: Site) -> None:
    vm = site.vm()
    vm.let_go(times=1)
    vm.install(reboots="2")
    wait_until(lambda: vm.starts() == 2, "the second start", LIMIT_S)
    vm.in_phase("running", "awaiting")
    ended = site.stack.panel.events(uuid=vm.uuid, event="stopped")[-1]
    epoch, seq = int(ended["epoch"]), int(ended["seq"])
    again = event(seq, vm.name, "stopped", "shutdown") | {"vm": {"uuid": vm.uuid, "name": vm.name}}
    older = [
        event(number, vm.name, word, detail) | {"vm": {"uuid": vm.uuid, "name": vm.name}}
        for number, (word, detail) in enumerate((("started", "booted"), ("stopped", "shutdown")), 1)
    ]
    for body in (
        report(entry(again, node=NODE, epoch=epoch, live=False)),
        report(entry(*older, node=NODE, epoch=epoch - 10, live=False)),
    ):
        answer = requests.post(
            site.stack.panel.url,
            params={"func": "vmwatch.report"},
            data=body,
            headers={"Content-Type": "application/json"},
            auth=SERVICE,
            timeout=60,
        )
        assert answer.status_code == 200
        assert vm.installation["left"] == "1"
    vm.let_go()
    vm.installed()
    assert vm.starts() == 3 + len(older) // 2


def test_the_time_limit_ends_the_installation_and_leaves_the_vm_running(begun: Begun) -> None:
    vm = begun.limited
    for limit_s in TIME_LIMITS_S:
        if limit_s != TIME_LIMITS_S[0]:
            vm.install(time_limit=str(limit_s))
        found = vm.ends("failed")
        assert f"time limit of {limit_s} s" in found["reason"]
        if vm.starts():
            break
    wait_until(lambda: vm.row["vmstatus"] == "running", "the VM to be seen running")
    # its own reset will restart it, as before
    assert "<on_reboot>restart</on_reboot>" in vm.live(), found
    vm.destroy()
