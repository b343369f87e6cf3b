"""The problems' core: what a person should know of, or do (design 03, *Problems*). No I/O; the store only writes them.

A problem is one row for its type and object, however often it comes: it counts up, closes itself when the cause is
gone, and opens again as the same row. How it is solved is in `solving`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

MAX_TEXT = 1024
USUAL_PERIOD_S = 300.0
USUAL_ATTEMPTS = 5
FLAP_S = 600.0
"""One that opens again so soon after it was solved is taken to be the same illness: its attempts count on."""
FLAPS = 3
"""So often in a row, and it is flapping: it stays open until its cause has been gone for `FLAP_S` at a stretch."""


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
    RETURNED = "removed_node_reports"
    DUPLICATE = "vm_duplicate"
    INSTALL_FAILED = "vm_install_failed"
    REFUSED = "messages_refused"
    AUTHENTICATION = "authentication_failures"
    OVERFLOW = "outbox_overflow"
    SKEW = "clock_skew"
    ID_CONFLICT = "nodes_id_conflict"


class Phase(StrEnum):
    """Where a problem is in its life: open -> solving -> solved or failed; each of them may become any other."""

    OPEN = "open"
    SOLVING = "solving"
    FAILED = "failed"
    SOLVED = "solved"


Key = tuple[str, str]
"""(type, object)."""


class Problem(Struct, frozen=True):
    """`object`: what it is about, as its type names it (a UUID, a node).

    `first`: when it was opened last, `last`: when it was seen last, `closed`: when it was solved (0: it is not), all in
    seconds since 1970 by the panel's clock.

    `automatic`, `period` (seconds), `most`: whether it is resolved automatically, how often, and how many attempts at
    most; they stay when it is solved and opens again. `attempts`: those made since it opened; `attempt`: the number of
    the one that is under way, 0 if there is none; `tried`: when the last one ended (0: none). `reopened`: how often in
    a row it opened again soon after it was solved; `gone`: since when the cause of a flapping one is gone (0: it is
    not).
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
    automatic: bool = True
    period: float = USUAL_PERIOD_S
    most: int = USUAL_ATTEMPTS
    attempts: int = 0
    attempt: int = 0
    tried: float = 0.0
    reopened: int = 0
    gone: float = 0.0

    @property
    def key(self) -> Key:
        return self.type, self.object

    @property
    def is_open(self) -> bool:
        """Also while it is being solved, or was tried to be."""
        return self.phase != Phase.SOLVED

    @property
    def is_flapping(self) -> bool:
        return self.reopened >= FLAPS and self.is_open


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
    seen = replace(before, level=str(level), text=text, last=now, count=before.count + 1, gone=0.0)
    problems.problems[key] = seen if before.is_open else _reopen(seen, now)
    return not before.is_open


def _reopen(before: Problem, now: float) -> Problem:
    phase = Phase.SOLVING if before.attempt else Phase.OPEN
    opened = replace(before, first=now, phase=phase, closed=0.0)
    if 0.0 <= now - before.closed < FLAP_S:
        return replace(opened, reopened=before.reopened + 1)
    return replace(opened, reopened=0, attempts=1 if before.attempt else 0, tried=0.0)


def keep_problem(problems: Problems, now: float, kind: str, subject: str, level: str, text: str) -> bool:
    """As `raise_problem` for a state that lasts: one that is open already is written again only if its text changed."""
    before = problems.problem((str(kind), subject))
    if before is None or not before.is_open or before.gone:
        return raise_problem(problems, now, kind, subject, level, text)
    if (before.level, before.text) != (str(level), text[:MAX_TEXT]):
        problems.problems[before.key] = replace(before, level=str(level), text=text[:MAX_TEXT], last=now)
    return False


def close_problem(problems: Problems, now: float, kind: str, subject: str) -> bool:
    """Its cause is gone. True if it was open, and is closed by this; a flapping one stays open for a while."""
    before = problems.problem((str(kind), subject))
    if before is None or not before.is_open:
        return False
    if before.is_flapping and not _is_calm(before, now):
        if not before.gone:
            problems.problems[before.key] = replace(before, gone=now, last=now)
        return False
    problems.problems[before.key] = solved(before, now)
    return True


def solved(before: Problem, now: float) -> Problem:
    """It is over."""
    calm = before.is_flapping and before.gone
    return replace(
        before, phase=Phase.SOLVED, closed=now, last=now, gone=0.0, reopened=0 if calm else before.reopened
    )


def end_flapping(problems: Problems, found: Mapping[Key, Problem], now: float) -> None:
    """Close those of `found` that were flapping and whose cause has been gone for long enough."""
    for problem in list(found.values()):
        if problem.is_open and problem.gone and _is_calm(problem, now):
            problems.problems[problem.key] = solved(problem, now)


def _is_calm(problem: Problem, now: float) -> bool:
    """Also if the clock went back: then nobody knows for how long."""
    return bool(problem.gone) and not 0.0 <= now - problem.gone < FLAP_S


def open_objects(problems: Mapping[Key, Problem], kind: str) -> list[str]:
    """What there is an open problem of this type about."""
    return [problem.object for problem in problems.values() if problem.type == kind and problem.is_open]
