"""The activity check (design 03, rule 8): what warns, what never does, and what it remembers."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from vmwatch.panel.activity import (
    GAP_INTERVALS,
    JITTER,
    WATCHED,
    Activity,
    Idle,
    Policy,
    Track,
    after_sample,
    idle_counters,
)
from vmwatch.panel.knowledge import StatsRow
from vmwatch.panel.rules import Claim, Judgement, judge
from vmwatch.shared.messages import DomainStats
from vmwatch.shared.states import State

UUID = "8e0d1b34-5f5d-4ac1-9c1e-2f9d3a1b7c55"
INTERVAL_S = 600.0
ON = Policy(enabled=True)
BOTH = (Idle("tx_packets", 1000.0), Idle("write_requests", 1000.0))


def sample(
    seq: int,
    tx: int | None = 7,
    written: int | None = 7,
    *,
    taken: float | None = None,
    state: State = State.RUNNING,
    cpu_ns: int | None = None,
    epoch: int = 5,
    node: str = "a",
    interval: float = INTERVAL_S,
    uuid: str = UUID,
) -> StatsRow:
    """The n-th sample, by default taken at 1000 s and then each interval."""
    moment = 1000.0 + INTERVAL_S * (seq - 1) if taken is None else taken
    domain = DomainStats(uuid, state, cpu_ns=cpu_ns, tx_packets=tx, write_requests=written)
    return StatsRow(node, epoch, seq, moment, interval, domain)


def claim(state: State = State.RUNNING, since: float = 0.0, turn: int = 1, name: str = "web") -> Claim:
    return Claim(state, name, (5, 1), since, turn)


def warned(
    *rows: StatsRow, policy: Policy = ON, claims: dict[str, Claim] | None = None, installing: bool = False
) -> tuple[Idle, ...]:
    """The warnings of `UUID` after these samples."""
    known = claims or {"a": claim()}
    activity = Activity()
    activity.policy = policy
    activity.observe(rows, lambda uuid, node: known.get(node), 0.0)
    return activity.warnings(UUID, known, judge(known), installing=installing)


def folded(rows: list[StatsRow], running_since: float = 0.0) -> Track | None:
    track: Track | None = None
    for row in rows:
        track = after_sample(track, row, running_since, 0.0)
    return track


def test_two_equal_samples_an_interval_apart_warn_of_both_counters_since_the_first() -> None:
    assert warned(sample(1), sample(2)) == BOTH


def test_one_sample_alone_says_nothing() -> None:
    assert warned(sample(1)) == ()


@pytest.mark.parametrize(("tx", "written", "idle"), [(7, 8, ["tx_packets"]), (8, 7, ["write_requests"]), (8, 8, [])])
def test_the_warning_names_the_counter_that_stands_still(tx: int, written: int, idle: list[str]) -> None:
    assert [found.counter for found in warned(sample(1), sample(2, tx, written))] == idle


def test_the_idle_time_begins_with_the_first_sample_of_the_same_value() -> None:
    found = warned(sample(1, 6, 6), sample(2), sample(3), sample(4))
    assert {idle.since for idle in found} == {1000.0 + INTERVAL_S}


def test_a_counter_that_moves_again_takes_the_warning_away() -> None:
    assert warned(sample(1), sample(2), sample(3, 8, 8)) == ()


def test_a_sample_that_comes_a_little_early_still_counts_as_an_interval() -> None:
    early = 1000.0 + (1 - JITTER) * INTERVAL_S
    assert warned(sample(1), sample(2, taken=early)) == BOTH
    assert warned(sample(1), sample(2, taken=early - 1)) == ()


def test_a_longer_window_waits_until_it_is_full() -> None:
    policy = replace(ON, window_s=3 * INTERVAL_S)
    rows = [sample(number) for number in range(1, 5)]
    assert warned(*rows[:3], policy=policy) == ()
    assert warned(*rows, policy=policy) == BOTH


def test_a_window_shorter_than_an_interval_still_needs_two_samples() -> None:
    policy = replace(ON, window_s=1.0)
    assert warned(sample(1), policy=policy) == ()
    assert warned(sample(1), sample(2), policy=policy) == BOTH


def test_a_vm_without_cards_and_disks_has_no_counters_and_no_warning() -> None:
    assert warned(sample(1, None, None), sample(2, None, None)) == ()
    assert warned(sample(1, None), sample(2, None)) == BOTH[1:]


def test_a_counter_that_was_missing_once_begins_anew() -> None:
    assert warned(sample(1), sample(2, None), sample(3)) == BOTH[1:]
    assert warned(sample(1), sample(2), sample(3, None, None)) == ()


def test_a_counter_that_went_back_gives_no_verdict() -> None:
    assert warned(sample(1), sample(2), sample(3, 0, 0)) == ()


def test_a_restart_that_only_the_cpu_time_betrays_gives_no_verdict() -> None:
    """Nothing told of it, and both counters were zero before and after."""
    assert warned(sample(1, 0, 0, cpu_ns=900), sample(2, 0, 0, cpu_ns=100)) == ()
    assert warned(sample(1, 0, 0, cpu_ns=900), sample(2, 0, 0, cpu_ns=901)) == BOTH


def test_a_vm_that_started_within_the_window_is_not_judged() -> None:
    assert warned(sample(1), sample(2), claims={"a": claim(since=1001.0)}) == ()
    assert warned(sample(1), sample(2), claims={"a": claim(since=1000.0)}) == BOTH


def test_a_vm_that_was_paused_in_between_begins_anew_when_it_runs_again() -> None:
    activity, known = Activity(), {"a": claim()}
    activity.policy = ON
    activity.observe([sample(1), sample(2)], lambda uuid, node: known[node], 0.0)
    assert activity.warnings(UUID, known, judge(known))
    known["a"] = claim(since=1000.0 + 1.5 * INTERVAL_S)
    assert activity.warnings(UUID, known, judge(known)) == ()
    activity.observe([sample(3)], lambda uuid, node: known[node], 0.0)
    assert activity.warnings(UUID, known, judge(known)) == ()
    activity.observe([sample(4)], lambda uuid, node: known[node], 0.0)
    assert {idle.since for idle in activity.warnings(UUID, known, judge(known))} == {1000.0 + 2 * INTERVAL_S}


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
def test_a_vm_that_does_not_run_is_not_warned_of(state: State) -> None:
    assert warned(sample(1), sample(2), claims={"a": claim(state)}) == ()
    assert warned(sample(1), sample(2, state=state), sample(3)) == ()


def test_a_vm_that_has_not_run_for_long_enough_is_not_judged() -> None:
    policy = replace(ON, min_running_s=1000.0 + INTERVAL_S)
    assert warned(sample(1), sample(2), policy=policy) == BOTH
    assert warned(sample(1), sample(2), policy=replace(policy, min_running_s=1001.0 + INTERVAL_S)) == ()


def test_an_exempt_vm_is_never_warned_of_by_uuid_or_name() -> None:
    for word in (UUID, "web"):
        assert warned(sample(1), sample(2), policy=replace(ON, exempt=frozenset({word}))) == ()
    assert warned(sample(1), sample(2), policy=replace(ON, exempt=frozenset({"we", UUID[:8]}))) == BOTH


def test_with_the_policy_off_nothing_is_warned_of() -> None:
    assert warned(sample(1), sample(2), policy=Policy()) == ()


def test_a_vm_that_is_installing_or_migrating_is_not_judged() -> None:
    assert warned(sample(1), sample(2), installing=True) == ()
    moving = Claim(State.RUNNING, "web", (5, 1), 0.0, 2, moving="out")
    assert warned(sample(1), sample(2), claims={"a": moving}) == ()
    coming = Claim(State.PAUSED, "web", (5, 1), 0.0, 2, moving="in")
    assert warned(sample(1), sample(2), claims={"a": claim(), "b": coming}) == ()


def test_a_gap_in_the_samples_begins_anew() -> None:
    last = 1000.0 + GAP_INTERVALS * INTERVAL_S
    assert warned(sample(1), sample(2, taken=last)) == BOTH
    assert warned(sample(1), sample(2, taken=last + 1)) == ()


def test_a_clock_that_went_back_begins_anew_by_the_new_time() -> None:
    rows = [sample(1), sample(2), sample(3, taken=500.0), sample(4, taken=500.0 + INTERVAL_S)]
    assert warned(*rows[:3]) == ()
    assert {idle.since for idle in warned(*rows)} == {500.0}


def test_a_sample_that_comes_twice_changes_nothing() -> None:
    assert warned(sample(1), sample(2), sample(2)) == warned(sample(1), sample(2), sample(1)) == BOTH


def test_a_late_sample_from_within_the_idle_time_begins_it_anew() -> None:
    """Its counter differed: the VM worked, or was started again, between two samples that look the same."""
    found = warned(sample(1), sample(3), sample(2, 0, 0), sample(4))
    assert {idle.since for idle in found} == {1000.0 + 2 * INTERVAL_S}


def test_a_late_sample_from_before_the_idle_time_changes_nothing() -> None:
    assert warned(sample(2, taken=1000.0), sample(3, taken=1000.0 + INTERVAL_S), sample(1, 0, 0, taken=500.0)) == BOTH


def test_an_event_that_comes_after_the_samples_takes_the_warning_away() -> None:
    """The VM was started again within the window, and the samples are there before it is known."""
    activity, known = Activity(), {"a": claim()}
    activity.policy = ON
    activity.observe([sample(1), sample(2)], lambda uuid, node: known[node], 0.0)
    assert activity.warnings(UUID, known, judge(known)) == BOTH
    known["a"] = claim(since=1001.0)
    assert activity.warnings(UUID, known, judge(known)) == ()


def test_a_vm_whose_state_is_unknown_now_is_not_warned_of() -> None:
    """Its node is silent: the claim still says running."""
    activity, known = Activity(), {"a": claim()}
    activity.policy = ON
    activity.observe([sample(1), sample(2)], lambda uuid, node: known[node], 0.0)
    assert activity.warnings(UUID, known, Judgement(State.UNKNOWN, "a", "web", 0.0)) == ()
    assert activity.warnings(UUID, known, judge(known)) == BOTH


def test_an_agent_that_started_again_goes_on_with_what_was_known() -> None:
    assert warned(sample(9, taken=1000.0), sample(1, epoch=6, taken=1000.0 + INTERVAL_S)) == BOTH


def test_each_nodes_samples_count_for_its_own_claim_alone() -> None:
    """Two nodes report one VM, in turn: the idle end says nothing of the end that holds it."""
    rows = [sample(1), sample(1, 1, 1, node="b"), sample(2), sample(2, 2, 2, node="b")]
    on_b = {"a": claim(turn=1), "b": claim(turn=2)}
    assert warned(*rows, claims=on_b) == ()
    assert warned(*rows, claims={"a": claim(turn=3), "b": claim(turn=2)}) == BOTH


def test_samples_of_vms_that_the_node_has_no_claim_on_are_not_kept() -> None:
    activity = Activity()
    activity.observe([sample(1, uuid=f"{number}") for number in range(50)], lambda uuid, node: None, 0.0)
    assert len(activity) == 0


def test_a_warning_goes_away_when_samples_stay_away() -> None:
    activity, known = Activity(), {"a": claim()}
    activity.policy = ON
    activity.observe([sample(1), sample(2)], lambda uuid, node: known[node], 50.0)
    assert activity.warnings(UUID, known, judge(known)) == BOTH
    assert activity.expire(50.0 + GAP_INTERVALS * INTERVAL_S) == set()
    assert activity.expire(55.0 + GAP_INTERVALS * INTERVAL_S) == {UUID}
    assert activity.warnings(UUID, known, judge(known)) == ()


Drawn = list[tuple[float, int | None, int | None, State, int | None]]
"""Of each sample: seconds since the one before, both counters, state and CPU time."""
counters = st.sampled_from([0, 0, 0, 1, None])
ROWS = st.lists(
    st.tuples(
        st.sampled_from([1.0, 0.5, 1.2, 4.0]).map(lambda intervals: intervals * INTERVAL_S),
        counters,
        counters,
        st.sampled_from([State.RUNNING] * 6 + [State.PAUSED]),
        st.sampled_from([None, None, 1, 1, 2]),
    ),
    max_size=12,
)
POLICIES = st.builds(
    Policy, enabled=st.just(True), window_s=st.sampled_from([0.0, 100.0, 1200.0, 3000.0]), min_running_s=st.just(0.0)
)


def rows_of(drawn: Drawn) -> list[StatsRow]:
    rows, taken = [], 1000.0
    for seq, (step, tx, written, state, cpu) in enumerate(drawn, 1):
        taken += step
        rows.append(sample(seq, tx, written, taken=taken, state=state, cpu_ns=cpu))
    return rows


def by_definition(rows: list[StatsRow], policy: Policy, running_since: float) -> dict[str, float]:
    """The rule as design 03 has it: the newest sample against an earlier one, and nothing wrong in between."""
    found = {}
    for name in WATCHED:
        for first in range(len(rows) - 1):
            run = rows[first:]
            values = {getattr(row.domain, name) for row in run}
            unbroken = all(
                later.taken - earlier.taken <= GAP_INTERVALS * INTERVAL_S
                and not (
                    later.domain.cpu_ns is not None
                    and earlier.domain.cpu_ns is not None
                    and later.domain.cpu_ns < earlier.domain.cpu_ns
                )
                for earlier, later in pairwise(run)
            )
            runs = all(row.domain.state is State.RUNNING and row.taken >= running_since for row in run)
            if len(values) == 1 and None not in values and unbroken and runs:
                least = (policy.window_s or INTERVAL_S) - JITTER * INTERVAL_S
                if run[-1].taken - run[0].taken >= least:
                    found[name] = run[0].taken
                break
    return found


@given(ROWS, POLICIES, st.floats(0.0, 5000.0))
def test_it_says_what_comparing_all_samples_of_the_window_says(
    drawn: Drawn, policy: Policy, running_since: float
) -> None:
    rows = rows_of(drawn)
    track = folded(rows, running_since)
    found = idle_counters(track, policy, running_since) if track else ()
    assert {idle.counter: idle.since for idle in found} == by_definition(rows, policy, running_since)


@given(ROWS, POLICIES, st.data())
def test_in_whatever_order_samples_come_it_never_warns_more_or_of_an_earlier_beginning(
    drawn: Drawn, policy: Policy, data: st.DataObject
) -> None:
    rows = rows_of(drawn)
    arrived = data.draw(st.permutations(rows)) if rows else []
    repeated = data.draw(st.lists(st.sampled_from(arrived), max_size=5)) if arrived else []
    right, other = folded(rows), folded([*arrived, *repeated])
    best = {idle.counter: idle.since for idle in (idle_counters(right, policy, 0.0) if right else ())}
    for idle in idle_counters(other, policy, 0.0) if other else ():
        assert idle.since >= best[idle.counter]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30), POLICIES)
def test_a_counter_that_grows_in_each_interval_never_warns(growth: list[int], policy: Policy) -> None:
    track: Track | None = None
    value = 0
    for seq, more in enumerate(growth, 1):
        value += more
        track = after_sample(track, sample(seq, value, value), 0.0, 0.0)
        assert idle_counters(track, policy, 0.0) == ()


@given(ROWS, POLICIES, st.integers(1, 5))
def test_after_a_reset_there_is_never_a_warning_before_a_whole_new_window(
    drawn: Drawn, policy: Policy, before: int
) -> None:
    rows = rows_of(drawn)
    last = rows[-1].taken if rows else 1000.0
    high = sample(len(rows) + 1, 100 + before, 100 + before, taken=last + 1)
    low = sample(len(rows) + 2, 0, 0, taken=last + 2)
    track = folded([*rows, high, low])
    assert track is not None
    assert idle_counters(track, policy, 0.0) == ()


@given(ROWS)
def test_what_is_kept_of_a_vm_does_not_grow(drawn: Drawn) -> None:
    activity, known = Activity(), {"a": claim()}
    activity.observe(rows_of(drawn), lambda uuid, node: known.get(node), 0.0)
    assert len(activity) <= 1
    track = folded(rows_of(drawn))
    assert track is None or len(track.levels) <= len(WATCHED)
    activity.forget(UUID, "a")
    assert len(activity) == 0
