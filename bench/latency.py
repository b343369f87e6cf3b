"""Section c: from libvirt's callback, and from the outbox, to the commit and to the acknowledgement.

An event's `time` is what the agent's callback reads from the clock before anything else (`node/source.py`; a made-up
source of `bench/agent.py` says when the event was due). Commits are seen by a reader of the panel's database, and
acknowledgements by another subscriber of the master's socket, or by the agent as it deletes the row. All of them read
the same machine's clock; a clock that was set meanwhile spoils the run and is noticed.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.crowd import Crowd
from bench.delays import Delays
from bench.figures import Figures
from bench.rig import database, depth, installation, plans
from bench.watchers import AcknowledgementWatcher, CommitWatcher
from tests.testbed.stack import Stack
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until

RATES = (1.0, 100.0, 1000.0)
SECONDS = {1.0: 20.0, 100.0: 15.0, 1000.0: 10.0}
JUDGED = 100.0
WORKERS = 2
CLOCK_STEP_MOST_S = 0.002
DOMAINS = tuple(f"vm{number}" for number in range(20))


@contextmanager
def steady_clock() -> Iterator[None]:
    """Raises AssertionError if somebody set the clock meanwhile: delays would be wrong by as much."""
    before = time.time() - time.monotonic()
    yield
    step = time.time() - time.monotonic() - before
    if abs(step) > CLOCK_STEP_MOST_S:
        raise AssertionError(f"the clock was set by {step * 1e3:.1f} ms during the measurement")


def measure(figures: Figures) -> None:
    """All of section c."""
    figures.heading("(c) from the outbox (the agent's own parts, events made up)")
    with (
        installation(WORKERS) as stack,
        Crowd(plans(stack, ["bench"])) as crowd,
        CommitWatcher(database(stack)) as commits,
        steady_clock(),
    ):
        for rate in RATES:
            _from_outbox(figures, crowd, commits, rate)
    figures.heading("(c) from libvirt's callback (vmwatch-node, libvirt's test driver)")
    with installation(WORKERS) as stack, TestDriverDaemon(stack.folder / "libvirt", domains=DOMAINS) as daemon:
        node = stack.start_node("bench", daemon.uri)
        wait_until(lambda: depth(node) == 0, "the first inventory to be registered")
        for rate in RATES:
            _from_libvirt(figures, stack, daemon, rate)


def _from_outbox(figures: Figures, crowd: Crowd, commits: CommitWatcher, rate: float) -> None:
    commits.clear()
    before = crowd.added()
    crowd.delays_ms("bench")
    crowd.pace(rate)
    time.sleep(SECONDS[rate])
    crowd.pace(0)
    crowd.wait_drained()
    accounts = crowd.accounts()
    wait_until(lambda: commits.count >= accounts["bench"].added - before, "all commits to be seen")
    _tell(figures, "outbox", rate, commits.delays_ms("bench"), crowd.delays_ms("bench"))


def _from_libvirt(figures: Figures, stack: Stack, daemon: TestDriverDaemon, rate: float) -> None:
    with (
        steady_clock(),
        CommitWatcher(database(stack)) as commits,
        AcknowledgementWatcher(stack.port + 1, "bench") as acknowledgements,
    ):
        started = time.perf_counter()
        produced = _operate(daemon, rate, SECONDS[rate])
        reached = produced / (time.perf_counter() - started)
        wait_until(lambda: commits.count >= produced, "all commits to be seen")
        happened = commits.happened("bench")
        wait_until(lambda: len(acknowledgements.delays_ms(happened)) >= produced, "all acknowledgements")
        if reached < 0.9 * rate:
            print(f"  libvirt's test driver reached {reached:.0f} of {rate:.0f} events/s")
        _tell(figures, "callback", rate, commits.delays_ms("bench"), acknowledgements.delays_ms(happened))


def _tell(figures: Figures, start: str, rate: float, committed: list[float], acknowledged: list[float]) -> None:
    for end, delays in (("commit", committed), ("acknowledgement", acknowledged)):
        text = f"{rate:4.0f} events/s, {start} to {end}"
        Delays.of(delays).tell(figures, f"{start}_to_{end}_{rate:.0f}_ms", text, judged=rate == JUDGED)


def _operate(daemon: TestDriverDaemon, events_per_second: float, seconds: float) -> int:
    """Start and destroy domains in turn, one event each; returns how many events."""
    domains = daemon.connection.listAllDomains()
    total = 2 * int(events_per_second * seconds / 2)  # each is left as it was
    started = time.perf_counter()
    for number in range(total):
        domain = domains[number // 2 % len(domains)]
        if number % 2:
            domain.destroy()
        else:
            domain.create()
        time.sleep(max(0.0, started + (number + 1) / events_per_second - time.perf_counter()))
    return total
