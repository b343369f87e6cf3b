"""Rule 3: unknown is not stopped. Silence, sudden emptiness, two agents; on virtual time (design 03)."""

from typing import Any

import pytest
from msgspec import Raw

from tests.unit.panel.cluster import EPOCH, Cluster, Node, domain
from vmwatch.panel.checkup import ILL
from vmwatch.panel.knowledge import Draft
from vmwatch.panel.problems import Kind, Level, raise_problem
from vmwatch.panel.registration import EMPTY, EMPTY_AGAIN_S
from vmwatch.panel.watch import MASTER_SILENT_S, NO_LIBVIRT, NO_LIFE, NO_REPORT, OLD_EPOCH, TWO_AGENTS
from vmwatch.shared.report import ReportEntry
from vmwatch.shared.states import State

OTHER = "00000000-0000-4000-8000-000000000001"


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def node(cluster: Cluster) -> Node:
    """A node on which the VM runs."""
    node = Node("kvm-01")
    cluster.hear(node, node.inventory(domain("running")))
    cluster.turn()
    assert cluster.place() == ("kvm-01", "running")
    return node


def report_nothing(cluster: Cluster) -> None:
    """The master is there, and nothing is heard of any node."""
    cluster.report()


def answer(cluster: Cluster, node: Node, *domains: dict[str, Any]) -> None:
    """A sign of life, and a listing if one is wanted."""
    cluster.hear(node)
    cluster.list_if_wanted(node, *domains)


# Silence


def test_a_node_that_misses_three_heartbeats_has_unknown_vms_never_stopped_ones(cluster: Cluster, node: Node) -> None:
    cluster.turn(30, lambda: report_nothing(cluster))
    assert cluster.state() is State.RUNNING
    cluster.turn(2, lambda: report_nothing(cluster))
    assert cluster.place() == ("kvm-01", "unknown")
    assert cluster.known.nodes["kvm-01"].doubt == NO_LIFE


def test_what_was_known_is_not_overwritten_by_a_silence(cluster: Cluster, node: Node) -> None:
    cluster.turn(60, lambda: report_nothing(cluster))
    claim = cluster.known.claim(domain("running")["uuid"], "kvm-01")
    assert claim is not None
    assert claim.state is State.RUNNING


def test_a_silence_ends_by_itself_with_a_listing_made_after_it(cluster: Cluster, node: Node) -> None:
    """As when the link was lost and is back: no operator is needed for the VMs to be known again."""
    cluster.turn(60, lambda: report_nothing(cluster))
    cluster.hear(node)
    cluster.turn()
    assert cluster.state() is State.UNKNOWN
    assert cluster.list_if_wanted(node, domain("paused"))
    assert cluster.place() == ("kvm-01", "paused")


def test_an_hour_old_backlog_does_not_end_a_silence(cluster: Cluster, node: Node) -> None:
    backlog = [node.event("suspended", "paused"), node.event("resumed", "unpaused"), node.inventory(domain("running"))]
    cluster.turn(3600, lambda: report_nothing(cluster))
    cluster.hear(node, *backlog, live=False)
    assert cluster.state() is State.UNKNOWN
    cluster.hear(node)
    cluster.turn()
    assert cluster.state() is State.UNKNOWN
    cluster.list_if_wanted(node, domain("shutoff"))
    assert cluster.state() is State.SHUTOFF


def test_a_listing_that_was_asked_for_before_the_silence_does_not_end_it(cluster: Cluster, node: Node) -> None:
    """It was made when the way back was cut, and arrives an hour later."""
    cluster.known.want_all_inventories()
    old = node.inventory(domain("running"), token=cluster.wanted(node))
    cluster.turn(3600, lambda: report_nothing(cluster))
    cluster.hear(node, old)
    cluster.turn()
    assert cluster.state() is State.UNKNOWN


