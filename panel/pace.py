"""How much of a long work is done at a time: as many rows as take a wanted time, by what the last ones took."""

from dataclasses import dataclass


@dataclass
class Pace:
    """`rows`: of the next step, from `least` to `most`; a step shall take `goal_s` seconds."""

    goal_s: float
    least: int
    most: int
    rows: int = 0

    def __post_init__(self) -> None:
        self.rows = self.rows or self.least

    def took(self, rows: int, seconds: float) -> None:
        """A step with so many rows took so long. One that was too long makes the next one shorter at once; one that
        was short makes it twice as large at most: the next rows may lie on pages that are not in memory."""
        wanted = int(min(self.most, rows * self.goal_s / seconds)) if seconds > 0 else 2 * rows
        self.rows = max(self.least, min(self.most, wanted, 2 * max(rows, 1)))
