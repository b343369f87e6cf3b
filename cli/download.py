"""Exports of the panel as files: passed on as they come, however long they are."""

from typing import BinaryIO

from vmwatch.cli.client import PanelClient, PanelError


def download(client: PanelClient, func: str, format_: str, into: BinaryIO, **filters: str) -> None:
    """All rows that fit, in the panel's own format. Raises PanelError, also where the panel goes away half-way."""
    done = 0
    try:
        for piece in client.stream(func, export="on", format=format_, **filters):
            into.write(piece)
            done += piece.count(b"\n")
        into.flush()
    except PanelError as error:
        raise type(error)(f"{error}; {done} lines were complete" if done else str(error)) from None
