"""`make bench`: absolute figures are this machine's; the ratios, each within one run, are what to compare.

Goals are of design and issue; `not met` is a finding and no failure. An event that was lost or registered twice is:
then the run ends with an AssertionError, and the figure is worth nothing.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from bench import drain, latency, throughput
from bench.figures import Figures
from bench.rig import end_with_us
from tests.testbed.stack import short_folder

SECTIONS = {
    "a": "raw limits",
    "b": "sustained rate with 1, 2 and 4 workers",
    "c": "latency",
    "d": "memory and processor time (measured in b and e)",
    "e": "drain of a backlog, one noisy node",
}
BACKLOG = 1_000_000


def main() -> int:
    options = _options()
    end_with_us()
    figures = Figures()
    started = time.monotonic()
    folder = short_folder()
    try:
        if "a" in options.only:
            throughput.raw_limits(figures, folder)
        if {"b", "d"} & options.only:
            throughput.sustained(figures)
        if "c" in options.only:
            latency.measure(figures)
        if {"e", "d"} & options.only:
            drain.backlog(figures, options.backlog)
        if "e" in options.only:
            drain.fairness(figures)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{figures.summary()}  ({time.monotonic() - started:.0f} s)")
    if options.json:
        options.json.write_text(json.dumps(figures.as_json(), indent=2) + "\n")
    return 0


def _options() -> argparse.Namespace:
    sections = "; ".join(f"{letter}: {what}" for letter, what in SECTIONS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure vmwatch beside the bare limit.", epilog=f"Sections: {sections}."
    )
    parser.add_argument("--only", type=_sections, default=set(SECTIONS), metavar="a,c", help="these sections alone")
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="events of section e (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures here as well")
    return parser.parse_args()


def _sections(text: str) -> set[str]:
    chosen = set(text.split(","))
    if not chosen <= SECTIONS.keys():
        raise argparse.ArgumentTypeError(f"{text!r}: of {', '.join(SECTIONS)} are allowed, separated by commas")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
