"""What users of other systems complain of, where it concerns the picture; docs/complaints.md has the whole table."""

from typing import Any

import pytest
from msgspec import Raw

from tests.unit.panel.cluster import EPOCH, UUID, Cluster, Node, domain
from tests.unit.panel.test_duplicates import A, B, Pair
from tests.unit.panel.test_migration import STOPPED
from vmwatch.panel.knowledge import Draft
from vmwatch.panel.problems import Kind
from vmwatch.panel.registration import register
from vmwatch.shared.report import Report
from vmwatch.shared.states import State

HOUR_S, BACK_S = 3600.0, 900.0


def earlier(message: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The same message by a clock that was set back."""
    return message | {"time": message["time"] - seconds}


def with_a_vm() -> tuple[Cluster, Node]:
    cluster, node = Cluster(), Node("kvm-01")
    cluster.hear(node, node.inventory(domain("running")))
    cluster.list_if_wanted(node, domain("running"))
    return cluster, node


# 4


def test_a_node_whose_clock_stepped_back_is_believed_at_once_and_in_its_order() -> None:
    cluster, node = with_a_vm()
    cluster.hear(node, earlier(node.event("suspended", "paused"), BACK_S))
    assert cluster.state() is State.PAUSED
    cluster.hear(node, earlier(node.inventory(domain("running")), BACK_S))
    assert cluster.state() is State.RUNNING
    stopped, started = node.event("stopped", "shutdown"), node.event("started", "booted")
    cluster.hear(node, earlier(started, BACK_S))
    cluster.hear(node, stopped)
    assert cluster.state() is State.RUNNING


# 5


def test_a_second_master_that_hears_of_no_node_makes_none_silent() -> None:
    cluster, node = with_a_vm()

    def both_report() -> None:
        cluster.hear(node)
        register(Draft(cluster.known), Report("m2", []), cluster.wall)
        cluster.watch.reported(cluster.now, [])

    cluster.turn(300, both_report)
    assert cluster.place() == ("kvm-01", "running")
    assert cluster.known.problems == {}


# 6


def test_no_shutdown_is_ever_a_duplicate() -> None:
    """Of a VM that is defined on two nodes, as after each migration that kept its definition."""
    pair = Pair()
    pair.show(A, domain("running"))
    pair.show(B, domain("shutoff"))
    for _ in range(5):
        for step in (("shutdown", "guest"), ("stopped", "shutdown"), ("started", "booted")):
            pair.cluster.hear(pair.nodes[A], pair.nodes[A].event(*step))
            pair.turn(40)
            assert pair.found == []


# 9


@pytest.mark.parametrize("new_run", [False, True])
def test_a_vm_that_was_destroyed_while_nobody_watched_does_not_run_for_ever(new_run: bool) -> None:
    cluster, node = with_a_vm()
    if new_run:
        node = Node("kvm-01", epoch=EPOCH + 1)
    cluster.hear(node, node.inventory(domain("shutoff")))
    assert cluster.place() == ("kvm-01", "shutoff")


def test_a_transient_vm_that_vanished_while_nobody_watched_does_not_stay() -> None:
    other = domain("running", uuid="00000000-0000-4000-8000-000000000001", name="db")
    cluster, node = with_a_vm()
    cluster.hear(node, node.inventory(other))
    assert cluster.state() is State.UNKNOWN

    def answer() -> None:
        cluster.hear(node)
        cluster.list_if_wanted(node, other)

    cluster.turn(20, answer)
    assert cluster.state() is State.ABSENT


# 10


def test_a_report_of_the_old_host_after_a_migration_outside_the_panel_stops_no_vm() -> None:
    """Milliseconds after the new host has reported it as running; told by listings alone, as no event was heard."""
    cluster, old = with_a_vm()
    new = Node("kvm-02")
    cluster.hear(new, new.inventory(domain("running", reason=2)))
    cluster.hear(old, old.inventory(domain("shutoff", reason=4)))
    assert cluster.place() == ("kvm-02", "running")
    cluster.hear(old, old.inventory(domain("shutoff", reason=1)))
    assert cluster.place() == ("kvm-02", "running")


# 11


def test_a_listing_that_took_half_a_minute_does_not_undo_what_was_told_meanwhile() -> None:
    cluster, node = with_a_vm()
    began = node.seq
    cluster.hear(node, node.event("stopped", "shutdown"))
    cluster.turn(30, lambda: cluster.hear(node))
    cluster.hear(node, node.inventory(domain("running"), as_of=began))
    assert cluster.place() == ("kvm-01", "shutoff")


# 15


def test_a_listing_that_fails_is_none_and_deletes_no_vm() -> None:
    """The node says so with its signs of life, and sends nothing: VMs are unknown, not gone."""
    cluster, node = with_a_vm()
    cluster.turn(HOUR_S / 10, lambda: cluster.hear(node, status=Raw(b'{"libvirt_answers":false}')))
    assert cluster.place() == ("kvm-01", "unknown")


# 18


def test_a_stop_that_is_handled_after_the_next_start_stops_nothing() -> None:
    cluster, node = with_a_vm()
    stopped, started = node.event("stopped", "shutdown"), node.event("started", "booted")
    cluster.hear(node, started)
    cluster.hear(node, stopped)
    cluster.hear(node, stopped)
    assert cluster.place() == ("kvm-01", "running")


# 19


def test_a_host_that_was_given_another_name_keeps_its_vms_and_doubles_none() -> None:
    cluster, old = with_a_vm()
    new = Node("kvm-01-new")

    def live() -> None:
        cluster.hear(new)
        cluster.list_if_wanted(new, domain("running"))

    cluster.turn(HOUR_S / 10, live)
    assert cluster.place() == (new.name, "running")
    assert cluster.problems(Kind.DUPLICATE) == []
    assert [one.object for one in cluster.problems(Kind.NODE_SILENT)] == [old.name]


def test_a_reboot_is_no_stop_in_whatever_order_its_events_come() -> None:
    """`on_reboot=restart` tells the reboot alone, twice for each reset."""
    cluster, node = with_a_vm()
    reboots = [node.event("reboot") for _ in range(4)]
    for message in (reboots[2], *reboots, reboots[0]):
        cluster.hear(node, message)
        assert cluster.place() == ("kvm-01", "running")


# 20


def test_a_partition_stops_no_vm_and_ends_by_itself() -> None:
    cluster = Cluster()
    nodes = [Node(f"kvm-{number}") for number in range(3)]
    uuids = [f"{UUID[:-1]}{number}" for number in range(3)]
    lists = [domain("running", uuid=uuid, name=f"vm{number}") for number, uuid in enumerate(uuids)]

    def live(reached: int) -> None:
        cluster.report()
        for node, listed in list(zip(nodes, lists, strict=True))[:reached]:
            cluster.hear(node)
            cluster.list_if_wanted(node, listed)

    cluster.turn(3, lambda: live(3))
    cluster.turn(HOUR_S / 10, lambda: live(1))
    assert [cluster.state(uuid) for uuid in uuids] == [State.RUNNING, State.UNKNOWN, State.UNKNOWN]
    cluster.turn(3, lambda: live(3))
    assert [cluster.state(uuid) for uuid in uuids] == [State.RUNNING] * 3
    assert not {cluster.state(uuid) for uuid in uuids} & STOPPED
    assert cluster.problems(Kind.NODE_SILENT) == []
