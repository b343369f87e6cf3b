"""Exports: exact, harmless in a spreadsheet, and never whole in memory."""

import csv
import io
import json
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.panel.eventrows import fill
from vmwatch.panel.events import COLUMNS, Events, Filter, row_of
from vmwatch.panel.export import FORMULA, Chunk, Format, disarmed, lines
from vmwatch.panel.schema import SPAN_ROWS
from vmwatch.panel.store import Store

ROW_COUNT = 40_000
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("=+-@'\"\t\r\n,; |%"))
TABLES = st.lists(st.lists(st.lists(TEXTS, min_size=3, max_size=3), min_size=1, max_size=4), max_size=4)


def chunks(table: list[list[list[str]]]) -> Iterator[Chunk]:
    for rows in table:
        yield [dict(zip("abc", row, strict=True)) for row in rows]


@given(TABLES)
def test_csv_gives_back_every_text_and_no_cell_begins_a_formula(table: list[list[list[str]]]) -> None:
    text = b"".join(lines(Format.CSV, "abc", chunks(table))).decode()
    head, *rows = csv.reader(io.StringIO(text, newline=""))
    assert head == ["a", "b", "c"]
    assert [[cell.removeprefix("'") for cell in row] for row in rows] == [row for rows in table for row in rows]
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(("\t", "\r", "\n"))
        assert cell.lstrip()[:1] not in set(FORMULA)


@given(TABLES)
def test_json_lines_give_back_every_text_one_row_a_line(table: list[list[list[str]]]) -> None:
    text = b"".join(lines(Format.JSONL, "abc", chunks(table)))
    assert [list(json.loads(line).values()) for line in text.split(b"\n")[:-1]] == [
        row for rows in table for row in rows
    ]


def test_an_ordinary_cell_stays_as_it_is() -> None:
    for cell in ("", "web-1", "1", "2026-01-01T00:00:00+00:00", "a=b", "x'"):
        assert disarmed(cell) == cell


def test_an_export_of_a_long_log_takes_no_more_memory_than_that_of_a_short_one(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'panel.db'}")
    store.open()
    try:
        fill(store, ROW_COUNT, SPAN_ROWS, random.Random(1))
        for format_ in Format:
            short_size, short_peak = exported(store, format_, ROW_COUNT - ROW_COUNT // 8)
            size, peak = exported(store, format_, 0)
            assert size > 7 * short_size
            assert peak < 1.5 * short_peak
    finally:
        store.close()


def exported(store: Store, format_: Format, after: int) -> tuple[int, int]:
    """(bytes of the export, bytes of memory at most)"""
    rows = ([row_of(*row) for row in chunk] for chunk in Events(store).all(Filter(), after))
    tracemalloc.start()
    try:
        size = sum(map(len, lines(format_, COLUMNS, rows)))
        return size, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
