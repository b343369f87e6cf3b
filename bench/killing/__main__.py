"""`bench/kills N SEED`: N kills at random during a stream of events, and the reckoning."""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench.killing.run import Plan, Run
from bench.rig import end_with_us
from tests.testbed.daemon import needed_programs
from tests.testbed.stack import short_folder

DEFAULT = Plan(0, 0)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="bench/kills",
        description="""Kill (-9) node, generator, master, workers, panel and libvirtd, N times in all, at random moments
            of a stream of events from libvirt's test driver and from a generator; compare every message that an
            outbox committed with every row that the panel registered, and the picture with the truth. The exit code
            is 1 if anything is lost, doubled, out of order, changed or wrong, or a program did not come back.""",
        epilog="""SEED chooses the targets, their order, the moments (in events that have happened) and what happens to
            the VMs. The same seed repeats these choices; what they meet inside a program differs from run to run.""",
    )
    made.add_argument("kills", metavar="N", type=int, help="how many kills")
    made.add_argument("seed", metavar="SEED", type=int, help="a number")
    made.add_argument(
        "--events-per-kill",
        metavar="COUNT",
        type=int,
        default=DEFAULT.events_per_kill,
        help="events from one kill to the next, on average (default: %(default)s)",
    )
    made.add_argument(
        "--pace",
        metavar="RATE",
        type=float,
        default=DEFAULT.pace,
        help="events a second of each of the two sources, in bursts at full pace (default: %(default)g)",
    )
    made.add_argument("--json", metavar="FILE", type=Path, help="write the results here as well")
    made.add_argument("--keep", metavar="FOLDER", type=Path, help="move logs and databases here, if anything is wrong")
    return made


def main() -> int:
    """The command; returns its exit code."""
    options = parser().parse_args()
    end_with_us()
    if missing := needed_programs("libvirtd", "virsh", "stdbuf"):
        print(f"bench/kills {missing}", file=sys.stderr)
        return 2
    folder = short_folder()
    (folder / "tmp").mkdir(parents=True)
    # What programs leave in the temporary folder when they are killed goes with the folder.
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
    plan = Plan(options.kills, options.seed, options.events_per_kill, options.pace)
    try:
        outcome = Run(folder, plan, lambda line: print(line, file=sys.stderr, flush=True)).outcome()
        if options.keep and not outcome.is_well:
            shutil.copytree(folder, options.keep, ignore=shutil.ignore_patterns("*.sock", "*.ipc*", "tmp"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(outcome.text())
    if options.json:
        options.json.write_text(json.dumps(outcome.as_json(), indent=2) + "\n")
    return 0 if outcome.is_well else 1


if __name__ == "__main__":
    sys.exit(main())
