"""The rules on migrations that were recorded on real hypervisors, with the two ends' messages in every order."""

from typing import Any

import pytest

from tests.unit.panel.cluster import UUID, Cluster, Node, domain
from tests.unit.panel.migrations import (
    ARRIVED_PAUSED,
    DESTINATION,
    DESTROYED_THERE,
    ENDED,
    RECORDED,
    SOURCE,
    Listed,
    Recorded,
)
from tests.unit.panel.test_migration import STOPPED, interleavings, running
from vmwatch.panel.knowledge import Draft
from vmwatch.panel.problems import Kind
from vmwatch.panel.watch import ARRIVES_WITHIN_S
from vmwatch.shared.states import State

IN_A_MOMENT = {ARRIVED_PAUSED, DESTROYED_THERE[0]}
"""Steps that are followed by the next one at once, whatever the machines and the network do."""
LONG_S = 120
"""Any grace period is over by then."""


def messages(case: Recorded, node: Node) -> list[dict[str, Any]]:
    """What the node tells of it, in order."""
    return [node.event(event, detail) for end, event, detail in case.events if end == node.name]


def listing(listed: Listed | None) -> list[dict[str, Any]]:
    if listed is None:
        return []
    return [domain(listed.state, reason=listed.reason, persistent=listed.persistent)]


def list_all(case: Recorded, cluster: Cluster, *nodes: Node) -> None:
    """Each node lists what it has in the end; one whose libvirtd was restarted does so as a new run of its agent."""
    for node in nodes:
        if case.restarted == node.name:
            node.epoch, node.seq = node.epoch + 1, 0
        cluster.hear(node, node.inventory(*listing(case.source if node.name == SOURCE else case.destination)))


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case.name)
def test_in_every_order_the_picture_is_the_truth_at_the_end_and_no_vm_that_runs_was_ever_stopped(
    case: Recorded,
) -> None:
    scratch = Node(SOURCE), Node(DESTINATION)
    for order in interleavings(*(messages(case, node) for node in scratch)):
        cluster = Cluster()
        nodes = running(cluster, persistent=case.persistent)
        shown = {cluster.state()}
        own = [iter(messages(case, node)) for node in nodes]
        for end, _ in order:
            cluster.hear(nodes[end], next(own[end]))
            shown.add(cluster.state())
        if not case.restarted:
            assert cluster.place() == (case.holder, case.state), "from the events alone"
        list_all(case, cluster, *nodes)
        shown.add(cluster.state())
        assert cluster.place() == (case.holder, case.state), "after the listings"
        if case not in ENDED:
            assert not shown & {*STOPPED, State.IN_SHUTDOWN}


def holders(cluster: Cluster) -> set[str]:
    """The nodes whose claims would be a duplicate, were they two."""
    return {node for node, claim in Draft(cluster.known).claims_of_vm(UUID).items() if claim.is_held}


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case.name)
def test_however_long_a_step_of_a_migration_lasts_two_ends_never_hold_the_vm(case: Recorded) -> None:
    cluster = Cluster()
    by_name = {node.name: node for node in running(cluster, persistent=case.persistent)}
    for end, event, detail in case.events:
        cluster.hear(by_name[end], by_name[end].event(event, detail))
        if (end, event, detail) not in IN_A_MOMENT:
            assert len(holders(cluster)) <= 1, (end, event, detail)


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case.name)
def test_what_a_migration_leaves_behind_is_no_duplicate_and_stays_as_it_is(case: Recorded) -> None:
    cluster = Cluster()
    nodes = running(cluster, persistent=case.persistent)
    own = {node.name: iter(messages(case, node)) for node in nodes}
    by_name = {node.name: node for node in nodes}
    for end, _, _ in case.events:
        cluster.hear(by_name[end], next(own[end]))
    list_all(case, cluster, *nodes)

    def live() -> None:
        for node, listed in zip(nodes, (case.source, case.destination), strict=True):
            cluster.hear(node)
            cluster.list_if_wanted(node, *listing(listed))

    cluster.turn(LONG_S, live)
    assert cluster.problems(Kind.DUPLICATE) == []
    assert cluster.place() == (case.holder, case.state)


@pytest.mark.parametrize("case", [case for case in RECORDED if case.holder == DESTINATION], ids=lambda case: case.name)
def test_a_migration_of_which_only_the_source_is_heard_never_shows_the_vm_as_stopped(case: Recorded) -> None:
    """The destination's agent is cut off; before the panel calls it silent, its claim is only missing."""
    cluster = Cluster()
    source, _ = running(cluster, persistent=case.persistent)
    for message in messages(case, source):
        cluster.hear(source, message)
        assert cluster.state() not in STOPPED
    cluster.hear(source, source.inventory(*listing(case.source)))
    assert cluster.state() not in STOPPED
    cluster.turn(ARRIVES_WITHIN_S / 2, lambda: cluster.hear(source))
    assert cluster.state() in {State.UNKNOWN, State.PAUSED, State.RUNNING}
