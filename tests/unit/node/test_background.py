"""Calls that may hang: one at a time, with a deadline."""

import threading
from collections.abc import Callable

import pytest

from vmwatch.node.background import Background, Outcome


class Clock:
    """Time as the test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


class Rig:
    def __init__(self) -> None:
        self.clock = Clock()
        self.woken = threading.Event()
        self.calls: Background[int] = Background("trial", 10.0, self.clock, self.woken.set)

    def outcome(self, function: Callable[[], int]) -> Outcome[int]:
        self.woken.clear()
        self.calls.begin(function)
        return self.ended()

    def ended(self) -> Outcome[int]:
        """The outcome of the call that is running, when it has woken the loop."""
        assert self.woken.wait(60)
        outcome = self.calls.take()
        assert outcome is not None
        return outcome


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_result_is_taken_once(rig: Rig) -> None:
    assert rig.outcome(lambda: 5) == Outcome(5, None, late=False)
    assert rig.calls.take() is None
    assert not rig.calls.busy


def test_a_failure_is_the_callers(rig: Rig) -> None:
    outcome = rig.outcome(lambda: 1 // 0)
    assert isinstance(outcome.error, ZeroDivisionError)
    assert outcome.result is None


def test_a_hung_call_is_told_and_nothing_is_started_on_top_of_it(rig: Rig) -> None:
    go_on = threading.Event()

    def hang() -> int:
        go_on.wait(60)
        return 5

    rig.calls.begin(hang)
    rig.clock.now += 9
    assert (rig.calls.running_s(rig.clock.now), rig.calls.hung_s(rig.clock.now)) == (9.0, 0.0)
    rig.clock.now += 3
    assert rig.calls.hung_s(rig.clock.now) == 2.0
    assert rig.calls.busy
    with pytest.raises(RuntimeError):
        rig.calls.begin(lambda: 6)
    go_on.set()
    assert rig.ended().late
    assert rig.calls.hung_s(rig.clock.now) == 0.0
    assert rig.outcome(lambda: 6).result == 6
