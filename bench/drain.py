"""Section e: how fast a backlog drains, and what one noisy node does to the others."""

import statistics
import time
from dataclasses import dataclass

from bench.agent import FULL_PACE
from bench.crowd import Crowd
from bench.delays import Delays
from bench.figures import Figures, Goal
from bench.load import NODE, fill_outbox
from bench.rig import NO_LIBVIRT, check_registered, depth, installation, pids, plans
from bench.throughput import acknowledged_per_s, usages
from bench.usage import UsageWatch
from tests.testbed.service import Service
from tests.testbed.waiting import wait_until

WORKERS = 2
SUSTAINED_S = 5.0
SUSTAINED_ROUNDS = 3
DRAIN_LIMIT_S = 900.0
POLL_S = 0.05
SHARE_OF_SUSTAINED = Goal(0.9)

QUIET = tuple(f"quiet{number}" for number in range(1, 5))
QUIET_RATE = 25.0
"""Events per second of each quiet node."""
FAIR_ROUNDS = 4
FAIR_S = 5.0
SETTLE_S = 1.0
WITHIN = Goal(2.0, at_most=True)


@dataclass(frozen=True)
class _Reading:
    at: float
    depth: int


def backlog(figures: Figures, count: int) -> None:
    """A vmwatch-node starts with `count` events in its outbox; before and after, the sustained rate."""
    figures.heading(f"(e) drain of a backlog of {count:,} events")
    with installation(WORKERS) as stack, Crowd(plans(stack, ["fresh"], vms=200)) as crowd:
        fresh = [_sustained(crowd) for _ in range(SUSTAINED_ROUNDS)]
        node = stack.node(NODE, NO_LIBVIRT, outbox_max_mb=str(max(512, count // 500)))
        fill_outbox(node.prefix, NODE, count)
        node.start()
        with UsageWatch({**pids(stack), "node": node.pid}) as watch:
            rate = _drain(node, count)
        fresh += [_sustained(crowd) for _ in range(SUSTAINED_ROUNDS)]
        check_registered(stack, count + crowd.added())
    sustained = statistics.median(fresh)
    figures.add("drain_per_s", "outbox to acknowledgement, the middle 98 %", rate, "events/s")
    figures.add("drain_sustained_per_s", "  sustained, before and after", sustained, "events/s")
    figures.add("drain_of_sustained", "  of the sustained rate", rate / sustained, "", SHARE_OF_SUSTAINED)
    usages(figures, "drain", watch.usages, count)


def _sustained(crowd: Crowd) -> float:
    crowd.pace(FULL_PACE)
    rate = acknowledged_per_s(crowd, SUSTAINED_S)
    crowd.pace(0)
    crowd.wait_drained()
    return rate


def _drain(node: Service, count: int) -> float:
    """Events per second between the first and the last hundredth."""
    begin = _drained_to(node, int(count * 0.99))
    end = _drained_to(node, int(count * 0.01))
    wait_until(lambda: depth(node) == 0, "the last acknowledgement", timeout_s=120)
    return (begin.depth - end.depth) / (end.at - begin.at)


def _drained_to(node: Service, limit: int) -> _Reading:
    """When the outbox was first seen with at most `limit` messages, and with how many."""
    deadline = time.perf_counter() + DRAIN_LIMIT_S
    while True:
        reading = _Reading(time.perf_counter(), depth(node))
        if 0 <= reading.depth <= limit:
            return reading
        if reading.at > deadline:
            raise AssertionError(f"{reading.depth} messages are left after {DRAIN_LIMIT_S:.0f} s")
        time.sleep(POLL_S)


def fairness(figures: Figures) -> None:
    """Quiet nodes alone, and beside one at full pace, in turns."""
    figures.heading(f"(e) {len(QUIET)} quiet nodes ({QUIET_RATE:.0f} events/s each) beside a noisy one at full pace")
    alone: list[float] = []
    beside: list[float] = []
    noise: list[float] = []
    with (
        installation(WORKERS) as stack,
        Crowd(plans(stack, QUIET)) as quiet,
        Crowd(plans(stack, ["noisy"], vms=200)) as noisy,
    ):
        quiet.pace(QUIET_RATE)
        for _ in range(FAIR_ROUNDS):
            alone += _delays(quiet)
            noisy.pace(FULL_PACE)
            time.sleep(SETTLE_S)
            before, at = noisy.acknowledged(), time.perf_counter()
            beside += _delays(quiet)
            noise.append((noisy.acknowledged() - before) / (time.perf_counter() - at))
            noisy.pace(0)
            noisy.wait_drained()
        quiet.pace(0)
        quiet.wait_drained()
        check_registered(stack, quiet.added() + noisy.added())
    figures.add("noisy_per_s", "the noisy node", statistics.median(noise), "events/s")
    without, with_ = Delays.of(alone), Delays.of(beside)
    without.tell(figures, "quiet_alone_ms", "quiet nodes alone, outbox to acknowledgement")
    with_.tell(figures, "quiet_beside_ms", "quiet nodes beside the noisy one")
    figures.add("noisy_times_median", "  times, of the medians", with_.median / without.median, "", WITHIN)
    figures.add("noisy_times_p99", "  times, of the 99th percentiles", with_.p99 / without.p99, "", WITHIN)


def _delays(quiet: Crowd) -> list[float]:
    for node in QUIET:
        quiet.delays_ms(node)
    time.sleep(FAIR_S)
    return [delay for node in QUIET for delay in quiet.delays_ms(node)]
