"""What libvirt told in each life of a libvirtd, and whether the node told all of it without a hole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Told = tuple[str, str, str]
"""Name of the VM, event, detail."""


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

    The sequence of calls is random, so a part of some length lies at one place only.
    """
    found = Agreement()
    numbers: dict[Told, str] = {}

    def text(events: Sequence[Told]) -> str:
        return "".join(numbers.setdefault(event, chr(0x100 + len(numbers))) for event in events)

    wholes = []
    for number, life in enumerate(lives):
        whole = text(life.done)
        wholes.append(whole)
        found.observed += len(life.observed)
        if not whole.startswith(text(life.observed)):
            _note(found, f"libvirtd's life {number}: the observer saw something else than was done")
    if lives and len(lives[-1].observed) < len(lives[-1].done):
        _note(found, "the observer has not seen the last events")
    life_now, after = 0, 0
    for epoch, events in sorted(runs.items()):
        part = text(events)
        place = next(
            (
                (number, at)
                for number in range(life_now, len(wholes))
                if (at := wholes[number].find(part, after if number == life_now else 0)) >= 0
            ),
            None,
        )
        if place is None:
            _note(found, f"the {len(part)} events of epoch {epoch} are no part of libvirt's: {_hole(wholes, part)}")
            continue
        life_now, after = place[0], place[1] + len(part)
        found.told += len(part)
    found.untold = sum(map(len, wholes)) - found.told
    if wholes and (life_now, after) != (len(wholes) - 1, len(wholes[-1])):
        _note(found, "the node has not told the last events")
    return found


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
