"""How problems are solved: when an attempt is due, what it leaves behind, and what is a person's to do.

A core without I/O (design 03, *Problems*): `mender` makes the attempts.
"""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from vmwatch.panel.checkup import is_on_purpose
from vmwatch.panel.problems import Kind, Phase, Problem, solved

ADVICE: Mapping[str, str] = {
    Kind.MASTER_STOPPED: "Look at var/vmwatch-master.log on the panel's host, and start vmwatch-master.",
    Kind.NODE_STOPPED: "Look at var/vmwatch-node.log on the node, and start vmwatch-node.",
    Kind.NODE_UNAVAILABLE: "Look whether the machine runs and is reachable, and whether libvirtd answers there.",
    Kind.NODE_SILENT: "Look whether the node runs, whether libvirtd answers there, and whether the node reaches"
    " vmwatch-master on both ports.",
    Kind.RETURNED: "Stop vmwatch-node there and remove the node again, or add it to keep it.",
    Kind.DUPLICATE: "Find out which of the two is the right one, and stop, rename or undefine the other; vmwatch never"
    " destroys anything.",
    Kind.INSTALL_FAILED: "Look at the reason and at the VM's console, and begin the installation again.",
    Kind.REFUSED: "Look at the messages in var/vmwatch-master.dead on the master's host: a node of another version, or"
    " one that is not ours, may have sent them.",
    Kind.AUTHENTICATION: "Find out who it is at that address: correct the password or the key there, or shut him out"
    " with a firewall.",
    Kind.OVERFLOW: "Make room on the node's disk or raise outbox_max_mb there, and find out why the panel did not take"
    " the messages.",
    Kind.SKEW: "Set the node's clock, and have it kept by NTP.",
    Kind.ID_CONFLICT: "Give one of the two agents another node_id, and restart it.",
}
"""What a person must do about each type; one sentence."""


class Outcome(StrEnum):
    """What came of an attempt; empty while it is under way."""

    NONE = ""
    SOLVED = "solved"
    FAILED = "failed"
    LATE = "timeout"
    CUT = "cut"
    """The panel ended during it."""


class Attempt(Struct, frozen=True):
    """One attempt at a problem. `began`, `ended` (0: it has not): seconds since 1970 by the panel's clock.

    `who`: the account that asked for it, empty for an automatic one. `text`: what came of it in a sentence; `output`:
    the last lines of what it told, `lines`: how many it told altogether.
    """

    id: int
    problem: int
    began: float
    who: str = ""
    ended: float = 0.0
    outcome: Outcome = Outcome.NONE
    text: str = ""
    output: str = ""
    lines: int = 0


def begun(problem: Problem, attempt: int) -> Problem:
    """An attempt with this number is under way."""
    phase = Phase.SOLVING if problem.is_open else Phase.SOLVED
    return replace(problem, phase=phase, attempt=attempt, attempts=problem.attempts + 1)


def ended(problem: Problem, outcome: Outcome, now: float) -> Problem:
    """The attempt is over; a problem whose cause went away meanwhile stays solved. `now`: wall clock, seconds."""
    after = replace(problem, attempt=0, tried=now)
    if not problem.is_open:
        return after
    return solved(after, now) if outcome is Outcome.SOLVED else replace(after, phase=Phase.FAILED)


def next_at(problem: Problem) -> float:
    """When the next automatic attempt is due (wall clock, seconds), 0 if there will be none.

    The first one comes a period after the problem opened: it may go away by itself, and a person may be quicker.
    """
    if not problem.automatic or not problem.is_open or problem.attempt or problem.gone:
        return 0.0
    if is_on_purpose(problem.object, problem.text):
        return 0.0
    return max(problem.first, problem.tried) + problem.period if problem.attempts < problem.most else 0.0


def is_due(problem: Problem, now: float) -> bool:
    """Is an automatic attempt due? Also where the clock went back so far that nobody knows."""
    at = next_at(problem)
    return bool(at) and not 0.0 < at - now <= problem.period


def is_muted(problem: Problem, maintenance: Mapping[str, float], now: float) -> bool:
    """Is its object in maintenance? `maintenance`: until when (wall clock, seconds), by object."""
    return now < maintenance.get(problem.object, 0.0)
