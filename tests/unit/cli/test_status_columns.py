"""`vmwatch status` where there is little room."""

import io

import pytest
from rich.console import Console

from vmwatch.cli.status import COLUMNS, NARROW_COLUMNS, WIDE, columns_for
from vmwatch.cli.table import show_table

ROW = {
    "service": "vmwatch-node",
    "object": "kvm-01",
    "state": "active",
    "last_seen": "2026-03-01T12:00:00.000+00:00",
    "lag": "0.000",
    "version": "vmwatch-node/0.1.0",
    "reach": "local",
    "check": "misconfigured",
    "maintenance": "",
    "problems": "vmwatch_node_stopped",
}


def test_on_a_usual_terminal_no_word_is_broken() -> None:
    shown = io.StringIO()
    out = Console(file=shown, force_terminal=True, width=80, color_system=None)
    show_table(out, [ROW], columns_for(out))
    assert set(columns_for(out)) < set(COLUMNS)
    for column in columns_for(out):
        assert column in shown.getvalue()
        assert ROW[column] in shown.getvalue()


@pytest.mark.parametrize(("terminal", "width", "expected"), [(False, 80, COLUMNS), (True, WIDE, COLUMNS)])
def test_all_columns_are_there_where_there_is_room_and_for_programs(
    terminal: bool, width: int, expected: tuple[str, ...]
) -> None:
    assert columns_for(Console(file=io.StringIO(), force_terminal=terminal, width=width)) == expected
    assert set(NARROW_COLUMNS) <= set(COLUMNS)
