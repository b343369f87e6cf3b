"""When workers are started, killed and replaced; the processes are stand-ins that end when a test says so."""

import pytest

from vmwatch.shared.handover import Doing, HandOver, Ready, Trouble
from vmwatch.supervisor.pool import BOOT_LEAST_S, CRASH_MOST_S, Lost, Pool

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
    bench.pool._silence_s = 1.0
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
    bench.last.code = 0
    bench.tend()
    bench.tend(100.0)
    assert (bench.pool.alive, len(bench.children)) == (0, 1)


def test_stopping_ends_a_worker_that_still_boots(bench: Bench) -> None:
    bench.pool.stop()
    assert bench.last.terminated
