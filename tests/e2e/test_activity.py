"""The activity check on real guests: who works, who idles, and who has nothing to work with (design 03, rule 8)."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import libvirt
import pytest

from tests.testbed import guests
from tests.testbed.qemu import NetworkedQemuDaemon, needs_network, needs_root
from tests.testbed.stack import Row, Stack
from tests.testbed.waiting import wait_until

pytestmark = [needs_root(), needs_network()]

INTERVAL_S = 2
"""Of statistics; a busy guest does its work several times as often."""
LIMIT_S = 120


@dataclass
class Guests:
    """Three VMs on one node: one that writes and sends, an idle one with a disk and a card, one with neither."""

    stack: Stack
    connection: libvirt.virConnect
    folder: Path

    def start(self, name: str, sector: bytes | None) -> str:
        """Returns its UUID."""
        vm = str(uuid.uuid4())
        image = None if sector is None else guests.write_disk(self.folder / f"{name}.img", sector)
        card = "" if sector is None else guests.CARD
        self.connection.createXML(guests.domain_xml(name, vm, image, extra_devices=card))
        return vm

    def samples(self, vm: str) -> list[Row]:
        return self.stack.panel.rows("vmstat", elid=vm)

    def warnings(self) -> dict[str, list[str]]:
        """By VM's name: the counters that do not move."""
        rows = self.stack.panel.rows("vm", warnings="on")
        return {row["name"]: [part.split(" since ")[0] for part in row["warnings"].split(", ")] for row in rows}

    def wait_samples(self, *vms: str, more: int) -> None:
        """Until so many more samples of each of these VMs are registered."""
        for vm, before in {vm: len(self.samples(vm)) for vm in vms}.items():
            wait_until(
                lambda: len(self.samples(vm)) >= before + more,  # noqa: B023
                f"{more} samples of {vm}",
                LIMIT_S,
            )


BOTH = ["tx_packets", "write_requests"]


@pytest.fixture
def cluster(stack: Stack, tmp_path: Path) -> Iterator[Guests]:
    with NetworkedQemuDaemon(tmp_path / "libvirt") as daemon, closing(libvirt.open(daemon.uri)) as connection:
        stack.start_node("n", daemon.uri, stats_interval=str(INTERVAL_S))
        yield Guests(stack, connection, tmp_path)


def set_policies(stack: Stack, **values: str) -> None:
    assert "ok" in stack.panel.change("policy.edit", **values)


def test_of_three_guests_only_the_idle_one_is_warned_of_until_it_works(cluster: Guests) -> None:
    stack = cluster.stack
    busy = cluster.start("busy", guests.busy())
    idle = cluster.start("idle", guests.idle())
    bare = cluster.start("bare", None)
    cluster.wait_samples(busy, idle, bare, more=3)
    assert cluster.warnings() == {}, "the policy is off until somebody switches it on"
    set_policies(stack, check_vm_activity="on")
    wait_until(lambda: cluster.warnings() == {"idle": BOTH}, "the idle one to be warned of", LIMIT_S)
    cluster.wait_samples(busy, more=3)
    assert cluster.warnings() == {"idle": BOTH}
    sample = cluster.samples(bare)[-1]
    assert (sample["tx_packets"], sample["write_requests"], sample["state"]) == ("", "", "running")

    before = stack.panel.vms()[idle]["warnings"]
    stack.panel.kill()
    stack.panel.start()
    # Neither the warning nor its beginning is forgotten. On a busy machine the node may seem silent for a moment.
    wait_until(lambda: idle in stack.panel.vms() and stack.panel.vms()[idle]["warnings"] == before, "the same warning")

    domain = cluster.connection.lookupByUUIDString(idle)
    domain.suspend()
    wait_until(lambda: cluster.warnings() == {}, "no warning of a paused VM", LIMIT_S)
    domain.resume()
    wait_until(lambda: cluster.warnings() == {"idle": BOTH}, "it runs, and idles again", LIMIT_S)
    domain.destroy()
    wait_until(lambda: cluster.warnings() == {}, "no warning of a VM that is gone", LIMIT_S)


def test_a_warning_goes_away_by_itself_when_the_guest_begins_to_work(cluster: Guests) -> None:
    set_policies(cluster.stack, check_vm_activity="on")
    # At its gate it only reads.
    work = guests.forever(guests.WRITE_SECTOR, guests.wait(4))
    vm = cluster.start("late", guests.boot_sector(guests.gate(), work))
    wait_until(lambda: cluster.warnings() == {"late": BOTH}, "a warning while it waits", LIMIT_S)
    guests.open_gate(cluster.folder / "late.img")
    wait_until(lambda: cluster.warnings() == {"late": ["tx_packets"]}, "it writes, and sends nothing", LIMIT_S)
    set_policies(cluster.stack, activity_exempt=f"other, {vm}")
    assert cluster.warnings() == {}
    set_policies(cluster.stack, activity_exempt="")
    assert cluster.warnings() == {"late": ["tx_packets"]}
    set_policies(cluster.stack, check_vm_activity="off")
    assert cluster.warnings() == {}
