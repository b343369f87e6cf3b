"""Nagios ranges and performance data."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.healthcheck.figures import Bound, Figure, Measured
from vmwatch.healthcheck.levels import Level, severity, worst
from vmwatch.healthcheck.ranges import NEVER, Range, plain

numbers = st.decimals(min_value=-10**9, max_value=10**9, places=3, allow_nan=False).map(float)
ends = st.tuples(numbers | st.just(-math.inf), numbers | st.just(math.inf)).map(
    lambda pair: (min(pair), max(pair)) if pair[0] > pair[1] else pair
)
ranges = st.builds(lambda pair, inside: Range(pair[0], pair[1], inside), ends, st.booleans())


@pytest.mark.parametrize(
    ("text", "well", "alerts"),
    [
        ("10", [0, 5, 10], [-0.1, 10.1]),
        ("10:", [10, 1e9], [9.9, -1]),
        ("~:10", [-1e9, 10], [10.01]),
        ("10:20", [10, 20], [9, 21]),
        ("@10:20", [9, 21], [10, 15, 20]),
        ("@10", [-1, 11], [0, 10]),
        ("~:", [-1e9, 0, 1e9], []),
        ("-5:-1.5", [-5, -2], [-6, -1]),
        ("0:0", [0], [1, -1]),
        (":7", [0, 7], [8, -1]),
    ],
)
def test_the_guidelines_examples_mean_what_they_say(text: str, well: list[float], alerts: list[float]) -> None:
    made = Range.parse(text)
    assert [value for value in well if made.alerts(value)] == []
    assert [value for value in alerts if not made.alerts(value)] == []


@pytest.mark.parametrize("text", ["", "@", "x", "1:2:3", "20:10", "1e5", "10,5", "~", "@~", "inf", "nan:", "--1"])
def test_what_is_no_range_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="no range"):
        Range.parse(text)


@given(ranges)
def test_a_range_that_was_written_is_read_as_the_same(made: Range) -> None:
    assert Range.parse(str(made)) == made


@given(ends, numbers)
def test_a_value_alerts_either_inside_or_outside(pair: tuple[float, float], value: float) -> None:
    assert Range(*pair).alerts(value) is not Range(*pair, inside=True).alerts(value)


@given(numbers)
def test_nothing_alerts_for_the_range_that_never_does(value: float) -> None:
    assert NEVER.never_alerts
    assert not NEVER.alerts(value)


@given(ranges, ranges, numbers)
def test_critical_comes_before_warning(warning: Range, critical: Range, value: float) -> None:
    measured = Measured(Figure("x", "s", "a thing", lambda facts: None), value, warning, critical)
    if critical.alerts(value):
        assert measured.level is Level.CRITICAL
    elif warning.alerts(value):
        assert measured.level is Level.WARNING
    else:
        assert measured.level is Level.OK
    assert (measured.finding() is None) is (measured.level is Level.OK)


NUMBER = r"-?[0-9]+(\.[0-9]+)?"
LIMIT = rf"(@?((~|{NUMBER}):)?({NUMBER})?)?"
PERFORMANCE = re.compile(rf"[a-z_]+={NUMBER}(s|%|B|c)?(;{LIMIT}){{0,2}}(;({NUMBER})?){{0,2}}")


@given(ranges, ranges, numbers, st.sampled_from(["s", "%", "B", "c", ""]))
def test_performance_data_always_has_the_form_of_the_guidelines(
    warning: Range, critical: Range, value: float, unit: str
) -> None:
    text = Measured(Figure("turn_age", unit, "", lambda facts: None), value, warning, critical).performance()
    assert PERFORMANCE.fullmatch(text), text
    assert float(text.partition("=")[2].partition(";")[0].rstrip("s%Bc")) == pytest.approx(value)


def test_performance_data_of_a_percentage() -> None:
    figure = Figure("descriptors", "%", "", lambda facts: None, Bound("~:80"), Bound("~:95"))
    measured = Measured(figure, 12.5, Range.parse("~:80"), Range.parse("~:95"))
    assert measured.performance() == "descriptors=12.5%;~:80;~:95;0;100"


def test_performance_data_without_thresholds_has_empty_places_for_them() -> None:
    assert Measured(Figure("events", "c", "", lambda facts: None), 7, NEVER, NEVER).performance() == "events=7c;;;0"


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_numbers_never_have_an_exponent(value: float) -> None:
    assert re.fullmatch(NUMBER, plain(value))


@given(st.lists(st.sampled_from(Level)))
def test_the_worst_level_is_one_of_them_and_none_is_worse(levels: list[Level]) -> None:
    found = worst(levels)
    assert found in levels or (found is Level.OK and not levels)
    assert all(severity(level) <= severity(found) for level in levels)
