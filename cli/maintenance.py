"""`vmwatch maintenance`: who works on a service says so."""

from typing import Annotated

import typer

from vmwatch.cli.client import DEFAULT_URL, PanelError
from vmwatch.cli.duration import ALLOWED, parse_duration, show_duration
from vmwatch.cli.options import Authority, Url, User, connect, console, given
from vmwatch.cli.table import plain, show_table

MASTER = "vmwatch-master"
SHORT = "master"
"""What the panel calls it, and what is enough here."""
LONGEST_S = 30 * 86400
"""The panel's own limit."""
COLUMNS = ("object", "until", "by", "reason")


def maintenance(
    subject: Annotated[str, typer.Argument(metavar="[NODE|master]", help="Whose; without it, what there is.")] = "",
    for_: Annotated[str, typer.Option("--for", metavar="TIME", help="Begin, or prolong, it: 2h, 90m, 1d12h.")] = "",
    end: Annotated[bool, typer.Option("--end", help="End it now.")] = False,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Shown beside it.")] = "",
    url: Url = DEFAULT_URL,
    user: User = "admin",
    ca: Authority = "",
) -> None:
    """Repair nothing by itself and mute the problems of a node or the master, for a time.

    It ends by itself; the longest is 30 days.
    """
    if not subject and (for_ or end):
        raise PanelError("whose maintenance? a node's name or master is allowed")
    if subject and bool(for_) == end:
        raise PanelError(f"--for TIME or --end is needed; {ALLOWED}" if not end else "--for or --end, not both")
    try:
        seconds = parse_duration(for_) if for_ else 0
    except ValueError as error:
        raise PanelError(f"--for {error}") from None
    if for_ and not 1 <= seconds <= LONGEST_S:
        raise PanelError(f"--for {for_!r}: from 1s to {show_duration(LONGEST_S)} is allowed")
    client = connect(url, user, ca)
    if not subject:
        show_table(console(), client.all_rows("vmwatch.maintenance"), COLUMNS)
        return
    wish = given(end="on") if end else {"for": str(seconds), **given(reason=reason)}
    elid = MASTER if subject == SHORT else subject
    if subject == SHORT and any(row["name"] == SHORT for row in client.all_rows("vmhostnode")):
        raise PanelError(f"there is a node {SHORT} as well: {MASTER} or the node's number is allowed")
    doc = client.change("vmwatch.maintenance.edit", elid=elid, sok="ok", **wish)
    until = doc.get("tparams", {}).get("until", {}).get("$", "")
    print(f"{plain(subject)}: in maintenance until {until}" if until else f"{plain(subject)}: not in maintenance")
