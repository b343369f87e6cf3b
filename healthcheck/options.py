"""The probe's command line."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from vmwatch.healthcheck.figures import Thresholds
from vmwatch.healthcheck.levels import Level
from vmwatch.healthcheck.ranges import ALLOWED, Range
from vmwatch.healthcheck.verdict import FIGURES
from vmwatch.shared.paths import DEFAULT_PREFIX, PREFIX_VARIABLE
from vmwatch.shared.version import VERSION

PROGRAM = "vmwatch-healthcheck"
PURPOSE = (
    "Probes vmwatch-master or vmwatch-node on this machine: its process, and whether it does its work. One line as a "
    "Nagios plug-in prints it; exit code 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (also for a wrong command line)."
)
USUAL_TIMEOUT_S = 8.0
"""Below the 10 s after which NRPE and others give a check up."""
SERVICES = {"master": "vmwatch-master", "node": "vmwatch-node"}


class Parser(argparse.ArgumentParser):
    """argparse with a Nagios plug-in's exit code for a wrong command line, which is told on standard output."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: UNKNOWN - {message} (see --help)")
        self.exit(Level.UNKNOWN)


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Thresholds]:
    """The options, and the thresholds among them; ends the program for a wrong command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    program = SERVICES[options.service]
    if options.canary and options.service != "node":
        parser.error("--canary: only a node sends one")
    known = [figure.name for figure in FIGURES[program]]
    try:
        return options, Thresholds(
            _thresholds("--warning", options.warning, known), _thresholds("--critical", options.critical, known)
        )
    except ValueError as error:
        parser.error(str(error))


def _parser() -> Parser:
    made = Parser(
        prog=PROGRAM, description=PURPOSE, epilog=_figures(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("service", choices=SERVICES, help="which of the services")
    made.add_argument(
        "-w", "--warning", action="append", default=[], metavar="FIGURE=RANGE", help="not the default; repeatable"
    )
    made.add_argument(
        "-c", "--critical", action="append", default=[], metavar="FIGURE=RANGE", help=f"the same. A range: {ALLOWED}"
    )
    made.add_argument("--json", action="store_true", help="one JSON object instead of the line")
    made.add_argument(
        "--canary", action="store_true", help="node: send a message through outbox, master and panel, and wait for it"
    )
    made.add_argument(
        "--wait", type=_seconds, default=0.0, metavar="SECONDS", help="repeat until OK, for so long at most"
    )
    made.add_argument(
        "-t",
        "--timeout",
        type=_seconds,
        default=USUAL_TIMEOUT_S,
        metavar="SECONDS",
        help=f"of one probe; it always holds (default: {USUAL_TIMEOUT_S:g})",
    )
    made.add_argument("--config", metavar="FILE", help="the service's; default: PREFIX/etc/PROGRAM.conf")
    made.add_argument(
        "--prefix", metavar="FOLDER", help=f"where etc and var are (default: ${PREFIX_VARIABLE} or {DEFAULT_PREFIX})"
    )
    made.add_argument("-V", "--version", action="version", version=f"{PROGRAM} {VERSION}")
    return made


def _thresholds(option: str, given: Sequence[str], known: Sequence[str]) -> dict[str, Range]:
    made = {}
    for text in given:
        name, equals, limits = text.partition("=")
        if not equals:
            raise ValueError(f"{option} {text!r}: FIGURE=RANGE is allowed")
        if name not in known:
            raise ValueError(f"{option}: there is no figure {name!r}; allowed are {', '.join(known)}")
        try:
            made[name] = Range.parse(limits)
        except ValueError as error:
            raise ValueError(f"{option} {name}: {error}") from None
    return made


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; seconds above 0 and up to 86400 are")
    return value


def _figures() -> str:
    """For --help: every figure with its default thresholds."""
    lines = []
    for service, program in SERVICES.items():
        lines += ["", f"figures of {service} (unit; warning, critical):"]
        for figure in FIGURES[program]:
            limits = f"{figure.unit or 'number'}; {figure.warning.text}, {figure.critical.text}"
            lines.append(f"  {figure.name:<15} {figure.meaning} ({limits})")
    return "\n".join(lines)
