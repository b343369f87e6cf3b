"""Sessions and remembered passwords: what spares a call the memory-hard check. In memory only."""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass

from vmwatch.panel.accounts import Account
from vmwatch.shared.clock import Clock

IDLE_S = 3600.0
"""A session that is not used for so long ends."""
MOST_SESSIONS = 4096
REMEMBERED_S = 60.0
MOST_REMEMBERED = 1024


@dataclass
class Session:
    """`password`: the account's hash at login; when it has changed, the session is over."""

    account: str
    password: str
    used: float


class Sessions:
    """By their random name, of 128 bits. When there are too many, the one that was not used for longest goes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, account: Account) -> str:
        """A new session's name."""
        self._end_idle()
        while len(self._sessions) >= MOST_SESSIONS:
            self._sessions.popitem(last=False)
        name = secrets.token_hex(16)
        self._sessions[name] = Session(account.name, account.password, self._clock.monotonic())
        return name

    def use(self, name: str) -> Session | None:
        """The session, which counts as used now; None if there is none or it was idle for too long."""
        self._end_idle()
        session = self._sessions.get(name)
        if session is not None:
            session.used = self._clock.monotonic()
            self._sessions.move_to_end(name)
        return session

    def end(self, name: str) -> None:
        self._sessions.pop(name, None)

    def _end_idle(self) -> None:
        oldest = self._clock.monotonic() - IDLE_S
        while self._sessions and next(iter(self._sessions.values())).used < oldest:
            self._sessions.popitem(last=False)


class Remembered:
    """Passwords that were right less than a minute ago, under a key that this process alone has."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._until: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def add(self, account: Account, password: str) -> None:
        while len(self._until) >= MOST_REMEMBERED:
            self._until.popitem(last=False)
        self._until[self._digest(account.name, password)] = (account.password, self._clock.monotonic() + REMEMBERED_S)

    def fits(self, account: Account, password: str) -> bool:
        """Was this the right password, and is it still the account's?"""
        hashed, until = self._until.get(self._digest(account.name, password), ("", 0.0))
        return hashed == account.password and self._clock.monotonic() < until

    def _digest(self, name: str, password: str) -> bytes:
        return hmac.digest(self._key, f"{name}\0{password}".encode(errors="surrogatepass"), hashlib.sha256)
