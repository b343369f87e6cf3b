"""What libvirt told in each life of a libvirtd, and whether the node told all of it without a hole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Told = tuple[str, str, str]
"""Name of the VM, event, detail."""

OPENING_MOST = 100
"""So many events may come in while a node opens its connection."""


@dataclass
class Life:
    """One life of a libvirtd. `done`: what our own calls must have led to; `observed`: what virsh saw.

    The last call may have been cut off by libvirtd's death, so its event may or may not have been told.
    """

    done: list[Told] = field(default_factory=list)
    observed: list[Told] = field(default_factory=list)


@dataclass
class Agreement:
    """`untold`: events that nobody could tell, because no node listened then; no defect."""

    told: int = 0
    observed: int = 0
    untold: int = 0
    holes: int = 0
    examples: list[str] = field(default_factory=list)


def agree(lives: Sequence[Life], runs: Mapping[int, Sequence[Told]]) -> Agreement:
    """Each run of the node, an epoch, listens to one libvirtd from some moment to the end of the shorter life of the
    two: so its events must be a part of that life without a hole. And the observer sees a life from its beginning.

    A libvirtd that dies while a node opens its connection may have told some events by then: the node tells them, and
    goes on with the next libvirtd. The sequence of calls is random, so a part of some length lies at one place only.
    """
    found = Agreement(observed=sum(len(life.observed) for life in lives))
    numbers: dict[Told, str] = {}

    def text(events: Sequence[Told]) -> str:
        return "".join(numbers.setdefault(event, chr(0x100 + len(numbers))) for event in events)

    wholes = [text(life.done) for life in lives]
    for number, life in enumerate(lives):
        if not wholes[number].startswith(text(life.observed)):
            _note(found, f"libvirtd's life {number}: the observer saw something else than was done")
    if lives and len(lives[-1].observed) < len(lives[-1].done):
        _note(found, "the observer has not seen the last events")
    reached = (0, 0)
    for epoch, events in sorted(runs.items()):
        part = text(events)
        place = _find(wholes, reached, part)
        if place is None:
            _note(found, f"the {len(part)} events of epoch {epoch} are no part of libvirt's: {_hole(wholes, part)}")
            continue
        reached = place
        found.told += len(part)
    found.untold = sum(map(len, wholes)) - found.told
    if wholes and reached != (len(wholes) - 1, len(wholes[-1])):
        _note(found, "the node has not told the last events")
    return found


def _find(wholes: Sequence[str], reached: tuple[int, int], part: str) -> tuple[int, int] | None:
    """Where the first place of `part` from `reached` on ends, as (life, events of that life); None: it has none."""
    place = _find_whole(wholes, reached, part)
    for opening in range(1, min(OPENING_MOST, len(part) - 1) + 1):
        if place is not None:
            break
        first = _find_whole(wholes, reached, part[:opening])
        if first is None:
            break
        place = _find_whole(wholes, (first[0] + 1, 0), part[opening:])
    return place


def _find_whole(wholes: Sequence[str], reached: tuple[int, int], part: str) -> tuple[int, int] | None:
    """The same for a part of a single life."""
    for number in range(reached[0], len(wholes)):
        at = wholes[number].find(part, reached[1] if number == reached[0] else 0)
        if at >= 0:
            return number, at + len(part)
    return None


def _note(found: Agreement, text: str) -> None:
    found.holes += 1
    found.examples.append(text)


def _hole(wholes: Sequence[str], part: str) -> str:
    """Where the longest beginning of `part` that was told ends."""
    low, high = 0, len(part)
    while low < high:
        middle = (low + high + 1) // 2
        if any(part[:middle] in whole for whole in wholes):
            low = middle
        else:
            high = middle - 1
    return f"it breaks after event {low}"
