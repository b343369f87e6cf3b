"""What happens in a run, and when: drawn from a seed. A core without I/O.

The script is one of an hour, and most of its quiet time is left out. While a fault is under way, time passes as it does
in the hour, so a fault meets as many changes as it would there, and lasts as long beside what does not get quicker (a
poller's period, a heartbeat, a retry, a restart). Between faults it passes many times faster. A picture that is late
by some seconds is so for each change, whatever the pace; one that has lost an event is wrong until the VM's next event,
which comes sooner than in the hour.

A *storm* is an hour of changes without mercy: all of it passes faster, the faults last as long as ever.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

MANY = ("many-1", "many-2")
"""Nodes with libvirt's test driver: many VMs, and whoever restarts libvirtd has restarted the whole host."""
REAL = ("real-1", "real-2")
"""Nodes with QEMU: VMs that outlive their libvirtd, reboot, are killed and migrate."""
NODES = MANY + REAL

COMPRESSION = 12.0
"""An hour in five minutes."""
CHANGE_EVERY_S = 1200.0
"""Of one VM of a node with many, in the hour."""
FAULTS_IN_S = 300.0
"""Of each kind of fault the script has `_FAULTS` in so long a run, and at least one of those of a shorter one."""
SHORT_S = 120.0
"""In a shorter run no partition is long: there is no time for what comes after it."""
BEGIN_SHARE, END_SHARE = 0.05, 0.9
"""Faults begin in this part of the run, so that their end is in it too."""
AFTERMATH_S = 2.0
"""A fault is under way for so long after what was away has come back."""
COINCIDE = 0.4
"""So many of the other faults begin while there is a partition somewhere."""


class Deed(StrEnum):
    """What a step does."""

    CHANGE = "change"
    REAL_CHANGE = "change of a real VM"
    LIBVIRTD = "libvirtd restart"
    PARTITION = "partition"
    AGENT = "agent restart"
    MASTER = "master restart"


@dataclass(frozen=True)
class Step:
    """Begins `at_s` after the start and `lasts_s` (of a fault). `which` and `how`, from 0 to below 1, choose."""

    at_s: float
    deed: Deed
    node: str = ""
    lasts_s: float = 0.0
    which: float = 0.0
    how: float = 0.0


@dataclass(frozen=True)
class Course:
    """What is asked for. `many`: VMs of each node with many; `real`: of the two with QEMU together.

    Seconds are the run's, not the hour's.
    """

    seconds: float = 300.0
    seed: int = 1
    many: int = 50
    real: int = 6
    heartbeat_s: float = 10.0
    poll_s: float = 10.0
    sample_s: float = 0.1
    storm: bool = False
    real_change_every_s: float = 360.0
    """Of one real VM, in the hour."""

    @property
    def hour_s(self) -> float:
        """How much of the hour is played."""
        return self.seconds * COMPRESSION


_FAULTS: tuple[tuple[Deed, Sequence[str], int, tuple[float, float]], ...] = (
    # kind, where, how many at each place, seconds at least and at most
    (Deed.PARTITION, NODES, 1, (3.0, 10.0)),
    (Deed.LIBVIRTD, NODES, 1, (1.0, 5.0)),
    (Deed.AGENT, NODES, 1, (0.0, 0.0)),
    (Deed.MASTER, ("",), 3, (1.0, 5.0)),
)
_LONG_S = (40.0, 50.0)
"""A partition that is longer than three heartbeats: the panel learns that it does not know."""


def script(course: Course) -> list[Step]:
    """All steps in the order of their moments."""
    chance = random.Random(f"truth {course.seed}")
    faults = _faults(course, chance)
    changes = _changes(course, chance)
    if course.storm:
        changes = [replace(step, at_s=step.at_s / COMPRESSION) for step in changes]
        return sorted(changes + faults, key=_moment)
    pace = Pace(faults, course.hour_s, course.seconds)
    return sorted((replace(step, at_s=pace.run_s(step.at_s)) for step in changes + faults), key=_moment)


def _moment(step: Step) -> float:
    return step.at_s


