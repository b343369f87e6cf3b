"""What the batcher promises about messages in a worker's hands, whatever the panel answers."""

import itertools
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmwatch.shared.handover import StreamLabel
from vmwatch.shared.messages import MAX_BATCH_BYTES
from vmwatch.shared.report import Refusal
from vmwatch.workers.batcher import (
    FAILURES_ALLOWED,
    GOOD_CALLS,
    RETRY_MOST_S,
    Batcher,
    CallResult,
    Job,
    Outcome,
    Settlement,
)

STREAM = StreamLabel("n1", 1, 1, "", 10.0)
Panel = Callable[[Sequence[Job]], CallResult]


def job(id_: int, lane: str = "", size: int = 10) -> Job:
    return Job(id_, STREAM, id_, lane or f"lane {id_}", b"x" * size)


def jobs(count: int) -> list[Job]:
    return [job(id_) for id_ in range(1, count + 1)]


def ids(call: Sequence[Job]) -> list[int]:
    return [one.id for one in call]


def taken(call: Sequence[Job]) -> CallResult:
    return CallResult([Outcome.DELIVERED] * len(call))


def failed(call: Sequence[Job]) -> CallResult:
    return CallResult([Outcome.RETRY] * len(call))


def unreachable(call: Sequence[Job]) -> CallResult:
    return CallResult([Outcome.RETRY] * len(call), blameless=True)


def always_fails_on(*poison: int) -> Panel:
    """A panel that answers nothing good to any call that carries one of these."""
    return lambda call: failed(call) if set(ids(call)) & set(poison) else taken(call)


class Bench:
    """A batcher, a time that passes as it wants, and what became of the messages."""

    def __init__(self, batch_max: int = 8) -> None:
        self.batcher = Batcher(batch_max, random.Random(1))
        self.now = 100.0
        self.calls: list[list[int]] = []
        self.delivered: list[int] = []
        self.refused: list[int] = []

    def step(self, panel: Panel) -> bool:
        """One call, as soon as there is one; False if there is nothing to do at all."""
        call = self.batcher.next_call(self.now)
        if not call:
            at = self.batcher.wait_until(self.now)
            if at is None:
                return False
            assert at > self.now, "it says there is something to do now, and has nothing to do"
            self.now = at
            return True
        self.calls.append(ids(call))
        self.note(self.batcher.finished(self.now, call, panel(call)))
        return True

    def note(self, settlement: Settlement) -> None:
        self.delivered += settlement.delivered
        self.refused += [refused.id for refused in settlement.refused]

    def s_until_refused(self, count: int) -> float:
        """How long so many poisons take, of VMs of their own, while the panel commits something every two seconds."""
        began, poison = self.now, jobs(count)
        self.batcher.add(poison)
        for committed in itertools.count(1):
            if len(self.refused) == count:
                break
            self.now += 2.0
            self.batcher.others_succeeded(committed)
            while call := self.batcher.next_call(self.now):
                self.note(self.batcher.finished(self.now, call, failed(call)))
        return self.now - began

    def steps(self, panel: Panel, most: int = 2000) -> None:
        """Until nothing is left, or `most` steps."""
        for _ in range(most):
            if not self.step(panel):
                return


@pytest.fixture
def bench() -> Bench:
    return Bench()


