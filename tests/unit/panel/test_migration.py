"""Rule 5: live migrations, told by both ends in every possible order (design 03; sequences seen on libvirt 9)."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.panel.cluster import Cluster, Node, domain
from vmwatch.panel.problems import Kind
from vmwatch.panel.watch import ARRIVES_WITHIN_S
from vmwatch.shared.states import State

Step = tuple[str, str]
HANDED_OVER: list[Step] = [("suspended", "migrated"), ("stopped", "migrated")]

SUCCEEDED: dict[str, tuple[list[Step], list[Step]]] = {
    "to a transient one": (HANDED_OVER, [("started", "migrated"), ("resumed", "migrated")]),
    "with its definition": (HANDED_OVER, [("started", "migrated"), ("defined", "added"), ("resumed", "migrated")]),
    "that was paused before": ([("stopped", "migrated")], [("started", "migrated"), ("suspended", "paused")]),
    "and stays paused": (HANDED_OVER, [("started", "migrated"), ("suspended", "paused")]),
    "and the source is undefined": (
        [*HANDED_OVER, ("undefined", "removed")],
        [("started", "migrated"), ("resumed", "migrated")],
    ),
    "post-copy": (
        [("suspended", "migrated"), ("suspended", "postcopy"), ("stopped", "migrated")],
        [("started", "migrated"), ("resumed", "postcopy"), ("resumed", "migrated")],
    ),
    "and rebooted there": (HANDED_OVER, [("started", "migrated"), ("resumed", "migrated"), ("reboot", "")]),
}
FAILED: dict[str, tuple[list[Step], list[Step]]] = {
    "before the hand-over": ([], [("started", "migrated"), ("stopped", "failed")]),
    "and was destroyed at the destination": (
        [],
        [("started", "migrated"), ("shutdown", "host"), ("stopped", "destroyed")],
    ),
    "during the hand-over": (
        [("suspended", "migrated"), ("resumed", "migrated")],
        [("started", "migrated"), ("stopped", "failed")],
    ),
    "and was resumed by an operator": (
        [("suspended", "migrated"), ("resumed", "unpaused")],
        [("started", "migrated"), ("stopped", "failed")],
    ),
}
ENDED: dict[str, tuple[list[Step], list[Step]]] = {
    "its QEMU died": ([("stopped", "failed")], [("started", "migrated"), ("stopped", "failed")]),
    "it was destroyed": (
        [("shutdown", "host"), ("stopped", "destroyed")],
        [("started", "migrated"), ("stopped", "failed")],
    ),
}


def interleavings(source: Sequence[Any], destination: Sequence[Any]) -> Iterator[list[tuple[int, Any]]]:
    """Every order in which two ends' messages can arrive, each end's own in its order: (end, message)."""
    total = len(source) + len(destination)
    for places in combinations(range(total), len(source)):
        ends = [iter(source), iter(destination)]
        yield [(which, next(ends[which])) for which in (0 if place in places else 1 for place in range(total))]


def running(cluster: Cluster, *, persistent: bool = True) -> tuple[Node, Node]:
    """Source and destination; the VM runs on the source."""
    source, destination = Node("source"), Node("destination")
    cluster.hear(source, source.inventory(domain("running", persistent=persistent)))
    cluster.hear(destination, destination.inventory())
    return source, destination


def arrive(
    steps: tuple[list[Step], list[Step]],
    *,
    more: tuple[list[Step], list[Step]] = ([], []),
    persistent: bool = True,
) -> Iterator[tuple[Cluster, Node, Node, set[State]]]:
    """Each order of a migration: the cluster after it, its nodes, and all states that were shown on the way."""
    lists = [steps[0] + more[0], steps[1] + more[1]]
    for order in interleavings(*lists):
        cluster = Cluster()
        nodes = running(cluster, persistent=persistent)
        shown = set()
        for end, (name, detail) in order:
            cluster.hear(nodes[end], nodes[end].event(name, detail))
            shown.add(cluster.state())
        yield cluster, *nodes, shown


STOPPED = {State.SHUTOFF, State.CRASHED, State.ABSENT}


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("case", SUCCEEDED)
def test_a_vm_that_migrated_is_at_the_destination_and_was_never_shown_as_stopped(case: str, persistent: bool) -> None:
    for cluster, _, destination, shown in arrive(SUCCEEDED[case], persistent=persistent):
        expected = "paused" if SUCCEEDED[case][1][-1] == ("suspended", "paused") else "running"
        assert cluster.place() == (destination.name, expected)
        assert not shown & STOPPED
        cluster.turn(5.0)
        assert cluster.place() == (destination.name, expected)


@pytest.mark.parametrize("case", FAILED)
def test_a_vm_whose_migration_failed_is_at_the_source_and_was_never_shown_as_stopped(case: str) -> None:
    for cluster, source, _, shown in arrive(FAILED[case]):
        assert cluster.place() == (source.name, "running")
        assert not shown & STOPPED


@pytest.mark.parametrize("case", ENDED)
def test_a_vm_that_ended_in_the_middle_of_a_migration_is_shown_as_stopped(case: str) -> None:
    for cluster, source, _, _ in arrive(ENDED[case]):
        assert cluster.place() == (source.name, "shutoff")


def test_there_and_back_ends_at_the_source_in_every_order() -> None:
    there, back = SUCCEEDED["with its definition"], ([("started", "migrated"), ("resumed", "migrated")], HANDED_OVER)
    for cluster, source, _, shown in arrive(there, more=back):
        assert cluster.place() == (source.name, "running")
        assert not shown & STOPPED


def test_a_vm_that_was_stopped_after_its_migration_is_shown_as_stopped_once_the_nodes_have_listed() -> None:
    for cluster, source, destination, _ in arrive(
        SUCCEEDED["with its definition"], more=([], [("stopped", "shutdown")])
    ):

        for _ in range(int(ARRIVES_WITHIN_S) + 5):
            cluster.turn(1.0)
            cluster.hear(source)
            cluster.hear(destination)
            cluster.list_if_wanted(source, domain("shutoff"))
            cluster.list_if_wanted(destination, domain("shutoff"))
        assert cluster.state() is State.SHUTOFF


def test_a_vm_that_left_is_unknown_until_the_destination_speaks_whatever_the_source_lists() -> None:
    cluster = Cluster()
    source, destination = running(cluster)
    for step in HANDED_OVER:
        cluster.hear(source, source.event(*step))
    assert cluster.state() is State.UNKNOWN
    cluster.hear(source, source.inventory(domain("shutoff")))
    assert cluster.state() is State.UNKNOWN
    cluster.hear(source, source.inventory(domain("shutoff", uuid=UUID_OF_OTHER, name="other")))
    assert cluster.state() is State.UNKNOWN
    cluster.hear(destination, destination.event("started", "migrated"))
    assert cluster.state() is State.PAUSED
    cluster.hear(destination, destination.event("resumed", "migrated"))
    assert cluster.place() == ("destination", "running")


UUID_OF_OTHER = "00000000-0000-4000-8000-000000000001"


def test_a_vm_that_left_for_a_host_outside_the_cluster_is_stopped_once_every_node_has_listed() -> None:
    cluster = Cluster()
    source, destination = running(cluster)
    for step in HANDED_OVER:
        cluster.hear(source, source.event(*step))

    def beat() -> None:
        cluster.hear(source)
        cluster.hear(destination)

    cluster.turn(ARRIVES_WITHIN_S + 5, beat)
    assert cluster.state() is State.UNKNOWN
    assert cluster.list_if_wanted(source, domain("shutoff"))
    cluster.turn(2, beat)
    assert cluster.state() is State.UNKNOWN, "one node has not said that it does not have it"
    assert cluster.list_if_wanted(destination)
    cluster.turn(2, beat)
    assert cluster.place() == ("source", "shutoff")


def test_a_vm_that_left_for_a_node_that_is_silent_stays_unknown() -> None:
    cluster = Cluster()
    source, destination = running(cluster)
    for step in HANDED_OVER:
        cluster.hear(source, source.event(*step))

    def beat() -> None:
        cluster.hear(source)
        cluster.list_if_wanted(source, domain("shutoff"))

    cluster.turn(600, beat)
    assert cluster.state() is State.UNKNOWN
    assert destination.name in {one.object for one in cluster.problems(Kind.NODE_SILENT)}


@given(
    st.sampled_from([*SUCCEEDED.values(), *FAILED.values()]),
    st.data(),
)
def test_listings_of_both_ends_in_between_never_show_a_vm_that_runs_as_stopped(
    steps: tuple[list[Step], list[Step]], data: st.DataObject
) -> None:
    """Each end lists at random moments what libvirt would list then; its messages arrive in order, the ends' in any."""
    cluster = Cluster()
    nodes = running(cluster)
    lists: list[list[dict[str, Any]]] = []
    for node, own, now in zip(nodes, steps, (LISTED_RUNNING, None), strict=True):
        lists.append([])
        for step in own:
            lists[-1].append(node.event(*step))
            now = _listed_after(step, now)
            if data.draw(st.booleans()):
                lists[-1].append(node.inventory(*([now] if now else [])))
    which = data.draw(st.permutations([0] * len(lists[0]) + [1] * len(lists[1])))
    rest = [iter(lists[0]), iter(lists[1])]
    for end in which:
        cluster.hear(nodes[end], next(rest[end]))
        assert cluster.state() not in STOPPED
    cluster.turn(3.0)
    wanted = "source" if steps in FAILED.values() else "destination"
    judged = cluster.judged()
    assert judged is not None
    assert judged.node == wanted or judged.state is State.UNKNOWN


