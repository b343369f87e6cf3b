"""Rule 6: duplicates by UUID, name and disk; each one problem with a life of its own (design 03)."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.unit.panel.cluster import UUID, Cluster, Node, domain
from vmwatch.panel.duplicates import GRACE_S
from vmwatch.panel.problems import Kind, Problem

OTHER = "00000000-0000-4000-8000-000000000001"
A, B = "kvm-01", "kvm-02"
DISK = {"path": "/images/web.qcow2", "on": "nas:/export"}


class Pair:
    """Two nodes, what libvirt lists on each, and a panel; both answer whatever is asked."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.nodes = {A: Node(A), B: Node(B)}
        self.lists: dict[str, list[dict[str, Any]]] = {A: [], B: []}
        self.away: set[str] = set()

    def show(self, name: str, *domains: dict[str, Any]) -> None:
        self.lists[name] = list(domains)
        node = self.nodes[name]
        self.cluster.hear(node, node.inventory(*domains))

    def beat(self) -> None:
        self.cluster.report()
        for name, node in self.nodes.items():
            if name not in self.away:
                self.cluster.hear(node)
                self.cluster.list_if_wanted(node, *self.lists[name])

    def turn(self, seconds: float) -> None:
        self.cluster.turn(seconds, self.beat)

    def start_anew(self) -> None:
        """The panel ends, and starts with what is stored: no node has listed for it yet, and it knows no disks."""
        known = self.cluster.known
        known.devices.clear()
        for name, node in known.nodes.items():
            known.nodes[name] = replace(node, answered=0, wanted="", proof=0)
        known.want_all_inventories()
        self.cluster = Cluster(known, now=90_000.0)
        self.cluster.watch.duplicates.touch(known.vms)

    @property
    def found(self) -> list[Problem]:
        return self.cluster.problems(Kind.DUPLICATE)


@pytest.fixture
def pair() -> Pair:
    pair = Pair()
    pair.show(A, domain("running"))
    pair.show(B, domain("shutoff", uuid=OTHER, name="db"))
    return pair


def both_run(pair: Pair) -> None:
    pair.show(B, domain("running"), domain("shutoff", uuid=OTHER, name="db"))


def test_one_vm_active_on_two_nodes_is_a_problem_after_the_grace_period_that_names_both(pair: Pair) -> None:
    both_run(pair)
    pair.turn(GRACE_S - 2)
    assert pair.found == []
    pair.turn(5)
    assert [one.object for one in pair.found] == [UUID]
    assert "kvm-01 and kvm-02" in pair.found[0].text
    assert "since" in pair.found[0].text


def test_a_duplicate_that_one_of_the_nodes_does_not_confirm_is_none(pair: Pair) -> None:
    """Its claim may be what a node said before it went silent."""
    both_run(pair)
    pair.away.add(A)
    pair.turn(300)
    assert pair.found == []


def test_a_duplicate_that_is_gone_when_the_nodes_are_asked_is_none(pair: Pair) -> None:
    both_run(pair)
    pair.lists[B] = [domain("shutoff"), domain("shutoff", uuid=OTHER, name="db")]
    pair.turn(120)
    assert pair.found == []


def test_a_duplicate_that_lasts_is_one_problem_and_is_not_counted_each_minute(pair: Pair) -> None:
    both_run(pair)
    pair.turn(1200)
    assert [one.count for one in pair.found] == [1]


def test_a_duplicate_closes_itself_and_comes_back_as_the_same_problem(pair: Pair) -> None:
    both_run(pair)
    pair.turn(60)
    pair.cluster.hear(pair.nodes[B], pair.nodes[B].event("stopped", "destroyed"))
    pair.lists[B] = [domain("shutoff")]
    pair.turn(2)
    assert pair.found == []
    both_run(pair)
    pair.turn(60)
    assert [(one.object, one.count) for one in pair.found] == [(UUID, 2)]
    assert len(pair.cluster.known.problems) == 1


def test_a_duplicate_stays_open_while_one_of_its_nodes_is_silent(pair: Pair) -> None:
    both_run(pair)
    pair.turn(60)
    pair.away.add(A)
    pair.turn(120)
    assert [one.object for one in pair.found] == [UUID]


