"""What the dispatcher promises: order in each lane, one worker per lane, turns among nodes, and who is refused."""

from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vmwatch.supervisor.dispatcher import (
    DEATHS_ALLOWED,
    HELPING_HAND,
    LANES_IN_HAND,
    RUN,
    SHORT_HAND,
    SPARED_FOR,
    Dispatcher,
)
from vmwatch.supervisor.ledger import Entry, Stream


class Source:
    """Makes entries as the ledger does: with ids that rise."""

    def __init__(self) -> None:
        self._last = 0

    def entry(self, lane: str, node: str = "n1", size: int = 100) -> Entry:
        self._last += 1
        return Entry(self._last, Stream(node, 1, 1, 0, 0), self._last, lane, size, b"x" * size, "")

    def entries(self, lanes: Iterable[str], node: str = "n1") -> list[Entry]:
        return [self.entry(lane, node) for lane in lanes]


@pytest.fixture
def source() -> Source:
    return Source()


def with_workers(*generations: int, most_in_hand: int = 100) -> Dispatcher:
    dispatcher = Dispatcher(most_in_hand)
    for generation in generations:
        dispatcher.worker_ready(generation)
    return dispatcher


def ids(entries: Iterable[Entry]) -> list[int]:
    return [entry.id for entry in entries]


def finish(dispatcher: Dispatcher, generation: int, entries: Iterable[Entry], success: bool = True) -> None:
    for entry in entries:
        dispatcher.done(generation, entry.id, success)


class TestOrder:
    def test_messages_go_out_oldest_first(self, source: Source) -> None:
        dispatcher = with_workers(1)
        entries = source.entries("abcab")
        dispatcher.add(entries)
        assert ids(dispatcher.take(1)) == ids(entries)

    def test_a_lane_in_a_workers_hands_stays_with_it(self, source: Source) -> None:
        dispatcher = with_workers(1, 2)
        dispatcher.add(source.entries("a"))
        held = dispatcher.take(1)
        dispatcher.add(more := source.entries("aa"))
        assert dispatcher.take(2) == []
        assert ids(dispatcher.take(1)) == ids(more)
        assert ids(held) == [1]

    def test_a_lane_that_is_empty_is_anybodys_again(self, source: Source) -> None:
        dispatcher = with_workers(1, 2)
        dispatcher.add(source.entries("a"))
        finish(dispatcher, 1, dispatcher.take(1))
        dispatcher.add(more := source.entries("a"))
        assert ids(dispatcher.take(2)) == ids(more)

    def test_what_a_dead_worker_held_goes_out_again_in_order_before_what_came_later(self, source: Source) -> None:
        dispatcher = with_workers(1, 2)
        dispatcher.add(first := source.entries("aa"))
        dispatcher.take(1)
        dispatcher.add(later := source.entries("a"))
        assert dispatcher.worker_lost(1, crashed=False) == []
        assert ids(dispatcher.take(2)) == ids(first) + ids(later)


class TestTurns:
    def test_a_nodes_backlog_does_not_stand_before_anothers_fresh_events(self, source: Source) -> None:
        dispatcher = with_workers(1, most_in_hand=4)
        dispatcher.add(source.entries(map(str, range(50)), node="busy"))
        dispatcher.add(fresh := source.entries(["fresh"], node="quiet"))
        assert fresh[0].id in ids(dispatcher.take(1))


class TestBounds:
    def test_a_worker_gets_no_more_than_it_may_hold(self, source: Source) -> None:
        dispatcher = with_workers(1, most_in_hand=3)
        dispatcher.add(source.entries("abcde"))
        held = dispatcher.take(1)
        assert len(held) == 3
        assert dispatcher.take(1) == []
        finish(dispatcher, 1, held[:1])
        assert len(dispatcher.take(1)) == 1

    def test_bytes_are_bounded_too_but_one_message_is_always_allowed(self, source: Source) -> None:
        dispatcher = Dispatcher(100, most_bytes_in_hand=1000)
        dispatcher.worker_ready(1)
        dispatcher.add([source.entry("a", size=5000), source.entry("b", size=10)])
        assert len(dispatcher.take(1)) == 1

    def test_waiting_counts_what_no_worker_holds(self, source: Source) -> None:
        dispatcher = with_workers(1, most_in_hand=2)
        dispatcher.add(source.entries("abc"))
        assert dispatcher.waiting == 3
        dispatcher.take(1)
        assert dispatcher.waiting == 1
        dispatcher.worker_lost(1)
        assert dispatcher.waiting == 3


