"""When workers are started, killed and replaced; the processes are stand-ins that end when a test says so."""

import pytest

from vmwatch.shared.handover import Doing, Farewell, HandOver, Ready, Settled, Trouble
from vmwatch.supervisor.pool import BOOT_LEAST_S, CRASH_MOST_S, LAST_WORDS_MOST_S, Lost, Pool

SILENCE_S = 70.0


class StandIn:
    """A child that does nothing."""

    def __init__(self, slot: int, generation: int) -> None:
        self.slot = slot
        self.generation = generation
        self.pid = 1000 + generation
        self.code: int | None = None
        self.killed = self.terminated = self.closed = False
        self.is_congested = False
        self.work: list[HandOver] = []

    def exit_code(self) -> int | None:
        return self.code

    def hand_over(self, work: HandOver) -> None:
        self.work.append(work)

    def flush(self) -> None: ...

    def kill(self) -> None:
        self.killed = True
        self.code = -9

    def terminate(self) -> None:
        self.terminated = True

    def close(self) -> None:
        self.closed = True


class Bench:
    def __init__(self, count: int = 1) -> None:
        self.children: list[StandIn] = []
        self.now = 100.0
        self.fails = False
        self.pool = Pool(count, SILENCE_S, self._spawn)  # type: ignore[arg-type]
        self.tend()

    def _spawn(self, slot: int, generation: int) -> StandIn:
        if self.fails:
            raise OSError(11, "Resource temporarily unavailable")
        self.children.append(StandIn(slot, generation))
        return self.children[-1]

    @property
    def last(self) -> StandIn:
        return self.children[-1]

    def tend(self, after_s: float = 0.0) -> list[Lost]:
        self.now += after_s
        return self.pool.tend(self.now)

    def boot(self) -> None:
        self.pool.heard(self.now, Ready(self.last.generation))

    def boot_all(self) -> None:
        for child in self.children:
            self.pool.heard(self.now, Ready(child.generation))

    def states(self) -> list[str]:
        return [worker["state"] for worker in self.pool.describe(self.now, lambda generation: 0)]

    def until_restarted(self) -> float:
        """Seconds until a new one was started."""
        count, begin = len(self.children), self.now
        while len(self.children) == count:
            self.tend(0.05)
            assert self.now - begin < 200
        return self.now - begin

    def describe(self) -> dict[str, object]:
        return self.pool.describe(self.now, lambda generation: 0)[0]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_worker_is_handed_nothing_before_it_is_ready(bench: Bench) -> None:
    assert bench.pool.ready == []
    bench.boot()
    assert bench.pool.ready == [1]


def test_a_worker_whose_socket_is_full_is_not_ready_for_more(bench: Bench) -> None:
    bench.boot()
    bench.last.is_congested = True
    assert bench.pool.ready == []


def test_a_dead_worker_is_told_once_with_what_it_was_calling(bench: Bench) -> None:
    bench.boot()
    bench.pool.heard(bench.now, Doing(1, "calling", [7, 8]))
    bench.last.code = -11
    assert bench.tend() == [Lost(1, [7, 8], crashed=True)]
    assert bench.tend() == []
    assert bench.children[0].closed
    assert "SIGSEGV" in str(bench.describe()["last_trouble"])


def test_a_worker_that_ends_in_order_did_not_crash(bench: Bench) -> None:
    bench.boot()
    bench.pool.heard(bench.now, Farewell(1))
    bench.last.code = 0
    assert bench.tend() == [Lost(1, [], crashed=False)]


def test_it_is_replaced_by_another_generation(bench: Bench) -> None:
    bench.boot()
    bench.last.code = 1
    bench.tend()
    bench.until_restarted()
    assert (bench.last.slot, bench.last.generation) == (1, 2)
    assert bench.describe()["restarts"] == 1


