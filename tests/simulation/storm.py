"""What goes wrong in a run: drawn from its seed in full before it begins, so that a part of it can be left out."""

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    """A fault that strikes at a moment (design 01, *What a fault does*)."""

    KILL_NODE = "kill_node"
    HANG_NODE = "hang_node"
    KILL_MASTER = "kill_master"
    HANG_MASTER = "hang_master"
    KILL_WORKER = "kill_worker"
    HANG_WORKER = "hang_worker"
    KILL_PANEL = "kill_panel"
    HANG_PANEL = "hang_panel"
    BAD_ANSWERS = "bad_answers"
    RESTORE_PANEL = "restore_panel"
    CUT = "cut"
    CUT_UP = "cut_up"
    CUT_DOWN = "cut_down"
    RESTORE_DISK = "restore_disk"
    LOSE_DISK = "lose_disk"
    MOVE_NODE = "move_node"
    CLONE_NODE = "clone_node"
    STEP_CLOCK = "step_clock"
    ROTATE_SECRET = "rotate_secret"
    REPLAY = "replay"


_KINDS = tuple(Kind)


@dataclass
class Weather:
    """How bad the network is, as probabilities. All zero: it is calm."""

    lose: float = 0.0
    repeat: float = 0.0
    straggle: float = 0.0
    """That something takes seconds instead of milliseconds, and so is overtaken."""

    def calm(self) -> None:
        self.lose = self.repeat = self.straggle = 0.0


@dataclass(frozen=True)
class Strike:
    """One fault: when, seconds after the beginning, and the luck that decides whom it hits and for how long."""

    at_s: float
    kind: Kind
    luck: int


@dataclass
class Storm:
    """One run's troubles. `left_out`: names of `parts` that were taken out of what the seed gives."""

    seed: int
    length_s: float
    nodes: int
    masters: int
    workers: int
    weather: Weather
    poison: float
    """Probability that an event is one that the panel always fails on, that kills its worker, or of no known type."""
    small_outbox: bool
    strikes: list[Strike] = field(default_factory=list)
    left_out: tuple[str, ...] = ()

    @property
    def parts(self) -> list[str]:
        """Names of all that can be left out, for `drawn`."""
        names = [f"strike{number}" for number in range(len(self.strikes))]
        names += [name for name in ("lose", "repeat", "straggle") if getattr(self.weather, name)]
        names += [name for name in ("poison", "small_outbox") if getattr(self, name)]
        for name in ("nodes", "masters", "workers"):
            names += [f"{name}{count}" for count in range(1, getattr(self, name))]
        return [*names, "half", "quarter"]


def drawn(seed: int, left_out: Collection[str] = ()) -> Storm:
    """The storm of a seed, without the parts that are named.

    Each has some kinds of faults only: rare combinations come up sooner than if each run had a little of everything.
    """
    chance = random.Random(seed * 2 + 1)
    length_s = chance.choice((4.0, 6.0, 9.0))
    storm = Storm(
        seed,
        length_s,
        nodes=chance.choice((1, 1, 1, 2)),
        masters=chance.choice((1, 1, 1, 2)),
        workers=chance.choice((1, 2, 2, 3)),
        weather=Weather(
            lose=chance.choice((0.0, 0.0, 0.02, 0.2)),
            repeat=chance.choice((0.0, 0.0, 0.1)),
            straggle=chance.choice((0.0, 0.02, 0.15)),
        ),
        poison=chance.choice((0.0, 0.0, 0.0, 0.05)),
        small_outbox=chance.random() < 0.06,
    )
    kinds = chance.sample(_KINDS, chance.choice((1, 2, 3, 4)))
    for _ in range(chance.choice((1, 2, 3, 4, 5, 7))):
        storm.strikes.append(Strike(chance.uniform(0.2, length_s), chance.choice(kinds), chance.getrandbits(32)))
    return _without(storm, tuple(left_out))


def _without(storm: Storm, names: tuple[str, ...]) -> Storm:
    if unknown := [name for name in names if name not in storm.parts]:
        raise ValueError(f"seed {storm.seed} has no {', '.join(unknown)}; there are {', '.join(storm.parts)}")
    storm.strikes = [strike for number, strike in enumerate(storm.strikes) if f"strike{number}" not in names]
    for name in ("lose", "repeat", "straggle"):
        if name in names:
            setattr(storm.weather, name, 0.0)
    storm.poison = 0.0 if "poison" in names else storm.poison
    storm.small_outbox = storm.small_outbox and "small_outbox" not in names
    for name in ("nodes", "masters", "workers"):
        counts = [count for count in range(1, getattr(storm, name)) if f"{name}{count}" in names]
        setattr(storm, name, min([*counts, getattr(storm, name)]))
    storm.length_s *= 0.25 if "quarter" in names else 0.5 if "half" in names else 1.0
    storm.strikes = [strike for strike in storm.strikes if strike.at_s < storm.length_s]
    storm.left_out = names
    return storm