def test_a_node_that_is_silent_again_before_it_listed_stays_unknown(cluster: Cluster, node: Node) -> None:
    cluster.turn(60, lambda: report_nothing(cluster))
    cluster.hear(node)
    cluster.turn()
    late = node.inventory(domain("running"), token=cluster.wanted(node))
    cluster.turn(60, lambda: report_nothing(cluster))
    cluster.hear(node, late, live=False)
    assert cluster.state() is State.UNKNOWN


def test_a_signed_frame_without_a_sign_of_life_ends_no_silence(cluster: Cluster, node: Node) -> None:
    """A recording of its heartbeats: the master reports it without `live`."""
    cluster.turn(60, lambda: cluster.hear(node, live=False))
    assert cluster.state() is State.UNKNOWN


def test_another_node_keeps_its_vms_while_one_is_silent(cluster: Cluster, node: Node) -> None:
    other = Node("kvm-02")
    cluster.hear(other, other.inventory(domain("running", uuid=OTHER, name="db")))
    cluster.turn(60, lambda: cluster.hear(other))
    assert (cluster.state(), cluster.state(OTHER)) == (State.UNKNOWN, State.RUNNING)


def test_a_silent_node_is_a_problem_that_closes_itself_and_opens_again_as_the_same(
    cluster: Cluster, node: Node
) -> None:
    for times in (1, 2):
        cluster.turn(60, lambda: report_nothing(cluster))
        assert [one.object for one in cluster.problems(Kind.NODE_SILENT)] == ["kvm-01"]
        cluster.hear(node)
        cluster.turn()
        cluster.list_if_wanted(node, domain("running"))
        cluster.turn()
        assert cluster.problems(Kind.NODE_SILENT) == []
        assert [one.count for one in cluster.known.problems.values() if one.type == Kind.NODE_SILENT] == [times]


def test_a_node_whose_libvirt_does_not_answer_has_unknown_vms(cluster: Cluster, node: Node) -> None:
    """libvirtd is down or its certificate has expired: that stops no VM."""
    cluster.hear(node, status=Raw(b'{"libvirt_answers":false}'))
    cluster.turn()
    assert cluster.state() is State.UNKNOWN
    assert cluster.known.nodes["kvm-01"].doubt == NO_LIBVIRT
    cluster.hear(node, status=Raw(b'{"libvirt_answers":true}'))
    cluster.turn()
    assert cluster.state() is State.UNKNOWN
    assert cluster.list_if_wanted(node, domain("running"))
    assert cluster.state() is State.RUNNING


def test_a_node_that_speaks_only_vm_event_is_never_called_silent(cluster: Cluster) -> None:
    node = Node("old")
    cluster.hear(node, node.event("started", "booted"), live=False)
    cluster.turn(300, lambda: report_nothing(cluster))
    assert cluster.state() is State.RUNNING


# The master, and the panel's start


def test_while_no_report_comes_all_vms_are_unknown_and_one_problem_says_so(cluster: Cluster, node: Node) -> None:
    cluster.turn(MASTER_SILENT_S + 2)
    assert cluster.state() is State.UNKNOWN
    assert cluster.known.nodes["kvm-01"].doubt == NO_REPORT
    assert len(cluster.problems(Kind.MASTER_STOPPED)) == 1
    assert cluster.problems(Kind.NODE_SILENT) == []


def test_a_master_that_comes_back_has_three_heartbeats_time_to_hear_of_its_nodes(cluster: Cluster, node: Node) -> None:
    cluster.turn(600)
    cluster.turn(25, lambda: report_nothing(cluster))
    assert cluster.problems(Kind.NODE_SILENT) == []
    assert cluster.problems(Kind.MASTER_STOPPED) == []
    cluster.hear(node)
    cluster.turn(1, lambda: answer(cluster, node, domain("running")))
    assert cluster.state() is State.RUNNING