def test_words_of_a_replaced_worker_count_for_nothing(bench: Bench) -> None:
    bench.boot()
    bench.last.code = 1
    bench.tend()
    assert not bench.pool.heard(bench.now, Ready(1))
    assert bench.pool.ready == []


def test_repeated_crashes_back_off_to_a_limit(bench: Bench) -> None:
    waits = []
    for _ in range(12):
        bench.boot()
        bench.last.code = 1
        bench.tend()
        waits.append(bench.until_restarted())
    assert waits[0] < 1.0 < waits[-1] <= CRASH_MOST_S + 0.1


def test_a_boot_that_fails_is_told_apart_and_slower(bench: Bench) -> None:
    bench.last.code = 1
    bench.tend()
    assert bench.describe()["boot_failures"] == 1
    assert bench.describe()["restarts"] == 0
    assert "before it was ready" in str(bench.describe()["last_trouble"])
    assert bench.until_restarted() >= 1.0


def test_a_process_that_cannot_be_started_is_a_failed_boot() -> None:
    bench = Bench()
    bench.boot()
    bench.last.code = 1
    bench.fails = True
    bench.tend()
    bench.tend(5.0)
    assert "Resource temporarily unavailable" in str(bench.describe()["last_trouble"])
    bench.fails = False
    bench.until_restarted()


def test_a_silent_worker_is_killed_and_replaced(bench: Bench) -> None:
    bench.boot()
    bench.tend(SILENCE_S)
    assert not bench.last.killed
    bench.tend(0.1)
    assert bench.last.killed
    assert bench.pool.ready == []
    assert bench.tend() == [Lost(1, [], crashed=True)]
    assert "it hung" in str(bench.describe()["last_trouble"])


def test_any_word_keeps_a_worker(bench: Bench) -> None:
    bench.boot()
    for _ in range(5):
        bench.tend(SILENCE_S / 2)
        bench.pool.heard(bench.now, Doing(1, "waiting"))
    assert not bench.last.killed


def test_a_boot_has_time_on_a_slow_machine() -> None:
    bench = Bench()
    bench.pool._slots[0].silence_s = 1.0
    bench.tend(BOOT_LEAST_S)
    assert not bench.last.killed


def test_it_says_what_a_worker_does_and_since_when(bench: Bench) -> None:
    bench.boot()
    bench.pool.heard(bench.now, Doing(1, "calling", [1, 2, 3]))
    bench.tend(2.0)
    bench.pool.heard(bench.now, Doing(1, "calling", [1, 2, 3]))
    told = bench.describe()
    assert (told["doing"], told["calling"], told["since_s"], told["silent_s"]) == ("calling", 3, 2.0, 0.0)


def test_what_needs_a_person_comes_first_among_troubles() -> None:
    bench = Bench(count=2)
    for child in bench.children:
        bench.pool.heard(bench.now, Ready(child.generation))
    bench.pool.heard(bench.now, Trouble(1, "slow"))
    bench.pool.heard(bench.now, Trouble(2, "wrong password", needs_person=True))
    assert bench.pool.panel_trouble is not None
    assert bench.pool.panel_trouble.text == "wrong password"
    bench.pool.heard(bench.now, Trouble(2, ""))
    assert bench.pool.panel_trouble.text == "slow"
    bench.pool.heard(bench.now, Trouble(1, ""))
    assert bench.pool.panel_trouble is None


def test_stopping_asks_ready_workers_to_finish_and_replaces_nobody(bench: Bench) -> None:
    bench.boot()
    bench.pool.stop()
    assert [work.stop for work in bench.last.work] == [True]
    bench.pool.heard(bench.now, Farewell(1))
    bench.last.code = 0
    bench.tend()
    bench.tend(100.0)
    assert (bench.pool.alive, len(bench.children)) == (0, 1)


def test_stopping_ends_a_worker_that_still_boots(bench: Bench) -> None:
    bench.pool.stop()
    assert bench.last.terminated


