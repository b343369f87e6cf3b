"""`python -m tests.simulation`: see `--help`."""

import argparse
import sys
import time
import traceback

from tests.simulation.cluster import Cluster
from tests.simulation.seeds import Broken, run, run_side_by_side, shrink
from tests.simulation.storm import drawn

TOLD_EVERY_S = 10.0


def _replay(seed: int, left_out: tuple[str, ...]) -> Broken | None:
    storm = drawn(seed, left_out)
    print(f"seed {seed}: {storm}")
    try:
        Cluster(storm).run()
    except Exception:
        traceback.print_exc()
    return run(seed, left_out)


def _run_many(seeds: range, processes: int) -> int:
    began = told = time.monotonic()
    done = count = 0
    for chunk, found in run_side_by_side(seeds, processes):
        done += len(chunk)
        count += len(found)
        for broken in found[:3]:
            print(shrink(broken), flush=True)
        if time.monotonic() - told >= TOLD_EVERY_S:
            told = time.monotonic()
            print(f"{done} seeds, {count} broken, {done / (told - began):.0f} a second", flush=True)
    print(f"{done} seeds from {seeds.start}, {count} broken, {time.monotonic() - began:.0f} s")
    return 1 if count else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description="Simulate whole clusters under faults and check the promise."
    )
    parser.add_argument("seeds", nargs="*", type=int, metavar="SEED", help="replay these seeds")
    parser.add_argument("--without", default="", metavar="PARTS", help="leave these parts of their storms out")
    parser.add_argument("--shrink", action="store_true", help="find the parts that they break without")
    parser.add_argument("--count", type=int, default=1000, help="without SEED: run this many (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: 0)")
    parser.add_argument("--processes", type=int, default=0, help="side by side (default: as many as processors)")
    options = parser.parse_args()
    if not options.seeds:
        return _run_many(range(options.first, options.first + options.count), options.processes)
    left_out = tuple(filter(None, options.without.split(",")))
    try:
        found = [broken for seed in options.seeds if (broken := _replay(seed, left_out))]
    except ValueError as error:
        parser.error(str(error))
    for broken in found:
        print(shrink(broken) if options.shrink else broken)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
