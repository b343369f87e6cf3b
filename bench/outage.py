"""The panel goes away under load and comes back: what it costs, and whether anything is lost or stuck (issue: outage).

`bench/outage --minutes 5`. Fifty agents, made of the real node's parts, write 5,000 events a second to their outboxes
all the time. The panel is killed with -9, so its port is closed, and started again later. Some quiet nodes say
nothing meanwhile and have no backlog; from the return on, theirs are the fresh events that must not be stuck behind
the others' backlog.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench.checks import Checks
from bench.crowd import Crowd
from bench.delays import Delays
from bench.figures import Figures, Goal
from bench.rig import check_registered, end_with_us, installation, pids, plans
from bench.signs import SignsOfLife
from bench.usage import MEGABYTE, UsageWatch
from tests.testbed.stack import Stack
from vmwatch.shared.settings import MasterSettings

WORKERS = 2
QUIET = ("quiet1", "quiet2", "quiet3")
QUIET_RATE = 10.0
"""Events per second of each quiet node while it says something."""
FRESH_LEAST_S = 10.0
"""So long quiet nodes speak after the return, also where the backlog drains faster."""
BEGIN_MOST_S = 45.0
"""From the return to the first registered event: a worker's back-off is at most 30 s, with its jitter."""
FRESH_MOST_MS = 3000.0
FRESH_TIMES = 10.0
"""A fresh event, once calls succeed again: so long, or so many times as long as under load before, if that is longer.
Behind the backlog of five minutes it would take as long as that drains."""
DRAINED_S = 1.0
"""The backlog is drained when outboxes hold no more than is written in so long."""
DRAIN_LIMIT_S = 1800.0
NODE_GROWTH_MB = 80.0
EVENT_GROWTH_BYTES = 24
"""Of a process with agents: SQLite's caches, and for each event of the measurement when it happened and how long its
acknowledgement took."""
WORKER_GROWTH_MB = 100.0
OVERHEAD = 6.0
"""What a message takes in the master's memory, as a multiple of the bytes that count against the credit."""


@dataclass(frozen=True)
class Plan:
    """`seconds` of outage; `per_s` events per second of all `nodes` together, which run in so many `processes`.

    `before_s`: under load before the panel goes; `interval_s`: of heartbeats."""

    seconds: float = 300.0
    nodes: int = 50
    per_s: float = 5000.0
    processes: int = 2
    before_s: float = 10.0
    interval_s: float = 5.0

    @property
    def names(self) -> list[str]:
        return [f"node{number}" for number in range(1, self.nodes + 1)]


