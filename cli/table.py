"""How rows of the panel look on a terminal."""

import re
from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vmwatch.cli.client import Row

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
STATE_COLOURS = {
    "running": "green",
    "paused": "yellow",
    "pmsuspended": "yellow",
    "in_shutdown": "yellow",
    "crashed": "red",
    "unknown": "magenta",
}
"""Where colours are shown at all; the word itself always stands beside its colour."""


def plain(text: str) -> str:
    """Control characters as `\\x1b`: whoever names a VM must not be able to write to the operator's terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def state_text(state: str) -> Text:
    """A VM's state in its colour."""
    return Text(plain(state), style=STATE_COLOURS.get(state, ""))


def show_table(console: Console, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """A table with these columns; on anything but a terminal one tab-separated line per row, for cut and awk."""
    if not console.is_terminal:
        for row in rows:
            print("\t".join(plain(row.get(column, "")) for column in columns), file=console.file)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = [
            state_text(row.get(column, "")) if column == "vmstatus" else Text(plain(row.get(column, "")))
            for column in columns
        ]
        table.add_row(*cells)
    console.print(table)


def event_line(row: Row) -> Text:
    """One event in one line: when, where, which VM, what, and how long it took to be registered."""
    line = Text(f"{plain(row.get('time', ''))}  {plain(row.get('node', ''))}  ")
    line.append(plain(row.get("name", "")), style="bold")
    line.append(f"  {plain(row.get('event', ''))}/{plain(row.get('detail', ''))}")
    if state := row.get("state", ""):
        line.append("  ").append_text(state_text(state))
    if (delay_ms := delay_of(row)) is not None:
        line.append(f"  registered after {delay_ms} ms", style="dim")
    return line


def delay_of(row: Row) -> int | None:
    """Milliseconds from the node's time to the panel's; None where one is missing. Two machines' clocks may differ."""
    try:
        began, ended = (datetime.fromisoformat(row[name]) for name in ("time", "received"))
    except (KeyError, ValueError):
        return None
    return round((ended - began).total_seconds() * 1000)
