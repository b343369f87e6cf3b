"""The judgement of `bench/truth`: a wrong picture is counted, and what samples cannot tell is counted apart."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.veracity.timeline import NOBODY, Timeline, Value
from bench.veracity.verdict import LATE_MOST_S, Reckoning, Verdict, judge, reckon

VM = "a vm"
RUNS, STOPPED, PAUSED, UNKNOWN = "running@n", "shutoff", "paused", "unknown"


def sampled(values: Sequence[Value], every_s: float = 1.0) -> Timeline:
    """One sample of each value, each taken in no time."""
    timeline = Timeline()
    for number, value in enumerate(values):
        timeline.add(number * every_s, number * every_s, value)
    return timeline


def compared(truth: Sequence[Value], picture: Sequence[Value]) -> Reckoning:
    end = float(max(len(truth), len(picture)) - 1)
    return reckon({VM: sampled(truth).spans(0, end)}, {VM: sampled(picture)}, 0, end)


def test_a_picture_that_says_what_is_true_is_right_all_the_time() -> None:
    found = compared([RUNS] * 5, [RUNS] * 5)
    assert (found.wrong_least, found.wrong_most, found.unknown) == (0, 0, 0)
    assert found.judged_s == 4
    assert (found.longest, found.stops) == (None, [])


def test_a_wrong_picture_is_counted_with_its_length() -> None:
    found = compared([RUNS] * 11, [RUNS, STOPPED, STOPPED, STOPPED, STOPPED] + [RUNS] * 6)
    assert found.wrong_least == pytest.approx(3 / 10)
    assert found.wrong_most == pytest.approx(5 / 10)
    assert found.longest is not None
    assert (found.longest.begin, found.longest.end) == (1, 4)
    assert (found.longest.truth, found.longest.picture) == (RUNS, STOPPED)


@pytest.mark.parametrize(
    ("truth", "shown"),
    [
        (RUNS, STOPPED),
        (RUNS, PAUSED),
        (RUNS, "running@other"),
        (RUNS, "absent"),
        (STOPPED, RUNS),
        (STOPPED, "absent"),
        ("absent", STOPPED),
        (PAUSED, RUNS),
    ],
)
def test_each_kind_of_wrong_picture_is_wrong(truth: str, shown: str) -> None:
    assert compared([truth] * 3, [shown] * 3).wrong_least == 1


def test_a_vm_that_the_picture_never_names_is_wrong_as_long_as_it_is_there() -> None:
    assert reckon({VM: sampled([RUNS] * 3).spans(0, 2)}, {}, 0, 2).wrong_least == 1
    assert reckon({}, {VM: sampled([RUNS] * 3)}, 0, 2).wrong_least == 1


def test_unknown_is_not_wrong_and_is_counted_apart() -> None:
    found = compared([RUNS] * 4, [UNKNOWN] * 4)
    assert (found.wrong_most, found.unknown) == (0, 1)


def test_where_there_is_no_truth_nothing_is_counted() -> None:
    found = compared([RUNS, NOBODY, NOBODY, NOBODY, STOPPED], [RUNS] * 5)
    assert found.judged_s == 0
    assert found.stops == []


def test_a_change_that_is_seen_between_two_samples_is_unsure_and_not_wrong() -> None:
    found = compared([RUNS, RUNS, STOPPED, STOPPED], [RUNS, RUNS, STOPPED, STOPPED])
    assert found.seconds[Verdict.UNSURE] == 1
    assert found.wrong_least == 0


@pytest.mark.parametrize(
    ("truth", "picture", "verdict"),
    [
        ({RUNS, STOPPED}, {PAUSED}, Verdict.WRONG),
        ({RUNS, STOPPED}, {RUNS}, Verdict.UNSURE),
        ({RUNS}, {RUNS, UNKNOWN}, Verdict.UNKNOWN),
        ({RUNS}, {STOPPED, UNKNOWN}, Verdict.UNSURE),
        ({RUNS, NOBODY}, {STOPPED}, Verdict.NO_TRUTH),
    ],
)
def test_of_several_possible_values_the_worst_is_only_possible(
    truth: set[Value], picture: set[Value], verdict: Verdict
) -> None:
    assert judge(frozenset(truth), frozenset(picture)) is verdict


def test_a_stop_of_a_vm_that_ran_all_the_time_is_false() -> None:
    found = compared([RUNS] * 6, [RUNS, RUNS, STOPPED, STOPPED, RUNS, RUNS])
    assert len(found.false_stops) == 1
    assert found.false_stops[0].at == 2


@pytest.mark.parametrize("before", [UNKNOWN, PAUSED, RUNS])
def test_a_vm_that_runs_and_vanishes_from_the_picture_is_a_false_stop_whatever_was_shown_before(before: str) -> None:
    assert len(compared([RUNS] * 4, [before, before, "absent", RUNS]).false_stops) == 1


def test_two_false_stops_of_one_vm_are_two() -> None:
    assert len(compared([RUNS] * 7, [RUNS, STOPPED, RUNS, RUNS, STOPPED, STOPPED, RUNS]).false_stops) == 2


def test_a_stop_that_is_shown_when_it_happens_is_none() -> None:
    assert compared([RUNS, RUNS, STOPPED, STOPPED], [RUNS, RUNS, STOPPED, STOPPED]).stops == []


def test_a_start_that_is_shown_late_is_no_false_stop() -> None:
    found = compared([STOPPED, RUNS, RUNS, RUNS, RUNS], [STOPPED, STOPPED, STOPPED, STOPPED, RUNS])
    assert found.stops == []
    assert found.wrong_least > 0


def test_a_stop_that_is_shown_when_the_vm_runs_again_is_late_and_its_time_is_wrong() -> None:
    found = compared([RUNS, STOPPED, RUNS, RUNS, RUNS, RUNS, RUNS], [RUNS, RUNS, RUNS, RUNS, STOPPED, STOPPED, RUNS])
    assert (len(found.late_stops), found.false_stops) == (1, [])
    assert found.wrong_least > 0


def test_an_old_stop_that_was_shown_then_excuses_no_later_one() -> None:
    picture = [RUNS, STOPPED, RUNS, RUNS, RUNS, STOPPED, STOPPED]
    assert len(compared([RUNS, STOPPED, RUNS, RUNS, RUNS, RUNS, RUNS], picture).false_stops) == 1


def test_a_stop_that_is_shown_much_too_late_is_false() -> None:
    long = int(LATE_MOST_S)
    found = compared([RUNS, STOPPED] + [RUNS] * (long + 5), [RUNS] * (long + 5) + [STOPPED] * 2)
    assert len(found.false_stops) == 1


def test_a_stop_so_short_that_one_sample_alone_saw_it_makes_the_pictures_stop_a_true_one() -> None:
    assert compared([RUNS, RUNS, STOPPED, RUNS, RUNS], [RUNS, RUNS, STOPPED, RUNS, RUNS]).stops == []


State = st.sampled_from([RUNS, STOPPED, PAUSED])


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[float, str]], Timeline]:
    """What was true, as (since, value), and samples of it: at least one of each value, none taken in no time."""
    values = draw(st.lists(State, min_size=1, max_size=6))
    history: list[tuple[float, str]] = []
    samples: list[tuple[float, str]] = []
    at = 0.0
    for value in values:
        history.append((at, value))
        for _ in range(draw(st.integers(1, 3))):
            at += draw(st.floats(0.1, 3))
            samples.append((at, value))
        at += draw(st.floats(0.1, 3))
    timeline = Timeline()
    ends = [0.0, *[(one[0] + other[0]) / 2 for one, other in pairwise(samples)], at]
    for (moment, value), lowest, highest in zip(samples, ends, ends[1:], strict=False):
        begin, end = draw(st.floats(lowest, moment)), draw(st.floats(moment, highest))
        timeline.add(begin, end, value)
    return history, timeline


def value_at(history: list[tuple[float, str]], time: float) -> str:
    return [value for since, value in history if since <= time][-1]


@given(histories(), histories())
def test_the_true_share_lies_between_the_two_that_are_told(
    true: tuple[list[tuple[float, str]], Timeline], shown: tuple[list[tuple[float, str]], Timeline]
) -> None:
    end = 10.0
    moments = sorted({since for since, _ in (*true[0], *shown[0]) if since < end} | {0.0, end})
    wrong_s = sum(
        until - since for since, until in pairwise(moments) if value_at(true[0], since) != value_at(shown[0], since)
    )
    found = reckon({VM: true[1].spans(0, end)}, {VM: shown[1]}, 0, end)
    assert found.wrong_least * end <= wrong_s + 1e-9
    assert found.wrong_most * end >= wrong_s - 1e-9
