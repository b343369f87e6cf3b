"""Pages of the event log: which rows, in which order, and that SQLite neither scans nor sorts for them."""

import random
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from tests.unit.panel.eventrows import NODES, VMS, fill
from tests.unit.panel.reports import entry, event, report
from tests.unit.panel.test_store import register_all
from vmwatch.panel import events as events_module
from vmwatch.panel import strands as strands_module
from vmwatch.panel.events import ROWS, Events, Filter
from vmwatch.panel.schema import eventlog
from vmwatch.panel.store import Store
from vmwatch.panel.strands import EVERY_ID, Strands, runs

ROW_COUNT = 6_000
SPAN_ROWS = 64
FILTERS = [
    Filter(node=node, uuid=uuid, name=name, event=event, since=since, until=until)
    for node, (uuid, name), event, (since, until) in product(
        ("", NODES[1], "nobody"),
        (("", ""), (VMS[0][0], ""), ("", VMS[2][1]), (VMS[1][0], VMS[1][1]), ("", "twice")),
        ("", "started", "crashed", "never"),
        ((None, None), (2_000.0, None), (None, 900.0), (2_000.0, 2_300.0)),
    )
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A log of nodes whose clocks differ, one of which says anything; spans are small, so that there are many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strands_module, "SPAN_ROWS", SPAN_ROWS)
        store = Store(f"sqlite:///{tmp_path_factory.mktemp('log') / 'panel.db'}")
        store.open()
        fill(store, ROW_COUNT, SPAN_ROWS, random.Random(7))
        yield store
        store.close()


def expected(store: Store, chosen: Filter) -> list[int]:
    """By a look at each row."""
    with store.reading() as connection:
        rows = connection.execute(ROWS.order_by(eventlog.c.id)).all()
    return [
        row[0]
        for row in rows
        if chosen.node in ("", row[1])
        and chosen.uuid in ("", row[6])
        and chosen.name in ("", row[7])
        and chosen.event in ("", row[8])
        and (chosen.since is None or row[4] >= chosen.since)
        and (chosen.until is None or row[4] <= chosen.until)
    ]


def numbers(rows: list[Any]) -> list[int]:
    return [row[0] for row in rows]