def test_a_panel_that_starts_counts_no_silence_from_before(cluster: Cluster, node: Node) -> None:
    later = Cluster(cluster.known, now=90_000.0)
    later.turn(25, lambda: report_nothing(later))
    assert later.state() is State.RUNNING
    later.turn(10, lambda: report_nothing(later))
    assert later.state() is State.UNKNOWN


def test_a_silence_outlives_a_restart_of_the_panel(cluster: Cluster, node: Node) -> None:
    cluster.turn(60, lambda: report_nothing(cluster))
    later = Cluster(cluster.known, now=90_000.0)
    later.turn(5, lambda: report_nothing(later))
    assert later.state() is State.UNKNOWN


# Sudden emptiness


def test_a_node_that_suddenly_lists_nothing_has_unknown_vms_until_it_says_so_twice(
    cluster: Cluster, node: Node
) -> None:
    """A host that crashes: libvirt dies first, and a listing succeeds and is empty."""
    cluster.hear(node, node.inventory())
    assert cluster.state() is State.UNKNOWN
    assert cluster.known.nodes["kvm-01"].doubt == EMPTY
    cluster.turn(EMPTY_AGAIN_S - 2, lambda: answer(cluster, node))
    assert cluster.state() is State.UNKNOWN
    cluster.turn(20, lambda: answer(cluster, node))
    assert cluster.state() is State.ABSENT
    assert cluster.known.nodes["kvm-01"].doubted == 0.0


def test_an_empty_listing_of_another_epoch_is_a_first_one_again(cluster: Cluster, node: Node) -> None:
    cluster.hear(node, node.inventory())
    cluster.turn(EMPTY_AGAIN_S + 5, lambda: cluster.hear(node))
    again = Node("kvm-01", epoch=EPOCH + 1)
    cluster.hear(again, again.inventory(as_of=0))
    cluster.turn(5, lambda: cluster.hear(again))
    assert cluster.state() is State.UNKNOWN


def test_vms_that_are_listed_again_after_an_empty_listing_were_never_gone(cluster: Cluster, node: Node) -> None:
    cluster.hear(node, node.inventory())
    cluster.hear(node, node.inventory(domain("running")))
    cluster.turn(3, lambda: answer(cluster, node, domain("running")))
    assert cluster.place() == ("kvm-01", "running")


def test_the_last_vm_of_a_node_may_go_at_once_if_it_stopped_and_had_no_definition(cluster: Cluster) -> None:
    node = Node("kvm-01")
    cluster.hear(node, node.event("started", "booted"), node.event("stopped", "destroyed"), node.inventory())
    assert cluster.state() is State.ABSENT


def test_the_last_vm_of_a_node_may_be_undefined_at_once(cluster: Cluster, node: Node) -> None:
    steps = [("stopped", "shutdown"), ("undefined", "removed")]
    cluster.hear(node, *(node.event(*step) for step in steps), node.inventory())
    assert cluster.state() is State.ABSENT
    assert cluster.known.nodes["kvm-01"].doubted == 0.0


# Two agents under one node_id


def test_two_agents_under_one_node_id_are_a_problem_and_neither_is_believed_blindly(
    cluster: Cluster, node: Node
) -> None:
    other = Node("kvm-01", epoch=EPOCH + 5)
    cluster.hear(other, other.inventory(domain("shutoff"), as_of=0))
    for _ in range(3):
        cluster.hear(node)
        cluster.hear(other)
    cluster.turn()
    assert cluster.known.nodes["kvm-01"].doubt == TWO_AGENTS
    assert cluster.state() is State.UNKNOWN
    assert [one.object for one in cluster.problems(Kind.ID_CONFLICT)] == ["kvm-01"]


def test_the_conflict_is_over_when_one_of_the_two_has_been_stopped(cluster: Cluster, node: Node) -> None:
    other = Node("kvm-01", epoch=EPOCH + 5)
    for _ in range(3):
        cluster.hear(other)
        cluster.hear(node)
    cluster.turn()
    cluster.turn(130, lambda: answer(cluster, other, domain("running")))
    assert cluster.state() is State.RUNNING
    assert cluster.problems(Kind.ID_CONFLICT) == []


