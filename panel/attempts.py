"""Reads the log of attempts at problems, and forgets what is old. Everything here may block."""

from collections.abc import Sequence

from sqlalchemy import select

from vmwatch.panel.expiry import DAY_S
from vmwatch.panel.problems import Key, Problem
from vmwatch.panel.schema import attempts
from vmwatch.panel.solving import Attempt, Outcome
from vmwatch.panel.store import Store


class Attempts:
    """The committed ones; what one that is under way has told so far only `mender` knows."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, problem: int) -> list[Attempt]:
        """All of a problem that are kept, newest first."""
        query = select(attempts).where(attempts.c.problem == problem).order_by(attempts.c.id.desc())
        with self._store.reading() as connection:
            rows = connection.execute(query).mappings()
            return [Attempt(**{**row, "outcome": Outcome(row["outcome"])}) for row in rows]


def forgettable(found: Sequence[Problem], now: float, days: int) -> list[Key]:
    """Problems that were solved longer ago than so many days: they go, with the log of their attempts."""
    oldest = now - days * DAY_S
    return [one.key for one in found if not one.is_open and not one.attempt and 0.0 < one.closed < oldest]
