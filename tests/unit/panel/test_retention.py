"""Retention on a real database, through the one writer."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import func, select, text

from tests.unit.panel.clock import FakeClock
from tests.unit.panel.reports import Message, entry, event, report, stats, uuid_of
from vmwatch.panel import recorder as recorder_module
from vmwatch.panel import retention as retention_module
from vmwatch.panel.board import Board
from vmwatch.panel.events import Events, Filter
from vmwatch.panel.expiry import DAY_S
from vmwatch.panel.functions import Panel
from vmwatch.panel.identity import Identity
from vmwatch.panel.installation import Boot, Installation, Outcome, Phase
from vmwatch.panel.installations import keep_installation
from vmwatch.panel.live import Live
from vmwatch.panel.pace import Pace
from vmwatch.panel.registration import register
from vmwatch.panel.retention import EVENTS, STATS, Retention
from vmwatch.panel.schema import SPAN_ROWS, eventlog, spans
from vmwatch.panel.schema import stats as stats_table
from vmwatch.panel.settings import PanelSettings
from vmwatch.panel.store import Store
from vmwatch.panel.writer import NotCommitted, Work, Writer
from vmwatch.shared.report import Verdict, decode_report

START = 1_800_000_000.0
HOUR_S = 3600.0


class Keeper:
    """A writer, its retention, and a clock that the test moves. Labels of nodes are that clock's."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock(START)
        self.store = Store(f"sqlite:///{folder / 'panel.db'}")
        self.store.open()
        stored = self.store.load()
        board = Board()
        board.fill(stored)
        self.writer = Writer(self.store, stored, board, self.clock)
        self.writer.start()
        identity = cast(Identity, None)  # nobody calls
        self.panel = Panel(PanelSettings(), self.store, identity, self.writer, board, Live(board), self.clock)
        self.retention = Retention(self.panel)

    def settle(self, *messages: Message, node: str = "kvm-01") -> Verdict:
        body = decode_report(report(entry(*messages, node=node)))
        verdicts = self.run(lambda: self.writer.do(lambda work: register(work.draft, body, work.now)))
        return cast(Verdict, verdicts[0])

    def run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:  # noqa: ANN401 - what the work returns
        return asyncio.run(work())

    def expire(self, days: int = 1) -> int:
        return cast(int, self.run(lambda: self.retention.expire(EVENTS, days)))

    def seqs(self) -> list[int]:
        return [row.seq for chunk in Events(self.store).all(Filter(), 0) for _, row in chunk]

    def samples(self) -> list[tuple[str, float]]:
        with self.store.reading() as connection:
            query = select(stats_table.c.node, stats_table.c.taken).order_by(stats_table.c.id)
            return [(row[0], row[1]) for row in connection.execute(query)]


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    monkeypatch.setattr(retention_module, "REST_S", 0.0)
    keeper = Keeper(tmp_path)
    yield keeper
    keeper.writer.stop(10)
    keeper.store.close()


def test_old_events_go_in_bounded_steps_and_neither_keys_nor_the_last_row(keeper: Keeper) -> None:
    keeper.settle(*(event(seq, time=START) for seq in range(1, 101)))
    assert keeper.expire() == 0
    keeper.clock.now += 2 * DAY_S
    keeper.settle(event(101, time=keeper.clock.now))
    keeper.retention.pace = Pace(1.0, 10, 30)
    assert keeper.expire() == 5  # 10, 20, 30, 30 and 10 rows
    assert keeper.seqs() == [101]
    assert keeper.settle(*(event(seq, time=START) for seq in range(1, 101))).known == 100
    keeper.clock.now += 500 * DAY_S
    assert keeper.expire() == 0
    stored = keeper.store.load()
    assert stored.last_event == 101
    assert stored.known.keys[("kvm-01", 1_763_900_000_123_456)] == set(range(1, 102))