def test_what_a_worker_said_last_is_waited_for_when_it_ends_in_order(bench: Bench) -> None:
    bench.boot()
    bench.last.code = 0
    assert bench.tend() == []
    bench.pool.heard(bench.now, Farewell(1))
    assert bench.pool.ready == []
    assert bench.tend() == [Lost(1, [], crashed=False)]


def test_a_last_word_that_never_comes_is_not_waited_for_for_ever(bench: Bench) -> None:
    bench.boot()
    bench.last.code = 0
    assert bench.tend() == []
    assert bench.tend(LAST_WORDS_MOST_S) == [Lost(1, [], crashed=False)]


class TestResizing:
    def test_more_workers_are_started_beside_those_that_are_there(self, bench: Bench) -> None:
        bench.boot()
        bench.pool.resize(3)
        bench.tend()
        assert [(child.slot, child.generation) for child in bench.children] == [(1, 1), (2, 2), (3, 3)]
        assert (bench.pool.count, bench.pool.alive) == (3, 3)

    def test_a_worker_too_many_gets_nothing_more_and_what_it_still_says_counts(self) -> None:
        bench = Bench(count=2)
        bench.boot_all()
        bench.pool.resize(1)
        assert bench.pool.ready == [1]
        assert [work.stop for work in bench.children[1].work] == [True]
        assert bench.states() == ["ready", "leaving"]
        assert bench.pool.heard(bench.now, Settled(2, [7], [], []))
        bench.pool.heard(bench.now, Farewell(2))
        bench.last.code = 0
        assert bench.tend() == [Lost(2, [], crashed=False)]
        bench.tend(SILENCE_S / 2)
        assert (bench.states(), len(bench.children)) == (["ready"], 2)

    def test_a_worker_that_leaves_and_dies_is_lost_as_a_crash_and_not_replaced(self) -> None:
        bench = Bench(count=2)
        bench.boot_all()
        bench.pool.heard(bench.now, Doing(2, "calling", [5]))
        bench.pool.resize(1)
        bench.last.code = -9
        assert bench.tend() == [Lost(2, [5], crashed=True)]
        bench.tend(1.0)
        assert len(bench.children) == 2

    def test_a_worker_that_leaves_and_hangs_is_killed(self) -> None:
        bench = Bench(count=2)
        bench.boot_all()
        bench.pool.resize(1)
        bench.pool.heard(bench.now, Doing(1, "waiting"))
        bench.tend(SILENCE_S + 0.1)
        assert bench.children[1].killed

    def test_a_place_that_waits_to_start_is_given_up_at_once(self) -> None:
        bench = Bench(count=2)
        bench.last.code = 1
        bench.tend()
        bench.pool.resize(1)
        assert bench.states() == ["booting"]

    def test_one_that_still_boots_is_ended(self) -> None:
        bench = Bench(count=2)
        bench.pool.resize(1)
        assert bench.children[1].terminated
        bench.pool.heard(bench.now, Ready(2))
        assert bench.pool.ready == []

    def test_a_place_is_numbered_anew_only_when_it_is_free(self) -> None:
        bench = Bench(count=2)
        bench.boot_all()
        bench.pool.resize(1)
        bench.pool.resize(2)
        bench.tend()
        assert bench.last.slot == 3