def test_a_duplicate_is_still_one_after_a_restart_of_the_panel(pair: Pair) -> None:
    both_run(pair)
    pair.turn(60)
    again = Cluster(pair.cluster.known, now=90_000.0)
    again.watch.duplicates.touch(again.known.vms)
    pair.cluster = again
    pair.turn(5)
    assert [(one.object, one.count) for one in pair.found] == [(UUID, 1)]


def test_a_duplicate_says_after_a_restart_of_the_panel_since_when_it_is_there_and_not_since_when_the_panel_is(
    pair: Pair,
) -> None:
    both_run(pair)
    pair.turn(60)
    [before] = pair.found
    again = Cluster(pair.cluster.known, now=90_000.0)
    again.watch.duplicates.touch(again.known.vms)
    pair.cluster = again
    pair.turn(5)
    [after] = pair.found
    assert (after.text, after.last) == (before.text, before.last)
    pair.show(B, domain("shutoff"))
    pair.turn(2)
    both_run(pair)
    pair.turn(60)
    assert pair.found[0].text != before.text, "this one is another, and began later"


def test_a_paused_vm_counts_and_one_that_is_defined_on_two_nodes_does_not(pair: Pair) -> None:
    pair.show(B, domain("shutoff"))
    pair.turn(120)
    assert pair.found == []
    pair.show(B, domain("paused", reason=1))
    pair.turn(60)
    assert [one.object for one in pair.found] == [UUID]


@pytest.mark.parametrize("reason", [2, 11, 12])
def test_the_two_ends_of_a_migration_are_no_duplicate_however_long_it_takes(pair: Pair, reason: int) -> None:
    pair.cluster.hear(pair.nodes[B], pair.nodes[B].event("started", "migrated"))
    pair.lists[B] = [domain("paused", reason=reason)]
    pair.turn(3600)
    assert pair.found == []


def test_two_vms_of_one_name_are_a_problem(pair: Pair) -> None:
    pair.show(B, domain("shutoff", uuid=OTHER, name="web"))
    pair.turn(60)
    assert [one.object for one in pair.found] == ["name web"]
    assert UUID in pair.found[0].text
    assert OTHER in pair.found[0].text
    pair.show(B, domain("shutoff", uuid=OTHER, name="db"))
    pair.turn(2)
    assert pair.found == []


def test_two_running_vms_that_write_one_disk_are_a_problem(pair: Pair) -> None:
    pair.show(A, domain("running", disks=[DISK], macs=["52:54:00:00:00:01"]))
    pair.show(B, domain("running", uuid=OTHER, name="copy", disks=[DISK], macs=["52:54:00:00:00:01"]))
    pair.turn(60)
    assert [one.object for one in pair.found] == ["disk /images/web.qcow2 of nas:/export"]
    assert "52:54:00:00:00:01" in pair.found[0].text


def test_two_vms_with_one_disk_of_which_one_is_stopped_are_no_problem(pair: Pair) -> None:
    pair.show(A, domain("running", disks=[DISK]))
    pair.show(B, domain("shutoff", uuid=OTHER, name="copy", disks=[DISK]))
    pair.turn(120)
    assert pair.found == []


def test_disks_of_one_path_on_different_machines_are_different_disks(pair: Pair) -> None:
    pair.show(A, domain("running", disks=[{"path": "/var/lib/web.img", "on": "m1"}]))
    pair.show(B, domain("running", uuid=OTHER, name="db", disks=[{"path": "/var/lib/web.img", "on": "m2"}]))
    pair.turn(120)
    assert pair.found == []


def test_a_disk_duplicate_is_not_closed_by_a_restart_of_the_panel_that_has_not_heard_of_the_disks_yet(
    pair: Pair,
) -> None:
    pair.show(A, domain("running", disks=[DISK]))
    pair.show(B, domain("running", uuid=OTHER, name="copy", disks=[DISK]))
    pair.turn(60)
    pair.start_anew()
    pair.cluster.turn(5)
    assert len(pair.found) == 1
    pair.turn(5)
    assert [one.count for one in pair.found] == [1]
