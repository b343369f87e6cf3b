"""`vmwatch-servicectl`: starts, stops and asks for vmwatch-master, for a panel that is not root.

It reads one JSON request on its standard input and answers with one line of JSON. Nothing but the prefix stands on its
command line, and no other service is named to it: so a rule of sudo can allow just that.
"""

import sys
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from vmwatch.shared.confedit import valid_values
from vmwatch.shared.errors import VmwatchError
from vmwatch.shared.exits import Exit
from vmwatch.shared.paths import DEFAULT_PREFIX, PREFIX_VARIABLE, Paths
from vmwatch.shared.program import Parser
from vmwatch.shared.rootmanager import trusted_manager
from vmwatch.shared.servicefile import read
from vmwatch.shared.settings import MasterSettings
from vmwatch.shared.version import VERSION

PROGRAM = "vmwatch-servicectl"
SERVICE = "vmwatch-master"
STATUS, *_ = VERBS = ("status", "start", "stop", "restart", "enable", "disable")
MAX_REQUEST_BYTES = 4096


class Request(Struct):
    """`verb`: one of VERBS."""

    verb: str


class Answer(Struct):
    """`text`: why not, or the manager's own words. `manager`: which it is. The rest, of `status`: see ServiceStatus."""

    ok: bool
    text: str = ""
    manager: str = ""
    state: str = ""
    pid: int = 0
    code: int = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns 0 if it is done."""
    parser = Parser(prog=PROGRAM, description=f"One request for {SERVICE}, a line of JSON, on standard input.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {VERSION}")
    parser.add_argument("--prefix", metavar="FOLDER", help=f"default: ${PREFIX_VARIABLE} or {DEFAULT_PREFIX}")
    options = parser.parse_args(arguments)
    told = answer(Paths.of(SERVICE, options.prefix), sys.stdin.buffer.readline(MAX_REQUEST_BYTES))
    print(msgspec.json.encode(told).decode(), flush=True)
    return Exit.OK if told.ok else Exit.FAILURE


def answer(paths: Paths, line: bytes) -> Answer:
    """What comes of a request, whatever happens."""
    try:
        verb = msgspec.json.decode(line, type=Request).verb
    except (ValueError, RecursionError) as error:
        return Answer(False, f'no request: a line of JSON such as {{"verb": "status"}} is allowed: {error}')
    if verb not in VERBS:
        return Answer(False, f"verb: {verb!r} is not allowed; one of {', '.join(VERBS)} is")
    try:
        return _done(paths, verb)
    except VmwatchError as error:
        return Answer(False, str(error))


def _done(paths: Paths, verb: str) -> Answer:
    manager = trusted_manager(paths, valid_values(read(paths.config), MasterSettings).get("service_manager", ""))
    if verb != STATUS:
        getattr(manager, verb)(SERVICE)
        return Answer(True, manager=manager.name)
    found = manager.status(SERVICE)
    return Answer(True, found.text, manager.name, found.state, found.pid, found.code)


if __name__ == "__main__":
    sys.exit(main())
