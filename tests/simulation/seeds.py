"""Runs of many seeds: side by side, with the failing ones shrunk to what they need to fail."""

import gc
import os
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.simulation.cluster import Cluster
from tests.simulation.storm import drawn
from tests.simulation.truth import PromiseBroken

CHUNK = 250


@dataclass(frozen=True)
class Broken:
    """A seed that breaks the promise, and the parts of its storm that it does not need for that."""

    seed: int
    text: str
    left_out: tuple[str, ...] = ()
    by_promise: bool = True
    """False: an exception that no part of the simulation expects."""

    def __str__(self) -> str:
        without = f" --without {','.join(self.left_out)}" if self.left_out else ""
        return f"seed {self.seed}: {self.text}\nreplay it: python -m tests.simulation {self.seed}{without}"


def run(seed: int, left_out: Collection[str] = ()) -> Broken | None:
    """Run one seed. Any exception breaks the promise as well: what raises it would have ended a program."""
    try:
        Cluster(drawn(seed, left_out)).run()
    except PromiseBroken as error:
        return Broken(seed, str(error), tuple(left_out))
    except Exception as error:
        return Broken(seed, f"{type(error).__name__}: {error}", tuple(left_out), by_promise=False)
    return None


def shrink(broken: Broken) -> Broken:
    """Leave out of the seed's storm whatever it breaks without, part by part."""
    for part in drawn(broken.seed, broken.left_out).parts:
        broken = run(broken.seed, (*broken.left_out, part)) or broken
    return broken


def run_many(seeds: Iterable[int]) -> list[Broken]:
    """Run these in this process; returns the broken ones."""
    gc.disable()  # a run's garbage is full of cycles, and all of it is gone at once
    gc.freeze()  # what was imported is none, and need not be looked through
    try:
        found = []
        for number, seed in enumerate(seeds):
            if number % 10 == 0:
                gc.collect()
            if broken := run(seed):
                found.append(broken)
        return found
    finally:
        gc.unfreeze()
        gc.enable()


def run_side_by_side(seeds: range, processes: int = 0) -> Iterator[tuple[range, list[Broken]]]:
    """Run these in several processes, a chunk each at a time; yields each chunk when it is done."""
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(max_workers=processes or os.cpu_count()) as pool:
        yield from zip(chunks, pool.map(run_many, chunks), strict=True)