class TestCalls:
    def test_messages_go_in_order_in_calls_of_at_most_batch_max(self, bench: Bench) -> None:
        bench.batcher.add(jobs(20))
        bench.steps(taken)
        assert bench.calls == [[*range(1, 9)], [*range(9, 17)], [*range(17, 21)]]

    def test_a_call_stays_below_the_panels_limit_of_bytes(self, bench: Bench) -> None:
        bench.batcher.add([job(1, size=MAX_BATCH_BYTES // 2), job(2, size=MAX_BATCH_BYTES // 2), job(3)])
        bench.steps(taken)
        assert bench.calls == [[1], [2, 3]]

    def test_a_message_beyond_the_limit_goes_alone(self, bench: Bench) -> None:
        bench.batcher.add([job(1, size=MAX_BATCH_BYTES + 1), job(2)])
        bench.steps(taken)
        assert bench.calls == [[1], [2]]

    def test_with_nothing_to_do_it_waits_for_messages(self, bench: Bench) -> None:
        assert bench.batcher.next_call(bench.now) == []
        assert bench.batcher.wait_until(bench.now) is None

    def test_a_message_stays_until_it_is_settled(self, bench: Bench) -> None:
        bench.batcher.add(jobs(3))
        bench.step(failed)
        assert len(bench.batcher) == 3
        bench.steps(taken)
        assert len(bench.batcher) == 0


class TestOutcomes:
    def test_refused_messages_are_told_with_the_panels_reason(self, bench: Bench) -> None:
        bench.batcher.add(jobs(2))
        call = bench.batcher.next_call(bench.now)
        refusal = Refusal(2, "value", "state", "no such state")
        settlement = bench.batcher.finished(
            bench.now, call, CallResult([Outcome.DELIVERED, Outcome.REFUSED], {1: refusal})
        )
        assert settlement.delivered == [1]
        assert [(refused.id, refused.reason) for refused in settlement.refused] == [(2, "value state: no such state")]
        assert len(bench.batcher) == 0

    def test_what_a_call_does_not_settle_is_tried_again(self, bench: Bench) -> None:
        bench.batcher.add(jobs(3))
        bench.step(lambda call: CallResult([Outcome.DELIVERED, Outcome.RETRY, Outcome.DELIVERED]))
        assert bench.delivered == [1, 3]
        bench.steps(taken)
        assert bench.delivered == [1, 3, 2]


class TestBackoff:
    def test_after_a_failure_it_waits(self, bench: Bench) -> None:
        bench.batcher.add(jobs(1))
        bench.step(failed)
        assert bench.batcher.in_trouble
        assert bench.batcher.next_call(bench.now) == []
        at = bench.batcher.wait_until(bench.now)
        assert at is not None
        assert at > bench.now

    def test_waits_grow_to_a_limit(self, bench: Bench) -> None:
        bench.batcher.add(jobs(1))
        for _ in range(60):
            bench.step(unreachable)
        begin = bench.now
        bench.step(unreachable)
        bench.step(unreachable)
        assert 0 < bench.now - begin <= RETRY_MOST_S

    def test_the_panels_wish_to_wait_is_heeded(self, bench: Bench) -> None:
        bench.batcher.add(jobs(2))
        bench.step(lambda call: CallResult([Outcome.RETRY] * len(call), wait_s=120.0))
        assert bench.batcher.next_call(bench.now + 119.0) == []
        assert bench.batcher.next_call(bench.now + 120.0)

    def test_messages_that_come_meanwhile_wait_too(self, bench: Bench) -> None:
        bench.batcher.add(jobs(1))
        bench.step(failed)
        bench.batcher.add([job(2)])
        assert bench.batcher.next_call(bench.now) == []

    def test_a_success_ends_the_trouble(self, bench: Bench) -> None:
        bench.batcher.add(jobs(1))
        bench.step(failed)
        bench.steps(taken)
        assert not bench.batcher.in_trouble


class TestSplitting:
    def test_a_call_that_is_too_large_is_split_at_once(self, bench: Bench) -> None:
        bench.batcher.add(jobs(8))
        begin = bench.now
        bench.steps(
            lambda call: CallResult([Outcome.RETRY] * len(call), too_large=True) if len(call) > 2 else taken(call)
        )
        assert sorted(bench.delivered) == [*range(1, 9)]
        assert bench.now == begin

    def test_a_failing_batch_is_halved_until_the_culprit_is_alone(self, bench: Bench) -> None:
        bench.batcher.add(jobs(8))
        bench.steps(always_fails_on(5), most=50)
        assert sorted(bench.delivered) == [1, 2, 3, 4, 6, 7, 8]
        assert [5] in bench.calls

    def test_calls_grow_again_after_success(self, bench: Bench) -> None:
        bench.batcher.add(jobs(8))
        bench.step(failed)
        bench.steps(taken)
        bench.batcher.add([job(id_) for id_ in range(101, 109)])
        bench.steps(taken)
        assert bench.calls[-1] == [*range(101, 109)]

    def test_an_unreachable_panel_splits_nothing(self, bench: Bench) -> None:
        """The failure says nothing about the messages; after it the backlog goes in full calls."""
        bench.batcher.add(jobs(8))
        for _ in range(40):
            bench.step(unreachable)
        bench.steps(taken)
        assert bench.calls[-1] == [*range(1, 9)]


class TestPoison:
    def test_a_message_that_fails_alone_five_times_while_others_succeed_is_refused(self, bench: Bench) -> None:
        bench.batcher.add([job(1)])
        fresh = 100
        failures = 0
        while not bench.refused:
            fresh += 1
            bench.batcher.add([job(fresh)])
            bench.steps(always_fails_on(1), most=6)
            failures = bench.calls.count([1])
            assert failures <= 10 * FAILURES_ALLOWED
        assert failures >= FAILURES_ALLOWED
        assert bench.refused == [1]
        bench.steps(taken)
        assert sorted(bench.delivered) == [*range(101, fresh + 1)]

    def test_where_nothing_else_comes_the_panels_word_that_it_commits_tells_a_poison_from_an_outage(
        self, bench: Bench
    ) -> None:
        bench.batcher.add([job(1)])
        committed = 0
        while not bench.refused:
            committed += 1
            bench.batcher.others_succeeded(committed)
            bench.step(always_fails_on(1))
        assert bench.refused == [1]
        assert committed >= GOOD_CALLS * (FAILURES_ALLOWED - 1)

    def test_many_poisons_beside_others_successes_are_tried_side_by_side(self) -> None:
        """One after another they would keep what waits behind them for hours."""
        one, many = (Bench().s_until_refused(count) for count in (1, 16))
        assert many < 5 * one

    def test_a_panel_that_fails_most_calls_whatever_they_carry_makes_nothing_refused(self, bench: Bench) -> None:
        """As a proxy with one good backend of three does, for hours."""
        chance = random.Random(5)
        bench.batcher.add(jobs(300))
        while bench.step(lambda call: taken(call) if chance.random() < 0.3 else failed(call)):
            pass
        assert bench.refused == []
        assert len(bench.delivered) == 300

    def test_when_others_succeed_again_nobody_waits_for_the_end_of_a_long_back_off(self, bench: Bench) -> None:
        bench.batcher.add(jobs(3))
        bench.steps(unreachable, most=41)
        waits_until = bench.batcher.wait_until(bench.now)
        assert waits_until is not None
        assert waits_until > bench.now + 10.0
        bench.batcher.others_succeeded(1)
        assert bench.batcher.next_call(bench.now)

    def test_in_an_outage_nothing_is_refused(self, bench: Bench) -> None:
        bench.batcher.add(jobs(20))
        for _ in range(1000):
            bench.step(failed)
        assert bench.refused == []
        bench.steps(taken)
        assert sorted(bench.delivered) == [*range(1, 21)]

    def test_an_unreachable_panel_counts_against_no_message(self, bench: Bench) -> None:
        """Also when others succeed in between: a panel that comes and goes is not the messages' fault."""
        bench.batcher.add([job(1)])
        fresh = 100
        for _ in range(10 * FAILURES_ALLOWED):
            fresh += 1
            bench.step(unreachable)
            bench.batcher.add([job(fresh)])
            bench.steps(
                lambda call: CallResult([Outcome.RETRY if one.id == 1 else Outcome.DELIVERED for one in call]), 2
            )
            bench.batcher.finished(bench.now, [job(1)], unreachable([job(1)]))
        assert 1 not in bench.refused

    def test_a_message_behind_a_poisoned_one_of_its_lane_waits_and_others_pass(self, bench: Bench) -> None:
        bench.batcher.add([job(1, "vm a"), job(2, "vm a"), job(3, "vm b")])
        bench.steps(always_fails_on(1), most=20)
        assert bench.delivered == [3]
        bench.steps(taken)
        assert bench.delivered == [3, 1, 2]

    def test_it_is_not_tried_in_a_loop(self, bench: Bench) -> None:
        bench.batcher.add(jobs(1))
        begin = bench.now
        for _ in range(40):
            bench.step(failed)
        assert bench.now - begin > 10.0


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[str], set[int], list[str]]:
    """Lanes of the messages as they come, which of them are poison, and the panel's moods in order."""
    lanes = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=24))
    poison = draw(st.sets(st.integers(1, len(lanes)), max_size=3))
    moods = draw(st.lists(st.sampled_from(["down", "unreachable", "partial", "large", "refuse", "up"]), max_size=40))
    return lanes, poison, moods


