"""A replaceable clock: programs use `SystemClock`, the simulation its own."""

import time
from typing import Protocol


class Clock(Protocol):
    """Durations come from `monotonic`; `wall` is only ever a label (design 01, *clock jumps*)."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never goes back."""
        ...

    def wall(self) -> float:
        """Seconds since 1970; may jump both ways."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()
