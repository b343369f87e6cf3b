"""What retention may take: pure rules over labels of rows. Times are seconds since 1970, of clocks that may be wrong.

Ids follow the order in which rows were registered, so what is old lies at the beginning. One wrong clock must not
delete the log: neither the panel's, nor a node's.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median_high
from typing import NamedTuple

DAY_S = 86400.0
AHEAD_S = DAY_S
"""A label further ahead than this was given by a clock that was wrong."""
NO_CLOCK_BEFORE_S = 1_577_836_800.0
"""2020: whoever says less has no clock, such as a machine without a battery after its start."""


class Label(NamedTuple):
    """When a row was registered by the panel's clock, and when it happened by its node's (`told`)."""

    id: int
    received: float
    told: float


def present(wall: float, received: float, told: Mapping[str, float]) -> float:
    """The time from which ages are counted: the panel's clock, but not later than the nodes say in their majority.

    `received`: of the newest row, which stands in for nodes that have no clock; `told`: each node's newest row.
    So a clock of the panel that is ahead, also one by which rows were registered meanwhile, makes nothing old.
    """
    said = [time for time in told.values() if time >= NO_CLOCK_BEFORE_S]
    return min(wall, median_high(said) if said else received)


def last_old(labels: Iterable[Label], oldest: float, wall: float) -> int | None:
    """The id up to which rows are older than `oldest`: up to the first one that is not. None: none.

    The panel's label counts, or where that is of a clock that was ahead the node's. A row whose labels are both
    impossible is as old as what comes after it.
    """
    last = None
    for row in labels:
        likely = [label for label in (row.received, row.told) if label <= wall + AHEAD_S]
        if likely and likely[0] >= oldest:
            break
        if likely:
            last = row.id
    return last


class Finished(NamedTuple):
    """An installation for which nothing is to be done any more; `ended` by the panel's clock."""

    id: int
    uuid: str
    ended: float


def forgettable(found: Sequence[Finished], oldest: float, there: Container[str]) -> list[Finished]:
    """Those that ended before `oldest`, but the newest one of each VM that is `there`: the list of VMs shows it.

    The one with the highest id stays: counting goes on after it.
    """
    newest = {row.uuid: row.id for row in sorted(found)}
    last = max(newest.values(), default=0)
    kept = {number for uuid, number in newest.items() if uuid in there} | {last}
    return [row for row in found if row.ended < oldest and row.id not in kept]


class Sample(NamedTuple):
    """What thinning looks at of a sample; `taken` by the node's clock."""

    id: int
    uuid: str
    node: str
    taken: float


@dataclass
class Thinning:
    """Keeps of each VM's samples on each node the first one of every `every_s` seconds. Rows come in order of id, and
    again where removing the surplus among them failed."""

    every_s: float
    _kept: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """By VM and node, the period and the id of the last one that is kept."""

    def surplus(self, samples: Sequence[Sample]) -> list[int]:
        """The ids of those that are not kept."""
        found = []
        for sample in samples:
            key, period = (sample.uuid, sample.node), int(sample.taken // self.every_s)
            kept, number = self._kept.get(key, (None, 0))
            if kept != period:
                self._kept[key] = period, sample.id
            elif number != sample.id:
                found.append(sample.id)
        return found

    def forget(self, before: float) -> None:
        """VMs without a sample since then: their next one is of another period anyhow."""
        period = int(before // self.every_s)
        self._kept = {key: kept for key, kept in self._kept.items() if kept[0] >= period}

    def __len__(self) -> int:
        return len(self._kept)
