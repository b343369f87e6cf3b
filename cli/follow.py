"""Events as the panel registers them."""

from vmwatch.cli.client import PanelClient, Row, Unreachable
from vmwatch.shared.backoff import Backoff

INTERVAL_S = 0.25
FIRST_WAIT_S = 0.5
MOST_WAIT_S = 5.0


class EventTail:
    """Asks the panel for what is new; a panel that is away is asked again, at growing intervals.

    `after`: the id of the last event that the caller has.
    """

    def __init__(self, client: PanelClient, after: int, **filters: str) -> None:
        self._client = client
        self._filters = filters
        self._after = after
        self._backoff = Backoff(FIRST_WAIT_S, MOST_WAIT_S)
        self.wait_s = INTERVAL_S
        """How long to wait before the next `poll`."""
        self.notice = ""
        """What the last `poll` found out about the panel, where that is news for the operator."""

    def poll(self) -> list[Row]:
        """New events, oldest first. Raises PanelError where asking again would not help."""
        self.notice = ""
        try:
            rows = self._client.events_after(self._after, **self._filters)
        except Unreachable as error:
            if not self._backoff.failures:
                self.notice = f"{error}; the rest follows when it answers again"
            self.wait_s = self._backoff.next_s()
            return []
        if self._backoff.reset():
            self.notice = "the panel answers again"
        if rows:
            self._after = int(rows[-1]["id"])
        self.wait_s = 0.0 if rows else INTERVAL_S
        return rows
