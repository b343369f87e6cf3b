"""`vmwatch-eventlistener`: tells the panel at once what supervisord has given up, instead of at the next check.

supervisord starts it (conf.d/vmwatch-eventlistener.conf), on the panel's host. It calls the panel as the account in
`vmwatch-master.conf`; what it cannot tell now it keeps in `var/vmwatch-eventlistener.json`.
"""

import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vmwatch.healthcheck.panelcall import PanelAccount
from vmwatch.healthcheck.spool import News, Spool
from vmwatch.healthcheck.supervisorevents import CannotAsk, events, processes
from vmwatch.healthcheck.watcher import Report, Watcher
from vmwatch.shared import logs
from vmwatch.shared.conffile import load
from vmwatch.shared.errors import ConfigurationError
from vmwatch.shared.exits import Exit
from vmwatch.shared.logs import RateLimit, iso_time
from vmwatch.shared.panelclient import PanelError, Unreachable
from vmwatch.shared.paths import DEFAULT_PREFIX, PREFIX_VARIABLE, Paths
from vmwatch.shared.program import Parser
from vmwatch.shared.serviceuser import service_user
from vmwatch.shared.settings import NodeSettings
from vmwatch.shared.version import VERSION

log = logging.getLogger(__name__)

PROGRAM = "vmwatch-eventlistener"
MASTER, NODE = "vmwatch-master", "vmwatch-node"
KINDS = {MASTER: "vmwatch_master_stopped", NODE: "vmwatch_node_stopped"}
CALL_LIMIT_S = 5.0
"""supervisord's other events wait meanwhile; it keeps a hundred of them (`buffer_size`)."""
FAILURE_LOGGED_EVERY_S = 300.0
TICK_S, LONGEST_TICK_S = 5.0, 600.0
"""Farther apart are no two ticks unless the clock was set."""


class Ticks:
    """Time by supervisord's clock, which its ticks tell: seconds that only grow, whatever that clock does."""

    def __init__(self) -> None:
        self.now = 0.0
        self._when = 0.0

    def tick(self, when: str) -> None:
        """`when`: seconds since 1970, as the event says."""
        try:
            told = float(when)
        except ValueError:
            told = 0.0
        passed = told - self._when if self._when else TICK_S
        self.now += passed if 0 < passed < LONGEST_TICK_S else TICK_S
        self._when = told


class Listener:
    """One run of the listener."""

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        self._spool = Spool(Paths(prefix, PROGRAM).var / f"{PROGRAM}.json")
        self._account = PanelAccount(prefix)
        self._watcher = Watcher(KINDS, self._spool.down)
        self._ticks = Ticks()
        self._failed = RateLimit(FAILURE_LOGGED_EVERY_S)

    def begin(self) -> None:
        """What happened while there was no listener."""
        now = self._ticks.now
        for name, process in self._processes().items():
            if process["statename"] == "FATAL":
                self._note(self._watcher.fatal(name, now))
            elif process["statename"] == "RUNNING":
                self._note(self._watcher.running(name, now))
        self.tell()

    def take(self, event: str, fields: Mapping[str, str]) -> None:
        """One event of supervisord."""
        if event.startswith("TICK"):
            self._ticks.tick(fields.get("when", ""))
        now, name = self._ticks.now, fields.get("processname", "")
        if event == "PROCESS_STATE_FATAL":
            reports = self._watcher.fatal(name, now)
        elif event == "PROCESS_STATE_EXITED":
            expected = fields.get("expected") == "1"
            code = self._exit_code(name) if expected and name in KINDS else None
            reports = self._watcher.exited(name, expected, code, now)
        elif event == "PROCESS_STATE_RUNNING":
            reports = self._watcher.running(name, now)
        elif event == "PROCESS_STATE_STOPPED":
            reports = self._watcher.stopped(name, now)
        else:
            reports = self._watcher.tick(now)
        self._note(reports)
        self.tell()

    def tell(self) -> None:
        """The panel, of all that waits."""
        for news in list(self._spool.news):
            try:
                self._call(news)
            except Unreachable as error:
                self._complain(f"{error}; it is told later")
                return
            except (PanelError, ConfigurationError) as error:
                if not isinstance(error, PanelError) or error.kind in ("", "auth", "access"):
                    self._complain(f"{error}; it is tried again")
                    return
                log.error("the panel does not take %s about %s: %s", news.type, news.object, error)
            self._spool.told(news)
            self._spool.save()

    def _call(self, news: News) -> None:
        about = {"type": news.type, "object": news.object}
        if news.text:
            self._account.call("problems.register", CALL_LIMIT_S, **about, level="error", description=news.text)
        else:
            self._account.call("problems.close", CALL_LIMIT_S, **about)
        log.info("the panel knows: %s about %s %s", news.type, news.object, "is there" if news.text else "is over")

    def _note(self, reports: Iterable[Report]) -> None:
        for report in reports:
            log.warning("%s: %s", report.program, report.text if report.down else "runs again")
            subject = self._object_of(report.program)
            if subject:
                text = f"{report.program}: {report.text}, {iso_time(time.time())}" if report.down else ""
                self._spool.add(News(KINDS[report.program], subject, text))
            self._spool.down = set(self._watcher.down)
            self._spool.save()

    def _object_of(self, program: str) -> str:
        """What the panel calls it. Empty: nobody can say which node this is."""
        if program == MASTER:
            return MASTER
        path = Paths(self._prefix, NODE).config
        try:
            return load(path, NodeSettings).settings.node_id
        except ConfigurationError:
            return _node_id(path)

    def _processes(self) -> dict[str, dict[str, Any]]:
        """Nothing where supervisord cannot be asked; the log says what is missed then."""
        try:
            return processes()
        except CannotAsk as error:
            self._complain(f"{error}; what ended before, or with which code, is found by the next check only")
            return {}

    def _exit_code(self, name: str) -> int | None:
        process = self._processes().get(name)
        return None if process is None else int(process.get("exitstatus", 0))

    def _complain(self, text: str) -> None:
        if self._failed.allows(time.monotonic()) is not None:
            log.warning("%s", text)


def _node_id(path: Path) -> str:
    """Of a file that is wrong elsewhere."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        log.warning("%s: cannot be read: %s", path, error)
        return ""
    pairs = (line.partition("=") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == "node_id"), "")


def _log_file(paths: Paths) -> str:
    """Root appends to no file where the services' users can put a link: supervisord keeps standard error instead.

    Root it stays, as it asks root's supervisord and reads the files of both services.
    """
    apart = os.geteuid() == 0 and service_user(Paths(paths.prefix, MASTER)) is not None
    return logs.STANDARD_ERROR if apart else str(paths.log)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = Parser(prog=PROGRAM, description="An event listener of supervisord: tells the panel of what is given up.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {VERSION}")
    parser.add_argument(
        "--prefix", metavar="FOLDER", help=f"where etc and var are (default: ${PREFIX_VARIABLE} or {DEFAULT_PREFIX})"
    )
    options = parser.parse_args(arguments)
    if sys.stdin.isatty():
        print(f"{PROGRAM}: is started by supervisord (conf.d/{PROGRAM}.conf), not by hand", file=sys.stderr)
        return Exit.USAGE
    try:
        paths = Paths.of(PROGRAM, options.prefix)
        logs.set_up(_log_file(paths), "info")
    except ConfigurationError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return Exit.CONFIGURATION
    listener = Listener(paths.prefix)
    listener.begin()
    for event, fields in events(sys.stdin.buffer, sys.stdout.buffer):
        try:
            listener.take(event, fields)
        except Exception:
            log.exception("event %s could not be looked at; the next one is", event)
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
