"""Median, 99th percentile and the longest of a number of delays."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.figures import Figures, Goal

P99_WITHIN = 5.0
"""Times the median, at 100 events/s."""
FEW = 100
"""With fewer delays the 99th percentile is nearly the longest and says little."""


@dataclass(frozen=True)
class Delays:
    """Milliseconds."""

    count: int
    median: float
    p99: float
    most: float

    @classmethod
    def of(cls, delays_ms: Sequence[float]) -> "Delays":
        """Of at least two."""
        ordered = sorted(delays_ms)
        p99 = statistics.quantiles(ordered, n=100, method="inclusive")[98]
        return cls(len(ordered), statistics.median(ordered), p99, ordered[-1])

    def tell(self, figures: Figures, name: str, text: str, *, judged: bool = False) -> None:
        """Add them to the figures; `judged`: with the goal for the 99th percentile."""
        figures.add(f"{name}_median", f"{text}: median of {self.count}", self.median, "ms")
        figures.add(f"{name}_p99", f"{'':{len(text)}}  p99", self.p99, "ms")
        figures.add(f"{name}_most", f"{'':{len(text)}}  longest", self.most, "ms")
        if judged:
            ratio = self.p99 / self.median
            figures.add(
                f"{name}_p99_ratio", f"{'':{len(text)}}  p99 / median", ratio, "", Goal(P99_WITHIN, at_most=True)
            )