class MoodyPanel:
    """Checks each call that it gets, and answers as it feels."""

    def __init__(self, bench: Bench, jobs: dict[int, Job], poison: set[int], chance: random.Random) -> None:
        self.bench = bench
        self.jobs = jobs
        self.poison = poison
        self.chance = chance

    def in_mood(self, mood: str) -> Panel:
        def answer(call: Sequence[Job]) -> CallResult:
            self._check(call)
            return failed(call) if self.poison & set(ids(call)) else self._answer(mood, call)

        return answer

    def _check(self, call: Sequence[Job]) -> None:
        settled = set(self.bench.delivered) | set(self.bench.refused)
        assert not settled & set(ids(call)), "a settled message was sent again"
        for lane in {one.lane for one in call}:
            of_lane = [one.id for one in call if one.lane == lane]
            older = {id_ for id_, one in self.jobs.items() if one.lane == lane and id_ <= of_lane[-1]}
            assert of_lane == sorted(older - settled), "a lane out of order, or an older message of it left behind"

    def _answer(self, mood: str, call: Sequence[Job]) -> CallResult:
        if mood == "down":
            return failed(call)
        if mood == "unreachable":
            return unreachable(call)
        if mood == "large" and len(call) > 1:
            return CallResult([Outcome.RETRY] * len(call), too_large=True)
        if mood == "refuse":
            refusals = {0: Refusal(call[0].seq, "value", "x", "y")}
            return CallResult([Outcome.REFUSED] + [Outcome.DELIVERED] * (len(call) - 1), refusals)
        if mood == "partial":
            # As by single events: settled up to some message, and nothing after it.
            stop = self.chance.randrange(len(call) + 1)
            return CallResult([Outcome.DELIVERED] * stop + [Outcome.RETRY] * (len(call) - stop))
        return taken(call)


@given(story=stories(), seed=st.integers(0, 2**16), batch_max=st.integers(1, 8))
@settings(max_examples=400, deadline=None)
def test_nothing_is_lost_or_settled_twice_and_each_lane_keeps_its_order(
    story: tuple[list[str], set[int], list[str]], seed: int, batch_max: int
) -> None:
    lanes, poison, moods = story
    bench = Bench(batch_max)
    chance = random.Random(seed)
    waiting = [job(id_, lane) for id_, lane in enumerate(lanes, start=1)]
    all_jobs = {one.id: one for one in waiting}
    panel = MoodyPanel(bench, all_jobs, poison, chance)
    for mood in moods:
        if waiting and chance.random() < 0.5:
            bench.batcher.add([waiting.pop(0)])
        bench.step(panel.in_mood(mood))
    bench.batcher.add(waiting)
    extra = 1000
    while len(bench.batcher) and extra < 1400:
        extra += 1
        fresh = job(extra)
        all_jobs[extra] = fresh
        bench.batcher.add([fresh])
        bench.steps(panel.in_mood("up"), most=20)
    assert not len(bench.batcher)
    settled = bench.delivered + bench.refused
    assert sorted(settled) == sorted(all_jobs)
    assert poison <= set(bench.refused)
