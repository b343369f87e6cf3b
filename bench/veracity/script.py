"""What happens in a run, and when: drawn from a seed. A core without I/O.

Compressed is only the quiet time. Whatever lasts (a restart, a partition, a poller's period, a retry, a heartbeat)
lasts as long as it would in an hour.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

MANY = ("many-1", "many-2")
"""Nodes with libvirt's test driver: many VMs, and whoever restarts libvirtd has restarted the whole host."""
REAL = ("real-1", "real-2")
"""Nodes with QEMU: VMs that outlive their libvirtd, reboot, are killed and migrate."""
NODES = MANY + REAL

CHANGE_EVERY_S = 100.0
"""Of one VM of a node with many: in an hour that is compressed to 5 minutes, one in 20 minutes."""
REAL_CHANGE_EVERY_S = 30.0
FAULTS_IN_S = 300.0
"""Of each kind of fault the script has `_FAULTS` in so long, and at least one of those of a short run."""
SHORT_S = 120.0
"""In a shorter run no partition is long: there is no time for what comes after it."""
BEGIN_SHARE, END_SHARE = 0.05, 0.9
"""Faults begin in this part of the run, so that their end is in it too."""


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
    """What is asked for. `many`: VMs of each node with many; `real`: of the two with QEMU together."""

    seconds: float = 300.0
    seed: int = 1
    many: int = 50
    real: int = 6
    heartbeat_s: float = 10.0
    poll_s: float = 10.0
    sample_s: float = 0.1


_FAULTS: tuple[tuple[Deed, Sequence[str], int, tuple[float, float]], ...] = (
    # deed, nodes (each gets so many; empty: of all), how many, seconds at least and at most
    (Deed.LIBVIRTD, NODES, 1, (1.0, 5.0)),
    (Deed.AGENT, NODES, 1, (0.0, 0.0)),
    (Deed.MASTER, ("",), 3, (1.0, 5.0)),
    (Deed.PARTITION, NODES, 1, (3.0, 10.0)),
)
_LONG_PARTITION_S = (40.0, 50.0)
"""Longer than three heartbeats: the panel learns that it does not know."""


def script(course: Course) -> list[Step]:
    """All steps in the order of their moments."""
    chance = random.Random(f"truth {course.seed}")
    steps = _changes(course, chance) + _faults(course, chance)
    return sorted(steps, key=lambda step: step.at_s)


def _changes(course: Course, chance: random.Random) -> list[Step]:
    steps = []
    for node in MANY:
        for _ in range(max(1, round(course.seconds * course.many / CHANGE_EVERY_S))):
            steps.append(_step(course, chance, Deed.CHANGE, node))
    for _ in range(max(1, round(course.seconds * course.real / REAL_CHANGE_EVERY_S))):
        steps.append(_step(course, chance, Deed.REAL_CHANGE, ""))
    return steps


def _step(course: Course, chance: random.Random, deed: Deed, node: str) -> Step:
    at_s = chance.uniform(0, END_SHARE * course.seconds)
    return Step(at_s, deed, node, which=chance.random(), how=chance.random())


def _faults(course: Course, chance: random.Random) -> list[Step]:
    steps = []
    for deed, nodes, count, lasts in _FAULTS:
        whole, part = divmod(len(nodes) * count * course.seconds / FAULTS_IN_S, len(nodes))
        chosen = list(nodes) * int(whole) + chance.sample(list(nodes), round(part))
        steps += [_fault(course, chance, deed, node, lasts) for node in chosen or chance.sample(list(nodes), 1)]
    if course.seconds >= SHORT_S:
        for _ in range(max(1, round(course.seconds / FAULTS_IN_S))):
            steps.append(_fault(course, chance, Deed.PARTITION, chance.choice(NODES), _LONG_PARTITION_S))
    elif not any(step.deed is Deed.LIBVIRTD and step.node in REAL for step in steps):
        steps.append(_fault(course, chance, Deed.LIBVIRTD, chance.choice(REAL), (1.0, 5.0)))
    return steps


def _fault(
    course: Course, chance: random.Random, deed: Deed, node: str, lasts: tuple[float, float]
) -> Step:
    lasts_s = chance.uniform(*lasts)
    at_s = chance.uniform(BEGIN_SHARE * course.seconds, END_SHARE * course.seconds - lasts_s)
    return Step(at_s, deed, node, lasts_s, chance.random(), chance.random())


_Choice = TypeVar("_Choice")


def pick(ways: Mapping[_Choice, int], draw: float) -> _Choice:
    """One of them, each as often as its weight says; `draw` is from 0 to below 1."""
    rest = draw * sum(ways.values())
    for way, weight in ways.items():
        rest -= weight
        if rest < 0:
            return way
    return next(reversed(list(ways)))
