"""Rule 3 at its edges: how long a node's word does not count, who is asked for what, and what a person is told."""

from typing import Any

import pytest
from msgspec import Raw

from tests.unit.panel.cluster import EPOCH, Cluster, Node, domain
from vmwatch.panel.problems import Kind
from vmwatch.panel.registration import EMPTY, EMPTY_AGAIN_S
from vmwatch.panel.watch import MASTER_SILENT_S, NO_LIBVIRT, NO_LIFE, NO_REPORT
from vmwatch.shared.states import State

LIBVIRT_AWAY, LIBVIRT_THERE = Raw(b'{"libvirt_answers":false}'), Raw(b'{"libvirt_answers":true}')


def with_a_vm(interval_s: float = 10.0) -> tuple[Cluster, Node]:
    """A node on which the VM runs, and whose first wish is answered."""
    cluster, node = Cluster(interval_s=interval_s), Node("kvm-01")
    cluster.hear(node, node.inventory(domain("running")))
    cluster.list_if_wanted(node, domain("running"))
    cluster.turn()
    return cluster, node


class Answering:
    """A node that lives and answers each wish with this list."""

    def __init__(self, cluster: Cluster, node: Node, *domains: dict[str, Any]) -> None:
        self.cluster, self.node, self.domains = cluster, node, domains
        self.listings = 0

    def beat(self) -> None:
        self.cluster.hear(self.node)
        self.listings += self.cluster.list_if_wanted(self.node, *self.domains)


@pytest.mark.parametrize(("interval_s", "in_time_s", "late_s"), [(2.0, 6.0, 8.0), (60.0, 180.0, 182.0)])
def test_a_node_is_silent_after_three_of_its_own_intervals(interval_s: float, in_time_s: float, late_s: float) -> None:
    cluster, _ = with_a_vm(interval_s)
    cluster.turn(in_time_s, cluster.report)
    assert cluster.state() is State.RUNNING
    cluster.turn(late_s - in_time_s, cluster.report)
    assert cluster.state() is State.UNKNOWN


def test_a_vm_is_unknown_since_the_first_reason_for_it() -> None:
    cluster, _ = with_a_vm()
    cluster.turn(40, cluster.report)
    first = cluster.judged()
    cluster.turn(MASTER_SILENT_S + 5)
    assert cluster.known.nodes["kvm-01"].doubt == NO_REPORT
    assert cluster.judged() == first


def test_a_node_that_is_back_is_asked_once_however_long_its_listing_takes() -> None:
    cluster, node = with_a_vm()
    cluster.turn(60, cluster.report)
    cluster.hear(node)
    cluster.turn()
    token = cluster.wanted(node)
    assert token
    cluster.turn(20, lambda: cluster.hear(node))
    assert cluster.wanted(node) == token
    assert cluster.list_if_wanted(node, domain("running"))
    assert cluster.state() is State.RUNNING


def test_that_a_nodes_word_does_not_count_is_stored_and_that_it_counts_again_too() -> None:
    cluster, node = with_a_vm()
    for _ in range(40):
        cluster.report()
        durable = cluster.judge().durable
        assert durable is (cluster.state() is State.UNKNOWN)
        if durable:
            break
        cluster.now += 1.0
    assert cluster.known.nodes["kvm-01"].doubt == NO_LIFE
    cluster.hear(node)


@pytest.mark.parametrize("status", [b"[]", b"7", b"{}", b'{"libvirt_answers":"maybe"}', b'{"libvirt_answers":'])
def test_a_status_that_is_not_understood_makes_no_vm_unknown(status: bytes) -> None:
    cluster, node = with_a_vm()
    cluster.hear(node, status=Raw(status))
    cluster.turn(5, lambda: cluster.hear(node))
    assert cluster.state() is State.RUNNING


def test_a_report_without_a_status_does_not_say_that_libvirt_answers_again() -> None:
    """Events and answers come in reports of their own, which carry none."""
    cluster, node = with_a_vm()
    cluster.hear(node, status=LIBVIRT_AWAY)
    cluster.turn()
    cluster.hear(node, node.event("reboot"))
    cluster.turn()
    cluster.list_if_wanted(node, domain("running"))
    cluster.turn()
    assert cluster.known.nodes["kvm-01"].doubt == NO_LIBVIRT
    assert cluster.state() is State.UNKNOWN


# Problems


