"""`vmwatch status`: all services of the cluster in one table."""

from typing import Annotated

import typer
from rich.console import Console

from vmwatch.cli.client import DEFAULT_URL
from vmwatch.cli.options import Authority, Url, User, connect, console
from vmwatch.cli.table import show_table
from vmwatch.shared.exits import Exit

COLUMNS = ("service", "object", "state", "last_seen", "lag", "version", "reach", "check", "maintenance", "problems")
NARROW_COLUMNS = ("object", "state", "lag", "check", "maintenance", "problems")
WIDE = 140
"""Columns of a terminal that has room for all of them."""
WELL = ("active", "new")


def columns_for(out: Console) -> tuple[str, ...]:
    """Those that have room; anything but a terminal gets all, always."""
    return NARROW_COLUMNS if out.is_terminal and out.width < WIDE else COLUMNS


def status(
    url: Url = DEFAULT_URL,
    user: User = "admin",
    ca: Authority = "",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 unless all are well.")] = False,
) -> None:
    """Show the master and each node's agent: state, last sign, the last check, maintenance, problems."""
    rows = connect(url, user, ca).rows("vmwatch.status")
    out = console()
    show_table(out, rows, columns_for(out))
    ill = [row for row in rows if row["state"] not in WELL or row["problems"]]
    if strict and any(not row["maintenance"] for row in ill):
        raise typer.Exit(Exit.FAILURE)
