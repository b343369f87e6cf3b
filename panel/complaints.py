"""Problems that follow from what the panel is told, or asked, beside the nodes' lives (`watch`). A core without I/O.

Each is raised by what it names and closes itself: a skewed clock when it is right again, the others when nothing more
of the kind has come for a while. Times are wall clock seconds.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from vmwatch.panel.problems import (
    Key,
    Kind,
    Level,
    Problem,
    Problems,
    close_problem,
    end_flapping,
    keep_problem,
    open_objects,
    raise_problem,
)
from vmwatch.shared.report import Refusal, Rejected

SKEW_S = 60.0
"""A clock that is further away is worth a word (design 02)."""
LOGINS = 10
"""So many wrong passwords within `LOGINS_WITHIN_S` are no typing errors."""
LOGINS_WITHIN_S = 300.0
QUIET_S: Mapping[str, float] = {Kind.REFUSED: 86400.0, Kind.OVERFLOW: 600.0}
"""So long after the last one it is over. Refused messages are a person's to look at: where nobody can say what lies
among the dead letters, he has a day."""
LETTERS_LATE_S = 5.0
"""So long after the panel's word a letter may come to lie there."""
KNOCKS = 10
"""So many messages with a wrong key within `LOGINS_WITHIN_S` are no accident."""
PANEL = "vmwatch-panel"
MASTER = "vmwatch-master"


class AllProblems(Problems, Protocol):
    """A draft (`knowledge.Draft`)."""

    def all_problems(self) -> Mapping[Key, Problem]:
        """Those that are changed here, and all others."""
        ...


class WrongLogin(NamedTuple):
    """Somebody had a wrong password, or was not even asked for it after too many; `at`: monotonic seconds."""

    at: float
    address: str
    account: str


@dataclass(frozen=True)
class Lying:
    """How many dead letters of a node lie on the master's host; the last one's place in the order, and why it does."""

    count: int
    seq: int
    reason: str


class Knocks:
    """What the master dropped lately because it had no valid key: counts of its run by monotonic seconds."""

    def __init__(self) -> None:
        self._master = ""
        self._told: deque[tuple[float, int]] = deque()
        self.worst = Rejected(0)

    def hear(self, now: float, master: str, rejects: Rejected) -> None:
        """A report of this run of a master said so."""
        if master != self._master:
            # What was dropped before the panel began is old news; what a new run has dropped is not.
            self._told = deque([(now, 0 if self._master else rejects.count)])
            self._master = master
        if rejects.count > self._told[-1][1]:
            self._told.append((now, rejects.count))
            self.worst = rejects

    def lately(self, now: float) -> int:
        """How many within `LOGINS_WITHIN_S`."""
        while len(self._told) > 1 and self._told[1][0] <= now - LOGINS_WITHIN_S:
            self._told.popleft()
        return self._told[-1][1] - self._told[0][1] if self._told else 0


def refuse(draft: Problems, now: float, node: str, refusals: Sequence[Refusal]) -> None:
    """The panel will never take these messages of a node."""
    last, count = refusals[-1], _count(len(refusals), "message")
    text = f"{node}: {count} refused; the last one, seq {last.seq}: {last.object}: {last.msg}"
    raise_problem(draft, now, Kind.REFUSED, node, Level.ERROR, text)


def judge_letters(draft: AllProblems, now: float, lying: Mapping[str, Lying]) -> None:
    """`lying`: by node, all that lies there. Also what the master gave up by itself, and the panel never saw."""
    for node, letters in lying.items():
        head = f"{node}: dead letters: "
        before = draft.problem((Kind.REFUSED, node))
        if before is not None and before.is_open and not before.gone and not before.text.startswith(head):
            continue  # the panel's own word of what it refused is more exact
        text = f"{head}{letters.count}; the last one, seq {letters.seq}: {letters.reason}"
        keep_problem(draft, now, Kind.REFUSED, node, Level.ERROR, text)
    found = draft.all_problems()
    for node in open_objects(found, Kind.REFUSED):
        if node not in lying and not 0.0 <= now - found[Kind.REFUSED, node].last < LETTERS_LATE_S:
            close_problem(draft, now, Kind.REFUSED, node)


def drop(draft: Problems, now: float, node: str, counts: Mapping[str, int]) -> None:
    """A node says that it dropped messages, by type."""
    told = ", ".join(f"{number} of type {kind}" for kind, number in sorted(counts.items()) if number)
    level = Level.ERROR if counts.get("event") else Level.WARNING
    text = f"{node} had no room for messages and dropped {told or 'some'}: its disk or outbox_max_mb is full"
    raise_problem(draft, now, Kind.OVERFLOW, node, level, text)


def judge_clock(draft: Problems, now: float, node: str, skew_s: float) -> None:
    """By how many seconds a node's clock is behind that of the master's host."""
    if abs(skew_s) <= SKEW_S:
        close_problem(draft, now, Kind.SKEW, node)
        return
    minutes = round(abs(skew_s) / 60)  # in seconds the text would change all the time
    way = "behind" if skew_s > 0 else "ahead of"
    text = f"the clock of {node} is about {_count(minutes, 'minute')} {way} that of vmwatch-master's host"
    keep_problem(draft, now, Kind.SKEW, node, Level.WARNING, text)


def judge_logins(draft: Problems, now: float, wrong: Sequence[WrongLogin]) -> None:
    """`wrong`: those of the last `LOGINS_WITHIN_S`. One problem for the panel: addresses cost an attacker nothing."""
    if not wrong:
        close_problem(draft, now, Kind.AUTHENTICATION, PANEL)
    elif len(wrong) >= LOGINS:
        (address, account), _ = Counter((one.address, one.account) for one in wrong).most_common(1)[0]
        text = f"wrong passwords for the panel come again and again, most of them from {address} for {account[:64]!r}"
        keep_problem(draft, now, Kind.AUTHENTICATION, PANEL, Level.WARNING, text)


def judge_knocks(draft: Problems, now: float, count: int, worst: Rejected) -> None:
    """`count`: messages that the master dropped lately; `worst`: who sent most of them."""
    if not count:
        close_problem(draft, now, Kind.AUTHENTICATION, MASTER)
    elif count >= KNOCKS:
        claimed = f", who says that he is {worst.node}" if worst.node else ""
        text = f"messages without a valid key come to vmwatch-master, most of them from {worst.address}{claimed}"
        keep_problem(draft, now, Kind.AUTHENTICATION, MASTER, Level.WARNING, text)


def settle(draft: AllProblems, now: float, lying: Mapping[str, Lying] | None = None) -> None:
    """Close what has been quiet for long enough, or is flapping no more. `lying`: see `judge_letters`, if known."""
    if lying is not None:
        judge_letters(draft, now, lying)
    found = draft.all_problems()
    for kind, quiet_s in QUIET_S.items():
        for subject in open_objects(found, kind):
            if kind == Kind.REFUSED and lying is not None:
                continue  # they are there for as long as they lie there
            if not 0.0 <= now - found[kind, subject].last < quiet_s:
                close_problem(draft, now, kind, subject)
    end_flapping(draft, found, now)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
