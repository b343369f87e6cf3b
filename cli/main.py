"""`vmwatch`: the operator's command."""

import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from vmwatch.cli import deadletter, maintenance, status
from vmwatch.cli.client import DEFAULT_URL, MOST_ROWS, PanelError, Row
from vmwatch.cli.download import download
from vmwatch.cli.follow import EventTail
from vmwatch.cli.moments import moment
from vmwatch.cli.nodes import add_commands
from vmwatch.cli.options import Authority, Url, User, connect, console, given
from vmwatch.cli.solve import SOLVED, AttemptTail
from vmwatch.cli.table import event_line, plain, show_table
from vmwatch.shared.errors import VmwatchError
from vmwatch.shared.exits import Exit
from vmwatch.shared.version import VERSION

PROGRAM = "vmwatch"
TYPER_USAGE = 2
"""What typer exits with for a wrong command line; nothing else here does."""

WIDE = 110
"""Columns of a terminal that has room for UUIDs."""
NEWEST = 20
"""Events, unless more are asked for."""
VM_COLUMNS = ("id", "name", "hostnode", "vmstatus", "since", "uuid", "warnings")
POLICY_COLUMNS = ("name", "value", "meaning")
PROBLEM_COLUMNS = (
    *("id", "state", "type", "object", "level", "first", "count", "attempts", "next", "muted", "description"),
)
EVENT_COLUMNS = ("id", "time", "received", "node", "name", "event", "detail", "state", "uuid")


class Format(StrEnum):
    """How events are printed: `csv` and `jsonl` are the panel's export, of all rows."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"


app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(deadletter.app, name="deadletter")
app.command()(maintenance.maintenance)
app.command()(status.status)
add_commands(app)

Node = Annotated[str, typer.Option("--node", metavar="NAME", help="Only what is on this node.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code. An operator's mistake is answered with a sentence, never a traceback."""
    try:
        app(args=arguments, prog_name=PROGRAM)
    except SystemExit as end:
        return Exit.USAGE if end.code == TYPER_USAGE else int(end.code or 0)
    except VmwatchError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return Exit.FAILURE
    return Exit.OK


