"""Rates of a VM's counters: per second, between two consecutive samples of one VM on one node. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vmwatch.panel.schema import COUNTERS

RATED = tuple(name for name in COUNTERS if name != "memory_kib")
"""Counters that only grow while a VM runs. `memory_kib` is a level and has no rate."""
RUN_COUNTER = "cpu_ns"
"""Belongs to the VM's process: where it went back, the VM was started anew, and so were all its counters."""

Sample = Mapping[str, Any]
"""A row of `stats`."""


def rates(before: Sample | None, sample: Sample) -> dict[str, float | None]:
    """Per second, by counter; None where there is none: no sample before, a counter that is missing in either or went
    back (a start, a card or a disk that was taken away), or a node's clock that did not go on. Never negative."""
    if before is None or sample["taken"] <= before["taken"]:
        return dict.fromkeys(RATED)
    grown = {name: _grown(before[name], sample[name]) for name in RATED}
    if _went_back(before[RUN_COUNTER], sample[RUN_COUNTER]):
        return dict.fromkeys(RATED)
    seconds = sample["taken"] - before["taken"]
    return {name: None if growth is None else growth / seconds for name, growth in grown.items()}


def with_rates(samples: Sequence[Sample], before: Iterable[Sample]) -> list[tuple[Sample, dict[str, float | None]]]:
    """Samples of one VM in the order of registration with their rates; `before`: of each node the one before them."""
    last = {sample["node"]: sample for sample in before}
    found = []
    for sample in samples:
        found.append((sample, rates(last.get(sample["node"]), sample)))
        last[sample["node"]] = sample
    return found


def _grown(before: int | None, now: int | None) -> int | None:
    if before is None or now is None or now < before:
        return None
    return now - before


def _went_back(before: int | None, now: int | None) -> bool:
    return before is not None and now is not None and now < before