class Pace:
    """When a moment of the hour comes in the run."""

    def __init__(self, faults: Sequence[Step], hour_s: float, run_s: float) -> None:
        self._slow: list[tuple[float, float]] = []
        """Times of the hour in which a fault is under way."""
        for fault in sorted(faults, key=_moment):
            begin, end = fault.at_s, fault.at_s + fault.lasts_s + AFTERMATH_S
            if self._slow and begin <= self._slow[-1][1]:
                last = self._slow.pop()
                begin, end = last[0], max(last[1], end)
            self._slow.append((begin, end))
        slow_s = sum(end - begin for begin, end in self._slow)
        if slow_s >= run_s:
            raise ValueError(f"the faults alone take {slow_s:.0f} s, and the run {run_s:.0f} s")
        self.quicker = (hour_s - slow_s) / (run_s - slow_s)
        """So many times as fast as in the hour does the time pass without a fault."""

    def run_s(self, hour_s: float) -> float:
        slow_s = sum(min(end, hour_s) - begin for begin, end in self._slow if begin < hour_s)
        return slow_s + (hour_s - slow_s) / self.quicker


def _changes(course: Course, chance: random.Random) -> list[Step]:
    """At moments of the hour."""
    wanted = [(Deed.CHANGE, node, course.many / CHANGE_EVERY_S) for node in MANY]
    wanted.append((Deed.REAL_CHANGE, "", course.real / course.real_change_every_s))
    last_s = END_SHARE * course.hour_s
    return [
        Step(chance.uniform(0, last_s), deed, node, which=chance.random(), how=chance.random())
        for deed, node, per_s in wanted
        for _ in range(max(1, round(per_s * course.hour_s)))
    ]


def _faults(course: Course, chance: random.Random) -> list[Step]:
    """At moments of the hour, of a storm at moments of the run."""
    partitions: list[Step] = []
    others: list[Step] = []
    for deed, nodes, lasts in _wanted_faults(course, chance):
        for node in nodes:
            if deed is Deed.PARTITION:
                partitions.append(_fault(course, chance, deed, node, lasts))
                continue
            fault = _fault(course, chance, deed, node, lasts)
            if chance.random() < COINCIDE:
                during = chance.choice(partitions)
                at_s = chance.uniform(during.at_s, during.at_s + during.lasts_s)
                fault = replace(fault, at_s=min(at_s, END_SHARE * _whole_s(course) - fault.lasts_s))
            others.append(fault)
    return partitions + others


def _wanted_faults(course: Course, chance: random.Random) -> Iterator[tuple[Deed, Sequence[str], tuple[float, float]]]:
    """Kind, where, and how long at least and at most; partitions first."""
    for deed, places, count, lasts in _FAULTS:
        each, over = divmod(len(places) * count * course.seconds / FAULTS_IN_S, len(places))
        chosen = list(places) * int(each) + chance.sample(list(places), round(over))
        yield deed, chosen or chance.sample(list(places), 1), lasts
        if deed is Deed.PARTITION and course.seconds >= SHORT_S:
            yield deed, [chance.choice(NODES) for _ in range(max(1, round(course.seconds / FAULTS_IN_S)))], _LONG_S
    if course.seconds < SHORT_S:
        yield Deed.LIBVIRTD, chance.sample(REAL, 1), (1.0, 5.0)


def _fault(course: Course, chance: random.Random, deed: Deed, node: str, lasts: tuple[float, float]) -> Step:
    lasts_s = chance.uniform(*lasts)
    at_s = chance.uniform(BEGIN_SHARE * _whole_s(course), END_SHARE * _whole_s(course) - lasts_s)
    return Step(at_s, deed, node, lasts_s, chance.random(), chance.random())


def _whole_s(course: Course) -> float:
    """Of a storm the moments of faults are the run's."""
    return course.seconds if course.storm else course.hour_s


_Choice = TypeVar("_Choice")


def pick(ways: Mapping[_Choice, int], draw: float) -> _Choice:
    """One of them, each as often as its weight says; `draw` is from 0 to below 1."""
    rest = draw * sum(ways.values())
    for way, weight in ways.items():
        rest -= weight
        if rest < 0:
            return way
    return next(reversed(list(ways)))
