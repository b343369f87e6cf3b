"""`vmwatch configure` and `vmwatch node`: the cluster's services, set up from the panel's host (design 04)."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from vmwatch.cli.client import DEFAULT_URL, PanelClient, PanelError, Row, row_of
from vmwatch.cli.options import Authority, Url, User, connect, console, given
from vmwatch.cli.table import plain, show_table

NODE_COLUMNS = ("id", "name", "state", "reach", "address", "ssh", "last_seen", "lag", "version", "removed", "doubt")
LOOK_S = 5
"""The panel holds its answer back for so long while there is no new line."""
LONG_S = 120.0
"""For a call that itself reaches a node."""

nodes = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, help="The cluster's nodes.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The node's name: its node_id.")]


def add_commands(app: typer.Typer) -> None:
    """Put these into the operator's command."""
    app.command()(configure)
    app.add_typer(nodes, name="node")


def configure(
    url: Url = DEFAULT_URL,
    user: User = "admin",
    ca: Authority = "",
    rotate_secret: Annotated[
        bool, typer.Option("--rotate-secret", help="With a new secret; the old one is accepted as well.")
    ] = False,
    forget_previous: Annotated[
        bool, typer.Option("--forget-previous", help="The secret before this one is not accepted any more.")
    ] = False,
) -> None:
    """Configure all services, and say what happens. What is right already stays as it is."""
    client = connect(url, user, ca)
    wishes = given(
        rotate_secret="on" if rotate_secret else "", forget_previous="on" if forget_previous else ""
    )
    answer = client.change("vmwatch.configure", background="on", **wishes)
    raise typer.Exit(follow(client, answer["tparams"]["elid"]["$"], console()))


@nodes.command("list")
def list_nodes(url: Url = DEFAULT_URL, user: User = "admin", ca: Authority = "") -> None:
    """List the nodes."""
    show_table(console(), connect(url, user, ca).all_rows("vmhostnode"), NODE_COLUMNS)


@nodes.command()
def add(
    name: Name,
    url: Url = DEFAULT_URL,
    user: User = "admin",
    ca: Authority = "",
    local: Annotated[bool, typer.Option("--local", help="It is the panel's own machine.")] = False,
    ssh: Annotated[
        str, typer.Option("--ssh", metavar="[USER@]HOST[:PORT]", help="It is reached over SSH (default: as root).")
    ] = "",
    manual: Annotated[
        bool, typer.Option("--manual", help="Nothing is written there: `vmwatch node config` prints its file.")
    ] = False,
    address: Annotated[str, typer.Option("--address", metavar="ADDRESS", help="Its address in the cluster.")] = "",
    host_key: Annotated[
        str, typer.Option("--host-key", metavar="SHA256:...", help="The fingerprint that it must show (default: ask).")
    ] = "",
    unchecked: Annotated[bool, typer.Option("--unchecked", help="Add it also if something is missing there.")] = False,
) -> None:
    """Add a node: look what it lacks, set it up, start it, and see whether it works."""
    if local + bool(ssh) + manual != 1:
        raise PanelError("one of --local, --ssh [USER@]HOST[:PORT] and --manual is needed")
    client, out = connect(url, user, ca, LONG_S), console()
    way = {"reach": "local" if local else "ssh" if ssh else "manual", "address": address, "ssh": ssh}
    if ssh:
        trust(client, out, ssh, host_key)
    if not manual:
        lacking = [row for row in look(client, out, way) if row["ok"] != "yes"]
        if lacking and not unchecked:
            raise PanelError(f"{name} was not added: {lacking[0]['text']}")
    # One that reported by itself is there already, and nobody has said yet how it is reached; or it was removed.
    found, which = find(client, name), {"name": name}
    if found is not None and (not found["reach"] or found["removed"] == "yes"):
        which = {"elid": found["id"]}
    answer = client.change("vmhostnode.edit", sok="ok", **which, **given(**way))
    raise typer.Exit(follow(client, answer["tparams"]["run"]["$"], out))


@nodes.command()
def remove(name: Name, url: Url = DEFAULT_URL, user: User = "admin", ca: Authority = "") -> None:
    """Remove a node: its service is stopped, its file goes; registered events stay."""
    client, out = connect(url, user, ca, LONG_S), console()
    told = client.change("vmhostnode.delete", sok="ok", elid=number_of(client, name))["tparams"]
    show(out, "", f"{name} was removed")
    if "run" in told:
        raise typer.Exit(follow(client, told["run"]["$"], out))


