"""A node that was removed and reports: it is told once for all, and nothing is done until somebody has decided."""

from tests.unit.panel.cluster import Cluster
from vmwatch.panel.knowledge import Draft
from vmwatch.panel.problems import Kind
from vmwatch.panel.removed import came_back, decided, returned
from vmwatch.panel.solving import is_due


def test_it_is_a_problem_that_nothing_but_a_person_solves() -> None:
    cluster = Cluster()
    draft = Draft(cluster.known)
    came_back(draft, cluster.wall, "kvm-01")
    came_back(draft, cluster.wall, "kvm-01")
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