def test_the_restart_of_an_agent_is_no_conflict(cluster: Cluster, node: Node) -> None:
    for run in range(1, 6):
        again = Node("kvm-01", epoch=EPOCH + run)
        cluster.hear(again)
        cluster.turn(2)
    assert cluster.known.nodes["kvm-01"].doubted == 0.0


def test_an_agent_that_stays_in_an_older_epoch_is_not_believed(cluster: Cluster, node: Node) -> None:
    """Its clock went back and its outbox was lost: nothing of what it says changes the picture any more."""
    newer = Node("kvm-01", epoch=EPOCH + 1)
    cluster.hear(newer, newer.inventory(domain("running"), as_of=0))
    cluster.turn(40, lambda: cluster.hear(node))
    assert cluster.known.nodes["kvm-01"].doubt == OLD_EPOCH
    assert cluster.state() is State.UNKNOWN


# A node that was removed, a UUID that is used again


def test_a_uuid_that_is_used_again_after_its_undefinition_is_a_new_vm(cluster: Cluster, node: Node) -> None:
    ends = [("stopped", "destroyed"), ("undefined", "removed")]
    cluster.hear(node, *(node.event(*step) for step in ends))
    assert cluster.state() is State.ABSENT
    cluster.hear(node, node.event("defined", "added", vm="other"))
    judged = cluster.judged()
    assert judged is not None
    assert (judged.name, judged.state) == ("other", State.SHUTOFF)


def test_a_vm_renamed_while_it_runs_keeps_its_state(cluster: Cluster, node: Node) -> None:
    cluster.hear(node, node.event("undefined", "renamed"), node.event("defined", "renamed", vm="new"))
    judged = cluster.judged()
    assert judged is not None
    assert (judged.name, judged.state) == ("new", State.RUNNING)


def test_reports_of_several_nodes_in_one_go_count_for_each(cluster: Cluster) -> None:
    nodes = [Node("a"), Node("b")]
    for node in nodes:
        cluster.hear(node, node.inventory(domain("shutoff")))
    beat = [ReportEntry(node.name, node.epoch, 1, live=True) for node in nodes]
    cluster.turn(120, lambda: cluster.report(*beat))
    assert all(node.doubted == 0.0 for node in cluster.known.nodes.values())


# A master that somebody saw stopped on its own host


def see(cluster: Cluster, text: str) -> None:
    """As the event listener and the hourly check tell it."""
    draft = Draft(cluster.known)
    raise_problem(draft, cluster.wall, Kind.MASTER_STOPPED, "vmwatch-master", Level.ERROR, text)
    draft.merge()


def test_a_report_that_came_before_does_not_solve_it_and_one_that_comes_after_does(
    cluster: Cluster, node: Node
) -> None:
    cluster.turn(1, lambda: report_nothing(cluster))
    cluster.now += 1.0
    see(cluster, "vmwatch-master: FATAL")
    cluster.turn(5)
    assert [one.text for one in cluster.problems(Kind.MASTER_STOPPED)] == ["vmwatch-master: FATAL"]
    cluster.turn(60)
    assert [one.text for one in cluster.problems(Kind.MASTER_STOPPED)] == ["vmwatch-master: FATAL"]
    cluster.turn(1, lambda: report_nothing(cluster))
    assert cluster.problems(Kind.MASTER_STOPPED) == []


def test_an_ill_one_that_reports_is_not_called_well_for_that(cluster: Cluster, node: Node) -> None:
    see(cluster, f"vmwatch-master: {ILL}: no worker is ready")
    cluster.turn(5, lambda: report_nothing(cluster))
    assert len(cluster.problems(Kind.MASTER_STOPPED)) == 1
