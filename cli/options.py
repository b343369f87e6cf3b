"""What the commands that call the panel share: their options, the client, and standard output."""

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from vmwatch.cli.client import TIMEOUT_S, PanelClient, PanelError

PASSWORD_VARIABLE = "VMWATCH_PASSWORD"

Url = Annotated[str, typer.Option("--url", metavar="URL", envvar="VMWATCH_URL", help="The panel's API.")]
User = Annotated[str, typer.Option("--user", metavar="NAME", envvar="VMWATCH_USER", help="The account to call it as.")]
Authority = Annotated[
    str, typer.Option("--ca", metavar="FILE", help="PEM file of the authority that signed the panel's certificate.")
]


def connect(url: str, user: str, ca: str, timeout_s: float = TIMEOUT_S) -> PanelClient:
    """A client with the password from the environment or the terminal."""
    if ca and not Path(ca).is_file():
        raise PanelError(f"--ca: {ca} is no file")
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        if not sys.stdin.isatty():
            raise PanelError(f"no password for {user}: set {PASSWORD_VARIABLE}")
        try:
            password = getpass.getpass(f"Password of {user}: ")
        except (KeyboardInterrupt, EOFError):
            raise PanelError("no password was given") from None
    return PanelClient(url, user, password, ca=ca, timeout_s=timeout_s)


def console() -> Console:
    """Standard output. Nothing is highlighted by guessing, and no name is taken for markup."""
    return Console(highlight=False, markup=False, emoji=False)


def given(**filters: str) -> dict[str, str]:
    """The filters that are not empty."""
    return {name: value for name, value in filters.items() if value}