def test_every_combination_of_filters_gives_its_rows_once_in_order_by_every_way_of_paging(store: Store) -> None:
    events = Events(store)
    found = 0
    for chosen in FILTERS:
        wanted = expected(store, chosen)
        found += len(wanted)
        middle = wanted[len(wanted) // 2] if wanted else ROW_COUNT // 2
        assert [number for chunk in events.all(chosen, 0) for number, _ in chunk] == wanted, chosen
        assert numbers(events.after(chosen, middle, 7)) == [n for n in wanted if n > middle][:7], chosen
        assert numbers(events.newest(chosen, 7)) == wanted[-7:], chosen
        assert numbers(events.newest(chosen, 7, middle)) == [n for n in wanted if n < middle][-7:], chosen
        assert numbers(events.page(chosen, 5, 7)) == wanted[5:12], chosen
        assert events.count(chosen, 10) == min(10, len(wanted)), chosen
        assert events.count(chosen, ROW_COUNT) == len(wanted), chosen
    assert found > ROW_COUNT


@pytest.mark.parametrize("newest_first", [False, True])
def test_no_page_scans_the_log_or_sorts_whatever_is_combined(store: Store, newest_first: bool) -> None:
    plans = set()
    for chosen, within in product(FILTERS, (EVERY_ID, (ROW_COUNT // 3, ROW_COUNT))):
        for query, values in queries(store, chosen, within, newest_first):
            for detail in plan(store, query, values):
                assert "TEMP B-TREE" not in detail, (query, detail)
                assert not is_scan(detail), (query, detail)
                if "eventlog" in detail:
                    plans.add(detail)
    assert plans == {
        "SEARCH eventlog USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
        "SEARCH eventlog USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH eventlog USING COVERING INDEX eventlog_node_event (node=? AND event>?)",
        "SEARCH eventlog USING COVERING INDEX eventlog_node_event (node=? AND event=? AND id>? AND id<?)",
        "SEARCH eventlog USING COVERING INDEX eventlog_subject_node_event (subject=? AND node>?)",
        "SEARCH eventlog USING COVERING INDEX eventlog_subject_node_event (subject=? AND node=? AND event>?)",
        "SEARCH eventlog USING COVERING INDEX eventlog_subject_node_event"
        " (subject=? AND node=? AND event=? AND rowid>? AND rowid<?)",
        "SEARCH eventlog USING INDEX eventlog_subject_node_event"
        " (subject=? AND node=? AND event=? AND rowid>? AND rowid<?)",
    }


def is_scan(detail: str) -> bool:
    """Of anything but the list of nodes, which is short."""
    return detail.startswith("SCAN") and detail.split()[1] not in ("nodes", "(subquery-1)")


def queries(store: Store, chosen: Filter, within: tuple[int, int], newest_first: bool) -> list[tuple[str, list[Any]]]:
    """All SQL that a page asks, as SQLite saw it."""
    seen: list[str] = []
    with store.reading() as connection, connection.begin():
        driver: Any = connection.connection.driver_connection
        driver.set_trace_callback(seen.append)
        try:
            strands = Strands(driver, chosen, within)
            ids = strands.ids(10, newest_first=newest_first)
            strands.count(10)
            events_module._rows(connection, ids)
        finally:
            driver.set_trace_callback(None)
    assert seen
    return [(query, []) for query in seen if query.startswith("SELECT")]


def plan(store: Store, query: str, values: list[Any]) -> list[str]:
    with store.reading() as connection:
        driver: Any = connection.connection.driver_connection
        return [row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {query}", values)]


def test_the_check_of_plans_sees_a_scan_and_a_sort(store: Store) -> None:
    details = plan(store, "SELECT id FROM eventlog WHERE detail = 'x' ORDER BY time", [])
    assert any(is_scan(detail) for detail in details)
    assert any("TEMP B-TREE" in detail for detail in details)


@given(st.lists(st.booleans(), max_size=30), st.tuples(st.integers(0, 500_000), st.integers(0, 500_000)))
def test_runs_hold_every_span_that_fits_and_none_that_does_not_and_stay_within(
    fits: list[bool], within: tuple[int, int]
) -> None:
    found = list(runs(enumerate(fits), within))
    assert all(within[0] <= low <= high <= within[1] for low, high in found)
    assert all(one[1] < other[0] for one, other in pairwise(found))
    size = vars(strands_module)["SPAN_ROWS"]
    for span, fit in enumerate(fits):
        for number in (span * size, span * size + size - 1):
            assert any(low <= number <= high for low, high in found) == (fit and within[0] <= number <= within[1])


def test_a_time_far_from_the_cursor_costs_no_walk_over_what_lies_between(store: Store) -> None:
    chosen = Filter(until=100.0)
    assert expected(store, chosen)
    with store.reading() as connection, connection.begin() as transaction:
        known = steps_of(connection, chosen)
        connection.exec_driver_sql("UPDATE spans SET first = 0.0, last = 1e9")
        unknown = steps_of(connection, chosen)
        transaction.rollback()
    # the node whose clock says anything is walked over in both cases
    assert known < unknown / 2


def steps_of(connection: Connection, chosen: Filter) -> int:
    """Instructions of SQLite's machine for a page."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    driver: Any = connection.connection.driver_connection
    driver.set_progress_handler(tick, 1)
    try:
        Strands(driver, chosen).ids(10, newest_first=True)
    finally:
        driver.set_progress_handler(None, 0)
    return count


def test_what_is_registered_widens_the_spans_in_which_its_time_is_found(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'panel.db'}")
    store.open()
    times = [500.0, 20.0, 7000.0, 300.0]
    register_all(store, *(report(entry(event(seq, time=time))) for seq, time in enumerate(times, 1)))
    register_all(store, report(entry(event(1, time=9.0), event(2, time=8000.0), node="kvm-02")))
    events = Events(store)
    assert numbers(events.newest(Filter(until=20.0), 9)) == [2, 5]
    assert numbers(events.newest(Filter(since=7000.0), 9)) == [3, 6]
    assert numbers(events.newest(Filter(node="kvm-01", since=7001.0), 9)) == []
    store.close()
