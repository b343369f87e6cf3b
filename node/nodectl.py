"""`vmwatch-nodectl`: what the panel has done on a node (design 04), here directly, elsewhere over SSH.

It reads one JSON request on its standard input and answers with JSON lines (`shared.nodectl`); it takes nothing from
its command line but the prefix. So a key in authorized_keys can be restricted to it:

    command="vmwatch-nodectl",restrict ssh-ed25519 AAAA…
"""

import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

from vmwatch.node.health import health
from vmwatch.node.needs import libvirt_answers, needs
from vmwatch.node.setup import Setup
from vmwatch.shared import nodectl
from vmwatch.shared.errors import ConfigurationError, VmwatchError
from vmwatch.shared.exits import Exit
from vmwatch.shared.nodectl import MAX_REQUEST_BYTES, VERBS, Outcome, Request, Step, Word
from vmwatch.shared.paths import DEFAULT_PREFIX, PREFIX_VARIABLE, Paths
from vmwatch.shared.program import Parser
from vmwatch.shared.version import VERSION

PROGRAM = nodectl.COMMAND
LOCK_LIMIT_S = 60.0
LOCK_EVERY_S = 0.2


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command; ends with 0 if what was asked for is so now."""
    purpose = "Does on a node what the panel asks for: one request, a line of JSON, on standard input."
    parser = Parser(prog=PROGRAM, description=purpose)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {VERSION}")
    parser.add_argument("--prefix", metavar="FOLDER", help=f"default: ${PREFIX_VARIABLE} or {DEFAULT_PREFIX}")
    options = parser.parse_args(arguments)
    line = sys.stdin.buffer.readline(MAX_REQUEST_BYTES)
    try:
        outcome = answer(Paths.of("vmwatch-node", options.prefix), line)
    except ConfigurationError as error:  # of the machine's file
        outcome = _told(Outcome(False, str(error)))
    say(outcome)
    code = Exit.OK if outcome.ok else Exit.FAILURE
    # A thread may hang in libvirt, and would keep the interpreter from its end.
    os._exit(code)


def say(word: Word) -> None:
    """One line, at once. Who asked may be gone; what was begun is done to its end all the same."""
    with suppress(OSError):
        os.write(1, nodectl.encode(word))


def answer(paths: Paths, line: bytes) -> Outcome:
    """The outcome of a request, whatever happens."""
    try:
        request = nodectl.decode_request(line)
        if request.verb not in VERBS:
            return _told(Outcome(False, f"verb: {request.verb!r} is not allowed; one of {', '.join(VERBS)} is"))
    except ValueError as error:
        return _told(Outcome(False, f'no request: a line of JSON such as {{"verb": "check"}} is allowed: {error}'))
    try:
        return _told(_do(paths, request))
    except VmwatchError as error:
        return _told(Outcome(False, str(error)))
    except OSError as error:
        return _told(Outcome(False, f"{error.filename or PROGRAM}: {error.strerror}"))


def _do(paths: Paths, request: Request) -> Outcome:
    setup = Setup(paths, lambda text: say(Step(text)))
    if request.verb == nodectl.CHECK:
        checks = needs(paths)
        lacking = [check.text for check in checks if not check.ok]
        return Outcome(not lacking, "; ".join(lacking) or "nothing is missing", checks=checks)
    if request.verb == nodectl.LOOK:
        check = libvirt_answers(paths)
        return Outcome(check.ok, check.text, checks=[check])
    if request.verb == nodectl.HEALTH:
        return health(paths)
    if request.verb == nodectl.PROBE:
        return setup.probe()
    with _alone(paths):
        if request.verb == nodectl.CONFIGURE:
            return setup.configure(request.values)
        return setup.stop(request.values.get("node_id") or "")


def _told(outcome: Outcome) -> Outcome:
    outcome.time, outcome.version = time.time(), VERSION
    return outcome


@contextmanager
def _alone(paths: Paths) -> Iterator[None]:
    """Two at a time would undo each other's work. Raises ConfigurationError if the other one does not end."""
    try:
        paths.run.mkdir(parents=True, exist_ok=True)
        handle = os.open(paths.run / f"{PROGRAM}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{paths.run}: cannot be written: {error.strerror}") from None
    try:
        deadline = time.monotonic() + LOCK_LIMIT_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConfigurationError("this node is being configured by another call already") from None
                time.sleep(LOCK_EVERY_S)
        yield
    finally:
        os.close(handle)


if __name__ == "__main__":
    main()
