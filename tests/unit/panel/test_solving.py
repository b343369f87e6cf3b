"""The life of problems: phases, attempts and their bound, flapping. Properties over arbitrary histories."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from vmwatch.panel.problems import (
    FLAP_S,
    FLAPS,
    USUAL_PERIOD_S,
    Key,
    Kind,
    Phase,
    Problem,
    close_problem,
    end_flapping,
    keep_problem,
    raise_problem,
)
from vmwatch.panel.solving import ADVICE, Outcome, begun, ended, is_due, is_muted, next_at

KEY = (Kind.NODE_STOPPED.value, "kvm-01")
START = 1_000_000.0


@dataclass
class Life:
    """One problem, and the panel that solves it by itself; time passes only here."""

    now: float = START
    problems: dict[Key, Problem] = field(default_factory=dict)
    number: int = 0
    begun_at: list[float] = field(default_factory=list)

    def problem(self, key: Key) -> Problem | None:
        return self.problems.get(key)

    def next_problem(self) -> int:
        return len(self.problems) + 1

    @property
    def one(self) -> Problem:
        return self.problems[KEY]

    def appear(self) -> None:
        raise_problem(self, self.now, *KEY, "error", "it is stopped")

    def last(self) -> None:
        keep_problem(self, self.now, *KEY, "error", "it is stopped")

    def vanish(self) -> None:
        close_problem(self, self.now, *KEY)

    def turn(self) -> None:
        end_flapping(self, dict(self.problems), self.now)
        if KEY in self.problems and is_due(self.one, self.now):
            self.begin()

    def begin(self) -> None:
        self.number += 1
        self.begun_at.append(self.now)
        self.problems[KEY] = begun(self.one, self.number)

    def end(self, outcome: Outcome) -> None:
        if KEY in self.problems and self.one.attempt:
            self.problems[KEY] = ended(self.one, outcome, self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.turn()


@pytest.fixture
def life() -> Life:
    life = Life()
    life.appear()
    return life


def flap(life: Life, times: int) -> None:
    for _ in range(times):
        life.vanish()
        life.wait(60)
        life.appear()


def test_the_first_attempt_comes_a_period_after_it_opened(life: Life) -> None:
    assert next_at(life.one) == START + USUAL_PERIOD_S
    life.wait(USUAL_PERIOD_S - 1)
    assert life.one.phase == Phase.OPEN
    life.wait(1)
    assert (life.one.phase, life.one.attempts, next_at(life.one)) == (Phase.SOLVING, 1, 0.0)


def test_a_failed_attempt_is_followed_by_another_a_period_later(life: Life) -> None:
    life.wait(USUAL_PERIOD_S)
    life.wait(40)
    life.end(Outcome.FAILED)
    assert (life.one.phase, next_at(life.one)) == (Phase.FAILED, life.now + USUAL_PERIOD_S)


def test_after_so_many_attempts_only_a_person_tries(life: Life) -> None:
    for _ in range(100):
        life.wait(USUAL_PERIOD_S)
        life.end(Outcome.FAILED)
    assert (len(life.begun_at), life.one.phase, next_at(life.one)) == (life.one.most, Phase.FAILED, 0.0)
    life.begin()
    life.end(Outcome.SOLVED)
    assert (life.one.phase, life.one.attempts) == (Phase.SOLVED, life.one.most + 1)


def test_a_problem_whose_cause_goes_during_an_attempt_stays_solved_when_that_fails(life: Life) -> None:
    life.begin()
    life.vanish()
    assert life.one.phase == Phase.SOLVED
    life.end(Outcome.FAILED)
    assert (life.one.phase, life.one.attempt) == (Phase.SOLVED, 0)


def test_one_that_comes_back_during_an_attempt_is_still_being_solved(life: Life) -> None:
    life.begin()
    life.vanish()
    life.appear()
    assert life.one.phase == Phase.SOLVING
    life.end(Outcome.CUT)
    assert life.one.phase == Phase.FAILED


def test_one_that_opens_again_much_later_begins_its_attempts_anew(life: Life) -> None:
    life.begin()
    life.end(Outcome.SOLVED)
    life.wait(FLAP_S)
    life.appear()
    assert (life.one.phase, life.one.attempts, life.one.reopened) == (Phase.OPEN, 0, 0)


def test_one_that_opens_again_soon_counts_its_attempts_on(life: Life) -> None:
    life.begin()
    life.end(Outcome.SOLVED)
    life.wait(FLAP_S - 1)
    life.appear()
    assert (life.one.attempts, life.one.reopened) == (1, 1)


def test_a_flapping_problem_stays_open_until_its_cause_is_gone_for_long(life: Life) -> None:
    flap(life, FLAPS)
    assert life.one.is_flapping
    for _ in range(20):
        life.vanish()
        life.wait(FLAP_S / 20 - 1)
    assert life.one.is_open
    assert next_at(life.one) == 0.0  # nothing is to be solved while it is gone
    life.wait(30)
    assert (life.one.phase, life.one.reopened) == (Phase.SOLVED, 0)


def test_a_flapping_problem_whose_cause_comes_back_waits_anew(life: Life) -> None:
    flap(life, FLAPS)
    life.vanish()
    life.wait(FLAP_S - 1)
    life.last()
    life.wait(FLAP_S)
    assert life.one.is_open
    life.vanish()
    life.wait(FLAP_S - 1)
    assert life.one.is_open
    life.wait(1)
    assert not life.one.is_open


def test_one_that_flaps_for_a_day_is_opened_a_few_times_and_tried_a_few_times(life: Life) -> None:
    opened = 0
    for _ in range(24 * 30):
        was_open = life.one.is_open
        life.appear()
        opened += not was_open
        life.wait(60)
        life.end(Outcome.SOLVED if life.number % 2 else Outcome.FAILED)
        life.vanish()
        life.wait(60)
    assert opened <= FLAPS + life.one.most
    assert len(life.begun_at) <= life.one.most


@pytest.mark.parametrize("jump_s", [-86400.0, 86400.0])
def test_a_clock_that_jumps_delays_no_attempt_for_a_day(life: Life, jump_s: float) -> None:
    life.wait(jump_s)
    life.wait(USUAL_PERIOD_S)
    assert len(life.begun_at) == 1


def test_switched_off_it_is_not_tried(life: Life) -> None:
    life.problems[KEY] = Problem(1, *KEY, "error", "", START, START, automatic=False)
    life.wait(10 * USUAL_PERIOD_S)
    assert life.begun_at == []


def test_what_was_stopped_on_purpose_is_not_tried_and_what_crashes_after_that_is(life: Life) -> None:
    life.problems[KEY] = Problem(1, *KEY, "warning", "kvm-01: stopped: it ended in order", START, START)
    life.wait(10 * USUAL_PERIOD_S)
    assert life.begun_at == []
    life.problems[KEY] = replace(life.one, text="kvm-01: crashed: it is gone")
    life.wait(USUAL_PERIOD_S)
    assert len(life.begun_at) == 1


def test_an_object_is_muted_until_its_maintenance_ends(life: Life) -> None:
    assert is_muted(life.one, {"kvm-01": START + 10}, START)
    assert not is_muted(life.one, {"kvm-01": START + 10}, START + 10)
    assert not is_muted(life.one, {"kvm-02": START + 10}, START)


def test_each_type_says_what_a_person_must_do() -> None:
    assert set(ADVICE) == set(Kind)
    assert all(text.endswith(".") and text[:-1].count(". ") == 0 for text in ADVICE.values())


STEPS = st.one_of(
    st.sampled_from(["appear", "last", "vanish", "begin"]),
    st.sampled_from(list(Outcome)[1:]),
    st.floats(0, 2000),
)


@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_phases_are_true_and_attempts_are_bounded(steps: list[str | Outcome | float]) -> None:
    life = Life()
    life.appear()
    spell = 0
    """Automatic attempts since the problem opened after a long rest."""
    for step in steps:
        before, tries = life.one, len(life.begun_at)
        by_person = step == "begin"
        if isinstance(step, float):
            life.wait(step)
            spell += len(life.begun_at) - tries
        elif isinstance(step, Outcome):
            life.end(step)
        elif not by_person or (before.is_open and not before.attempt):
            getattr(life, step)()
        after = life.one
        assert (after.phase == Phase.SOLVING) == bool(after.attempt and after.is_open)
        assert bool(after.closed) == (not after.is_open)
        assert not (after.gone and not after.is_open)
        assert after.count >= before.count
        assert after.id == before.id
        if after.attempts < before.attempts:
            assert not before.is_open
            assert after.first - before.closed >= FLAP_S
            spell = 0
        assert spell <= after.most
