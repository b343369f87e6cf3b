"""The one writer: many calls in one commit, each with an outcome of its own."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from sqlalchemy import event as sqlalchemy_event

from tests.unit.panel.clock import FakeClock
from tests.unit.panel.reports import NODE, entry, event, report, uuid_of
from vmwatch.panel import writer as writer_module
from vmwatch.panel.board import Board, Change
from vmwatch.panel.events import Events, Filter
from vmwatch.panel.recorder import Recorder
from vmwatch.panel.registration import register
from vmwatch.panel.store import Store, Stored
from vmwatch.panel.watch import NOT_WRITTEN
from vmwatch.panel.writer import SMALL_BYTES, UNWRITTEN_S, Job, NotCommitted, Work, Writer, WriterBusy
from vmwatch.shared.errors import VmwatchError
from vmwatch.shared.report import Verdict, decode_report
from vmwatch.shared.states import State


class Bench:
    """A writer on a real database. Its thread starts only when the test says so: then all that waits is one batch."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "panel.db"
        self.store = Store(f"sqlite:///{self.path}")
        sqlalchemy_event.listen(self.store.engine, "connect", _impatient)
        self.store.open()
        self.stored: Stored = self.store.load()
        self.board = Board()
        self.board.fill(self.stored)
        self.clock = FakeClock()
        self.writer = Writer(self.store, self.stored, self.board, self.clock)

    def run(
        self, *jobs: Job[Any], before: Callable[[], object] = lambda: None, sizes: Sequence[int] = ()
    ) -> list[Any]:
        """Outcomes of jobs that wait together: results, or what was raised."""

        async def scenario() -> list[Any]:
            sized = zip(jobs, sizes or [0] * len(jobs), strict=True)
            waiting = [asyncio.ensure_future(self.writer.do(job, size)) for job, size in sized]
            await asyncio.sleep(0)
            before()
            if not self.writer.is_alive:
                self.writer.start()
            return await asyncio.gather(*waiting, return_exceptions=True)

        return asyncio.run(scenario())

    def names(self) -> list[str]:
        return [row.name for _, row in Events(self.store).after(Filter(), 0, 100)]


def _impatient(connection: sqlite3.Connection, record: object) -> None:
    connection.execute("PRAGMA busy_timeout=10")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.writer.stop(10)
    bench.store.close()


def reporting(name: str, seq: int = 1) -> Job[list[Verdict]]:
    body = decode_report(report(entry(event(seq, name), node=f"node-{name}")))
    return lambda work: register(work.draft, body, work.now)


def failing(work: Work) -> None:
    register(work.draft, decode_report(report(entry(event(1, "lost"), node="node-lost"))), work.now)
    work.writes.append(lambda recorder: recorder.execute("INSERT INTO vms (id, uuid) VALUES (1, 'again')", ()))


def refusing(work: Work) -> None:
    raise VmwatchError("no")


def test_all_that_waits_is_committed_together_and_each_gets_its_answer(bench: Bench) -> None:
    outcomes = bench.run(*(reporting(name) for name in "abc"))
    assert [outcome[0].applied for outcome in outcomes] == [1, 1, 1]
    assert bench.writer.commits == 1
    assert bench.names() == ["a", "b", "c"]


def test_one_that_fails_is_registered_in_no_part_and_spoils_no_neighbour(bench: Bench) -> None:
    first, broken, refused, last = bench.run(reporting("a"), failing, refusing, reporting("b"))
    assert first[0].applied == last[0].applied == 1
    assert isinstance(broken, sqlite3.IntegrityError)
    assert isinstance(refused, VmwatchError)
    assert bench.names() == ["a", "b"]
    assert set(bench.stored.known.nodes) == {"node-a", "node-b"}
    assert bench.store.load().vm_ids == bench.stored.vm_ids == {uuid_of("a"): 1, uuid_of("b"): 2}


def test_a_commit_that_fails_answers_all_and_is_forgotten_and_the_next_one_works(bench: Bench) -> None:
    other = sqlite3.connect(bench.path, isolation_level=None)
    outcomes = bench.run(reporting("a"), reporting("b"), before=lambda: other.execute("BEGIN IMMEDIATE"))
    assert all(isinstance(outcome, NotCommitted) for outcome in outcomes)
    assert bench.stored.known.nodes == {}
    assert bench.stored.vm_ids == {}
    assert bench.board.vms() == []
    other.execute("ROLLBACK")
    other.close()
    assert bench.run(reporting("a"))[0][0].applied == 1
    assert bench.names() == ["a"]