def test_a_libvirt_that_does_not_answer_is_a_problem_until_it_has_listed() -> None:
    cluster, node = with_a_vm()
    cluster.hear(node, status=LIBVIRT_AWAY)
    cluster.turn()
    [problem] = cluster.problems(Kind.NODE_SILENT)
    assert NO_LIBVIRT in problem.text
    cluster.hear(node, status=LIBVIRT_THERE)
    cluster.turn()
    assert cluster.list_if_wanted(node, domain("running"))
    cluster.turn()
    assert cluster.problems(Kind.NODE_SILENT) == []


def test_what_was_wrong_with_a_node_stays_a_problem_while_nothing_is_heard_of_the_master() -> None:
    cluster, node = with_a_vm()
    twin = Node("kvm-01", epoch=EPOCH + 5)
    for _ in range(3):
        cluster.hear(twin)
        cluster.hear(node)
    cluster.turn()
    assert len(cluster.problems(Kind.ID_CONFLICT)) == 1
    cluster.turn(MASTER_SILENT_S + 5)
    assert cluster.known.nodes["kvm-01"].doubt == NO_REPORT
    assert len(cluster.problems(Kind.ID_CONFLICT)) == 1


def test_a_master_is_not_missed_before_any_node_was_heard_through_it() -> None:
    cluster, node = Cluster(), Node("old")
    cluster.hear(node, node.event("started", "booted"), live=False)
    cluster.turn(MASTER_SILENT_S * 2)
    assert cluster.problems(Kind.MASTER_STOPPED) == []


# Emptiness


def test_a_node_that_lists_nothing_is_asked_again_after_a_minute_and_not_each_second() -> None:
    cluster, node = with_a_vm()
    cluster.hear(node, node.inventory())
    answering = Answering(cluster, node)
    cluster.turn(EMPTY_AGAIN_S - 2, answering.beat)
    assert answering.listings == 0
    cluster.turn(4, answering.beat)
    assert answering.listings > 0
    cluster.turn(20, answering.beat)
    assert cluster.state() is State.ABSENT
    assert answering.listings < 5


def test_the_second_empty_listing_is_asked_for_once_however_long_it_takes() -> None:
    cluster, node = with_a_vm()
    cluster.hear(node, node.inventory())
    cluster.turn(EMPTY_AGAIN_S + 2, lambda: cluster.hear(node))
    token = cluster.wanted(node)
    assert token
    cluster.turn(20, lambda: cluster.hear(node))
    assert cluster.wanted(node) == token


def test_a_minute_counts_from_the_first_empty_listing_however_many_come_between() -> None:
    cluster, node = with_a_vm()
    for _ in range(4):
        cluster.hear(node, node.inventory())
        assert cluster.known.nodes["kvm-01"].doubt == EMPTY
        cluster.turn(EMPTY_AGAIN_S / 3, lambda: cluster.hear(node))
    cluster.turn(20, Answering(cluster, node).beat)
    assert cluster.state() is State.ABSENT


def test_an_emptiness_ends_in_time_also_when_the_panels_clock_went_back() -> None:
    cluster, node = with_a_vm()
    cluster.hear(node, node.inventory())
    cluster.wall_ahead_s -= 86_400
    cluster.turn(2 * EMPTY_AGAIN_S + 10, Answering(cluster, node).beat)
    assert cluster.state() is State.ABSENT


def test_after_an_empty_listing_of_an_older_epoch_the_node_is_unknown_until_two_of_the_newer_one() -> None:
    cluster, node = with_a_vm()
    cluster.hear(node, node.inventory())
    again = Node("kvm-01", epoch=EPOCH + 1)
    cluster.turn(EMPTY_AGAIN_S / 2, lambda: cluster.hear(again))
    cluster.hear(again, again.inventory(as_of=0))
    cluster.turn(EMPTY_AGAIN_S - 5, lambda: cluster.hear(again))
    assert cluster.state() is State.UNKNOWN
    cluster.turn(30, Answering(cluster, again).beat)
    assert cluster.state() is State.ABSENT


@pytest.mark.parametrize("lists_at", range(5))
def test_the_last_vm_of_a_node_may_leave_with_its_definition(lists_at: int) -> None:
    """A node that was emptied by migrations is no node that suddenly lists nothing; whenever its listing comes."""
    cluster, node = with_a_vm()
    other = Node("kvm-02")
    cluster.hear(node, node.event("suspended", "migrated"), node.event("stopped", "migrated"))
    for number, step in enumerate((("started", "migrated"), ("defined", "added"), ("resumed", "migrated"))):
        if number == lists_at:
            cluster.hear(node, node.inventory())
        cluster.hear(other, other.event(*step))
    if lists_at > 2:
        cluster.hear(node, node.inventory())
    assert cluster.known.nodes["kvm-01"].doubted == 0.0
    assert cluster.place() == ("kvm-02", "running")
    cluster.hear(other, other.event("stopped", "destroyed"), other.event("undefined", "removed"))
    assert cluster.state() is State.ABSENT


