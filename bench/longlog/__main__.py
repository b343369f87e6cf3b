"""`bench/eventlog`: how quick the event log is when it is long.

The figures of a page and of the export are of a running panel, over HTTP; retention runs beside a writer in this
process, so that each of its steps can be timed. What to compare are the ratios: a page in the middle or with a filter
to the first page without one, and a report beside retention to one without.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from bench.figures import Figures
from bench.longlog import expiring, reading
from bench.longlog.database import Plan, build
from bench.rig import end_with_us
from tests.testbed.stack import Panel, short_folder

ROWS = 10_000_000
EXPORTED = 1_000_000
LEAST_ROWS = 100_000


def main() -> int:
    options = _options()
    end_with_us()
    figures = Figures()
    folder = short_folder()
    try:
        panel = Panel(folder)
        settings = folder / "etc" / "vmmgr.conf"
        settings.write_text(f"{settings.read_text()}EventRetentionDays 36500\n")
        plan = Plan(options.rows, time.time())
        figures.heading(f"an event log of {options.rows:,} rows")
        database = folder / "var" / "vmwatch-panel.db"
        begun = time.monotonic()
        build(database, plan)
        figures.add("built_s", "built in", time.monotonic() - begun, "s")
        figures.add("size_mb", "the database", database.stat().st_size / 2**20, "MiB")
        with panel:
            reading.pages(figures, panel, plan)
            reading.exports(figures, panel, min(options.exported, options.rows))
        expiring.measure(figures, database)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{figures.summary()}")
    if options.json:
        options.json.write_text(json.dumps(figures.as_json(), indent=2) + "\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/eventlog",
        description="Measure pages, export and retention of a long event log (some minutes, 2 GB below /tmp).",
    )
    parser.add_argument("--rows", type=_rows, default=ROWS, metavar="N", help="of the event log (default: %(default)s)")
    parser.add_argument(
        "--exported", type=_rows, default=EXPORTED, metavar="N", help="rows of one export (default: %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures here as well")
    return parser.parse_args()


def _rows(text: str) -> int:
    if not text.isdigit() or int(text) < LEAST_ROWS:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from {LEAST_ROWS} on is allowed")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
