"""A session with a panel: sign in once, use it for every call, and again when it is over (design 03)."""

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from vmwatch.shared.backoff import Backoff
from vmwatch.workers.answers import SessionOver, document
from vmwatch.workers.client import PanelFault
from vmwatch.workers.transport import Deadline, Reply, Transport

log = logging.getLogger(__name__)

COOKIE = "vmmgrses5"
SIGN_IN_FIRST_S, SIGN_IN_MOST_S = 1.0, 30.0
"""After a refused password: not the panel's throttle, and not a lock on the account, shall be what we run into."""
_T = TypeVar("_T")
_SESSION_ID = re.compile(r"[A-Za-z0-9._~+/=-]{1,512}")


class PanelSession:
    """Calls of one panel as one account."""

    def __init__(self, transport: Transport, user: str, password: str) -> None:
        self._transport = transport
        self._user = user
        self._password = password
        self._id = ""
        self._refused = ""
        self._backoff = Backoff(SIGN_IN_FIRST_S, SIGN_IN_MOST_S)
        self._not_before = 0.0
        self.begun = 0
        """How often a session was begun: the panel, or what it lets us do, may be another since."""

    def post_json(self, deadline: Deadline, function: str, body: bytes, understand: Callable[[Reply], _T]) -> _T:
        """Call `function` with JSON; what `understand` makes of the answer. Raises PanelFault, as `understand` does."""
        query = {"func": function, "out": "json"}

        def attempt() -> _T:
            headers = {"Content-Type": "application/json", "Cookie": f"{COOKIE}={self._id}"}
            return understand(self._transport.post(deadline, body, query, headers))

        return self._signed_in(deadline, attempt)

    def post_form(self, deadline: Deadline, function: str, fields: Mapping[str, str]) -> dict[str, Any]:
        """Call `function` with form fields; the `doc` of an answer without an error. Raises PanelFault."""

        def attempt() -> dict[str, Any]:
            form = {"func": function, "out": "json", "auth": self._id, **fields}
            return document(self._transport.post(deadline, form))

        return self._signed_in(deadline, attempt)

    def _signed_in(self, deadline: Deadline, attempt: Callable[[], _T]) -> _T:
        """Attempt a call; if the session is over, sign in again and attempt it once more."""
        fresh = not self._id
        if fresh:
            self._sign_in(deadline)
        try:
            return attempt()
        except SessionOver:
            self._id = ""
            if fresh:
                raise
        self._sign_in(deadline)
        try:
            return attempt()
        except SessionOver:
            self._id = ""
            raise

    def _sign_in(self, deadline: Deadline) -> None:
        if time.monotonic() < self._not_before:
            raise _refusal(self._refused)
        form = {"func": "auth", "out": "json", "username": self._user, "password": self._password}
        try:
            self._id = _session_id(document(self._transport.post(deadline, form)))
        except SessionOver as fault:
            self._refused = f"signing in as {self._user!r} is refused: {fault}"
            self._not_before = time.monotonic() + self._backoff.next_s()
            raise _refusal(self._refused) from None
        except PanelFault as fault:
            # Whatever was wrong, no message was a part of this call.
            fault.blameless = True
            fault.too_large = False
            raise
        self._backoff.reset()
        self.begun += 1
        log.info("signed in at the panel as %r", self._user)


def _refusal(text: str) -> PanelFault:
    return PanelFault(text, needs_person=True, blameless=True)


def _session_id(doc: dict[str, Any]) -> str:
    """`doc.auth.$id`, or `doc.auth.$`. Raises PanelFault."""
    auth = doc.get("auth")
    found = (auth.get("$id") or auth.get("$")) if isinstance(auth, dict) else None
    if not isinstance(found, str) or not _SESSION_ID.fullmatch(found):
        raise PanelFault("the answer to auth holds no session", needs_person=True)
    return found
