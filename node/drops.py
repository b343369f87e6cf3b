"""When messages were dropped last: a count alone does not say whether it is over."""

from collections import Counter


class Drops:
    """Looks at the outbox's counts, turn by turn. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._total = 0
        self._at: float | None = None

    def age_s(self, now: float, dropped: Counter[str]) -> float | None:
        """Seconds since the counts grew last; None if nothing was dropped in this run."""
        total = dropped.total()
        if total != self._total:
            self._total, self._at = total, now
        return None if self._at is None else round(now - self._at, 3)
