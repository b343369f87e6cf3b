"""The event listeners' side of supervisord's protocol (its manual, *Events*), and its XML-RPC as far as we ask it."""

import http.client
import os
import xmlrpc.client
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from vmwatch.shared.errors import VmwatchError
from vmwatch.shared.supervisord import ASK_LIMIT_S, SocketTransport

READY, DONE = b"READY\n", b"RESULT 2\nOK"
URL_VARIABLE = "SUPERVISOR_SERVER_URL"
"""supervisord says so to its children where it can be called, and nothing of the account."""
UNAUTHORIZED = 401
NEEDS_ACCOUNT = (
    '; where its server has a password, give it to the listener: environment=SUPERVISOR_USERNAME="...",'
    'SUPERVISOR_PASSWORD="..." in the section [eventlistener:vmwatch-eventlistener]'
)


def events(stdin: IO[bytes], stdout: IO[bytes]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """(event's name, its fields) until supervisord is gone. Each counts as done when the next one is asked for."""
    while True:
        stdout.write(READY)
        stdout.flush()
        head = _fields(stdin.readline())
        if "eventname" not in head:
            return
        yield head["eventname"], _fields(stdin.read(int(head["len"])))
        stdout.write(DONE)
        stdout.flush()


def _fields(line: bytes) -> dict[str, str]:
    """`name:value name:value`."""
    pairs = (word.partition(":") for word in line.decode(errors="replace").split())
    return {name: value for name, _, value in pairs}


class CannotAsk(VmwatchError):
    """supervisord does not say how its processes are; the text says why."""


def processes() -> dict[str, dict[str, Any]]:
    """What supervisord says of its processes, by name. Raises CannotAsk."""
    url = os.environ.get(URL_VARIABLE, "")
    if not url:
        raise CannotAsk("supervisord serves nothing: [unix_http_server] or [inet_http_server] is needed")
    try:
        with _proxy(url) as proxy:
            told: Any = proxy.supervisor.getAllProcessInfo()
    except xmlrpc.client.ProtocolError as error:
        text = f"supervisord at {url} refuses to be asked: {error.errcode} {error.errmsg}"
        raise CannotAsk(f"{text}{NEEDS_ACCOUNT if error.errcode == UNAUTHORIZED else ''}") from None
    except (OSError, http.client.HTTPException, xmlrpc.client.Error, ValueError) as error:
        raise CannotAsk(f"supervisord at {url} does not answer: {error}") from None
    return {process["name"]: process for process in told}


class _HttpTransport(xmlrpc.client.Transport):
    """Over TCP; one answer takes so many seconds at most."""

    def make_connection(self, host: Any) -> http.client.HTTPConnection:  # noqa: ANN401 - as the base class says
        connection = super().make_connection(host)
        connection.timeout = ASK_LIMIT_S
        return connection


def _proxy(url: str) -> xmlrpc.client.ServerProxy:
    """`unix:///path/of/its.sock`, or `http://host:port`; supervisord tells its children no account for it."""
    user, password = (os.environ.get(f"SUPERVISOR_{name}", "") for name in ("USERNAME", "PASSWORD"))
    proof = f"{quote(user, '')}:{quote(password, '')}@" if user else ""
    kind, _, place = url.partition("://")
    if kind == "unix":
        transport = SocketTransport(Path(place), ASK_LIMIT_S)
        return xmlrpc.client.ServerProxy(f"http://{proof}localhost", transport=transport)
    return xmlrpc.client.ServerProxy(f"{kind}://{proof}{place}", transport=_HttpTransport())
