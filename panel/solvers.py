"""What solves problems: the interface of a solver, and the solvers of one panel by the type of problem.

A solver is an async function that does what it takes to bring one object back. It may assume that no other one works on
the same object, that it is called again if it fails (a few times), and that it was perhaps cut off the last time, so it
looks first what is done already. It must not block the event loop; it is cancelled when its time limit is over or the
panel stops, and must leave nothing running then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vmwatch.panel.problems import Problem

USUAL_LIMIT_S = 600.0

Tell = Callable[[str], None]
"""Tells one line of progress, which pages and commands show at once. For the event loop's thread."""


@dataclass(frozen=True)
class Result:
    """What came of it, in a sentence. `solved`: the object works again, as far as the solver can see."""

    solved: bool
    text: str


class Solver(Protocol):
    """See above. What it raises is a failed attempt, and a defect that the log shows."""

    async def __call__(self, problem: Problem, tell: Tell) -> Result: ...


@dataclass(frozen=True)
class Remedy:
    """A solver, and how long one attempt may take (seconds)."""

    solver: Solver
    limit_s: float


class Solvers:
    """By type of problem. One for a panel; filled before it serves."""

    def __init__(self) -> None:
        self._remedies: dict[str, Remedy] = {}

    def add(self, kind: str, solver: Solver, limit_s: float = USUAL_LIMIT_S) -> None:
        """From now on problems of this type can be solved. One solver for a type."""
        if kind in self._remedies:
            raise ValueError(f"{kind} has a solver already")
        self._remedies[str(kind)] = Remedy(solver, limit_s)

    def of(self, kind: str) -> Remedy | None:
        """None: only a person can solve it (`solving.ADVICE`)."""
        return self._remedies.get(kind)
