"""Capped, jittered back-off: how long to wait after the n-th failure in a row."""

from dataclasses import dataclass, field
from random import Random


@dataclass
class Backoff:
    """Doubles from `first_s` up to `most_s`; each wait is between half of that and all of it.

    The jitter keeps many peers that failed together from returning together.
    """

    first_s: float
    most_s: float
    chance: Random = field(default_factory=Random)
    failures: int = 0

    def next_s(self) -> float:
        """Count one more failure and say how long to wait after it."""
        wait_s = min(self.most_s, self.first_s * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return wait_s * self.chance.uniform(0.5, 1.0)

    def reset(self) -> int:
        """A success: begin anew; returns how many failures came before it."""
        failures, self.failures = self.failures, 0
        return failures
