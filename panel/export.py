"""Lists as files: CSV and JSON lines, made row by row.

CSV follows RFC 4180: a head line, lines end with CR LF, quotes are doubled. Spreadsheets take a cell that begins with
`=` or its like for a formula, and whoever names a VM could make one: such a cell gets an apostrophe before it, which
they take for "this is text". A cell that begins with an apostrophe gets one too, so a program reads any cell back by
removing one leading apostrophe. JSON lines hold everything as it is.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum

import msgspec

from vmwatch.panel.convention import Row

FORMULA = "=+-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}|%"
"""What may begin a formula, also after white space; `|` and `%` begin commands of old spreadsheets."""


class Format(StrEnum):
    """`format` of an export."""

    CSV = "csv"
    JSONL = "jsonl"


MEDIA_TYPES = {Format.CSV: "text/csv; charset=utf-8; header=present", Format.JSONL: "application/x-ndjson"}

Chunk = list[dict[str, str]]


def lines(format_: Format, columns: Sequence[str], chunks: Iterable[Chunk]) -> Iterator[bytes]:
    """The file, a piece for each chunk; the head comes also when there is no row. Columns: as the rows have them."""
    if format_ is Format.CSV:
        yield csv_line(columns)
    line: Callable[[Row], bytes] = json_line if format_ is Format.JSONL else lambda row: csv_line(row.values())
    for chunk in chunks:
        yield b"".join(map(line, chunk))


def json_line(row: Row) -> bytes:
    """A row as one JSON object in one line."""
    return msgspec.json.encode(row) + b"\n"


def csv_line(cells: Iterable[str]) -> bytes:
    """A row with its line end."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow([disarmed(cell) for cell in cells])
    return line.getvalue().encode()


def disarmed(cell: str) -> str:
    """The cell as no spreadsheet takes it for a formula."""
    first = cell.lstrip()[:1]
    begins = cell[:1] == "'" or (first and first in FORMULA) or (cell[:1] and cell[0] in "\t\r\n")
    return f"'{cell}" if begins else cell
