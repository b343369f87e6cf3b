"""A node that was removed and reports: it is told once for all, and nothing is done until somebody has decided."""

from collections.abc import Callable

import pytest

from tests.unit.panel.cluster import Cluster, Node, domain
from vmwatch.panel.knowledge import Draft
from vmwatch.panel.problems import Kind, Level, raise_problem
from vmwatch.panel.removal import added_again
from vmwatch.panel.removed import ENDED_WITH_IT, begun, came_back, decided, returned
from vmwatch.panel.solving import is_due


@pytest.mark.parametrize("happens", [begun, came_back])
def test_it_is_a_problem_that_nothing_but_a_person_solves(happens: Callable[[Draft, float, str], None]) -> None:
    cluster = Cluster()
    draft = Draft(cluster.known)
    happens(draft, cluster.wall, "kvm-01")
    happens(draft, cluster.wall, "kvm-01")
    draft.merge()
    (told,) = cluster.problems(Kind.RETURNED)
    assert (told.object, told.count, told.automatic) == ("kvm-01", 2, False)
    assert not is_due(told, cluster.wall + 1e6)
    assert returned(cluster.known.problems.values()) == {"kvm-01"}
    cluster.now += 3600.0
    draft = Draft(cluster.known)
    decided(draft, cluster.wall, "kvm-01")
    draft.merge()
    assert returned(cluster.known.problems.values()) == frozenset()


def test_a_node_that_is_added_again_is_silent_only_once_it_has_given_a_sign_of_life() -> None:
    cluster, node = Cluster(), Node("kvm-01")
    cluster.hear(node, node.inventory(domain("running")))
    cluster.turn(60, cluster.report)
    assert len(cluster.problems(Kind.NODE_SILENT)) == 1
    cluster.known.nodes["kvm-01"] = added_again(cluster.known.nodes["kvm-01"])
    cluster.turn(60, cluster.report)
    assert (cluster.known.nodes["kvm-01"].doubt, cluster.problems(Kind.NODE_SILENT)) == ("", [])
    cluster.hear(node)
    cluster.turn()
    assert cluster.place() == ("kvm-01", "running")
    cluster.turn(60, cluster.report)
    assert cluster.place() == ("kvm-01", "unknown")
    assert len(cluster.problems(Kind.NODE_SILENT)) == 1


@pytest.mark.parametrize("kind", ENDED_WITH_IT)
def test_problems_that_only_a_look_at_a_node_would_close_end_when_it_is_in_no_list_any_more(kind: Kind) -> None:
    cluster = Cluster()
    for name in ("kvm-01", "kvm-02"):
        cluster.hear(Node(name))
    draft = Draft(cluster.known)
    for name in ("kvm-01", "kvm-02", "stranger"):
        raise_problem(draft, cluster.wall, kind, name, Level.ERROR, "as it says")
    cluster.watch.turn(draft, ["kvm-01"], cluster.now, cluster.wall, str)
    draft.merge()
    assert {one.object for one in cluster.problems(kind)} == {"kvm-01", "stranger"}
