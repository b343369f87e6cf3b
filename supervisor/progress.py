"""Whether anything moves: when the panel answered last, for how long nothing in flight was settled. A core."""

from vmwatch.shared.handover import PresenceDone, Result, Settled


class Progress:
    """Times are monotonic seconds. A master that lives while nothing moves is not well (design 04, *Health*)."""

    def __init__(self, now: float) -> None:
        self._answered_at: float | None = None
        self._moved_at = now

    def heard(self, now: float, result: Result) -> None:
        """A worker of now said this."""
        if isinstance(result, Settled):
            if result.delivered or result.verdicts:
                self._answered_at = now
            if result.delivered or result.refused:
                self._moved_at = now
        elif isinstance(result, PresenceDone) and result.delivered:
            self._answered_at = now

    def look(self, now: float, in_flight: int) -> None:
        """Once a turn: where nothing is in flight, nothing has to move."""
        if not in_flight:
            self._moved_at = now

    def panel_answer_age_s(self, now: float) -> float | None:
        """Since the panel's last answer that was understood; None before the first."""
        return None if self._answered_at is None else now - self._answered_at

    def stall_s(self, now: float) -> float:
        """For how long messages have been in flight and none was settled."""
        return now - self._moved_at
