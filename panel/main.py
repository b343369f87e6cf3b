"""`vmwatch-panel`: serves the panel, and keeps its accounts."""

import argparse
import getpass
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vmwatch.panel.accounts import Accounts, Role, check_name
from vmwatch.panel.reload import Reload
from vmwatch.panel.settings import FILE_NAME, PanelSettings, load
from vmwatch.panel.store import Store, database_url
from vmwatch.shared import hostfile, program
from vmwatch.shared.conffile import Loaded
from vmwatch.shared.errors import ConfigurationError, StoreError
from vmwatch.shared.exits import Exit
from vmwatch.shared.paths import Paths
from vmwatch.shared.serviceuser import become_service_user

if TYPE_CHECKING:
    from vmwatch.panel.functions import Panel

PROGRAM = "vmwatch-panel"


def main(
    arguments: Sequence[str] | None = None, equip: "Callable[[Panel], None]" = lambda panel: None
) -> int:
    """The command; returns its exit code. `equip`: see `server.Equip`."""
    options = parser().parse_args(arguments)
    try:
        paths = Paths.of(PROGRAM, options.prefix)
        if options.command is None:
            check_in_charge(paths)
    except ConfigurationError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return Exit.CONFIGURATION
    reload = Reload(Path(options.config or paths.etc / FILE_NAME), required=bool(options.config))

    def read(path: Path) -> Loaded[PanelSettings]:
        return load(path, required=reload.required)

    if options.command == "user":
        return user(options, reload, paths)

    def serve(settings: PanelSettings, at: Paths) -> int:
        from vmwatch.panel.server import serve as serve_panel  # `user` and --check need no web server

        return serve_panel(settings, at, reload, equip)

    options.config = str(reload.path)
    return program.run(options, PROGRAM, read, serve)


def check_in_charge(paths: Paths) -> None:
    """Raises ConfigurationError where the machine's file says that another panel is in charge of this prefix."""
    if hostfile.is_others(paths.prefix):
        raise ConfigurationError(
            f"{hostfile.HOST_FILE}: panel={hostfile.EXTERNAL}: another panel is in charge of {paths.prefix}, so this"
            f" one does not run here; panel={hostfile.EMBEDDED} lets it, and --prefix runs it elsewhere"
        )


def parser() -> program.Parser:
    """The command line; without a command the panel is served."""
    made = program.parser(PROGRAM, "The embedded panel: its API, its pages and its accounts.", FILE_NAME)
    commands = made.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    users = commands.add_parser("user", help="accounts").add_subparsers(dest="action", required=True, metavar="ACTION")
    setting = users.add_parser("set", help="make or change an account; the password comes from standard input")
    setting.add_argument("name", metavar="NAME", type=_name)
    setting.add_argument("--role", choices=[role.value for role in Role], help="default: as it is, or viewer")
    users.add_parser("list", help="names and roles")
    users.add_parser("delete", help="remove an account").add_argument("name", metavar="NAME")
    return made


def _name(text: str) -> str:
    try:
        return check_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def user(options: argparse.Namespace, reload: Reload, paths: Paths) -> int:
    """`user set`, `user list` and `user delete`, also while the panel runs."""
    try:
        become_service_user(paths)  # else a database that this makes would be root's, and the panel could not use it
        settings = load(reload.path, required=reload.required).settings
        store = Store(database_url(settings.panel_database, paths.database))
        store.open()
        try:
            return _user(options, Accounts(store))
        finally:
            store.close()
    except ConfigurationError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return Exit.CONFIGURATION
    except (StoreError, ValueError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return Exit.FAILURE


def _user(options: argparse.Namespace, accounts: Accounts) -> int:
    if options.action == "set":
        before = {account.name: account.role for account in accounts.all()}
        role = Role(options.role) if options.role else before.get(options.name, Role.VIEWER)
        accounts.save(options.name, role, read_password(options.name))
        print(f"{options.name}: {role}")
    elif options.action == "list":
        for account in accounts.all():
            print(f"{account.name}\t{account.role}")
    elif not accounts.delete(options.name):
        raise ValueError(f"there is no account {options.name!r}")
    return Exit.OK


def read_password(name: str) -> str:
    """Asked twice on a terminal, else the first line of standard input. Raises ValueError if the two differ."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass(f"Password of {name}: ")
    if getpass.getpass("The same again: ") != password:
        raise ValueError("the two passwords differ; nothing was changed")
    return password


if __name__ == "__main__":
    sys.exit(main())
