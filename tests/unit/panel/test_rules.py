"""The rules for the state of VMs (design 03, *Rules*, 1, 2 and 4), as functions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.panel.rules import NOTHING, Claim, Mark, after_event, after_inventory, judge
from vmwatch.shared.messages import Event, Inventory, ListedDomain, Vm
from vmwatch.shared.states import ACTIVE, State, state_of_event

UUID = "8e0d1b34-5f5d-4ac1-9c1e-2f9d3a1b7c55"
OTHER = "00000000-0000-4000-8000-000000000001"


def event(name: str, detail: str = "", *, seq: int = 1, vm: str = "web") -> Event:
    return Event(seq=seq, time=9.0, vm=Vm(UUID, vm), event=name, detail=detail, state=state_of_event(name))


def claim(state: State, mark: Mark = (1, 1), *, name: str = "web", turn: int = 1) -> Claim:
    return Claim(state, name, mark, 5.0, turn, stated=mark)


def inventory(*domains: tuple[str, State], as_of: int = 10, token: str = "") -> Inventory:
    return Inventory(
        seq=as_of + 1,
        time=9.0,
        as_of=as_of,
        token=token,
        domains=[ListedDomain(uuid, "web", state) for uuid, state in domains],
    )


# Events


@pytest.mark.parametrize(
    ("name", "detail", "before", "after"),
    [
        ("started", "booted", State.SHUTOFF, State.RUNNING),
        ("suspended", "paused", State.RUNNING, State.PAUSED),
        ("resumed", "unpaused", State.PAUSED, State.RUNNING),
        ("shutdown", "guest", State.RUNNING, State.IN_SHUTDOWN),
        ("stopped", "shutdown", State.IN_SHUTDOWN, State.SHUTOFF),
        ("crashed", "panicked", State.RUNNING, State.CRASHED),
        ("pmsuspended", "memory", State.RUNNING, State.PMSUSPENDED),
        ("defined", "added", None, State.SHUTOFF),
        ("defined", "added", State.ABSENT, State.SHUTOFF),
        ("defined", "updated", State.RUNNING, State.RUNNING),
        ("undefined", "removed", State.SHUTOFF, State.ABSENT),
        ("undefined", "removed", None, State.ABSENT),
        ("reboot", "", State.RUNNING, State.RUNNING),
        ("reboot", "", None, State.UNKNOWN),
        ("io_error", "pause", State.PAUSED, State.PAUSED),
    ],
)
def test_an_event_leads_to_the_state_of_the_table(
    name: str, detail: str, before: State | None, after: State
) -> None:
    known = None if before is None else claim(before)
    result = after_event(known, NOTHING, (1, 2), event(name, detail), 7)
    assert result is not None
    assert result.state is after
    assert result.mark == (1, 2)


def test_an_event_that_tells_no_state_moves_the_mark_alone() -> None:
    result = after_event(claim(State.RUNNING), NOTHING, (1, 5), event("reboot"), 7)
    assert result == Claim(State.RUNNING, "web", (1, 5), 5.0, 1, stated=(1, 1))


def test_a_running_vm_that_loses_its_definition_runs_on_and_is_gone_when_it_stops() -> None:
    undefined = after_event(claim(State.RUNNING), NOTHING, (1, 5), event("undefined", "removed"), 7)
    assert undefined is not None
    assert undefined.state is State.RUNNING
    stopped = after_event(undefined, NOTHING, (1, 6), event("stopped", "shutdown"), 8)
    assert stopped is not None
    assert stopped.state is State.ABSENT


def test_a_stop_that_comes_after_the_undefinition_which_followed_it_leaves_no_vm() -> None:
    undefined = after_event(claim(State.RUNNING), NOTHING, (1, 6), event("undefined", "removed"), 7)
    stopped = after_event(undefined, NOTHING, (1, 5), event("stopped", "shutdown"), 8)
    assert stopped is not None
    assert stopped.state is State.ABSENT


def test_a_vm_that_is_defined_again_while_it_runs_stays_when_it_stops() -> None:
    known = claim(State.RUNNING)
    for seq, (name, detail) in enumerate([("undefined", "removed"), ("defined", "added"), ("stopped", "destroyed")], 2):
        known = after_event(known, NOTHING, (1, seq), event(name, detail), seq) or known
    assert known.state is State.SHUTOFF


def test_a_reboot_that_overtakes_the_start_does_not_hide_it() -> None:
    rebooted = after_event(claim(State.SHUTOFF), NOTHING, (1, 6), event("reboot"), 7)
    started = after_event(rebooted, NOTHING, (1, 5), event("started", "booted"), 8)
    assert started == Claim(State.RUNNING, "web", (1, 6), 9.0, 8, stated=(1, 5))


@pytest.mark.parametrize(("name", "detail"), [("reboot", ""), ("defined", "updated"), ("io_error", "report")])
def test_what_was_missed_before_an_event_without_a_state_the_listing_at_the_start_puts_right(
    name: str, detail: str
) -> None:
    """The agent was away while the VM stopped and was started; its first event comes before its first listing."""
    known = after_event(claim(State.SHUTOFF, (1, 99)), NOTHING, (2, 1), event(name, detail), 7)
    assert known is not None
    effect = after_inventory({UUID: known}, NOTHING, 2, inventory((UUID, State.RUNNING), as_of=0), 8)
    assert effect is not None
    after = effect.claims[UUID]
    assert after is not None
    assert (after.state, after.mark, after.stated, after.since) == (State.RUNNING, (2, 1), (2, 0), 9.0)


def test_a_listing_older_than_a_rename_tells_the_state_and_not_the_name() -> None:
    known = after_event(claim(State.RUNNING, (1, 1), name="old"), NOTHING, (1, 5), event("defined", "renamed"), 7)
    assert known is not None
    effect = after_inventory({UUID: known}, NOTHING, 1, inventory((UUID, State.SHUTOFF), as_of=4), 8)
    assert effect is not None
    after = effect.claims[UUID]
    assert after is not None
    assert (after.state, after.name, after.mark, after.stated) == (State.SHUTOFF, "web", (1, 5), (1, 4))


@pytest.mark.parametrize("listed", [True, False])
def test_an_undefinition_while_the_panel_takes_the_vm_for_running_leaves_its_end_to_the_listing(listed: bool) -> None:
    """The agent was away while it stopped. The listing began before the undefinition, and may have come before it."""
    undefined = after_event(claim(State.RUNNING, (1, 99)), NOTHING, (2, 1), event("undefined", "removed"), 7)
    assert undefined is not None
    assert undefined.state is State.RUNNING
    domains = [(UUID, State.SHUTOFF)] if listed else []
    effect = after_inventory({UUID: undefined}, NOTHING, 2, inventory(*domains, as_of=0), 8)
    assert effect is not None
    after = effect.claims[UUID]
    assert after is not None
    assert after.state is State.ABSENT


def test_a_definition_that_came_after_a_listing_without_the_vm_makes_it_a_stopped_one() -> None:
    defined = after_event(claim(State.RUNNING, (1, 99)), NOTHING, (2, 1), event("defined", "added"), 7)
    assert defined is not None
    effect = after_inventory({UUID: defined}, NOTHING, 2, inventory(as_of=0), 8)
    assert effect is not None
    after = effect.claims[UUID]
    assert after is not None
    assert after.state is State.SHUTOFF


@pytest.mark.parametrize("place", [(1, 1), (1, 0), (0, 99)])
def test_an_event_not_above_the_claims_mark_changes_nothing(place: Mark) -> None:
    assert after_event(claim(State.RUNNING, (1, 1)), NOTHING, place, event("stopped"), 7) is None


def test_an_event_not_above_the_nodes_floor_changes_nothing() -> None:
    assert after_event(None, (2, 5), (2, 5), event("started"), 7) is None
    assert after_event(None, (2, 5), (1, 99), event("started"), 7) is None
    assert after_event(None, (2, 5), (2, 6), event("started"), 7) is not None


def test_a_newer_epoch_comes_after_every_seq_of_an_older_one() -> None:
    assert after_event(claim(State.RUNNING, (1, 999)), NOTHING, (2, 1), event("stopped"), 7) is not None


def test_a_rename_ends_with_the_new_name_and_the_state_as_it_was() -> None:
    known = claim(State.SHUTOFF, name="old")
    assert after_event(known, NOTHING, (1, 2), event("undefined", "renamed", vm="old"), 7) is None
    after = after_event(known, NOTHING, (1, 3), event("defined", "renamed", vm="new"), 8)
    assert after is not None
    assert (after.name, after.state) == ("new", State.SHUTOFF)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9), st.sampled_from(["started", "stopped", "suspended"]))))
def test_in_whatever_order_events_come_the_newest_decides(places: list[tuple[int, int, str]]) -> None:
    by_place = {(epoch, seq): name for epoch, seq, name in places}
    current: Claim | None = None
    for epoch, seq, _ in places:
        after = after_event(current, NOTHING, (epoch, seq), event(by_place[epoch, seq], seq=seq), 1)
        current = after or current
    if by_place:
        newest = max(by_place)
        assert current is not None
        assert current.mark == newest
        assert current.state is state_of_event(by_place[newest])


# Inventories


def test_an_inventory_says_which_vms_there_are_and_which_are_gone() -> None:
    claims = {UUID: claim(State.RUNNING), OTHER: claim(State.RUNNING)}
    effect = after_inventory(claims, NOTHING, 1, inventory((UUID, State.PAUSED)), 7)
    assert effect is not None
    assert effect.floor == (1, 10)
    assert effect.claims[UUID] == Claim(
        State.PAUSED, "web", (1, 10), 9.0, 7, stated=(1, 10), persistent=True, persisted=(1, 10)
    )
    left = effect.claims[OTHER]
    assert left is not None
    assert left.state is State.UNKNOWN, "it ended, or left by a migration: the event that says which may be late"


def test_an_inventory_never_overwrites_a_newer_event() -> None:
    claims = {UUID: claim(State.RUNNING, (1, 11)), OTHER: claim(State.RUNNING, (1, 11))}
    effect = after_inventory(claims, NOTHING, 1, inventory((UUID, State.SHUTOFF), as_of=10), 7)
    assert effect is not None
    assert OTHER not in effect.claims
    after = effect.claims[UUID]
    assert after is not None
    assert (after.state, after.mark, after.stated) == (State.RUNNING, (1, 11), (1, 11))


def test_an_inventory_applies_at_the_place_of_the_claims_mark() -> None:
    effect = after_inventory({UUID: claim(State.SHUTOFF, (1, 10))}, NOTHING, 1, inventory(as_of=10), 7)
    assert effect is not None
    assert effect.claims == {UUID: None}


def test_an_older_inventory_than_the_last_applied_one_changes_nothing() -> None:
    assert after_inventory({}, (1, 11), 1, inventory((UUID, State.RUNNING), as_of=10), 7) is None
    assert after_inventory({}, (2, 0), 1, inventory((UUID, State.RUNNING), as_of=10), 7) is None


def test_a_state_that_an_inventory_confirms_keeps_its_since() -> None:
    effect = after_inventory({UUID: claim(State.RUNNING)}, NOTHING, 1, inventory((UUID, State.RUNNING)), 7)
    assert effect is not None
    after = effect.claims[UUID]
    assert after is not None
    assert (after.state, after.since, after.turn) == (State.RUNNING, 5.0, 1)


def test_a_vm_that_an_inventory_forgot_does_not_come_back_by_an_older_event() -> None:
    effect = after_inventory({UUID: claim(State.SHUTOFF, (1, 3))}, NOTHING, 1, inventory(as_of=10), 7)
    assert effect is not None
    assert effect.claims == {UUID: None}
    assert after_event(None, effect.floor, (1, 9), event("started"), 8) is None


@given(st.permutations([("event", seq) for seq in range(1, 9)] + [("inventory", as_of) for as_of in (2, 5, 8)]))
def test_in_whatever_order_messages_come_the_picture_ends_right(order: list[tuple[str, int]]) -> None:
    """The VM starts at odd and stops at even seqs; each listing shows the state just after its `as_of`."""
    known: Claim | None = None
    floor = NOTHING
    for kind, number in order:
        if kind == "event":
            name = "started" if number % 2 else "stopped"
            known = after_event(known, floor, (1, number), event(name, seq=number), 1) or known
        else:
            state = State.RUNNING if number % 2 else State.SHUTOFF
            claims = {} if known is None else {UUID: known}
            effect = after_inventory(claims, floor, 1, inventory((UUID, state), as_of=number), 1)
            if effect is not None:
                known, floor = effect.claims.get(UUID, known), effect.floor
    assert known is not None
    assert known.state is State.SHUTOFF


# The VM's state from all claims


def test_no_claim_or_only_absent_ones_is_no_vm() -> None:
    assert judge({}) is None
    assert judge({"a": claim(State.ABSENT)}) is None


def test_a_late_stop_of_the_source_never_stops_a_vm_that_the_destination_runs() -> None:
    judged = judge({"source": claim(State.SHUTOFF, turn=9), "destination": claim(State.RUNNING, turn=2)})
    assert judged is not None
    assert (judged.state, judged.node) == (State.RUNNING, "destination")


def test_during_a_migration_the_running_end_speaks() -> None:
    judged = judge({"source": claim(State.RUNNING, turn=1), "destination": claim(State.PAUSED, turn=2)})
    assert judged is not None
    assert (judged.state, judged.node) == (State.RUNNING, "source")


def test_among_stopped_claims_the_one_that_changed_last_speaks() -> None:
    judged = judge({"a": claim(State.SHUTOFF, turn=1), "b": claim(State.CRASHED, turn=2)})
    assert judged is not None
    assert (judged.state, judged.node) == (State.CRASHED, "b")


def test_unknown_is_not_stopped() -> None:
    judged = judge({"a": claim(State.UNKNOWN, turn=1), "b": claim(State.SHUTOFF, turn=2)})
    assert judged is not None
    assert judged.state is State.UNKNOWN


@given(st.dictionaries(st.sampled_from("abcd"), st.tuples(st.sampled_from(list(State)), st.integers(1, 99))))
def test_a_vm_that_any_node_holds_is_never_shown_as_stopped(given_claims: dict[str, tuple[State, int]]) -> None:
    claims = {node: claim(state, turn=turn) for node, (state, turn) in given_claims.items()}
    judged = judge(claims)
    if any(one.state in ACTIVE for one in claims.values()):
        assert judged is not None
        assert judged.state in ACTIVE
