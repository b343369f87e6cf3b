"""What becomes of one claim, and which claim speaks for the VM, where the order of messages is not the usual one."""

import pytest

from tests.unit.panel.test_rules import OTHER, UUID, claim, event, inventory
from vmwatch.panel.rules import NOTHING, Claim, after_event, after_inventory, arrivals, judge
from vmwatch.shared.messages import Inventory, ListedDomain
from vmwatch.shared.states import State


def told(known: Claim | None, *steps: tuple[int, str, str], vm: str = "web", epoch: int = 1) -> Claim:
    """The claim after events: (seq, event, detail)."""
    for seq, name, detail in steps:
        known = after_event(known, NOTHING, (epoch, seq), event(name, detail, seq=seq, vm=vm), seq, 100.0) or known
    assert known is not None
    return known


def listed(known: Claim, domain: ListedDomain, as_of: int = 10) -> Claim:
    effect = after_inventory({UUID: known}, NOTHING, 1, Inventory(99, 9.0, as_of, [domain]), 7, 100.0)
    assert effect is not None
    return effect.claims.get(UUID, known) or known


# Which claim speaks


def test_a_node_that_has_the_vm_not_hides_no_other() -> None:
    for state in (State.SHUTOFF, State.CRASHED):
        judged = judge({"a": claim(State.ABSENT, turn=9), "b": claim(state, turn=1)})
        assert judged is not None
        assert (judged.node, judged.state) == ("b", state)


def test_a_silent_node_that_has_the_vm_not_makes_it_neither_unknown_nor_there() -> None:
    judged = judge({"a": claim(State.ABSENT), "b": claim(State.SHUTOFF)}, {"a": 50.0})
    assert judged is not None
    assert (judged.node, judged.state) == ("b", State.SHUTOFF)
    assert judge({"a": claim(State.ABSENT)}, {"a": 50.0}) is None


@pytest.mark.parametrize(("silent_since", "since"), [(50.0, 50.0), (2.0, 5.0)])
def test_a_vm_is_unknown_since_its_node_is_silent_and_not_since_before_its_last_change(
    silent_since: float, since: float
) -> None:
    judged = judge({"a": claim(State.RUNNING)}, {"a": silent_since})
    assert judged is not None
    assert (judged.state, judged.since) == (State.UNKNOWN, since)


def test_a_guest_that_switches_itself_off_while_it_migrates_speaks_and_not_the_end_that_waits() -> None:
    judged = judge({"source": claim(State.IN_SHUTDOWN, turn=1), "destination": claim(State.PAUSED, turn=2)})
    assert judged is not None
    assert (judged.node, judged.state) == ("source", State.IN_SHUTDOWN)


def test_a_node_on_which_the_vm_sleeps_speaks_before_one_that_is_silent() -> None:
    judged = judge({"a": claim(State.PMSUSPENDED, turn=1), "b": claim(State.RUNNING, turn=2)}, {"b": 9.0})
    assert judged is not None
    assert (judged.node, judged.state) == ("a", State.PMSUSPENDED)


# Events


def test_a_vm_that_waits_for_no_guest_is_in_shutdown_when_libvirt_shuts_it_down() -> None:
    assert told(claim(State.RUNNING), (2, "shutdown", "host")).state is State.IN_SHUTDOWN


def test_a_guest_that_shuts_down_where_it_was_awaited_is_in_shutdown() -> None:
    waiting = told(None, (2, "started", "migrated"))
    assert told(waiting, (3, "shutdown", "guest")).state is State.IN_SHUTDOWN
    assert told(waiting, (3, "shutdown", "host")).state is State.PAUSED


@pytest.mark.parametrize("detail", ["added", "updated", "renamed", "from_snapshot"])
def test_a_transient_vm_that_is_given_a_definition_stays_when_it_ends(detail: str) -> None:
    transient = listed(claim(State.RUNNING), ListedDomain(UUID, "web", State.RUNNING, 1, persistent=False), 5)
    assert told(transient, (11, "stopped", "shutdown")).state is State.ABSENT
    assert told(transient, (11, "defined", detail), (12, "stopped", "shutdown")).state is State.SHUTOFF


def test_that_a_vm_has_no_definition_is_not_taken_from_an_earlier_run_of_the_agent() -> None:
    """It may have been defined while nobody listened; the listing with which each run begins tells."""
    transient = Inventory(1, 9.0, 0, [ListedDomain(UUID, "web", State.RUNNING, 1, False)])
    effect = after_inventory({}, NOTHING, 1, transient, 7, 100.0)
    assert effect is not None
    for epoch, state in ((1, State.ABSENT), (2, State.SHUTOFF)):
        assert told(effect.claims[UUID], (2, "stopped", "shutdown"), epoch=epoch).state is state