class TestOwnership:
    def test_only_the_holder_owns_a_message(self, source: Source) -> None:
        dispatcher = with_workers(1, 2)
        dispatcher.add(entries := source.entries("a"))
        dispatcher.take(1)
        assert dispatcher.owned(1, 1) is entries[0]
        assert dispatcher.owned(2, 1) is None

    def test_a_lost_worker_owns_nothing(self, source: Source) -> None:
        dispatcher = with_workers(1, 2)
        dispatcher.add(source.entries("a"))
        dispatcher.take(1)
        dispatcher.worker_lost(1)
        dispatcher.take(2)
        assert dispatcher.owned(1, 1) is None
        assert dispatcher.owned(2, 1) is not None

    def test_losing_a_worker_that_never_was_ready_changes_nothing(self) -> None:
        assert Dispatcher(10).worker_lost(7) == []


class TestSuspects:
    def kill(self, dispatcher: Dispatcher, generation: int, calling: Iterable[Entry]) -> list[Entry]:
        """The worker dies in a call, another one takes its place."""
        refused = dispatcher.worker_lost(generation, ids(calling))
        dispatcher.worker_ready(generation + 10)
        return refused

    def test_messages_of_a_deadly_call_go_out_one_at_a_time(self, source: Source) -> None:
        dispatcher = with_workers(1)
        dispatcher.add(source.entries("abc"))
        self.kill(dispatcher, 1, dispatcher.take(1))
        assert len(dispatcher.take(11)) == 1
        assert dispatcher.take(11) == []

    def test_only_the_messages_of_the_call_are_suspects(self, source: Source) -> None:
        dispatcher = with_workers(1)
        dispatcher.add(entries := source.entries("abcd"))
        held = dispatcher.take(1)
        self.kill(dispatcher, 1, held[:2])
        assert ids(dispatcher.take(11)) == ids(entries[2:])

    def test_a_worker_that_could_not_say_leaves_all_that_it_held_as_suspects(self, source: Source) -> None:
        dispatcher = with_workers(1)
        dispatcher.add(source.entries("ab"))
        dispatcher.take(1)
        self.kill(dispatcher, 1, [])
        assert len(dispatcher.take(11)) == 1
        assert dispatcher.take(11) == []

    def test_a_worker_that_ended_in_order_leaves_no_suspects(self, source: Source) -> None:
        dispatcher = with_workers(1)
        dispatcher.add(entries := source.entries("ab"))
        dispatcher.take(1)
        for _ in range(DEATHS_ALLOWED + 1):
            assert dispatcher.worker_lost(1, ids(entries), crashed=False) == []
            dispatcher.worker_ready(1)
            assert ids(dispatcher.take(1)) == ids(entries)

    def test_a_message_that_three_workers_died_of_while_others_succeeded_is_refused(self, source: Source) -> None:
        dispatcher = with_workers(1)
        dispatcher.add([killer := source.entry("killer")])
        generation, refused = 1, list[Entry]()
        for death in range(DEATHS_ALLOWED):
            assert refused == [], f"after {death} deaths"
            assert ids(dispatcher.take(generation)) == [killer.id]
            refused = self.kill(dispatcher, generation, [killer])
            generation += 10
            dispatcher.add(source.entries(["other"]))
            finish(dispatcher, generation, dispatcher.take(generation))
        assert ids(refused) == [killer.id]
        assert dispatcher.waiting == 0

    def test_deaths_while_nothing_succeeds_refuse_nothing(self, source: Source) -> None:
        dispatcher = with_workers(1)
        dispatcher.add(entries := source.entries("ab"))
        generation = 1
        for _ in range(10 * DEATHS_ALLOWED):
            assert self.kill(dispatcher, generation, dispatcher.take(generation)) == []
            generation += 10
        assert dispatcher.waiting == len(entries)

    def test_the_panels_word_that_it_commits_other_things_tells_a_killer_from_an_outage(self, source: Source) -> None:
        dispatcher = with_workers(1)
        dispatcher.add([killer := source.entry("killer")])
        generation, refused, deaths = 1, list[Entry](), 0
        while not refused:
            assert ids(dispatcher.take(generation)) == [killer.id]
            refused = self.kill(dispatcher, generation, [killer])
            generation += 10
            deaths += 1
            dispatcher.witness()
        assert (ids(refused), deaths) == ([killer.id], DEATHS_ALLOWED)

    def test_a_killer_does_not_keep_a_lone_worker_from_the_others(self, source: Source) -> None:
        """Every other message gets through and the killer is refused, with one worker and any number of others."""
        dispatcher = with_workers(1)
        dispatcher.add([killer := source.entry("killer")])
        dispatcher.add(others := source.entries(map(str, range(20))))
        generation, done, refused = 1, set[int](), list[Entry]()
        while not refused:
            taken = dispatcher.take(generation)
            if killer in taken:
                refused += self.kill(dispatcher, generation, taken)
                generation += 10
                if done == set(ids(others)):
                    dispatcher.add(more := source.entries(["new"]))
                    others += more
            else:
                finish(dispatcher, generation, taken)
                done.update(ids(taken))
            assert generation < 100
        assert ids(refused) == [killer.id]
        finish(dispatcher, generation, taken := dispatcher.take(generation))
        assert done | set(ids(taken)) == set(ids(others))

    def test_a_suspect_that_stays_in_a_workers_hands_does_not_stop_other_messages(self, source: Source) -> None:
        """A suspect may also be one that the panel always fails on: only others' success can tell."""
        dispatcher = with_workers(1)
        dispatcher.add(source.entries("a"))
        self.kill(dispatcher, 1, dispatcher.take(1))
        assert len(dispatcher.take(11)) == 1
        dispatcher.add(others := source.entries("bc"))
        assert ids(dispatcher.take(11)) == ids(others)

    def test_suspects_do_not_wait_for_a_worker_that_holds_something_for_ever(self, source: Source) -> None:
        dispatcher = with_workers(1, 2)
        dispatcher.add(source.entries(["stuck"]))
        dispatcher.take(1)
        dispatcher.add(source.entries(["x", "y"]))
        held = dispatcher.take(2)
        self.kill(dispatcher, 2, held[:1])
        finish(dispatcher, 12, dispatcher.take(12))
        assert ids(dispatcher.take(1)) == [held[0].id]

    def test_one_worker_at_a_time_tries_suspects(self, source: Source) -> None:
        dispatcher = with_workers(1)
        dispatcher.add(source.entries("abc"))
        taken = dispatcher.take(1)
        dispatcher.worker_ready(2)
        dispatcher.worker_ready(3)
        self.kill(dispatcher, 1, taken)
        assert len(dispatcher.take(2)) == 1
        assert dispatcher.take(3) == []
        assert dispatcher.take(11) == []


