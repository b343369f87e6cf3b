"""Who calls: from what a call brings to an account, and what stands in the way of those who guess or trick."""

import asyncio
import base64
import binascii
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from vmwatch.panel.accounts import Account, Accounts
from vmwatch.panel.complaints import LOGINS_WITHIN_S, WrongLogin
from vmwatch.panel.convention import ApiError, Kind, TransportError
from vmwatch.panel.sessions import Remembered, Sessions
from vmwatch.panel.throttle import Throttle
from vmwatch.shared.clock import Clock

COOKIE = "vmmgrses5"
CHECKS_AT_ONCE = 2
"""Password checks in parallel: each takes 32 MiB and a core."""
MOST_CHECKS = 64
"""Password checks that run, wait or are slowed down."""
WRONG_KEPT = 1000
"""Wrong passwords that are remembered, of the last minutes."""
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="vmwatch-panel", charset="UTF-8"'}


@dataclass(frozen=True)
class Brought:
    """The parts of a call that can say who calls. `address`: the peer's IP address."""

    address: str
    authinfo: str = ""
    session: str = ""
    authorization: str = ""
    cookie: str = ""


@dataclass(frozen=True)
class Caller:
    """`ambient`: a browser may have sent the proof by itself, without its user having wanted this call."""

    account: Account
    ambient: bool
    session: str = ""


class Identity:
    """Decides in the event loop; passwords are checked in threads of its own."""

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock
        self._throttle = Throttle(clock)
        self._sessions = Sessions(clock)
        self._remembered = Remembered(clock)
        self._checks = ThreadPoolExecutor(CHECKS_AT_ONCE, thread_name_prefix="password")
        self._checking = 0
        self.failures = 0
        self._wrong: deque[WrongLogin] = deque(maxlen=WRONG_KEPT)

    @property
    def session_count(self) -> int:
        return len(self._sessions)

    async def caller(self, brought: Brought) -> Caller | None:
        """Who calls, by the first proof that the call brings; None if it brings none.

        A proof that is wrong: `doc.error` of type `auth`, but status 401 for HTTP Basic, which is of the transport.
        """
        if brought.authinfo:
            name, _, password = brought.authinfo.partition(":")
            return Caller(await self.check(brought.address, name, password), ambient=False)
        if brought.session:
            return Caller(self._of_session(brought.session), ambient=False, session=brought.session)
        if brought.authorization:
            name, password = basic(brought.authorization)
            try:
                return Caller(await self.check(brought.address, name, password), ambient=True)
            except ApiError as error:
                raise TransportError(401, str(error), _CHALLENGE) from None
        if brought.cookie:
            return Caller(self._of_session(brought.cookie), ambient=True, session=brought.cookie)
        return None

    async def check(self, address: str, name: str, password: str) -> Account:
        """The account with this password. Raises ApiError (`auth`), or TransportError (429) after too many failures."""
        known = self._accounts.find(name)
        if known is not None and self._remembered.fits(known, password):
            return known
        if self._checking >= MOST_CHECKS:
            raise TransportError(503, "too many passwords are being checked; try again later", {"Retry-After": "5"})
        wait_s, refused_s = self._throttle.begin(address, name)
        if refused_s:
            self._note_wrong(address, name)
            retry = {"Retry-After": str(int(refused_s) + 1)}
            raise TransportError(429, "too many wrong passwords; try again later", retry)
        self._checking += 1
        try:
            await asyncio.sleep(wait_s)
            loop = asyncio.get_running_loop()
            account = await loop.run_in_executor(self._checks, self._accounts.verify, name, password)
        finally:
            self._checking -= 1
        if account is None:
            self.failures += 1
            self._note_wrong(address, name)
            raise ApiError(Kind.AUTH, "password", "the name or the password is wrong")
        self._throttle.succeeded(address, name)
        self._remembered.add(account, password)
        return account

    def _note_wrong(self, address: str, name: str) -> None:
        self._wrong.append(WrongLogin(self._clock.monotonic(), address, name))

    def wrong_logins(self) -> list[WrongLogin]:
        """Those of the last minutes that are worth a problem if there are many."""
        since = self._clock.monotonic() - LOGINS_WITHIN_S
        return [one for one in self._wrong if one.at > since]

    async def sign_in(self, address: str, name: str, password: str) -> tuple[str, Account]:
        """A new session's name and its account; raises what `check` does."""
        account = await self.check(address, name, password)
        return self._sessions.begin(account), account

    def sign_out(self, session: str) -> None:
        self._sessions.end(session)

    def is_valid(self, caller: Caller) -> bool:
        """Does the proof still hold? For calls that last, such as a stream; it counts as use of the session."""
        if caller.session:
            try:
                return self._of_session(caller.session).role is caller.account.role
            except ApiError:
                return False
        return self._accounts.find(caller.account.name) == caller.account

    def close(self) -> None:
        self._checks.shutdown(wait=False, cancel_futures=True)

    def _of_session(self, name: str) -> Account:
        session = self._sessions.use(name)
        account = self._accounts.find(session.account) if session else None
        if session is None or account is None or account.password != session.password:
            self._sessions.end(name)
            raise ApiError(Kind.AUTH, "auth", "the session is unknown or over; call func=auth")
        return account


def basic(authorization: str) -> tuple[str, str]:
    """Name and password of HTTP Basic (RFC 7617). Raises TransportError (401) for anything else."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        if not colon:
            raise ValueError
    except (ValueError, binascii.Error):
        raise TransportError(401, "HTTP Basic with name:password in UTF-8 is allowed", _CHALLENGE) from None
    return name, password


def is_forged(method: str, headers: Mapping[str, str]) -> bool:
    """Could another site have made a browser send this call, which changes something, with its user's proof?

    Browsers say where a call comes from: in Sec-Fetch-Site, or, older ones and without TLS, in Origin. What says
    neither is no browser. A GET never changes anything with such a proof, since links and images make GETs.
    """
    if method != "POST":
        return True
    site = headers.get("sec-fetch-site", "")
    if site:
        return site not in ("same-origin", "none")
    origin = headers.get("origin", "")
    return bool(origin) and urlsplit(origin).netloc != headers.get("host", "")
