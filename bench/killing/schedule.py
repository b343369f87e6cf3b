"""Which process is killed when: drawn from a seed, so that a run can be repeated."""

import random
from dataclasses import dataclass
from enum import StrEnum

LATER_MOST_S = 0.05
"""Moments are counted in events, which come in bursts; so much chance is added, to fall into the gaps as well."""


class Target(StrEnum):
    """What is killed. `generator` is a node agent too, one that needs no libvirt."""

    NODE = "node"
    GENERATOR = "generator"
    MASTER = "master"
    WORKER = "worker"
    PANEL = "panel"
    LIBVIRTD = "libvirtd"


@dataclass(frozen=True)
class Kill:
    """One kill: when so many events have been made, and `later_s` after that.

    `draw`, from 0 to below 1, chooses among several processes of one target.
    """

    at_events: int
    later_s: float
    target: Target
    draw: float


def schedule(kills: int, seed: int, events_per_kill: int) -> list[Kill]:
    """So many kills in the order of their moments: each target as often as any other, in a random order."""
    chance = random.Random(f"kills {seed}")
    targets = [target for _ in range(-(-kills // len(Target))) for target in chance.sample(list(Target), len(Target))]
    targets = targets[:kills]
    chance.shuffle(targets)
    return [
        Kill(
            at_events=int((number + chance.random()) * events_per_kill),
            later_s=chance.uniform(0, LATER_MOST_S),
            target=target,
            draw=chance.random(),
        )
        for number, target in enumerate(targets)
    ]
