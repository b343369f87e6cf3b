"""`vmwatch`: the operator's command."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from vmwatch.cli.client import DEFAULT_URL, MOST_ROWS, PanelError, Row
from vmwatch.cli.follow import EventTail
from vmwatch.cli.nodes import add_commands
from vmwatch.cli.options import Authority, Url, User, connect, console, given
from vmwatch.cli.table import event_line, show_table
from vmwatch.shared.errors import VmwatchError
from vmwatch.shared.exits import Exit
from vmwatch.shared.version import VERSION

PROGRAM = "vmwatch"
TYPER_USAGE = 2
"""What typer exits with for a wrong command line; nothing else here does."""

WIDE = 110
"""Columns of a terminal that has room for UUIDs."""
VM_COLUMNS = ("id", "name", "hostnode", "vmstatus", "since", "uuid", "warnings")
POLICY_COLUMNS = ("name", "value", "meaning")
EVENT_COLUMNS = ("id", "time", "received", "node", "name", "event", "detail", "state", "uuid")

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
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
) -> None:
    """List the VMs and their states."""
    client = connect(url, user, ca)
    out = console()
    narrow = out.is_terminal and out.width < WIDE
    columns = [name for name in VM_COLUMNS if not (narrow and name == "uuid")]
    filters = given(hostnode=node, vmstatus=state, warnings="on" if warnings else "")
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
def events(
    url: Url = DEFAULT_URL,
    user: User = "admin",
    ca: Authority = "",
    node: Node = "",
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Only those of the VM with this name.")] = "",
    count: Annotated[
        int, typer.Option("--count", metavar="NUMBER", min=1, max=MOST_ROWS, help="How many of the newest.")
    ] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones until Ctrl-C.")] = False,
) -> None:
    """List the newest events, oldest first."""
    client = connect(url, user, ca)
    filters = given(node=node, name=name)
    rows = client.newest_events(count, **filters)
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
