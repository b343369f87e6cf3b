"""One run: a stream of events through a whole installation, kills as the schedule says, and the reckoning."""

import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.killing.comparison import Comparison, compare, damage
from bench.killing.installation import GENERATOR, NODE, NODES, Installation
from bench.killing.outcome import Done, Outcome, count_kills, delays, longest_silence
from bench.killing.picture import truth_of_listing, truth_of_states, wait_right
from bench.killing.reference import agree
from bench.killing.schedule import schedule
from tests.testbed.service import Service

POLL_S = 0.02
COUNT_EVERY_S = 0.05
STANDSTILL_S = 120.0
"""The stream, or a process that is to be killed, is given up after so long without progress."""
SETTLE_LIMIT_S = 300.0
AFTERWARDS_EVENTS = 200
"""The stream goes on for so long after everything has come back from the last kill."""
SAID_EVERY = 50
"""Kills from one line of progress to the next."""

Answer = TypeVar("Answer")


class DidNotComeBack(Exception):
    """Something stands still that should go on; the text says what."""


@dataclass(frozen=True)
class Plan:
    """What is asked for. `pace`: events a second, of each of the two sources."""

    kills: int
    seed: int
    events_per_kill: int = 200
    pace: float = 150.0


class Run:
    """`outcome` does everything. `say` receives a line of progress now and then."""

    def __init__(self, folder: Path, plan: Plan, say: Callable[[str], None] = lambda line: None) -> None:
        self.installation = Installation(folder, plan.seed, plan.pace)
        self._plan = plan
        self._say = say
        self._done: list[Done] = []
        self._made: dict[int, int] = {}
        """What each life of the generator counted, by process."""
        self._count_at = 0.0
        self._settled_s = 0.0

    def outcome(self) -> Outcome:
        """Do the run; whatever happens, nothing of it runs afterwards."""
        started = time.monotonic()
        wrong: list[str] = []
        with self.installation as installation:
            try:
                self._stream()
                self._settle()
                wrong = self._wrong_at_end()
                troubles = []
            except (DidNotComeBack, AssertionError) as error:
                troubles = [f"{type(error).__name__}: {error}"]
            troubles += installation.stop()
            troubles += installation.programs.unasked
        return self._reckon(time.monotonic() - started, wrong, troubles)

    # The stream and the kills

    def _stream(self) -> None:
        plan = self._plan
        started = time.monotonic()
        for number, kill in enumerate(schedule(plan.kills, plan.seed, plan.events_per_kill), 1):
            self._wait_for_events(kill.at_events)
            time.sleep(kill.later_s)
            deadline = time.monotonic() + STANDSTILL_S
            while not self.installation.kill(kill):
                if time.monotonic() > deadline:
                    raise DidNotComeBack(f"there was no {kill.target} to kill for {STANDSTILL_S:.0f} s")
                time.sleep(POLL_S)
            self._done.append(Done(kill.target, time.time()))
            if number % SAID_EVERY == 0:
                self._say(f"{number} kills, about {self._events()} events, {time.monotonic() - started:.0f} s")
        self._wait_for_events(plan.kills * plan.events_per_kill)
        self._recover()

    def _recover(self) -> None:
        """The stream goes on until all are back and the node has listened to the last part of it."""
        missing = self.installation.programs.wait_all_running(STANDSTILL_S)
        if missing:
            raise DidNotComeBack(f"did not come back: {', '.join(missing)}")
        listening = 0
        while not listening or listening != self._listening_node():
            # A node may be seen in the moment before it notices that its libvirtd was killed.
            listening = _wait(self._listening_node, "the node does not listen to libvirt")
            self._wait_for_events(self._events() + AFTERWARDS_EVENTS)

    def _listening_node(self) -> int:
        """The process of a node from which no event of libvirt's can escape; 0 if there is none."""
        status = self.installation.programs.node.service.status
        # Until its loop has gone round once, an agent says little of itself.
        connected = status.get("libvirt", {}).get("connected")
        listens = connected and status["inventory"]["age_s"] is not None
        return int(status["pid"]) if listens else 0

    def _events(self) -> int:
        """About how many events have happened: what the generator made just before it was killed is not counted."""
        now = time.monotonic()
        if now - self._count_at > COUNT_EVERY_S:
            self._count_at = now
            generator = self.installation.programs.generator.service
            pid, status = generator.pid, generator.status
            self._made[pid] = max(self._made.get(pid, 0), int(status.get("made", 0)))
        return self.installation.hypervisor.done + sum(self._made.values())

    def _wait_for_events(self, count: int) -> None:
        last, since = -1, time.monotonic()
        while (events := self._events()) < count:
            if self.installation.hypervisor.failure:
                raise DidNotComeBack(self.installation.hypervisor.failure)
            if events > last:
                last, since = events, time.monotonic()
            elif time.monotonic() - since > STANDSTILL_S:
                raise DidNotComeBack(f"nothing happened for {STANDSTILL_S:.0f} s, after {events} events")
            time.sleep(POLL_S)

    # The end

    def _settle(self) -> None:
        """No more events; wait until all that there were are delivered."""
        started = time.monotonic()
        programs, hypervisor = self.installation.programs, self.installation.hypervisor
        hypervisor.finish()
        if hypervisor.failure:
            raise DidNotComeBack(hypervisor.failure)
        node, generator = programs.node.service, programs.generator.service
        generator.signal(signal.SIGHUP)
        _wait(lambda: generator.status.get("quiet"), "the generator is not quiet")
        for name, service in ((NODE, node), (GENERATOR, generator)):
            _wait(partial(_is_drained, service), f"the outbox of {name} is not empty")
        self._settled_s = time.monotonic() - started

    def _wrong_at_end(self) -> list[str]:
        installation = self.installation
        states = installation.programs.generator.service.status["vms"]
        truth = truth_of_listing(NODE, installation.hypervisor.listing()) | truth_of_states(GENERATOR, states)
        return wait_right(installation.stack.panel, truth)

    def _reckon(self, seconds: float, wrong: list[str], troubles: list[str]) -> Outcome:
        installation, hypervisor = self.installation, self.installation.hypervisor
        hypervisor.write_lives()
        found = compare(installation.outboxes, installation.panel_database)
        agreement = agree(hypervisor.lives, found.told.get(NODE, {}))
        refused = len(installation.dead_letters.read_text().splitlines()) if installation.dead_letters.exists() else 0
        took = delays(self._done, found.received, NODES)
        return Outcome(
            seed=self._plan.seed,
            kills=count_kills(self._done),
            events_happened=hypervisor.done + sum(self._made.values()),
            events_made=found.events_made,
            events_registered=found.events_registered,
            others_made=found.others_made,
            others_registered=found.others_registered,
            observed=agreement.observed,
            untold=agreement.untold,
            lost=found.lost + agreement.holes,
            doubled=found.doubled,
            out_of_order=found.disordered,
            changed=found.changed,
            wrong_at_end=len(wrong),
            refused=refused,
            longest_s={name: max(all_s) for name, all_s in took.items()},
            median_s={name: statistics.median(all_s) for name, all_s in took.items()},
            silence=longest_silence(self._done, found.received),
            restarts={program.name: program.starts for program in installation.programs.all},
            seconds=seconds,
            settled_s=self._settled_s,
            defects=[*found.examples, *agreement.examples, *wrong, *troubles, *_others(installation, found, refused)],
        )


def _others(installation: Installation, found: Comparison, refused: int) -> list[str]:
    """What must not be beside messages that went wrong."""
    others = [damage(path) for path in (*installation.outboxes.values(), installation.panel_database)]
    if found.events_held:
        others.append(f"{found.events_held} events are still in an outbox")
    if refused:
        others.append(f"{refused} messages were refused: they are in {installation.dead_letters}")
    return [text for text in others if text]


def _is_drained(service: Service) -> bool:
    return bool(service.status.get("outbox", {}).get("depth") == 0)


def _wait(condition: Callable[[], Answer], otherwise: str) -> Answer:
    deadline = time.monotonic() + SETTLE_LIMIT_S
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise DidNotComeBack(f"{otherwise} after {SETTLE_LIMIT_S:.0f} s")
        time.sleep(POLL_S)
    return answer
