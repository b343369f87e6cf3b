"""`bench/hostile N [SEED]`: hostile frames by the number, then two attackers at the door of a real master."""

import argparse
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from bench.hostility.siege import Siege, SiegeResult
from bench.hostility.trial import Outcome, Trial
from bench.rig import end_with_us
from tests.testbed.stack import short_folder

LEAST_RATIO = 0.5
GROWTH_MOST_MB = 256.0
"""Of the master's resident size in a siege: what waits in its sockets, each message up to 8 MiB."""
SIEGE_EVENTS = 300_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/hostile", description=__doc__)
    parser.add_argument("frames", type=int, help="hostile frames inside one process")
    parser.add_argument("seed", type=int, nargs="?", default=1)
    parser.add_argument("--no-siege", action="store_true", help="leave out the real sockets")
    parser.add_argument("--modes", default="outsider,insider", help="attackers (default: outsider,insider)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the siege (default: 3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each of a round's three windows (default: 4)")
    options = parser.parse_args()
    end_with_us()
    logging.disable(logging.ERROR)
    wrong = _with_folder(lambda folder: _trial(Trial(options.seed, folder).run(options.frames)))
    if not options.no_siege:
        modes = options.modes.split(",")
        wrong += _with_folder(
            lambda folder: _siege(Siege(folder, modes, options.seed, SIEGE_EVENTS).run(options.rounds, options.seconds))
        )
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


def _with_folder(work: Callable[[Path], list[str]]) -> list[str]:
    folder = short_folder()
    folder.mkdir()
    try:
        return work(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _trial(outcome: Outcome) -> list[str]:
    each_us = outcome.seconds / max(1, outcome.frames) * 1e6
    print(f"seed {outcome.seed}: {outcome.frames} hostile frames of {len(outcome.kinds)} kinds, {each_us:.0f} us each")
    print(f"  rejected: {dict(outcome.rejected)}; {outcome.genuine} passed the authentication")
    print(f"  the honest node's {outcome.victims_events} events: each registered once, none waited")
    print(f"  the master's objects grew by {outcome.growth_bytes} bytes", flush=True)
    return outcome.breaches.lines()


def _siege(result: SiegeResult) -> list[str]:
    wrong = list(result.wrong)
    print(f"siege by {', '.join(result.modes)}; messages sent: {result.sent}, rejected: {result.rejected}")
    for name, rates in (
        ("no attackers", result.quiet_per_s),
        ("attackers send elsewhere", result.elsewhere_per_s),
        ("under attack", result.attacked_per_s),
    ):
        print(f"  {name + ':':26}{', '.join(f'{rate:.0f}' for rate in rates)} events/s")
    print(f"  left under attack: {result.ratio:.2f} of elsewhere, {result.ratio_to_quiet:.2f} of none")
    print(f"  master's memory, MiB: {result.rss_before_mb:.0f} before, {result.rss_peak_mb:.0f} at most")
    print(f"  master's counters: {result.counters}", flush=True)
    if result.ratio < LEAST_RATIO:
        wrong.append(f"the genuine node keeps only {result.ratio:.2f} of its rate")
    if result.rss_peak_mb - result.rss_before_mb > GROWTH_MOST_MB:
        wrong.append(f"the master grew by {result.rss_peak_mb - result.rss_before_mb:.0f} MiB")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
