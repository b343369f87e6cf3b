"""The problems' core: what a person should know of, or do (design 03, *Problems*). No I/O; the store only writes them.

A problem is one row for its type and object, however often it comes: it counts up, closes itself when the cause is
gone, and opens again as the same row.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

MAX_TEXT = 1024


class Level(StrEnum):
    """How bad it is, in the original's words."""

    MESSAGE = "message"
    WARNING = "warning"
    ERROR = "error"
    FATAL = "fatal"


class Kind(StrEnum):
    """The types of problems."""

    MASTER_STOPPED = "vmwatch_master_stopped"
    NODE_STOPPED = "vmwatch_node_stopped"
    NODE_SILENT = "vmwatch_node_silent"
    NODE_UNAVAILABLE = "node_unavailable"
    DUPLICATE = "vm_duplicate"
    INSTALL_FAILED = "vm_install_failed"
    REFUSED = "messages_refused"
    AUTHENTICATION = "authentication_failures"
    OVERFLOW = "outbox_overflow"
    SKEW = "clock_skew"
    ID_CONFLICT = "nodes_id_conflict"


class Phase(StrEnum):
    """Where a problem is in its life."""

    OPEN = "open"
    SOLVED = "solved"


Key = tuple[str, str]
"""(type, object)."""


class Problem(Struct, frozen=True):
    """`object`: what it is about, as its type names it (a UUID, a node).

    `first`: when it was opened last, `last`: when it was seen last, `closed`: when it was solved (0: it is not), all in
    seconds since 1970 by the panel's clock.
    """

    id: int
    type: str
    object: str
    level: str
    text: str
    first: float
    last: float
    count: int = 1
    phase: str = Phase.OPEN
    closed: float = 0.0

    @property
    def key(self) -> Key:
        return self.type, self.object

    @property
    def is_open(self) -> bool:
        return self.phase != Phase.SOLVED


class Problems(Protocol):
    """Where problems are kept: a draft (`knowledge.Draft`)."""

    problems: dict[Key, Problem]

    def problem(self, key: Key) -> Problem | None:
        """The problem as it is now."""
        ...

    def next_problem(self) -> int:
        """A number that no problem has."""
        ...


def raise_problem(problems: Problems, now: float, kind: str, subject: str, level: str, text: str) -> bool:
    """It is there: open it, or count it once more. True if it was not open before. `now`: wall clock, seconds."""
    key, text = (str(kind), subject), text[:MAX_TEXT]
    before = problems.problem(key)
    if before is None:
        made = Problem(problems.next_problem(), key[0], subject, str(level), text, now, now)
        problems.problems[key] = made
        return True
    first = before.first if before.is_open else now
    problems.problems[key] = replace(
        before, level=str(level), text=text, first=first, last=now, count=before.count + 1, phase=Phase.OPEN, closed=0.0
    )
    return not before.is_open


def keep_problem(problems: Problems, now: float, kind: str, subject: str, level: str, text: str) -> bool:
    """As `raise_problem` for a state that lasts: one that is open already is written again only if its text changed."""
    before = problems.problem((str(kind), subject))
    if before is None or not before.is_open:
        return raise_problem(problems, now, kind, subject, level, text)
    if (before.level, before.text) != (str(level), text[:MAX_TEXT]):
        problems.problems[before.key] = replace(before, level=str(level), text=text[:MAX_TEXT], last=now)
    return False


def close_problem(problems: Problems, now: float, kind: str, subject: str) -> bool:
    """Its cause is gone. True if it was open."""
    before = problems.problem((str(kind), subject))
    if before is None or not before.is_open:
        return False
    problems.problems[before.key] = replace(before, phase=Phase.SOLVED, closed=now, last=now)
    return True


def open_objects(problems: Mapping[Key, Problem], kind: str) -> list[str]:
    """What there is an open problem of this type about."""
    return [problem.object for problem in problems.values() if problem.type == kind and problem.is_open]
