"""The operator's client of the panel: calls (`shared/panelclient.py`), and lists as rows of plain text."""

from collections.abc import Iterator
from typing import Any

import requests

from vmwatch.shared.panelclient import TIMEOUT_S, PanelCalls, PanelError, Unreachable

__all__ = ["DEFAULT_URL", "MOST_ROWS", "TIMEOUT_S", "PanelClient", "PanelError", "Row", "Unreachable", "row_of"]

DEFAULT_URL = "http://127.0.0.1:1500/vmmgr"
STREAM_TIMEOUT_S = 120.0
"""Between two pieces of a stream: a rare event may lie far from the last one."""
PIECE_BYTES = 64 * 1024
MOST_ROWS = 1000
"""The panel gives no more rows in one answer (design 03, *Lists*)."""

Row = dict[str, str]


class PanelClient(PanelCalls):
    """Beside single calls lists as rows, and files."""

    def stream(self, func: str, **parameters: str | int) -> Iterator[bytes]:
        """The pieces of an answer that is a file. Raises PanelError as `call`, and where the file breaks off."""
        answer = self.request(
            "GET", {"func": func, "out": "json", **parameters}, {}, stream=True, timeout_s=STREAM_TIMEOUT_S
        )
        with answer:
            if answer.status_code != 200 or answer.headers.get("Content-Type", "").startswith("application/json"):
                self.checked(answer)
                raise PanelError(f"{self.url} does not send a file")
            try:
                yield from answer.iter_content(PIECE_BYTES)
            except requests.RequestException:
                raise Unreachable(f"{self.url}: the answer broke off") from None

    def rows(self, func: str, **parameters: str | int) -> list[Row]:
        """A list's rows, one page of them."""
        elements = self.call(func, **parameters).get("elem", [])
        # One element may come as an object (design 03).
        return [row_of(element) for element in (elements if isinstance(elements, list) else [elements])]

    def all_rows(self, func: str, **parameters: str | int) -> list[Row]:
        """A list's rows, page after page."""
        found: list[Row] = []
        page = 1
        while rows := self.rows(func, p_num=page, p_cnt=MOST_ROWS, **parameters):
            found += rows
            if len(rows) < MOST_ROWS:
                break
            page += 1
        return found

    def events_after(self, event_id: int, **filters: str) -> list[Row]:
        """What was registered after the event with this id, oldest first, at most `MOST_ROWS`."""
        return self.rows("eventlog", after=event_id, p_cnt=MOST_ROWS, **filters)

    def newest_events(self, count: int, **filters: str) -> list[Row]:
        """The last `count` events, oldest first."""
        return self.rows("eventlog", p_cnt=count, **filters)


def row_of(element: dict[str, Any]) -> Row:
    """`{"id": {"$": "7"}}` as `{"id": "7"}`."""
    return {name: str(cell.get("$", "")) if isinstance(cell, dict) else str(cell) for name, cell in element.items()}