class TestRenewal:
    def renew(self, bench: Bench, silence_s: float = SILENCE_S) -> None:
        bench.pool.renew(bench.now, silence_s, bench._spawn)  # type: ignore[arg-type]
        bench.tend()

    def test_each_worker_works_on_until_its_successor_is_ready(self) -> None:
        bench = Bench(count=2)
        bench.boot_all()
        self.renew(bench)
        assert (bench.last.slot, bench.last.generation, len(bench.children)) == (1, 3, 3)
        assert bench.pool.ready == [1, 2]
        bench.boot()
        assert bench.pool.ready == [2, 3]
        assert [work.stop for work in bench.children[0].work] == [True]

    def test_one_after_the_other_until_all_are_new(self) -> None:
        bench = Bench(count=3)
        bench.boot_all()
        self.renew(bench)
        for old, new in ((1, 4), (2, 5), (3, 6)):
            assert bench.last.generation == new
            bench.boot()
            bench.pool.heard(bench.now, Farewell(old))
            bench.children[old - 1].code = 0
            assert bench.tend() == [Lost(old, [], crashed=False)]
        bench.tend(1.0)
        assert bench.pool.ready == [4, 5, 6]
        assert len(bench.children) == 6

    def test_settings_that_let_no_worker_boot_leave_the_old_ones_at_work(self) -> None:
        bench = Bench(count=2)
        bench.boot_all()
        self.renew(bench)
        for _ in range(3):
            bench.last.code = 78
            assert [lost.generation for lost in bench.tend()] == [bench.last.generation]
            bench.until_restarted()
            for generation in (1, 2):
                bench.pool.heard(bench.now, Doing(generation, "waiting"))
        assert bench.pool.ready == [1, 2]
        assert bench.pool.count == 2

    def test_the_next_settings_do_not_wait_for_the_back_off_of_the_last_ones(self) -> None:
        bench = Bench()
        bench.boot()
        self.renew(bench)
        for _ in range(4):
            bench.last.code = 78
            bench.tend()
            bench.until_restarted()
        bench.last.code = 78
        bench.tend()
        count = len(bench.children)
        self.renew(bench)
        assert len(bench.children) == count + 1

    def test_a_successor_with_settings_that_are_old_already_is_replaced_in_turn(self, bench: Bench) -> None:
        bench.boot()
        self.renew(bench)
        self.renew(bench)
        assert len(bench.children) == 2
        bench.boot()
        bench.tend()
        assert bench.last.generation == 3
        bench.boot()
        assert bench.pool.ready == [3]
        assert bench.pool.count == 1

    def test_a_worker_that_dies_meanwhile_comes_back_with_the_new_settings(self) -> None:
        bench = Bench(count=2)
        bench.boot_all()
        self.renew(bench)
        bench.children[1].code = -9
        bench.tend()
        bench.until_restarted()
        assert (bench.last.slot, bench.last.generation) == (2, 4)
        for generation in (3, 4):
            bench.pool.heard(bench.now, Ready(generation))
        bench.children[0].code = 0
        bench.pool.heard(bench.now, Farewell(1))
        bench.tend()
        bench.tend(1.0)
        assert (bench.pool.ready, len(bench.children)) == ([3, 4], 4)

    def test_a_resize_meanwhile_keeps_the_number(self) -> None:
        bench = Bench(count=2)
        bench.boot_all()
        self.renew(bench)
        bench.pool.resize(1)
        bench.boot()
        assert bench.pool.count == 1
        assert bench.pool.ready == [3]
        bench.pool.resize(2)
        bench.tend()
        bench.boot()
        assert bench.pool.count == 2

    def test_a_removed_worker_takes_its_successor_along(self, bench: Bench) -> None:
        bench.pool.resize(2)
        bench.tend()
        bench.boot_all()
        bench.children[0].code = -9
        bench.tend()
        bench.until_restarted()  # slot 1 has generation 3: only slot 2 will need a successor after its own
        bench.boot()
        self.renew(bench)
        assert bench.last.slot == 1
        bench.boot()
        bench.tend()
        assert bench.last.slot == 2
        bench.pool.resize(1)
        bench.boot()
        assert bench.pool.count == 1
        assert bench.pool.ready == [4]

    def test_a_longer_time_limit_holds_for_those_that_have_it(self, bench: Bench) -> None:
        bench.boot()
        self.renew(bench, silence_s=10 * SILENCE_S)
        bench.boot()
        bench.pool.heard(bench.now, Farewell(1))
        bench.children[0].code = 0
        bench.tend()
        bench.tend(2 * SILENCE_S)
        assert not bench.last.killed
