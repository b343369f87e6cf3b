"""Threshold ranges as Nagios plug-ins know them: `10`, `10:`, `~:10`, `10:20`, `@10:20`. A core without I/O.

https://www.monitoring-plugins.org/doc/guidelines.html, *Threshold and Ranges*.
"""

import math
import re
from dataclasses import dataclass

_RANGE = re.compile(r"(@?)(?:(~|-?[0-9]+(?:\.[0-9]+)?|-?\.[0-9]+)?:)?(-?[0-9]+(?:\.[0-9]+)?|-?\.[0-9]+)?")
ALLOWED = "10 (alert outside 0 to 10), 10: (below 10), ~:10 (above 10), 10:20 (outside), @10:20 (inside), ~: (never)"


@dataclass(frozen=True)
class Range:
    """Values from `start` to `end`, both included, are well; with `inside` they are what alerts."""

    start: float = 0.0
    end: float = math.inf
    inside: bool = False

    @classmethod
    def parse(cls, text: str) -> "Range":
        """Raises ValueError that says what is allowed."""
        match = _RANGE.fullmatch(text.strip())
        if match is None or not text.strip("@ "):
            raise ValueError(f"{text!r} is no range; allowed are {ALLOWED}")
        at, start, end = match.groups()
        made = cls(
            -math.inf if start == "~" else float(start or 0),
            math.inf if end is None else float(end),
            bool(at),
        )
        if made.start > made.end:
            raise ValueError(f"{text!r} is no range: it begins above its end")
        return made

    def alerts(self, value: float) -> bool:
        """Whether this value is a reason to alert."""
        return (self.start <= value <= self.end) is self.inside

    @property
    def never_alerts(self) -> bool:
        """There is no value that it alerts for."""
        return not self.inside and math.isinf(self.start) and math.isinf(self.end)

    def __str__(self) -> str:
        at = "@" if self.inside else ""
        end = "" if math.isinf(self.end) else plain(self.end)
        if self.start == 0 and end:
            return at + end
        return f"{at}{'~' if math.isinf(self.start) else plain(self.start)}:{end}"

    def in_words(self, unit: str) -> str:
        """When it alerts, for people, such as `above 10 s`."""
        space = f" {unit}" if unit else ""
        if self.inside:
            return f"from {plain(self.start)} to {plain(self.end)}{space}"
        if math.isinf(self.end):
            return f"below {plain(self.start)}{space}"
        if self.start <= 0:
            return f"above {plain(self.end)}{space}"
        return f"outside {plain(self.start)} to {plain(self.end)}{space}"


NEVER = Range(-math.inf, math.inf)


def plain(value: float) -> str:
    """A number without an exponent, as performance data have it; at most millionths."""
    if math.isinf(value):
        return "~" if value < 0 else ""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
