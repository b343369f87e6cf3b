"""vmwatch-healthcheck: the probe of one service on its own machine (design 04, *Commands* and *Health*)."""

import argparse
import io
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vmwatch.healthcheck import answer
from vmwatch.healthcheck.figures import Thresholds
from vmwatch.healthcheck.gather import gather
from vmwatch.healthcheck.levels import Level
from vmwatch.healthcheck.limited import run_limited
from vmwatch.healthcheck.options import SERVICES, parse
from vmwatch.healthcheck.verdict import judge, unknown
from vmwatch.shared.paths import Paths

AGAIN_S = 0.5
"""With --wait: between the end of one probe and the next."""

Outcome = dict[str, Any]
"""`line` and `document`, both forms of an answer, and `code`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The program's entry; returns its exit code, which is a Nagios plug-in's."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a --wait without a traceback
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an answer counts also where the locale has not its letters
    options, thresholds = parse(arguments)
    outcome = _until_ok(partial(_once, options, thresholds), options.wait)
    print(json.dumps(outcome["document"]) if options.json else outcome["line"])
    return int(outcome["code"])


def _until_ok(once: Callable[[], Outcome], wait_s: float) -> Outcome:
    """The first outcome that is OK, or the last one that began within `wait_s` seconds."""
    end = time.monotonic() + wait_s
    while True:
        outcome = once()
        if outcome["code"] == Level.OK or time.monotonic() + AGAIN_S >= end:
            return outcome
        time.sleep(AGAIN_S)


def _once(options: argparse.Namespace, thresholds: Thresholds) -> Outcome:
    program = SERVICES[options.service]
    begun = time.monotonic()
    done, why_not = run_limited(partial(_probe, options, thresholds), options.timeout)
    if done is not None:
        return done
    verdict = unknown(program, why_not)
    document = answer.document(verdict, None, time.monotonic() - begun)
    return {"code": int(verdict.level), "line": answer.line(verdict), "document": document}


def _probe(options: argparse.Namespace, thresholds: Thresholds, stage: Callable[[str], None]) -> Outcome:
    begun = time.monotonic()
    paths = Paths.of(SERVICES[options.service], options.prefix)
    config = Path(options.config) if options.config else paths.config
    facts = gather(paths, config, options.timeout, options.canary, stage)
    verdict = judge(facts, thresholds)
    document = answer.document(verdict, facts, time.monotonic() - begun)
    return {"code": int(verdict.level), "line": answer.line(verdict), "document": document}


if __name__ == "__main__":
    sys.exit(main())