def show_version(wanted: bool) -> None:
    """`--version`."""
    if wanted:
        print(f"{PROGRAM} {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The operator's command of vmwatch.

    The password of --user is taken from the environment variable VMWATCH_PASSWORD, or asked for.
    """


@app.command()
def demo(
    libvirt_uri: Annotated[
        str, typer.Option(metavar="URI", help="Watch these VMs, read-only, such as qemu:///system (default: its own).")
    ] = "",
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where everything is to be; it is kept (default: a new one in /tmp, removed)."
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the one in /tmp too.")] = False,
) -> None:
    """Try vmwatch on this machine, until Ctrl-C.

    A panel, a master, a node and some VMs of a private libvirtd, all below one folder.
    """
    from vmwatch.cli.demo import run  # the other commands need neither libvirt nor supervisord

    raise typer.Exit(run(libvirt_uri, folder, keep, console()))


@app.command()
def vms(
    url: Url = DEFAULT_URL,
    user: User = "admin",
    ca: Authority = "",
    node: Node = "",
    state: Annotated[
        str, typer.Option("--state", metavar="STATE", help="Only those in this state, such as running.")
    ] = "",
    warnings: Annotated[bool, typer.Option("--warnings", help="Only those that there are warnings of.")] = False,
    part: Annotated[
        str, typer.Option("--search", metavar="TEXT", help="Only those with this in their name or UUID.")
    ] = "",
    sort: Annotated[
        str, typer.Option("--sort", metavar="COLUMN", help="By this column, such as since; -since: backwards.")
    ] = "",
) -> None:
    """List the VMs and their states."""
    client = connect(url, user, ca)
    out = console()
    narrow = out.is_terminal and out.width < WIDE
    columns = [name for name in VM_COLUMNS if not (narrow and name == "uuid")]
    filters = given(hostnode=node, vmstatus=state, warnings="on" if warnings else "", q=part, sort=sort)
    show_table(out, client.all_rows("vm", **filters), columns)


@app.command()
def policy(
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=VALUE", help="Set these policies, such as check_vm_activity=on.")
    ] = None,
    url: Url = DEFAULT_URL,
    user: User = "admin",
    ca: Authority = "",
) -> None:
    """Show the cluster's policies, or set some of them first."""
    values = {}
    for change in changes or []:
        name, equals, value = change.partition("=")
        if not equals or not name.strip():
            raise PanelError(f"{change!r}: NAME=VALUE is allowed")
        values[name.strip()] = value.strip()
    client = connect(url, user, ca)
    if values:
        names = [row["name"] for row in client.rows("policy")]
        if strange := sorted(values.keys() - set(names)):
            raise PanelError(f"there is no policy {strange[0]}; {', '.join(names)} are allowed")
        client.change("policy.edit", sok="ok", **values)
    show_table(console(), client.rows("policy"), POLICY_COLUMNS)


@app.command()
def problems(
    url: Url = DEFAULT_URL,
    user: User = "admin",
    ca: Authority = "",
    everything: Annotated[bool, typer.Option("--all", help="Also those that are solved.")] = False,
    kind: Annotated[str, typer.Option("--type", metavar="TYPE", help="Only of this type, such as vm_duplicate.")] = "",
) -> None:
    """List the problems that are not solved, the worst first."""
    filters = given(type=kind, state="" if everything else "unsolved")
    show_table(console(), connect(url, user, ca).all_rows("problems", **filters), PROBLEM_COLUMNS)


@app.command()
def solve(
    number: Annotated[int, typer.Argument(metavar="N", min=1, help="The id of the problem.")],
    url: Url = DEFAULT_URL,
    user: User = "admin",
    ca: Authority = "",
) -> None:
    """Solve a problem now, and show what is done about it.

    Ends with 0 if it is solved. Ctrl-C only ends the showing.
    """
    client = connect(url, user, ca)
    answer = client.change("problems.solve", elid=number)
    tail = AttemptTail(client, str(number), answer["tparams"]["attempt"]["$"])
    out = console()
    try:
        while tail.end is None:
            for line in tail.poll():
                out.print(plain(line), soft_wrap=True)
            out.file.flush()
            if tail.end is None:
                time.sleep(tail.wait_s)
    except KeyboardInterrupt:
        print(f"{PROGRAM}: the attempt goes on; see `{PROGRAM} problems`", file=sys.stderr)
        raise typer.Exit(Exit.FAILURE) from None
    out.print(f"{tail.end['outcome']}: {plain(tail.end['result'])}", soft_wrap=True)
    raise typer.Exit(Exit.OK if tail.end["outcome"] == SOLVED else Exit.FAILURE)


@app.command()
def events(
    url: Url = DEFAULT_URL,
    user: User = "admin",
    ca: Authority = "",
    node: Node = "",
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Only those of VMs with this name.")] = "",
    uuid: Annotated[str, typer.Option("--uuid", metavar="UUID", help="Only those of this VM.")] = "",
    event: Annotated[str, typer.Option("--event", metavar="EVENT", help="Only these, such as started.")] = "",
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Only from then on: 2026-03-01T12:00, 2h.")
    ] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="Only up to then.")] = "",
    count: Annotated[
        int | None,
        typer.Option("--count", metavar="NUMBER", min=1, max=MOST_ROWS, help=f"How many of the newest ({NEWEST})."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones until Ctrl-C.")] = False,
    format_: Annotated[
        Format, typer.Option("--format", help="table: the newest ones; csv, jsonl: all that fit, as a file.")
    ] = Format.TABLE,
) -> None:
    """List the newest events, oldest first, or export all of them."""
    times = given(since=moment("--since", since), until=moment("--until", until))
    filters = given(node=node, name=name, uuid=uuid, event=event) | times
    if format_ is not Format.TABLE and (follow or count is not None):
        raise PanelError(f"--format {format_} exports all events that fit: neither --follow nor --count is allowed")
    client = connect(url, user, ca)
    if format_ is not Format.TABLE:
        download(client, "eventlog", format_, sys.stdout.buffer, **filters)
        return
    rows = client.newest_events(count or NEWEST, **filters)
    out = console()
    if not follow:
        if out.is_terminal:
            show_events(out, rows)
        else:
            show_table(out, rows, EVENT_COLUMNS)
        return
    tail = EventTail(client, int(rows[-1]["id"]) if rows else 0, **filters)
    try:
        while True:
            if tail.notice:
                print(f"{PROGRAM}: {tail.notice}", file=sys.stderr)
            show_events(out, rows)
            time.sleep(tail.wait_s)
            rows = tail.poll()
    except KeyboardInterrupt:
        raise typer.Exit from None


def show_events(out: Console, rows: Sequence[Row]) -> None:
    """One line each, at once also into a pipe."""
    for row in rows:
        out.print(event_line(row), soft_wrap=True)
    out.file.flush()


if __name__ == "__main__":
    sys.exit(main())