@pytest.mark.parametrize("steps", [[("defined", "added")], [("started", "booted")], [("reboot", "")]])
def test_the_first_vm_of_a_node_may_come_while_the_node_lists(steps: list[tuple[str, str]]) -> None:
    """The listing was begun before, is empty, and comes after the event."""
    cluster, node = Cluster(), Node("kvm-01")
    cluster.hear(node, node.inventory())
    begun = node.seq
    cluster.hear(node, *(node.event(*step) for step in steps))
    before = cluster.state()
    cluster.hear(node, node.inventory(as_of=begun))
    assert cluster.known.nodes["kvm-01"].doubted == 0.0
    assert cluster.state() is before is not State.ABSENT


def test_a_vm_that_ran_before_the_listing_is_missed_also_if_something_was_told_of_it_since() -> None:
    cluster, node = with_a_vm()
    begun = node.seq
    cluster.hear(node, node.event("reboot"), node.inventory(as_of=begun))
    assert cluster.known.nodes["kvm-01"].doubt == EMPTY


def test_a_node_that_suddenly_lists_nothing_has_lost_also_a_vm_that_another_one_runs_too() -> None:
    """Two copies ran, and libvirt of the first one has lost its own."""
    cluster, node = with_a_vm()
    other = Node("kvm-02")
    cluster.hear(other, other.inventory(domain("running")))
    cluster.hear(node, node.inventory())
    assert cluster.known.nodes["kvm-01"].doubt == EMPTY


def test_a_node_that_suddenly_lacks_even_its_stopped_vms_is_doubted() -> None:
    cluster, node = with_a_vm()
    cluster.hear(node, node.event("stopped", "shutdown"))
    cluster.hear(node, node.inventory())
    assert cluster.known.nodes["kvm-01"].doubt == EMPTY


# Epochs


def test_a_late_frame_of_the_run_before_is_neither_a_second_agent_nor_one_that_stays() -> None:
    cluster, node = with_a_vm()
    newer = Node("kvm-01", epoch=EPOCH + 1)
    cluster.hear(newer, newer.inventory(domain("running"), as_of=0))
    cluster.hear(node)
    cluster.turn(10, cluster.report)
    cluster.hear(newer)
    cluster.turn(20, lambda: cluster.hear(newer))
    assert cluster.known.nodes["kvm-01"].doubted == 0.0


def test_an_agent_that_changes_to_a_newer_epoch_in_time_is_believed_all_along() -> None:
    cluster, node = with_a_vm()
    cluster.hear(Node("kvm-01", epoch=EPOCH + 1))
    cluster.turn(25, lambda: cluster.hear(node))
    assert cluster.known.nodes["kvm-01"].doubted == 0.0
    newer = Node("kvm-01", epoch=EPOCH + 2)
    cluster.turn(60, lambda: cluster.hear(newer))
    assert cluster.known.nodes["kvm-01"].doubted == 0.0


def test_two_empty_listings_of_two_runs_of_the_agent_are_not_two_of_one() -> None:
    cluster, node = with_a_vm()
    cluster.hear(node, node.inventory())
    cluster.turn(EMPTY_AGAIN_S + 5, lambda: cluster.hear(node))
    again = Node("kvm-01", epoch=EPOCH + 1)
    cluster.hear(again, again.inventory(as_of=0))
    answering = Answering(cluster, again)
    cluster.turn(EMPTY_AGAIN_S - 5, answering.beat)
    assert cluster.state() is State.UNKNOWN
    cluster.turn(30, answering.beat)
    assert cluster.state() is State.ABSENT


@pytest.mark.parametrize("steps", [[("started", "booted")], [("reboot", "")]])
def test_a_node_that_suddenly_lacks_a_vm_of_which_no_definition_is_known_is_doubted(
    steps: list[tuple[str, str]],
) -> None:
    """Running, or known only to be there."""
    cluster, node = Cluster(), Node("kvm-01")
    cluster.hear(node, *(node.event(*step) for step in steps), node.inventory())
    assert cluster.known.nodes["kvm-01"].doubt == EMPTY
