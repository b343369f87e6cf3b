"""`python -m tests.guards`: see `--help`."""

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue

from tests.guards.guard import Guard
from tests.guards.table import GUARDS
from tests.guards.trial import Found, Workshop


def chosen(names: Sequence[str]) -> list[Guard]:
    """Guards whose name, or file, has one of these words in it; all if there is no word."""
    return [guard for guard in GUARDS if not names or any(word in (guard.name, guard.file) for word in names)]


def listed() -> str:
    """The table, by file."""
    lines = []
    for file in sorted({guard.file for guard in GUARDS}):
        of_file = [guard for guard in GUARDS if guard.file == file]
        lines += [f"{file} ({len(of_file)})", *(f"  {guard.name:<52} {guard.keeps}" for guard in of_file)]
    return "\n".join([*lines, f"{len(GUARDS)} guards"])


def tried(guards: Sequence[Guard], seeds: int, processes: int) -> Iterator[Found]:
    """Try them, so many side by side, each in a copy of the tree that is its own meanwhile."""
    with ExitStack() as stack, ThreadPoolExecutor(processes) as pool:
        idle: SimpleQueue[Workshop] = SimpleQueue()
        for _ in range(processes):
            idle.put(stack.enter_context(Workshop(seeds)))

        def attempt(guard: Guard) -> Found:
            workshop = idle.get()
            try:
                return workshop.try_without(guard)
            finally:
                idle.put(workshop)

        yield from pool.map(attempt, guards)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.guards",
        description="""Take the guards of the panel's picture away, one after another, each in a copy of the tree, and
            look which test misses it. The exit code is 1 if one is not missed by any.""",
    )
    parser.add_argument("--list", action="store_true", help="only say which there are, and what each keeps")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this guard, or all of this file")
    parser.add_argument("--seeds", type=int, default=500, help="of the simulation, after the tests (default: 500)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="side by side (default: processors)")
    options = parser.parse_args()
    if options.list:
        print(listed())
        return 0
    guards = chosen(options.only)
    if not guards:
        parser.error(f"no guard and no file is called {', '.join(options.only)}; --list says which there are")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the copies go also then
    with Workshop(options.seeds) as whole:
        if fails := whole.try_whole({guard.file for guard in guards}):
            print(f"nothing can be tried, since this fails with all guards in place: {fails}")
            return 1
    survivors = []
    for found in tried(guards, options.seeds, options.processes):
        print(found, flush=True)
        survivors += [found] if found.survived else []
    print(f"{len(guards)} guards, {len(survivors)} of them missed by no test")
    for found in survivors:
        print(f"{found}: {found.guard.keeps} {found.why}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
