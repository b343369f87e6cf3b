"""A small client of the panel's calling convention (design 03): one call, and lists as rows of plain text."""

from collections.abc import Iterator
from typing import Any

import requests
from requests.auth import HTTPBasicAuth

from vmwatch.shared.errors import VmwatchError

DEFAULT_URL = "http://127.0.0.1:1500/vmmgr"
TIMEOUT_S = 15.0
STREAM_TIMEOUT_S = 120.0
"""Between two pieces of a stream: a rare event may lie far from the last one."""
PIECE_BYTES = 64 * 1024
MOST_ROWS = 1000
"""The panel gives no more rows in one answer (design 03, *Lists*)."""

Row = dict[str, str]
Parameters = dict[str, str | int]


class PanelError(VmwatchError):
    """The panel did not do what was asked: it cannot be reached, it said no, or it is no panel."""


class Unreachable(PanelError):
    """No answer came, or one of a panel that cannot answer now: the same call may succeed later."""


class PanelClient:
    """Calls one panel as one account. Not for several threads at once."""

    def __init__(self, url: str, user: str, password: str, *, ca: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._session = requests.Session()
        # Encoded here: requests would send Latin-1, and the panel reads UTF-8 (RFC 7617).
        self._session.auth = HTTPBasicAuth(user.encode(), password.encode())
        # The machine's proxy is for the internet, and its .netrc is not for us: the panel is called directly.
        self._session.trust_env = False
        self._session.verify = ca or True

    def call(self, func: str, **parameters: str | int) -> dict[str, Any]:
        """`doc` of the answer. Raises PanelError that says what was wrong; Unreachable where trying again may help."""
        return self._call("GET", {"func": func, "out": "json", **parameters}, {})

    def change(self, func: str, **parameters: str | int) -> dict[str, Any]:
        """The same for a function that changes something: the panel takes these by POST."""
        return self._call("POST", {}, {"func": func, "out": "json", **parameters})

    def _call(self, method: str, query: Parameters, form: Parameters) -> dict[str, Any]:
        return self._checked(self._request(method, query, form))

    def _request(
        self, method: str, query: Parameters, form: Parameters, *, stream: bool = False, timeout_s: float = 0.0
    ) -> requests.Response:
        timeout_s = timeout_s or self._timeout_s
        try:
            return self._session.request(
                method, self.url, params=query, data=form, timeout=timeout_s, allow_redirects=False, stream=stream
            )
        except (requests.ConnectionError, requests.Timeout) as error:
            raise Unreachable(f"{self.url} cannot be reached: {_reason(error)}") from None
        except (requests.RequestException, ValueError) as error:  # ValueError: an address that is none
            raise PanelError(f"{self.url}: {error}") from None

    def _checked(self, answer: requests.Response) -> dict[str, Any]:
        doc = _doc(answer)
        if doc is None:
            text = f"{self.url} does not answer as a panel does: HTTP status {answer.status_code}"
            raise Unreachable(text) if answer.status_code >= 500 else PanelError(text)
        if "error" in doc:
            text = f"{self.url} says: {_text_of(doc['error'])}"
            raise Unreachable(text) if answer.status_code == 503 else PanelError(text)
        return doc

    def stream(self, func: str, **parameters: str | int) -> Iterator[bytes]:
        """The pieces of an answer that is a file. Raises PanelError as `call`, and where the file breaks off."""
        answer = self._request(
            "GET", {"func": func, "out": "json", **parameters}, {}, stream=True, timeout_s=STREAM_TIMEOUT_S
        )
        with answer:
            if answer.status_code != 200 or answer.headers.get("Content-Type", "").startswith("application/json"):
                self._checked(answer)
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

    def close(self) -> None:
        """Close the connection."""
        self._session.close()


def row_of(element: dict[str, Any]) -> Row:
    """`{"id": {"$": "7"}}` as `{"id": "7"}`."""
    return {name: str(cell.get("$", "")) if isinstance(cell, dict) else str(cell) for name, cell in element.items()}


def _doc(answer: requests.Response) -> dict[str, Any] | None:
    """The answer's document; None if it is no answer of a panel."""
    try:
        body = answer.json()
    except ValueError:
        return None
    doc = body.get("doc") if isinstance(body, dict) else None
    return doc if isinstance(doc, dict) else None


def _text_of(error: Any) -> str:  # noqa: ANN401 - whatever the other side has sent
    message = error.get("msg", "") if isinstance(error, dict) else error
    return str(message.get("$", "")) if isinstance(message, dict) else str(message)


def _reason(error: requests.RequestException) -> str:
    """The innermost cause: what requests and urllib3 put around it is for programmers."""
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__