def test_a_step_is_copied_out_of_the_write_ahead_log_soon_and_a_report_later(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What lies scattered is copied little by little, so that no report waits for much of it."""
    monkeypatch.setattr(recorder_module, "SHORT_WAL_PAGES", 1)

    def in_file() -> int:
        shutil.copyfile(tmp_path / "panel.db", tmp_path / "copy.db")
        with closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
            tables = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'eventlog'").fetchone()[0]
            return int(connection.execute("SELECT count(*) FROM eventlog").fetchone()[0]) if tables else 0

    keeper.settle(*(event(seq, time=START) for seq in range(1, 101)))
    assert in_file() == 0
    keeper.clock.now += 2 * DAY_S
    keeper.settle(event(101, time=keeper.clock.now))
    keeper.expire()
    assert in_file() == len(keeper.seqs()) == 1
    keeper.settle(event(102, time=keeper.clock.now))
    assert in_file() == 1


def test_no_step_removes_more_rows_than_the_pace_allows(keeper: Keeper) -> None:
    keeper.settle(*(event(seq, time=START) for seq in range(1, 401)))
    keeper.clock.now += 2 * DAY_S
    keeper.settle(event(401, time=keeper.clock.now))
    left: list[int] = []
    allowed: list[int] = []
    do = keeper.writer.do

    async def counting(*arguments: Any) -> Any:  # noqa: ANN401 - as the writer's own
        allowed.append(keeper.retention.pace.rows)
        answer = await do(*arguments)
        with keeper.store.reading() as connection:
            left.append(connection.execute(select(func.count()).select_from(eventlog)).scalar() or 0)
        return answer

    keeper.writer.do = counting  # type: ignore[method-assign, assignment]
    keeper.expire()
    removed = [before - after for before, after in zip([401, *left], left, strict=False)]
    assert all(0 < rows <= most <= retention_module.MOST_ROWS for rows, most in zip(removed, allowed, strict=True))
    assert sum(removed) == 400


def test_spans_go_with_the_last_event_in_them(keeper: Keeper) -> None:
    keeper.settle(*(event(seq, time=START) for seq in range(1, 4)))
    with keeper.store.writing() as connection:
        connection.execute(text("UPDATE eventlog SET id = :id WHERE id = 3"), {"id": SPAN_ROWS})
        connection.execute(text("INSERT INTO spans VALUES (1, 1, 0, 0)"))
    keeper.clock.now += 2 * DAY_S
    keeper.writer._stored.last_event = 2 * SPAN_ROWS
    keeper.settle(event(4, time=keeper.clock.now))
    keeper.expire()
    with keeper.store.reading() as connection:
        assert connection.execute(select(spans.c.span).order_by(spans.c.span)).scalars().all() == [1, 2]


@pytest.mark.parametrize("registers_meanwhile", [False, True])
def test_a_panels_clock_that_is_far_ahead_for_a_moment_deletes_nothing_also_later(
    keeper: Keeper, registers_meanwhile: bool
) -> None:
    keeper.settle(*(event(seq, time=START) for seq in range(1, 4)), stats(4, taken=START))
    keeper.clock.now += 3000 * DAY_S
    if registers_meanwhile:
        keeper.settle(event(5, time=START + 60), stats(6, taken=START + 60))
    assert keeper.expire() == 0
    assert keeper.run(lambda: keeper.retention.expire(STATS, 1)) == 0
    assert keeper.run(lambda: keeper.retention.thin_out()) == 0
    keeper.clock.now = START + 120
    assert keeper.expire() == 0
    keeper.settle(event(7, time=START + 120))
    # and what was registered then does not stay for ever
    keeper.clock.now = START + 2 * DAY_S
    keeper.settle(event(8, time=keeper.clock.now))
    assert keeper.expire() > 0
    assert keeper.seqs() == [8]


def test_samples_are_all_kept_for_two_days_and_then_one_an_hour_per_vm_and_node(keeper: Keeper) -> None:
    for seq in range(1, 6 * 72 + 1):  # three days, every ten minutes
        taken = START + (seq - 1) * 600
        keeper.clock.now = taken
        keeper.settle(stats(seq, taken=taken))
        if seq <= 12:
            keeper.settle(stats(seq, taken=taken), node="kvm-02")
    removed = keeper.run(lambda: keeper.retention.thin_out())
    samples = keeper.samples()
    assert len(samples) + removed == 6 * 72 + 12
    for node, hours in (("kvm-01", 24), ("kvm-02", 2)):
        old = [taken for name, taken in samples if name == node and taken < keeper.clock.now - 2 * DAY_S]
        assert hours <= len(old) <= hours + 1
        assert len({taken // HOUR_S for taken in old}) == len(old)
    assert sum(taken >= keeper.clock.now - 2 * DAY_S for _, taken in samples) == 6 * 48 + 1
    assert keeper.run(lambda: keeper.retention.thin_out()) == 0
    assert keeper.run(lambda: Retention(keeper.panel).thin_out()) == 0  # as after a restart


def test_thinning_that_the_database_refuses_keeps_the_hours_first_sample_all_the_same(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seq in range(1, 7):
        keeper.settle(stats(seq, taken=START + seq * 60))
    keeper.clock.now += 3 * DAY_S
    keeper.settle(stats(7, taken=keeper.clock.now))

    async def refuse(*_: Any) -> Any:  # noqa: ANN401 - as the writer's own
        raise NotCommitted("the database could not be written: database is locked")

    with monkeypatch.context() as locked:
        locked.setattr(keeper.writer, "do", refuse)
        with pytest.raises(NotCommitted):
            keeper.run(keeper.retention.thin_out)
    keeper.run(keeper.retention.thin_out)
    assert [taken for _, taken in keeper.samples()] == [START + 60, keeper.clock.now]


def test_samples_that_are_too_old_go_altogether(keeper: Keeper) -> None:
    keeper.settle(stats(1, taken=START))
    keeper.clock.now += 31 * DAY_S
    keeper.settle(stats(2, taken=keeper.clock.now))
    assert keeper.run(lambda: keeper.retention.expire(STATS, 30)) == 1
    assert keeper.samples() == [("kvm-01", keeper.clock.now)]


@pytest.mark.parametrize("aging", [EVENTS, STATS], ids=["events", "samples"])
def test_the_index_pages_of_rows_that_go_are_read_before_by_steps_into_the_index(
    keeper: Keeper, aging: retention_module.Aging
) -> None:
    keeper.settle(event(1), stats(2), event(3), stats(4))
    with keeper.store.reading() as connection:
        for query in aging.touch:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", (0, 9))]
            assert any("SEARCH old USING INTEGER PRIMARY KEY" in step for step in plan), plan
            assert any("SEARCH page USING COVERING INDEX" in step for step in plan), plan
            assert connection.exec_driver_sql(query, (0, 9)).scalar() == 2


def installed(number: int, name: str, ended: float) -> Installation:
    return Installation(
        id=number,
        key="k",
        uuid=uuid_of(name),
        name=name,
        node="kvm-01",
        boot=Boot.CDROM,
        image="",
        reboots=1,
        limit_s=60.0,
        began=START,
        left=0,
        phase=Phase.DONE if ended else Phase.RUNNING,
        outcome=Outcome.INSTALLED if ended else Outcome.NONE,
        ended=ended,
    )


def test_finished_installations_go_but_the_newest_of_a_vm_that_is_there_and_what_goes_on(keeper: Keeper) -> None:
    keeper.settle(event(1, "web"))
    rows = [(1, "web", START), (2, "gone", START), (3, "web", START), (4, "busy", 0.0), (5, "young", START + 9 * DAY_S)]
    for number, name, ended in rows:
        keep = partial(_keep, installed(number, name, ended))
        keeper.run(lambda keep=keep: keeper.writer.do(keep))  # type: ignore[misc]
    keeper.clock.now += 10 * DAY_S
    keeper.settle(event(2, "web", time=keeper.clock.now))
    assert keeper.run(lambda: keeper.retention.forget_installations(5)) == 2
    assert keeper.run(lambda: keeper.retention.forget_installations(5)) == 0
    stored = keeper.store.load().known
    assert sorted(found.id for found in stored.installations.values()) == [3, 4, 5]
    assert {found.id for found in keeper.writer.installations.values()} == {3, 4, 5}
    assert stored.next_installation() == 6


def _keep(made: Installation, work: Work) -> None:
    keep_installation(work.draft, None, made, work.now)