class TestSharing:
    def test_a_backlog_is_shared_among_the_workers(self, source: Source) -> None:
        dispatcher = with_workers(1, 2)
        dispatcher.add(source.entries("abcdefgh" * 3))
        first, second = dispatcher.take(1), dispatcher.take(2)
        assert {entry.lane for entry in first} == set("abcd")
        assert {entry.lane for entry in second} == set("efgh")

    def test_who_alone_has_time_takes_more_than_a_share(self, source: Source) -> None:
        dispatcher = with_workers(1, 2, most_in_hand=8)
        dispatcher.add(source.entries(map(str, range(20))))
        first, second = dispatcher.take(1), dispatcher.take(2)
        assert (len(first), len(second)) == (8, 8)
        finish(dispatcher, 1, first)
        assert len(dispatcher.take(1)) == 4

    def test_one_vms_backlog_leaves_most_of_a_hand_to_others(self, source: Source) -> None:
        """Else what waits behind a message that always fails would keep away whose success tells it from an outage."""
        dispatcher = with_workers(1, most_in_hand=80)
        dispatcher.add(source.entries(["busy"] * 200))
        dispatcher.add(source.entries("abc"))
        lanes = [entry.lane for entry in dispatcher.take(1)]
        assert lanes.count("busy") == 80 // LANES_IN_HAND
        assert set(lanes) == {"busy", *"abc"}

    def test_a_lane_of_which_nothing_is_in_hand_is_anybodys_although_more_of_it_waits(self, source: Source) -> None:
        dispatcher = with_workers(1, 2, most_in_hand=8)
        dispatcher.add(source.entries("aaa"))
        finish(dispatcher, 1, dispatcher.take(1))
        assert [entry.lane for entry in dispatcher.take(2)] == ["a"]


