"""Durations as an operator types them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmwatch.cli.duration import parse_duration, show_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1d12h", 129600), ("45", 45), ("1h5s", 3605), ("0s", 0)]
)
def test_units_add_up(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2 h", "h", "-1h", "2h1d", "1.5h", "2w", "٣h", "9" * 20])
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="2h, 90m"):
        parse_duration(text)


@given(st.integers(0, 10**8))
def test_what_is_shown_is_the_same_time_but_for_the_small_units(seconds: int) -> None:
    shown = parse_duration(show_duration(seconds))
    assert shown <= seconds
    assert seconds - shown < max(60, shown)
