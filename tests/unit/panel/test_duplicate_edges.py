"""Rule 6 where more than two nodes, or more than the duplicate itself, have a part in it."""

from typing import Any

import pytest

from tests.unit.panel.cluster import UUID, Node, domain
from tests.unit.panel.test_duplicates import DISK, OTHER, A, B, Pair
from vmwatch.panel.duplicates import GRACE_S

C = "kvm-03"
THIRD = "00000000-0000-4000-8000-000000000003"
FOURTH = "00000000-0000-4000-8000-000000000004"


class Trio(Pair):
    """Three nodes; the VM runs on the first."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes[C] = Node(C)
        self.lists[C] = []
        self.show(A, domain("running"))
        self.show(B)
        self.show(C)
        self.turn(1)

    def tell(self, name: str, event: str, detail: str, **fields: Any) -> None:  # noqa: ANN401
        node = self.nodes[name]
        self.cluster.hear(node, node.event(event, detail, **fields))


@pytest.fixture
def trio() -> Trio:
    return Trio()


def test_a_third_copy_is_named_at_once_also_while_another_of_the_nodes_is_silent(trio: Trio) -> None:
    trio.show(B, domain("running"))
    trio.turn(60)
    [problem] = trio.found
    assert C not in problem.text
    trio.away.add(B)
    trio.turn(60)
    trio.show(C, domain("running"))
    trio.turn(2)
    [problem] = trio.found
    assert C in problem.text
    assert problem.count == 1


def test_a_change_of_the_vm_does_not_begin_the_grace_period_anew(trio: Trio) -> None:
    trio.show(B, domain("running"))
    trio.turn(GRACE_S / 2)
    trio.lists[A] = trio.lists[B] = [domain("running", name="new")]
    for name in (A, B):
        trio.tell(name, "defined", "renamed", vm="new")
    trio.turn(GRACE_S / 2 + 5)
    assert [one.object for one in trio.found] == [UUID]


def test_a_node_that_speaks_only_vm_event_keeps_no_problem_open(trio: Trio) -> None:
    old = Node("old")
    trio.cluster.hear(old, old.event("started", "booted", uuid=THIRD, vm="other"), live=False)
    trio.show(A, domain("running", disks=[DISK]))
    trio.show(B, domain("running", uuid=OTHER, name="copy", disks=[DISK]))
    trio.turn(60)
    assert len(trio.found) == 1
    trio.show(B, domain("shutoff", uuid=OTHER, name="copy"))
    trio.turn(2)
    assert trio.found == []


@pytest.mark.parametrize(
    ("second", "event", "detail"),
    [(domain("running"), "stopped", "destroyed"), (domain("shutoff", uuid=OTHER), "undefined", "removed")],
    ids=["UUID", "name"],
)
def test_a_node_that_is_away_when_the_panel_starts_keeps_no_duplicate_of_other_nodes_open(
    trio: Trio, second: dict[str, Any], event: str, detail: str
) -> None:
    trio.show(B, second)
    trio.turn(60)
    assert len(trio.found) == 1
    trio.away.add(C)
    trio.start_anew()
    trio.turn(60)
    assert len(trio.found) == 1
    trio.lists[B] = []
    trio.tell(B, event, detail, uuid=second["uuid"])
    trio.turn(2)
    assert trio.found == []


def test_an_undefinition_of_the_second_vm_of_a_name_closes_the_problem_at_once(trio: Trio) -> None:
    trio.show(B, domain("shutoff", uuid=OTHER))
    trio.turn(60)
    assert [one.object for one in trio.found] == ["name web"]
    trio.away.add(B)  # it lists no more
    trio.tell(B, "undefined", "removed", uuid=OTHER)
    trio.turn(2)
    assert trio.found == []


def test_what_a_stopped_copy_is_called_elsewhere_is_no_second_vm_of_that_name(trio: Trio) -> None:
    trio.show(A, domain("running"), domain("running", uuid=OTHER, name="old"))
    trio.show(B, domain("shutoff", name="old"))
    trio.turn(120)
    assert trio.found == []


def test_of_stopped_copies_the_one_that_changed_last_tells_the_name(trio: Trio) -> None:
    trio.show(A, domain("shutoff", name="old"))
    trio.show(B, domain("shutoff", name="new"))
    trio.show(C, domain("shutoff", uuid=OTHER, name="old"))
    trio.turn(120)
    assert trio.found == []


def test_a_name_twice_of_which_a_stopped_vms_node_confirms_nothing_is_no_problem(trio: Trio) -> None:
    trio.show(B, domain("shutoff", uuid=OTHER))
    trio.away.add(B)
    trio.turn(300)
    assert trio.found == []


def test_a_silent_node_with_only_a_definition_does_not_hide_a_duplicate_of_two_others(trio: Trio) -> None:
    trio.show(C, domain("shutoff"))
    trio.away.add(C)
    trio.show(B, domain("running"))
    trio.turn(120)
    assert [one.object for one in trio.found] == [UUID]


def test_two_disks_of_one_path_that_are_each_written_twice_are_two_problems(trio: Trio) -> None:
    here, there = {"path": "/images/a.img", "on": "m1"}, {"path": "/images/a.img", "on": "m2"}
    trio.show(A, domain("running", disks=[here]), domain("running", uuid=OTHER, name="b", disks=[here]))
    trio.show(
        B,
        domain("running", uuid=THIRD, name="c", disks=[there]),
        domain("running", uuid=FOURTH, name="d", disks=[there]),
    )
    trio.turn(60)
    assert sorted(one.object for one in trio.found) == ["disk /images/a.img of m1", "disk /images/a.img of m2"]


def test_a_vm_that_arrived_and_is_started_again_at_its_source_is_a_duplicate(trio: Trio) -> None:
    trio.tell(B, "started", "migrated")
    trio.tell(A, "suspended", "migrated")
    trio.tell(B, "resumed", "migrated")
    trio.tell(A, "stopped", "migrated")
    trio.lists[B] = [domain("running", reason=2)]
    trio.turn(GRACE_S + 5)
    assert trio.found == []
    trio.tell(A, "started", "booted")
    trio.turn(GRACE_S + 5)
    assert [one.object for one in trio.found] == [UUID]


def test_a_vm_that_a_node_forgot_and_has_again_writes_no_disk_that_it_had_before(trio: Trio) -> None:
    trio.show(A, domain("running", disks=[DISK]))
    trio.tell(A, "stopped", "destroyed")
    trio.tell(A, "undefined", "removed")
    trio.show(A)
    trio.show(B, domain("running", uuid=OTHER, name="copy", disks=[DISK]))
    trio.lists[A] = [domain("running")]
    trio.tell(A, "started", "booted")
    trio.turn(120)
    assert trio.found == []


def test_a_vm_that_arrived_while_its_source_runs_on_is_a_duplicate(trio: Trio) -> None:
    trio.tell(B, "started", "migrated")
    trio.turn(GRACE_S + 5)
    assert trio.found == []
    trio.lists[B] = [domain("running", reason=2)]
    trio.tell(B, "resumed", "migrated")
    trio.turn(GRACE_S + 5)
    assert [one.object for one in trio.found] == [UUID]
