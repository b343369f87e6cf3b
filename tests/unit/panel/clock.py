"""A clock that a test moves."""


class FakeClock:
    """Seconds; both clocks stand still until the test moves them."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now