@nodes.command()
def config(name: Name, url: Url = DEFAULT_URL, user: User = "admin", ca: Authority = "") -> None:
    """Print what the node's vmwatch-node.conf is to say, for Ansible, Puppet or a person. It holds a key."""
    client = connect(url, user, ca)
    doc = client.call("vmwatch.configure.file", elid=number_of(client, name))
    sys.stdout.write(doc["text"]["$"])


@nodes.command("trust")
def trust_host(
    name: Name,
    url: Url = DEFAULT_URL,
    user: User = "admin",
    ca: Authority = "",
    host_key: Annotated[
        str, typer.Option("--host-key", metavar="SHA256:...", help="The fingerprint that it must show (default: ask).")
    ] = "",
) -> None:
    """Trust the host key that a node shows now, as after a new installation of it."""
    client = connect(url, user, ca, LONG_S)
    found = find(client, name)
    if found is None or found["reach"] != "ssh":
        raise PanelError(f"there is no node {name} that is reached over SSH")
    trust(client, console(), found["ssh"] or found["address"], host_key)


@nodes.command()
def key(
    url: Url = DEFAULT_URL,
    user: User = "admin",
    ca: Authority = "",
    install: Annotated[
        bool, typer.Option("--install", help="The one that lets the panel install operating systems there.")
    ] = False,
) -> None:
    """Print the line for authorized_keys of a node that is reached over SSH."""
    purpose = given(install="on" if install else "")
    print(connect(url, user, ca).change("vmwatch.configure.sshkey", **purpose)["authorized_keys"]["$"])


def find(client: PanelClient, name: str) -> Row | None:
    """The node of this name."""
    return next((row for row in client.all_rows("vmhostnode") if row["name"] == name), None)


def number_of(client: PanelClient, name: str) -> str:
    """What names it to the panel beyond doubt: a name may be digits alone, and be another node's number."""
    found = find(client, name)
    if found is None:
        raise PanelError(f"there is no node {name}")
    return found["id"]


def trust(client: PanelClient, out: Console, ssh: str, wanted: str) -> None:
    """See to it that the host's key is known: a person, or `wanted`, says that it is the right one."""
    doc = client.change("vmwatch.configure.hostkey", ssh=ssh)
    elements = doc.get("elem", [])
    keys = [row_of(element) for element in (elements if isinstance(elements, list) else [elements])]
    if not wanted and any(row["known"] == "yes" for row in keys):
        return
    if not wanted:
        first = keys[0]
        show(out, ssh, f"shows the host key {first['fingerprint']} ({first['type']})")
        if not sys.stdin.isatty():
            raise PanelError(f"is that its key? If so: --host-key {first['fingerprint']}")
        if not typer.confirm("Is that its key?"):
            raise PanelError("the host key is not trusted, and nothing was added")
        wanted = first["fingerprint"]
    client.change("vmwatch.configure.hostkey", ssh=ssh, fingerprint=wanted, sok="ok")
    show(out, ssh, f"the host key {wanted} is known from now on")


def look(client: PanelClient, out: Console, way: dict[str, str]) -> list[Row]:
    """What the machine has and lacks, printed and returned."""
    doc = client.change("vmwatch.configure.check", **given(**way))
    elements = doc.get("elem", [])
    rows = [row_of(element) for element in (elements if isinstance(elements, list) else [elements])]
    for row in rows:
        show(out, row["name"], ("" if row["ok"] == "yes" else "MISSING: ") + row["text"])
    return rows


def follow(client: PanelClient, run: str, out: Console) -> int:
    """Print a run's progress until it ends; returns the exit code."""
    seen = 0
    while True:
        for row in client.rows("vmwatch.configure.progress", elid=run, after=seen, wait=LOOK_S):
            if row["state"] in ("done", "failed"):
                return 0 if row["state"] == "done" else 1
            if not row["state"]:
                seen = int(row["id"])
                show(out, row["part"], row["text"])


def show(out: Console, part: str, text: str) -> None:
    """A line of progress, at once also into a pipe."""
    line = Text(f"{plain(part)}: " if part else "", style="bold")
    failed = text.startswith(("FAILED", "MISSING"))
    line.append(plain(text), style="red" if failed else "not bold")
    out.print(line, soft_wrap=True)
    out.file.flush()
