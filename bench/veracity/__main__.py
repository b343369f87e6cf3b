"""`bench/truth [SEED]`: how often the picture is wrong, beside libvirt's own word and beside two simple rivals."""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench.figures import Figures
from bench.rig import end_with_us
from bench.veracity.run import Run
from bench.veracity.script import Course
from tests.testbed.daemon import can_mask, needed_programs
from tests.testbed.qemu import EMULATOR
from tests.testbed.stack import short_folder

LEAST_MINUTES = 1.0
"""Room for each kind of fault, and for quiet time between them."""
FULL = Course()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="bench/truth",
        description="""Play a scripted hour, without most of its quiet time, to four hypervisors: changes of VMs, kills,
            reboots, live migrations, restarts of libvirtd, of agents and of the master, partitions. Ask libvirt and
            the panel all the time, and print how long the panel was wrong, and how often it called a VM stopped that
            ran; the same for an agent that only forwards events, and for a poller. The exit code is 1 if a goal is
            missed or the picture stays wrong.""",
        epilog="SEED chooses what happens and when. What programs are doing at that moment differs from run to run.",
    )
    made.add_argument("seed", metavar="SEED", type=int, nargs="?", default=FULL.seed, help="(default: %(default)s)")
    made.add_argument("--minutes", type=_minutes, default=FULL.seconds / 60, help="(default: %(default)g)")
    made.add_argument(
        "--vms",
        type=_count,
        default=FULL.many,
        help="of each of the two nodes with libvirt's test driver (default: %(default)s)",
    )
    made.add_argument(
        "--heartbeat",
        type=float,
        metavar="SECONDS",
        default=FULL.heartbeat_s,
        help="vmwatch's heartbeat_interval (default: %(default)g)",
    )
    made.add_argument(
        "--storm", action="store_true", help="changes come as thick during faults: only false stops are judged"
    )
    made.add_argument("--json", metavar="FILE", type=Path, help="write the figures here as well")
    made.add_argument("--keep", metavar="FOLDER", type=Path, help="move logs and databases here, if a goal is missed")
    return made


def _minutes(text: str) -> float:
    minutes = float(text)
    if not minutes >= LEAST_MINUTES:
        raise argparse.ArgumentTypeError(f"{text}: at least {LEAST_MINUTES:g} are allowed")
    return minutes


def _count(text: str) -> int:
    count = int(text)
    if not 5 <= count <= 400:
        raise argparse.ArgumentTypeError(f"{text}: 5 to 400 are allowed")
    return count


def main() -> int:
    """The command; returns its exit code."""
    options = parser().parse_args()
    missing = needed_programs("libvirtd", EMULATOR)
    if missing or not can_mask():
        print(f"bench/truth {missing or 'needs root, and to make a mount namespace'}", file=sys.stderr)
        return 2
    end_with_us()
    folder = short_folder()
    (folder / "tmp").mkdir(parents=True)
    # What programs leave in the temporary folder when they are killed goes with the folder.
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
    many, heartbeat_s, storm = options.vms, options.heartbeat, options.storm
    course = Course(options.minutes * 60, options.seed, many=many, heartbeat_s=heartbeat_s, storm=storm)
    try:
        outcome = Run(folder, course, lambda line: print(line, file=sys.stderr, flush=True)).outcome()
        if options.keep and not outcome.is_well:
            shutil.copytree(folder, options.keep, ignore=shutil.ignore_patterns("*.sock", "*.ipc*", "tmp", "*.img"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = Figures()
    outcome.tell(figures)
    print(f"\n{figures.summary()}")
    if options.json:
        options.json.write_text(json.dumps(outcome.as_json(figures), indent=2) + "\n")
    return 0 if outcome.is_well else 1


if __name__ == "__main__":
    sys.exit(main())