LISTED_RUNNING = domain("running")


def _listed_after(step: Step, before: dict[str, Any] | None) -> dict[str, Any] | None:
    """What `listAllDomains` has of the VM after this event; a definition is at the source, and where one was added."""
    name, detail = step
    persistent = before is not None and before.get("persistent", True)
    if name == "defined":
        return None if before is None else {**before, "persistent": True}
    if name == "undefined" or (name == "stopped" and not persistent):
        return None
    states = {
        "started": "paused",
        "suspended": "paused",
        "resumed": "running",
        "stopped": "shutoff",
        "shutdown": "in_shutdown",
    }
    reason = 2 if detail == "migrated" and states.get(name) == "paused" else 12 if detail == "postcopy" else 1
    return domain(states.get(name, "running"), reason=reason, persistent=persistent)


def test_what_the_destination_said_of_an_earlier_run_does_not_end_a_migration_to_it() -> None:
    """The VM had run there, was stopped, was started at the source, and migrated. The destination's word lags."""
    cluster = Cluster()
    source, destination = Node("source"), Node("destination")
    cluster.hear(source, source.inventory())
    cluster.hear(destination, destination.inventory(domain("running")))
    late = [destination.event("stopped", "shutdown")]
    cluster.hear(source, source.event("started", "booted"), *(source.event(*step) for step in HANDED_OVER))
    assert cluster.state() not in STOPPED
    late += [destination.event("started", "migrated"), destination.event("resumed", "migrated")]
    for message in late:
        cluster.hear(destination, message)
        assert cluster.state() not in STOPPED
    assert cluster.place() == ("destination", "running")