@dataclass
class Outage:
    """One run. `run` measures, and says what holds and what does not."""

    plan: Plan
    stack: Stack
    crowds: Sequence[Crowd]
    quiet: Crowd
    figures: Figures
    checks: Checks
    fresh_most_ms: float = FRESH_MOST_MS

    def run(self) -> None:
        watched = {**pids(self.stack), **{f"agents {n}": crowd.pid for n, crowd in enumerate(self.crowds, 1)}}
        with UsageWatch(watched) as usage:
            self._before()
            self._absence()
            began = time.monotonic()
            self.stack.panel.start()
            usage.follow("panel", self.stack.panel.pid)
            self._after(began)
        self._memory(usage)

    def depth(self) -> int:
        return sum(crowd.depth() for crowd in self.crowds)

    def acknowledged(self) -> int:
        return sum(crowd.acknowledged() for crowd in self.crowds)

    def added(self) -> int:
        return sum(crowd.added() for crowd in self.crowds)

    def quiet_delays_ms(self) -> list[float]:
        return [delay for node in QUIET for delay in self.quiet.delays_ms(node)]

    def _before(self) -> None:
        self.figures.heading(f"before: {self.plan.nodes} nodes, {self.plan.per_s:,.0f} events/s together")
        for crowd in self.crowds:
            crowd.pace(self.plan.per_s / self.plan.nodes)
        self.quiet.pace(QUIET_RATE)
        before = self.added()
        time.sleep(self.plan.before_s)
        self.figures.add(
            "written_per_s", "written to outboxes", (self.added() - before) / self.plan.before_s, "events/s"
        )
        before_ms = Delays.of(self.quiet_delays_ms())
        before_ms.tell(self.figures, "before_ms", "a quiet node's events")
        self.fresh_most_ms = max(FRESH_MOST_MS, FRESH_TIMES * before_ms.p99)
        self.quiet.pace(0)
        self.quiet.wait_drained()

    def _absence(self) -> None:
        self.figures.heading(f"the panel is away for {self.plan.seconds:.0f} s")
        self.stack.panel.kill()
        before, started = self.added(), time.monotonic()
        while (left_s := started + self.plan.seconds - time.monotonic()) > 0:
            time.sleep(min(1.0, left_s))
        added = self.added() - before
        self.figures.add("outage_written_per_s", "written to outboxes", added / self.plan.seconds, "events/s")
        self.figures.add("backlog", "backlog", self.depth(), "messages")
        status = self.stack.master.status
        self.figures.add("in_flight", "  of it in the master's hands", status["in_flight"], "messages")
        unsettled = sum(node["unsettled_bytes"] for node in status["nodes"].values())
        self.figures.add("unsettled_mb", "  which are", unsettled / MEGABYTE, "MiB")
        limit_mb = MasterSettings.memory_mb
        self.checks.add(f"the master holds at most {limit_mb} MiB of messages", unsettled <= limit_mb * MEGABYTE)

    def _after(self, began: float) -> None:
        self.figures.heading("the panel is back; the load goes on")
        settled = self.acknowledged()
        self.quiet.pace(QUIET_RATE)
        with SignsOfLife(self.stack, [*self.plan.names, *QUIET]) as signs:
            first = self._first(began, settled)
            self.quiet_delays_ms()  # those that waited for the first call say nothing of what is stuck
            drained = self._drained(first)
            left_s = first + FRESH_LEAST_S - time.monotonic()
            time.sleep(max(0.0, left_s))
            fresh = Delays.of(self.quiet_delays_ms())
        rate = (self.acknowledged() - settled) / (drained - first)
        self.figures.add(
            "first_s", "until the first event was registered", first - began, "s", Goal(BEGIN_MOST_S, True)
        )
        self.figures.add("drained_s", "until the backlog was drained", drained - began, "s")
        self.figures.add("drained_per_s", "  registered meanwhile", rate, "events/s")
        fresh.tell(self.figures, "fresh_ms", "a quiet node's fresh events meanwhile")
        text = f"99 of 100 fresh events took at most {self.fresh_most_ms:.0f} ms"
        self.checks.add(text, fresh.p99 <= self.fresh_most_ms)
        self.figures.add("alive_s", "until the panel had heard of each node", signs.all_seen_s, "s")
        self.checks.add("each node gave a sign of life after the return", not signs.unseen)
        self.checks.add(f"no node was called silent{signs.silent_text}", not signs.silent)
        self._end()

    def _first(self, began: float, settled: int) -> float:
        """When the first event after the return was acknowledged."""
        while self.acknowledged() == settled and time.monotonic() < began + 4 * BEGIN_MOST_S:
            time.sleep(0.05)
        now = time.monotonic()
        self.checks.add(f"events are registered {BEGIN_MOST_S:.0f} s after the return", now - began <= BEGIN_MOST_S)
        return now

    def _drained(self, first: float) -> float:
        """When the outboxes held no more than the load of a second."""
        while self.depth() > DRAINED_S * self.plan.per_s and time.monotonic() < first + DRAIN_LIMIT_S:
            time.sleep(0.2)
        self.checks.add("the backlog is drained while the load goes on", self.depth() <= 2 * self.plan.per_s)
        return time.monotonic()

    def _end(self) -> None:
        everybody = [*self.crowds, self.quiet]
        for crowd in everybody:
            crowd.pace(0)
        for crowd in everybody:
            crowd.wait_drained()
        total = sum(crowd.added() for crowd in everybody)
        dropped = sum(account.dropped for crowd in everybody for account in crowd.accounts().values())
        self.figures.add("events", "events in all", total, "")
        self.checks.add("no message was dropped", dropped == 0)
        with self.checks.that("each event is registered, once"):
            check_registered(self.stack, total)

    def _memory(self, usage: UsageWatch) -> None:
        self.figures.heading("memory, peaks of the whole run")
        for name, found in usage.usages.items():
            key = name.replace(" ", "_")
            self.figures.add(
                f"{key}_rss_mb", f"{name}, resident ({found.first_rss_mb:.0f} at first)", found.rss_mb, "MiB"
            )
            self.figures.add(f"{key}_uss_mb", f"{'':{len(name)}}  its own alone", found.uss_mb, "MiB")
        grown = {name: found.rss_mb - found.first_rss_mb for name, found in usage.usages.items()}
        most_mb = OVERHEAD * MasterSettings.memory_mb
        self.checks.add(f"the master grew by at most {most_mb:.0f} MiB", grown["master"] <= most_mb)
        agents_mb = NODE_GROWTH_MB + EVENT_GROWTH_BYTES * self.added() / len(self.crowds) / MEGABYTE
        for name, limit_mb in (("worker", WORKER_GROWTH_MB), ("agents", agents_mb)):
            ours = [grown[each] for each in grown if each.startswith(name)]
            self.checks.add(f"each of '{name}' grew by at most {limit_mb:.0f} MiB", max(ours) <= limit_mb)


@contextmanager
def rig(plan: Plan) -> Iterator[tuple[Stack, list[Crowd], Crowd]]:
    """The installation, the loaded agents in their processes, and the quiet ones in theirs."""
    with installation(WORKERS) as stack, ExitStack() as opened:
        shares = [plan.names[number :: plan.processes] for number in range(plan.processes)]
        crowds = [opened.enter_context(Crowd(plans(stack, share, interval_s=plan.interval_s))) for share in shares]
        quiet = opened.enter_context(Crowd(plans(stack, QUIET, interval_s=plan.interval_s)))
        yield stack, crowds, quiet


def measure(plan: Plan, figures: Figures) -> Checks:
    """The whole run; returns what was checked."""
    checks = Checks()
    with rig(plan) as (stack, crowds, quiet):
        Outage(plan, stack, crowds, quiet, figures, checks).run()
    return checks


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/outage", description="Take the panel away under load.")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long the panel is away (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=Plan.nodes, help="nodes with events (default: %(default)s)")
    parser.add_argument(
        "--rate", type=float, default=Plan.per_s, help="events/s of all together (default: %(default)s)"
    )
    options = parser.parse_args()
    end_with_us()
    checks = measure(Plan(options.minutes * 60, options.nodes, options.rate), Figures())
    print(f"\n{checks.text()}")
    return 0 if checks.hold else 1


if __name__ == "__main__":
    sys.exit(main())
