"""What the mains of the services share: options, the way from a file to a running program, exit codes."""

import argparse
import gc
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

from vmwatch.shared import logs, rights
from vmwatch.shared.conffile import Loaded
from vmwatch.shared.errors import ConfigurationError, VmwatchError
from vmwatch.shared.exits import Exit
from vmwatch.shared.notify import Notifier
from vmwatch.shared.paths import DEFAULT_PREFIX, PREFIX_VARIABLE, Paths
from vmwatch.shared.pidfile import PidFile
from vmwatch.shared.rights import Rights
from vmwatch.shared.serviceuser import become_service_user
from vmwatch.shared.version import VERSION

log = logging.getLogger("vmwatch")

YOUNG_MOST = 20_000
"""Objects that are made before the collector looks for cycles among them: more than a batch of messages has, which
would else be looked through several times while it is at work."""


class ServiceSettings(Protocol):
    """What every service's settings have."""

    @property
    def disabled(self) -> bool: ...

    @property
    def log_level(self) -> str: ...

    def warnings(self) -> list[str]: ...


_S = TypeVar("_S", bound=ServiceSettings)


class Parser(argparse.ArgumentParser):
    """argparse with the exit code of design 04 for a wrong command line."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(Exit.USAGE, f"{self.prog}: {message}\n")


def parser(program: str, purpose: str, config_name: str = "") -> Parser:
    """The options that every service has. `config_name`: of its file in etc, if that is not the program's own."""
    made = Parser(prog=program, description=purpose)
    made.add_argument("--version", action="version", version=f"{program} {VERSION}")
    made.add_argument("--config", metavar="FILE", help=f"default: PREFIX/etc/{config_name or program + '.conf'}")
    made.add_argument(
        "--prefix", metavar="FOLDER", help=f"where etc and var are (default: ${PREFIX_VARIABLE} or {DEFAULT_PREFIX})"
    )
    made.add_argument("--check", action="store_true", help="check the configuration file, say what is wrong, and stop")
    made.add_argument("--log-format", choices=logs.FORMATS, default="text", help="of the log's lines (default: text)")
    made.add_argument(
        "--log-file", metavar="FILE", help=f"default: PREFIX/var/{program}.log; - is standard error"
    )
    return made


def run(
    options: argparse.Namespace,
    program: str,
    load: Callable[[Path], Loaded[_S]],
    serve: Callable[[_S, Paths], int],
) -> int:
    """Become the service's user, load the file, set up the log, hold the pid file, and `serve`; returns the exit code.

    An operator's mistake ends with its text and a code of its own; a traceback is only ever a defect of ours.
    """
    gc.set_threshold(YOUNG_MOST)
    try:
        paths = Paths.of(program, options.prefix)
        become_service_user(paths)
        config = Path(options.config) if options.config else paths.config
        found = rights.look(paths, config)
        loaded = _readable(load, config, found)
        settings = loaded.settings
        warnings = loaded.warnings + [f"{config}: {text}" for text in settings.warnings()]
        if options.check:
            _refuse(found)
            _say(warnings)
            print(f"{config}: correct")
            return Exit.OK
        log_to = options.log_file or str(paths.log), settings.log_level, options.log_format
        if found.mistakes and not settings.disabled:
            with suppress(ConfigurationError):  # the log may be what is wrong
                logs.set_up(*log_to)
            _refuse(found)
        logs.set_up(*log_to)
        for warning in warnings:
            log.warning("%s", warning)
        if settings.disabled:
            log.info("%s is disabled: disabled=yes in %s", program, config)
            # Else systemd would take an end before "ready" for a start that has failed.
            Notifier().ready(f"disabled: disabled=yes in {config}")
            return Exit.OK
        with PidFile(paths.pid):
            log.info("%s %s starts with %s", program, VERSION, config)
            code = serve(settings, paths)
            log.info("%s ends with exit code %d", program, code)
            return code
    except ConfigurationError as error:
        return _fail(program, error, Exit.CONFIGURATION)
    except VmwatchError as error:
        return _fail(program, error, Exit.FAILURE)
    except Exception:
        log.exception("a defect ends %s", program)
        return Exit.DEFECT


def _readable(load: Callable[[Path], Loaded[_S]], config: Path, found: Rights) -> Loaded[_S]:
    """A file that may not be read is told with what mends that."""
    try:
        return load(config)
    except ConfigurationError:
        if found.unreadable:
            _refuse(found)
        raise


def _refuse(found: Rights) -> None:
    if found.mistakes:
        raise ConfigurationError("\n".join(found.mistakes))


def _say(warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _fail(program: str, error: VmwatchError, code: Exit) -> int:
    for line in str(error).splitlines():
        print(f"{program}: {line}", file=sys.stderr)
        if logging.getLogger().handlers:
            log.error("%s", line)
    return code
