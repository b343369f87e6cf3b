"""Figures: what is measured of a service, against which thresholds, and its performance data. A core without I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vmwatch.healthcheck.facts import Facts, Status
from vmwatch.healthcheck.levels import Finding, Level
from vmwatch.healthcheck.ranges import Range, plain

_WORDS = {"s": "s", "B": "bytes", "%": "%", "c": "", "": ""}


@dataclass(frozen=True)
class Bound:
    """A default threshold. `text` says it in the documentation; `of` makes it where it depends on the service."""

    text: str
    of: Callable[[Status], str] | None = None

    def range(self, status: Status) -> Range:
        return Range.parse(self.text if self.of is None else self.of(status))


NEVER_ALERTS = Bound("~:")


@dataclass(frozen=True)
class Figure:
    """`unit`: of performance data (s, B, %, c for a counter, empty for a number). `read`: None if there is no value."""

    name: str
    unit: str
    meaning: str
    read: Callable[[Facts], float | None]
    warning: Bound = NEVER_ALERTS
    critical: Bound = NEVER_ALERTS


@dataclass(frozen=True)
class Thresholds:
    """What the command line says instead of the defaults, by figure."""

    warning: Mapping[str, Range]
    critical: Mapping[str, Range]


NO_THRESHOLDS = Thresholds({}, {})


@dataclass(frozen=True)
class Measured:
    """A figure's value against its thresholds."""

    figure: Figure
    value: float
    warning: Range
    critical: Range

    @property
    def level(self) -> Level:
        if self.critical.alerts(self.value):
            return Level.CRITICAL
        return Level.WARNING if self.warning.alerts(self.value) else Level.OK

    def finding(self) -> Finding | None:
        """What is not well with it, if anything is."""
        level = self.level
        if level is Level.OK:
            return None
        unit = _WORDS[self.figure.unit]
        crossed = (self.critical if level is Level.CRITICAL else self.warning).in_words(unit)
        value = f"{self.value:.1f}".removesuffix(".0") + (f" {unit}" if unit else "")
        return Finding(self.figure.name, level, f"{self.figure.meaning}: {value} ({level.name.lower()} {crossed})")

    def performance(self) -> str:
        """`'label'=value[unit];[warning];[critical];[minimum];[maximum]`, without empty ends."""
        warning, critical = ("" if limit.never_alerts else str(limit) for limit in (self.warning, self.critical))
        highest = "100" if self.figure.unit == "%" else ""
        fields = [f"{plain(self.value)}{self.figure.unit}", warning, critical, "0", highest]
        return f"{self.figure.name}={';'.join(fields).rstrip(';')}"


def measure(figures: Sequence[Figure], facts: Facts, thresholds: Thresholds = NO_THRESHOLDS) -> list[Measured]:
    """All figures that there is a value of, in their order."""
    measured = []
    for figure in figures:
        value = figure.read(facts)
        if value is not None:
            warning = thresholds.warning.get(figure.name) or figure.warning.range(facts.status)
            critical = thresholds.critical.get(figure.name) or figure.critical.range(facts.status)
            measured.append(Measured(figure, value, warning, critical))
    return measured
