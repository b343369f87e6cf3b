"""Wall-clock time that does not jump within a run (design 01, *clock jumps*)."""

from vmwatch.shared.clock import Clock


class SteadyTime:
    """Microseconds since 1970 as they were at the start, carried on by the monotonic clock.

    For the outbox: its epochs never go back within a run, and the age of its rows is a duration.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_s = clock.wall() - clock.monotonic()

    def now_us(self) -> int:
        """Never less than before."""
        return int((self._offset_s + self._clock.monotonic()) * 1e6)