class TestBriskNodes:
    """One node's backlog, and another that sends now and then."""

    @pytest.fixture
    def dispatcher(self, source: Source) -> Dispatcher:
        dispatcher = with_workers(1, 2, most_in_hand=1000)
        dispatcher.add(source.entries(map(str, range(2000)), node="noisy"))
        return dispatcher

    def test_beside_a_backlog_alone_hands_are_full(self, dispatcher: Dispatcher) -> None:
        assert len(dispatcher.take(1)) == 1000

    def test_beside_a_brisk_node_the_calls_of_a_backlog_are_short_and_one_worker_is_spared(
        self, dispatcher: Dispatcher, source: Source
    ) -> None:
        dispatcher.add(source.entries(["fresh"], node="brisk"))
        assert {entry.stream.node for entry in dispatcher.take(1)} == {"noisy"}
        assert dispatcher.in_hand(1) == SHORT_HAND
        assert "fresh" in {entry.lane for entry in dispatcher.take(2)}

    def test_the_spared_worker_helps_with_a_backlog_by_a_little_at_a_time(
        self, dispatcher: Dispatcher, source: Source
    ) -> None:
        dispatcher.add(source.entries(["fresh"], node="brisk"))
        finish(dispatcher, 2, dispatcher.take(2))
        assert [entry.stream.node for entry in dispatcher.take(2)] == ["noisy"] * HELPING_HAND
        assert dispatcher.take(2) == []

    def test_what_comes_from_a_brisk_node_goes_to_the_spared_worker_at_once(
        self, dispatcher: Dispatcher, source: Source
    ) -> None:
        dispatcher.add(source.entries(["fresh"], node="brisk"))
        dispatcher.take(2)
        dispatcher.add(source.entries(["fresher"], node="brisk"))
        assert [entry.lane for entry in dispatcher.take(2)] == ["fresher"]

    def test_the_messages_of_several_backlogs_go_in_runs(self, dispatcher: Dispatcher, source: Source) -> None:
        dispatcher.add(source.entries(map(str, range(5000, 7000)), node="noisier"))
        nodes = [entry.stream.node for entry in dispatcher.take(1)]
        assert nodes[: 3 * RUN] == ["noisy"] * RUN + ["noisier"] * RUN + ["noisy"] * RUN

    def test_a_lone_worker_takes_both(self, source: Source) -> None:
        dispatcher = with_workers(1, most_in_hand=1000)
        dispatcher.add(source.entries(map(str, range(2000)), node="noisy"))
        dispatcher.add(source.entries(["fresh"], node="brisk"))
        assert "fresh" in {entry.lane for entry in dispatcher.take(1)}

    def test_a_spared_worker_that_is_not_asked_any_more_keeps_nobody_waiting(
        self, dispatcher: Dispatcher, source: Source
    ) -> None:
        """It hangs, or is about to end."""
        dispatcher.add(source.entries(["fresh"], node="brisk"))
        finish(dispatcher, 1, dispatcher.take(1))
        assert "fresh" in {entry.lane for entry in dispatcher.take(1)}

    def test_after_many_messages_without_a_brisk_one_hands_are_full_again(
        self, dispatcher: Dispatcher, source: Source
    ) -> None:
        dispatcher.add(source.entries(["fresh"], node="brisk"))
        finish(dispatcher, 2, dispatcher.take(2))
        for _ in range(SPARED_FOR // SHORT_HAND + 1):
            finish(dispatcher, 1, dispatcher.take(1))
            dispatcher.add(source.entries(map(str, range(SHORT_HAND)), node="noisy"))
        assert len(dispatcher.take(1)) > SHORT_HAND


class DispatcherMachine(RuleBasedStateMachine):
    """Random traffic and random deaths: the order in each lane holds, and nothing is lost or doubled."""

    LANES = "abcdef"

    def __init__(self) -> None:
        super().__init__()
        self.source = Source()
        self.dispatcher = Dispatcher(most_in_hand=5)
        self.generations = 0
        self.held: dict[int, list[Entry]] = {}
        """What each worker holds, in the order in which it got it."""
        self.unfinished: dict[str, list[int]] = {lane: [] for lane in self.LANES}

    @rule(lanes=st.text(LANES, max_size=8), node=st.sampled_from(["n1", "n2"]))
    def arrive(self, lanes: str, node: str) -> None:
        entries = self.source.entries(lanes, node)
        for entry in entries:
            self.unfinished[entry.lane].append(entry.id)
        self.dispatcher.add(entries)

    @precondition(lambda self: len(self.held) < 4)
    @rule()
    def start_worker(self) -> None:
        self.generations += 1
        self.held[self.generations] = []
        self.dispatcher.worker_ready(self.generations)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        generation = data.draw(st.sampled_from(sorted(self.held)))
        self.held[generation] += self.dispatcher.take(generation)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), success=st.booleans())
    def finish_one(self, data: st.DataObject, success: bool) -> None:
        generation = data.draw(st.sampled_from([g for g, held in self.held.items() if held]))
        # A worker keeps the order of each lane: it finishes the oldest that it holds of one.
        lane = data.draw(st.sampled_from(sorted({entry.lane for entry in self.held[generation]})))
        entry = next(entry for entry in self.held[generation] if entry.lane == lane)
        assert entry.id == self.unfinished[lane][0], "a message went out before an older one of its lane was finished"
        self.held[generation].remove(entry)
        self.unfinished[lane].remove(entry.id)
        self.dispatcher.done(generation, entry.id, success)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), crashed=st.booleans())
    def lose_worker(self, data: st.DataObject, crashed: bool) -> None:
        generation = data.draw(st.sampled_from(sorted(self.held)))
        held = self.held.pop(generation)
        # It called with some of what it held: of each lane the oldest ones.
        calling = held[: data.draw(st.integers(0, len(held)))]
        for entry in self.dispatcher.worker_lost(generation, ids(calling), crashed):
            assert crashed
            self.unfinished[entry.lane].remove(entry.id)

    @invariant()
    def one_worker_per_lane(self) -> None:
        for lane in self.LANES:
            holders = {g for g, held in self.held.items() if any(entry.lane == lane for entry in held)}
            assert len(holders) <= 1

    @invariant()
    def each_lane_is_held_in_order(self) -> None:
        for held in self.held.values():
            for lane in self.LANES:
                of_lane = [entry.id for entry in held if entry.lane == lane]
                assert of_lane == self.unfinished[lane][: len(of_lane)]

    @invariant()
    def nothing_is_lost(self) -> None:
        in_hand = sum(map(len, self.held.values()))
        assert self.dispatcher.waiting + in_hand == sum(map(len, self.unfinished.values()))
        for generation, held in self.held.items():
            assert self.dispatcher.in_hand(generation) == len(held)
            assert all(self.dispatcher.owned(generation, entry.id) is entry for entry in held)

    def teardown(self) -> None:
        """In a calm end everything goes out and is finished."""
        self.start_worker_if_none()
        for _ in range(10_000):
            if not any(self.unfinished.values()):
                return
            for generation, held in self.held.items():
                held += self.dispatcher.take(generation)
                finish(self.dispatcher, generation, held)
                for entry in held:
                    self.unfinished[entry.lane].remove(entry.id)
                held.clear()
        raise AssertionError(f"never handed out: {self.unfinished}")

    def start_worker_if_none(self) -> None:
        if not self.held:
            self.start_worker()


DispatcherMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestRandomTraffic = DispatcherMachine.TestCase
