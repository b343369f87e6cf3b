"""Sections a and b: the raw limits, and what passes the whole way beside them.

Limit and pipeline take turns in short rounds, so that whatever else the machine does meets both alike; the figures are
medians of the rounds, the ratios medians of each round's own ratio.
"""

import statistics
import time
from pathlib import Path

from bench import wire
from bench.agent import FULL_PACE
from bench.bare import SIZES, BareLimit
from bench.crowd import Crowd
from bench.figures import Figures, Goal
from bench.rig import check_registered, installation, pids, plans
from bench.usage import Usage, UsageWatch

WORKERS = (1, 2, 4)
ROUNDS = 5
BARE_S, SUSTAINED_S = 1.5, 4.0
WARM_UP_S = 1.0
SHARE_OF_LIMIT = Goal(0.6)
WATCHED_WORKERS = 2
"""With so many workers memory and processor time are reported."""


def raw_limits(figures: Figures, folder: Path) -> None:
    """Section a."""
    figures.heading("(a) raw limits")
    rate = statistics.median(wire.measure(BARE_S) for _ in range(3))
    figures.add("wire_per_s", "PUSH to PULL, authenticated and decoded, frames of 500", rate, "events/s")
    with BareLimit(folder / "bare") as bare:
        rounds = [[bare.round(size, BARE_S) for size in SIZES] for _ in range(ROUNDS)]
    for size, rates in zip(SIZES, zip(*rounds, strict=True), strict=True):
        text = f"bare: one client, one uvicorn, one commit per batch of {size}"
        figures.add(f"bare_{size}_per_s", text, statistics.median(rates), "events/s")


def acknowledged_per_s(crowd: Crowd, seconds: float) -> float:
    """What is acknowledged to agents at full pace, after a moment to reach it."""
    time.sleep(WARM_UP_S)
    before, at = crowd.acknowledged(), time.perf_counter()
    time.sleep(seconds)
    return (crowd.acknowledged() - before) / (time.perf_counter() - at)


def sustained(figures: Figures) -> None:
    """Section b, and what of section d belongs to it."""
    for workers in WORKERS:
        figures.heading(f"(b) sustained with all rules on, {workers} worker{'s' if workers > 1 else ''}")
        with installation(workers) as stack, BareLimit(stack.folder / "bare") as bare:
            with Crowd(plans(stack, ["bench"], vms=200)) as crowd:
                watch = UsageWatch({**pids(stack), "node": crowd.pid})
                with watch:
                    rounds = [_round(crowd, bare) for _ in range(ROUNDS)]
                added = crowd.added()
            check_registered(stack, added)
        _tell(figures, workers, rounds)
        if workers == WATCHED_WORKERS:
            usages(figures, "sustained", watch.usages, added)


def _round(crowd: Crowd, bare: BareLimit) -> list[float]:
    """Bare limits, then the pipeline; none runs beside another."""
    rates = [bare.round(size, BARE_S) for size in SIZES]
    crowd.pace(FULL_PACE)
    rates.append(acknowledged_per_s(crowd, SUSTAINED_S))
    crowd.pace(0)
    crowd.wait_drained()
    return rates


def _tell(figures: Figures, workers: int, rounds: list[list[float]]) -> None:
    *limits, rate = (statistics.median(column) for column in zip(*rounds, strict=True))
    figures.add(f"sustained_{workers}_per_s", "outbox to acknowledgement", rate, "events/s")
    for column, (size, limit) in enumerate(zip(SIZES, limits, strict=True)):
        share = statistics.median(rates[-1] / rates[column] for rates in rounds)
        text = f"  of the bare limit with batches of {size} ({limit:,.0f} events/s)"
        figures.add(f"sustained_{workers}_of_bare_{size}", text, share, "", SHARE_OF_LIMIT)


def usages(figures: Figures, name: str, found: dict[str, Usage], events: int) -> None:
    """Section d: what each process took for so many events."""
    figures.heading(f"(d) memory and processor time of each process: {name}, {events:,} events")
    for process, usage in found.items():
        key = f"{name}_{process.replace(' ', '_')}"
        figures.add(f"{key}_rss_mb", f"{process}: peak of resident memory", usage.rss_mb, "MiB")
        figures.add(f"{key}_uss_mb", f"{'':{len(process)}}  its own alone", usage.uss_mb, "MiB")
        figures.add(f"{key}_cpu_s", f"{'':{len(process)}}  processor time", usage.cpu_s, "s")
        figures.add(f"{key}_cpu_us", f"{'':{len(process)}}  for each event", usage.cpu_s / max(1, events) * 1e6, "us")