def test_a_full_disk_takes_back_the_whole_batch_and_the_panel_goes_on(bench: Bench) -> None:
    def fill(work: Work) -> None:
        def shrink(recorder: Recorder) -> None:
            recorder.execute("PRAGMA max_page_count=1", ())
            recorder.execute("CREATE TABLE large AS SELECT randomblob(1000000) AS waste", ())

        work.writes.append(shrink)

    outcomes = bench.run(reporting("a"), fill)
    assert [type(outcome) for outcome in outcomes] == [NotCommitted, NotCommitted]
    assert bench.names() == []

    def mend(work: Work) -> None:
        work.writes.append(lambda recorder: recorder.execute("PRAGMA max_page_count=100000", ()))

    bench.run(mend)
    assert bench.run(reporting("a"))[0][0].applied == 1


@pytest.fixture
def locked(bench: Bench) -> Iterator[sqlite3.Connection]:
    """A VM runs, and somebody holds the lock until he rolls back. One call has failed for it."""
    bench.run(reporting("a"))
    other = sqlite3.connect(bench.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    bench.run(reporting("b"))
    yield other
    other.close()


def shown(bench: Bench) -> tuple[list[State], list[str], str]:
    return [row.state for row in bench.board.vms()], [row.doubt for row in bench.board.nodes()], bench.board.doubt


def test_while_the_database_cannot_be_written_all_is_unknown_and_the_next_commit_shows_what_is_known(
    bench: Bench, locked: sqlite3.Connection
) -> None:
    began = bench.board.vms()[0].since
    bench.clock.now += UNWRITTEN_S + 1
    bench.run(reporting("b"))
    assert shown(bench) == ([State.UNKNOWN], [NOT_WRITTEN], NOT_WRITTEN)
    assert bench.board.counts() == {State.UNKNOWN: 1}
    assert bench.board.vms()[0].since == bench.clock.wall()
    locked.execute("ROLLBACK")
    bench.run(lambda work: None)
    assert shown(bench) == ([State.RUNNING], [""], "")
    assert bench.board.counts() == {State.RUNNING: 1}
    assert bench.board.vms()[0].since == began


def test_a_database_that_cannot_be_written_for_a_short_while_puts_nothing_in_doubt(
    bench: Bench, locked: sqlite3.Connection
) -> None:
    bench.clock.now += UNWRITTEN_S
    bench.run(reporting("b"))
    locked.execute("ROLLBACK")
    bench.run(reporting("b"))
    locked.execute("BEGIN IMMEDIATE")
    bench.clock.now += UNWRITTEN_S
    bench.run(reporting("c"))
    assert shown(bench) == ([State.RUNNING, State.RUNNING], ["", ""], "")


def test_a_call_that_writes_nothing_is_no_proof_that_the_database_can_be_written(
    bench: Bench, locked: sqlite3.Connection
) -> None:
    bench.clock.now += UNWRITTEN_S + 1
    assert isinstance(bench.run(lambda work: None)[0], NotCommitted)
    assert shown(bench) == ([State.UNKNOWN], [NOT_WRITTEN], NOT_WRITTEN)


def test_pages_hear_of_the_doubt_and_of_its_end(bench: Bench, locked: sqlite3.Connection) -> None:
    changes: list[Change] = []
    bench.board.on_change = changes.append
    bench.clock.now += UNWRITTEN_S + 1
    bench.run(reporting("b"))
    bench.run(reporting("b"))
    locked.execute("ROLLBACK")
    bench.run(lambda work: None)
    told = [([vm.state for vm in change.vms], [node.state for node in change.nodes]) for change in changes]
    assert told == [([State.UNKNOWN], ["new"]), ([State.RUNNING], ["new"])]


def test_a_report_that_only_says_that_a_master_runs_costs_no_transaction(bench: Bench) -> None:
    bench.run(reporting("a"))
    size = Path(f"{bench.path}-wal").stat().st_size
    bench.run(lambda work: register(work.draft, decode_report(report()), work.now))
    assert Path(f"{bench.path}-wal").stat().st_size == size


def test_a_sign_of_life_is_committed_and_shown(bench: Bench) -> None:
    bench.run(reporting("a"))
    size = Path(f"{bench.path}-wal").stat().st_size
    body = decode_report(report(entry(node="node-a", live=True)))
    bench.run(lambda work: register(work.draft, body, work.now))
    assert Path(f"{bench.path}-wal").stat().st_size > size
    assert bench.board.nodes()[0].seen == FakeClock().wall()


def test_small_reports_do_not_wait_for_large_ones_and_large_ones_not_for_ever(bench: Bench) -> None:
    done: list[str] = []

    def told(name: str) -> Job[None]:
        return lambda work: done.append(f"{bench.writer.commits} {name}")

    bench.run(told("large"), told("small"), told("also large"), sizes=[SMALL_BYTES, 10, SMALL_BYTES])
    assert done == ["0 small", "1 large", "1 also large"]


def test_a_full_queue_refuses_by_number_and_by_bytes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MAX_WAITING", 3)
    monkeypatch.setattr(writer_module, "MAX_WAITING_BYTES", 100)

    async def scenario() -> None:
        async def refused(size: int) -> None:
            with pytest.raises(WriterBusy):
                await bench.writer.do(reporting("z"), size)

        def waits(size: int) -> Coroutine[Any, Any, Any]:
            return bench.writer.do(reporting(f"w{size}"), size)

        large = asyncio.ensure_future(waits(150))  # alone it may be larger: it would never pass otherwise
        await asyncio.sleep(0)
        await refused(1)
        bench.writer.start()
        await large

    asyncio.run(scenario())
    assert bench.names() == ["w150"]


def test_what_waits_at_the_stop_is_finished_and_later_calls_are_refused(bench: Bench) -> None:
    async def scenario() -> list[Any]:
        waiting = [asyncio.ensure_future(bench.writer.do(reporting(name))) for name in "ab"]
        await asyncio.sleep(0)
        bench.writer.start()
        assert await asyncio.to_thread(bench.writer.stop, 10)
        late = asyncio.ensure_future(bench.writer.do(reporting("c")))
        return await asyncio.gather(*waiting, late, return_exceptions=True)

    outcomes = asyncio.run(scenario())
    assert isinstance(outcomes[2], WriterBusy)
    assert bench.names() == ["a", "b"]


def test_a_defect_after_the_commit_ends_the_writer_and_says_so(bench: Bench) -> None:
    told: list[bool] = []
    bench.writer.on_defect = lambda: told.append(True)

    def break_board(change: Change) -> None:
        raise RuntimeError("a defect")

    bench.board.on_change = break_board

    async def scenario() -> None:
        task = asyncio.ensure_future(bench.writer.do(reporting("a")))
        await asyncio.sleep(0)
        bench.writer.start()
        with pytest.raises(WriterBusy):
            await task
        with pytest.raises(WriterBusy):
            await bench.writer.do(reporting("b"))

    asyncio.run(scenario())
    bench.writer.stop(10)
    assert told == [True]


@pytest.mark.parametrize(
    ("status", "lag"),
    [(b'{"outbox_oldest_s": 7.5}', 7.5), (b'{"outbox_oldest_s": "x"}', 0.0), (b"[]", 0.0), (b"[" * 5000, 0.0)],
)
def test_a_nodes_lag_is_what_its_heartbeat_says_or_else_what_its_last_event_took(
    bench: Bench, status: bytes, lag: float
) -> None:
    body = decode_report(report(entry(event(1, time=FakeClock().wall()))))
    body.nodes[0].status = Raw(status)
    bench.run(lambda work: register(work.draft, body, work.now))
    assert bench.board.nodes()[0].lag == lag


def test_the_board_shows_what_is_committed_and_remembers_what_changed_since(bench: Bench) -> None:
    changes: list[Change] = []
    bench.board.on_change = changes.append
    bench.run(reporting("a"), reporting("b"))
    assert [(row.name, row.state, row.id) for row in bench.board.vms()] == [
        ("a", State.RUNNING, 1),
        ("b", State.RUNNING, 2),
    ]
    assert [number for number, _ in changes[-1].events] == [1, 2]
    assert bench.board.last_event == 2
    assert bench.board.counts() == {"running": 2}
    seen = bench.board.last_event
    undefined = decode_report(
        report(entry(event(2, "a", "stopped", "destroyed"), event(3, "a", "undefined", "removed"), node="node-a"))
    )
    bench.run(lambda work: register(work.draft, undefined, work.now))
    since = bench.board.since(seen + 1)
    assert since is not None
    assert since.gone == [uuid_of("a")]
    assert since.vms == []
    assert bench.board.counts() == {"running": 1}
    assert bench.board.since(bench.board.last_event + 1) is None
    assert NODE not in {row.name for row in bench.board.nodes()}