def test_a_definition_that_comes_after_the_undefinition_which_followed_it_is_none() -> None:
    known = told(claim(State.RUNNING), (6, "undefined", "removed"), (5, "defined", "added"), (7, "stopped", "shutdown"))
    assert known.state is State.ABSENT


def test_an_event_that_comes_late_tells_its_state_and_not_its_name() -> None:
    renamed = told(claim(State.SHUTOFF), (6, "defined", "renamed"), vm="new")
    late = told(renamed, (5, "started", "booted"), vm="old")
    assert (late.state, late.name) == (State.RUNNING, "new")


def test_a_listing_that_saw_a_rename_before_its_events_came_keeps_the_new_name() -> None:
    """libvirt's `undefined/renamed` says what the VM was called; it may be all that has come of the rename."""
    new = ListedDomain(UUID, "new", State.SHUTOFF, 1, persistent=True)
    known = listed(claim(State.SHUTOFF, name="old"), new, 5)
    assert told(known, (6, "undefined", "renamed"), vm="old").name == "new"
    known = told(claim(State.SHUTOFF, name="old"), (6, "undefined", "renamed"), vm="old")
    assert listed(known, new, 5).name == "new"


def test_a_vm_that_stops_where_an_earlier_migration_failed_is_stopped() -> None:
    """It was started there while no agent ran."""
    failed = told(None, (2, "started", "migrated"), (3, "stopped", "failed"))
    assert failed.state is State.UNKNOWN
    assert told(failed, (9, "defined", "added"), (10, "stopped", "shutdown")).state is State.SHUTOFF


# Listings


def test_a_listing_with_the_as_of_of_the_last_one_counts() -> None:
    """Nothing was told in between, and still something may have changed: libvirtd was away."""
    effect = after_inventory({UUID: claim(State.RUNNING)}, (1, 10), 1, inventory((UUID, State.PAUSED), as_of=10), 7)
    assert effect is not None
    after = effect.claims[UUID]
    assert after is not None
    assert after.state is State.PAUSED


def test_a_listing_at_the_place_of_the_last_message_tells_name_and_definition() -> None:
    known = listed(claim(State.RUNNING, (1, 10), name="old"), ListedDomain(UUID, "one", State.RUNNING, 1, True))
    assert (known.name, known.persistent) == ("one", True)
    again = listed(known, ListedDomain(UUID, "two", State.RUNNING, 1, persistent=False))
    assert (again.name, again.persistent) == ("two", False)


def test_a_listing_older_than_a_rename_does_not_bring_the_old_name_back() -> None:
    renamed = told(claim(State.RUNNING), (12, "defined", "renamed"), vm="new")
    known = listed(renamed, ListedDomain(UUID, "old", State.PAUSED, 1, persistent=True))
    assert (known.name, known.state) == ("new", State.PAUSED)


def test_a_listing_older_than_an_undefinition_does_not_bring_the_definition_back() -> None:
    undefined = told(claim(State.RUNNING), (12, "undefined", "removed"))
    known = listed(undefined, ListedDomain(UUID, "web", State.RUNNING, 1, persistent=True))
    assert told(known, (13, "stopped", "shutdown")).state is State.ABSENT


def test_a_running_vm_that_came_by_a_migration_is_listed_as_such_and_is_no_end_of_one() -> None:
    """libvirt's reason 2 of `running` is *migrated*; of `paused` it is *migration*."""
    for known in (claim(State.ABSENT), claim(State.RUNNING)):
        assert listed(known, ListedDomain(UUID, "web", State.RUNNING, 2, persistent=True)).is_held


# Migrations


def test_an_end_that_waits_is_left_alone_while_another_departure_goes_on() -> None:
    left = told(claim(State.RUNNING), (2, "suspended", "migrated"), (3, "stopped", "migrated"))
    waiting = told(None, (2, "started", "migrated"))
    assert arrivals({"source": left, "destination": waiting}) == {}


def test_a_vm_of_another_node_is_not_forgotten_by_a_listing_of_this_one() -> None:
    effect = after_inventory({UUID: claim(State.SHUTOFF)}, NOTHING, 1, inventory((OTHER, State.RUNNING)), 7)
    assert effect is not None
    assert set(effect.claims) == {UUID, OTHER}


def test_a_stopped_vm_of_which_something_was_told_since_a_listing_is_not_forgotten_for_lack_in_it() -> None:
    known = told(claim(State.SHUTOFF), (12, "reboot", ""))
    effect = after_inventory({UUID: known}, NOTHING, 1, inventory((OTHER, State.RUNNING)), 7)
    assert effect is not None
    assert UUID not in effect.claims
