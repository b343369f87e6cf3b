"""An attempt at a problem, followed to its end."""

from vmwatch.cli.client import PanelClient, PanelError, Row, Unreachable
from vmwatch.shared.backoff import Backoff

INTERVAL_S = 0.3
FIRST_WAIT_S = 0.5
MOST_WAIT_S = 5.0
SOLVED = "solved"


class AttemptTail:
    """Asks the panel what an attempt tells; one that is away is asked again, at growing intervals.

    The attempt goes on whether somebody follows it or not.
    """

    def __init__(self, client: PanelClient, problem: str, attempt: str) -> None:
        self._client = client
        self._problem = problem
        self._attempt = attempt
        self._told = 0
        self._backoff = Backoff(FIRST_WAIT_S, MOST_WAIT_S)
        self.wait_s = INTERVAL_S
        """How long to wait before the next `poll`."""
        self.end: Row | None = None
        """Its row, as soon as it has ended."""

    def poll(self) -> list[str]:
        """New lines. Raises PanelError where asking again would not help."""
        try:
            rows = self._client.rows("problems.log", plid=self._problem)
        except Unreachable as error:
            first, self.wait_s = not self._backoff.failures, self._backoff.next_s()
            return [f"{error}; the rest follows when it answers again"] if first else []
        self._backoff.reset()
        self.wait_s = INTERVAL_S
        row = next((row for row in rows if row["id"] == self._attempt), None)
        if row is None:
            raise PanelError(f"the log of problem {self._problem} has no attempt {self._attempt} any more")
        lines = row["output"].split("\n") if row["output"] else []
        told, before = int(row["lines"]), self._told
        self._told = max(told, before)
        if row["outcome"]:
            self.end = row
        missed = told - before - len(lines)
        new = lines[-(told - before) :] if told > before else []
        return [*([f"… {missed} lines before"] if missed > 0 else []), *new]
