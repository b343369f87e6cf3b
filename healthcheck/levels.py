"""How bad something is, and what state a service is in: the words of the probe's answer (design 04, *Health*)."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Level(IntEnum):
    """A Nagios plug-in's exit codes."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


_ORDER = (Level.OK, Level.WARNING, Level.UNKNOWN, Level.CRITICAL)
"""From good to bad: what is known to be broken counts more than what cannot be told."""


def worst(levels: Iterable[Level]) -> Level:
    """The worst of them; OK if there is none."""
    return max(levels, key=_ORDER.index, default=Level.OK)


def severity(level: Level) -> int:
    """Its place from good (0) to bad."""
    return _ORDER.index(level)


class State(StrEnum):
    """What is the matter with a service, as far as it can be seen on its own machine."""

    OK = "ok"
    STARTING = "starting"
    """Its process runs and has had no time yet to answer."""
    ILL = "ill"
    """It runs and answers, and something that it does, or needs, is not well: the findings say what."""
    STOPPED = "stopped"
    """It does not run, and ended in order."""
    CRASHED = "crashed"
    """It does not run, and did not end in order."""
    STUCK = "stuck"
    """Its process lives and nothing moves."""
    MISSING = "missing"
    """The program is not installed."""
    MISCONFIGURED = "misconfigured"
    """It does not run, and its configuration would not let it."""
    DISABLED = "disabled"
    """It does not run, and its configuration says that it shall not."""
    MAINTENANCE = "maintenance"
    """Somebody works on it: whatever else is found is told and counts for nothing."""
    UNKNOWN = "unknown"
    """The probe could not find out."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not well. `name`: a word for programs; `text`: a sentence for people."""

    name: str
    level: Level
    text: str
