"""`vmwatch-periodic master|node`: cron's hook on the panel's host (design 04, *Health*): has the panel check.

It calls the panel as the account in `vmwatch-master.conf`. Silent when the check was made, whatever was found: that is
in the panel's problems, and cron would send it by mail again and again.
"""

import argparse
import fcntl
import logging
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vmwatch.healthcheck.panelcall import MASTER, PanelAccount
from vmwatch.shared import hostfile, logs
from vmwatch.shared.backoff import Backoff
from vmwatch.shared.errors import ConfigurationError, VmwatchError
from vmwatch.shared.exits import Exit
from vmwatch.shared.panelclient import Unreachable
from vmwatch.shared.paths import DEFAULT_PREFIX, PREFIX_VARIABLE, Paths
from vmwatch.shared.program import Parser
from vmwatch.shared.serviceuser import become_service_user
from vmwatch.shared.version import VERSION

log = logging.getLogger(__name__)

PROGRAM = "vmwatch-periodic"
INTERVALS = {"master": "60", "node": "5"}
"""What the panel calls the two checks: minutes."""
ANSWER_LIMIT_S = 270.0
"""The panel takes four minutes for a check at most."""
RETRY_S = 120.0
"""So long an unreachable panel is tried again within the run."""
RETRY_FIRST_S, RETRY_MOST_S = 1.0, 15.0


class Busy(VmwatchError):
    """Another run is under way."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit code: 0 if the check was made, 1 if not, 78 for the master's file."""
    options = parser().parse_args(arguments)
    try:
        paths = Paths.of(PROGRAM, options.prefix)
        if options.if_configured and not _is_due(paths.prefix):
            return Exit.OK
        become_service_user(paths)
        logs.set_up(str(paths.log), "info")
        with alone(paths.run / f"{PROGRAM}-{options.what}.lock"):
            return check(options, PanelAccount(paths.prefix))
    except ConfigurationError as error:
        return _fail(error, Exit.CONFIGURATION)
    except VmwatchError as error:
        return _fail(error, Exit.FAILURE)


def _is_due(prefix: Path) -> bool:
    """Another panel calls its own `periodic`, by its own schedule. Raises ConfigurationError."""
    return Paths(prefix, MASTER).config.exists() and not hostfile.is_others(prefix)


def parser() -> Parser:
    """The command line."""
    made = Parser(prog=PROGRAM, description="Has the panel check vmwatch-master, or all nodes; for cron.")
    made.add_argument("what", choices=sorted(INTERVALS), help="what to check")
    made.add_argument("--version", action="version", version=f"{PROGRAM} {VERSION}")
    made.add_argument("--verbose", action="store_true", help="print what was found")
    made.add_argument(
        "--if-configured",
        action="store_true",
        help="do nothing where there is no vmwatch-master.conf yet, or another panel is in charge",
    )
    made.add_argument(
        "--retry",
        metavar="SECONDS",
        type=_seconds,
        default=RETRY_S,
        help=f"how long an unreachable panel is tried again (default: {RETRY_S:g})",
    )
    made.add_argument(
        "--prefix", metavar="FOLDER", help=f"where etc and var are (default: ${PREFIX_VARIABLE} or {DEFAULT_PREFIX})"
    )
    return made


def check(options: argparse.Namespace, account: PanelAccount) -> int:
    """Call the panel, again while it cannot be reached. Raises PanelError or ConfigurationError."""
    backoff = Backoff(RETRY_FIRST_S, RETRY_MOST_S, random.Random())
    give_up_at = time.monotonic() + options.retry
    while True:
        try:
            doc = account.call("periodic", ANSWER_LIMIT_S, interval=INTERVALS[options.what])
            break
        except Unreachable as error:
            wait_s = backoff.next_s()
            if time.monotonic() + wait_s > give_up_at:
                raise
            log.info("%s; tried again", error)
            time.sleep(wait_s)
    elements = doc.get("elem", [])
    for element in elements if isinstance(elements, list) else [elements]:
        row = {name: str(cell.get("$", "")) for name, cell in element.items() if isinstance(cell, dict)}
        line = f"{row.get('object', '')}: {row.get('state', '')}: {row.get('description', '')}"
        log.info("%s", line)
        if options.verbose:
            print(line)
    return Exit.OK


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Held while one run goes on; the lock dies with its process. Raises Busy or ConfigurationError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another run is under way: it holds {path}; nothing was checked") from None
        yield
    finally:
        os.close(handle)


def _seconds(text: str) -> float:
    value = float(text) if text.isascii() and text.replace(".", "", 1).isdigit() else -1.0
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; seconds from 0 to 3600 are")
    return value


def _fail(error: VmwatchError, code: Exit) -> int:
    for line in str(error).splitlines():
        print(f"{PROGRAM}: {line}", file=sys.stderr)
        log.error("%s", line)
    return code


if __name__ == "__main__":
    sys.exit(main())
