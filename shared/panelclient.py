"""One call of the panel after another, as one account (design 03, *Calling convention*): for commands and probes.

What workers need of a panel is more, and is theirs (`workers/transport.py`).
"""

from typing import Any

import requests
from requests.auth import HTTPBasicAuth

from vmwatch.shared.errors import VmwatchError

TIMEOUT_S = 15.0
TOO_MANY, FAILURES = 429, 500
"""HTTP status: come back later; and from here on the panel, or a proxy before it, cannot answer now."""

Parameters = dict[str, str | int]


class PanelError(VmwatchError):
    """The panel did not do what was asked: it cannot be reached, it said no, or it is no panel.

    `kind`: the type of its error (design 03); empty if it is no panel, or no answer came.
    """

    def __init__(self, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.kind = kind


class Unreachable(PanelError):
    """No answer came, or one of a panel that cannot answer now: the same call may succeed later."""


class PanelCalls:
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
        return self.checked(self.request("GET", {"func": func, "out": "json", **parameters}, {}))

    def change(self, func: str, **parameters: str | int) -> dict[str, Any]:
        """The same for a function that changes something: the panel takes these by POST."""
        return self.checked(self.request("POST", {}, {"func": func, "out": "json", **parameters}))

    def request(
        self, method: str, query: Parameters, form: Parameters, *, stream: bool = False, timeout_s: float = 0.0
    ) -> requests.Response:
        """The answer, whatever it is. Raises PanelError if none came."""
        timeout_s = timeout_s or self._timeout_s
        try:
            return self._session.request(
                method, self.url, params=query, data=form, timeout=timeout_s, allow_redirects=False, stream=stream
            )
        except (requests.ConnectionError, requests.Timeout) as error:
            raise Unreachable(f"{self.url} cannot be reached: {_reason(error)}") from None
        except (requests.RequestException, ValueError) as error:  # ValueError: an address that is none
            raise PanelError(f"{self.url}: {error}") from None

    def checked(self, answer: requests.Response) -> dict[str, Any]:
        """Its `doc`. Raises PanelError for an error, and for what is no answer of a panel."""
        doc = _doc(answer)
        failure = Unreachable if answer.status_code >= FAILURES or answer.status_code == TOO_MANY else PanelError
        if doc is None:
            raise failure(f"{self.url} does not answer as a panel does: HTTP status {answer.status_code}")
        if "error" in doc:
            error = doc["error"]
            kind = str(error.get("$type", "")) if isinstance(error, dict) else ""
            raise failure(f"{self.url} says: {_text_of(error)}", kind)
        return doc

    def close(self) -> None:
        """Close the connection."""
        self._session.close()


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
