"""HTTP with limits that a panel cannot stretch: a total deadline for each call, and a bounded answer."""

import math
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from vmwatch.shared.version import VERSION
from vmwatch.workers.client import PanelFault

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""More than the largest honest answer: 500 refusals, or the verdicts on some ten thousand nodes."""
CONNECT_MOST_S = 10.0
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Reply:
    """A complete answer. Names of `headers` in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Deadline:
    """The moment at which a call must have ended."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self._at = time.monotonic() + after_s

    @property
    def left_s(self) -> float:
        """Seconds, perhaps negative."""
        return self._at - time.monotonic()

    @property
    def fault(self) -> PanelFault:
        return PanelFault(f"no complete answer within {self.after_s:g} s")


class Transport:
    """POSTs to one panel over one connection that is kept. Follows no redirect, heeds no proxy of the environment."""

    def __init__(self, url: str, authority_file: str = "") -> None:
        """`authority_file`: certificates (PEM) that the panel's must be signed with; empty: the usual authorities."""
        self._url = url
        self._cutter = _Cutter()
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = authority_file or True
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update({"User-Agent": f"vmwatch-master/{VERSION}", "Accept-Encoding": "identity"})
        adapter = _WatchedAdapter(self._cutter)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def post(
        self,
        deadline: Deadline,
        body: bytes | Mapping[str, str],
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One POST, of JSON as bytes or of form fields. Raises PanelFault if no complete answer came in time."""
        left_s = deadline.left_s
        if left_s <= 0:
            raise deadline.fault
        with self._cutter.cutting(left_s) as cut:
            try:
                with self._session.post(
                    self._url,
                    params=query,
                    data=body,
                    headers=headers,
                    timeout=(min(CONNECT_MOST_S, left_s), left_s),
                    allow_redirects=False,
                    stream=True,
                ) as response:
                    read = self._read(response, deadline)
                if cut.is_set():
                    raise deadline.fault  # where it was cut it looks as if it had ended there
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                if cut.is_set() or deadline.left_s <= 0:
                    raise deadline.fault from None
                raise _unreached(error) from None
        return Reply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, read)

    def _read(self, response: requests.Response, deadline: Deadline) -> bytes:
        chunks = []
        size = 0
        for chunk in response.iter_content(_CHUNK_BYTES):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise PanelFault(f"its answer is larger than {MAX_ANSWER_BYTES} bytes", needs_person=True)
            if deadline.left_s <= 0:
                raise deadline.fault
        return b"".join(chunks)

    def close(self) -> None:
        self._session.close()
        self._cutter.close()


def _unreached(error: Exception) -> PanelFault:
    """What went wrong below HTTP, in few words. Without a connection no message was looked at."""
    root: BaseException = error
    while (deeper := root.__cause__ or root.__context__ or _reason(root)) is not None and deeper is not root:
        root = deeper
    text = " ".join(f"{type(root).__name__}: {root}".split())[:300]
    if isinstance(error, requests.exceptions.SSLError):
        return PanelFault(f"TLS: {text}", needs_person=True, blameless=True)
    if isinstance(error, requests.ConnectionError) and isinstance(
        _reason_of(error), urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError
    ):
        return PanelFault(f"no connection: {text}", blameless=True)
    return PanelFault(f"the connection broke: {text}")


def _reason(error: BaseException) -> BaseException | None:
    """urllib3 keeps a cause in `reason` or among the arguments."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return reason
    return next((argument for argument in error.args if isinstance(argument, BaseException)), None)


def _reason_of(error: requests.RequestException) -> BaseException | None:
    inner = _reason(error)
    return _reason(inner) if isinstance(inner, urllib3.exceptions.MaxRetryError) else inner


class _Cutter:
    """Cuts the connection when a call's time is over.

    Timeouts of sockets are for each read: a panel that sends a byte now and then would never meet one. One thread
    serves all calls: to start one for each would cost as much as what else is done for a small call. It sleeps on
    until the deadline that it knows, also when that call has ended, so that calls need not wake it.
    """

    def __init__(self) -> None:
        self._connection: HTTPConnection | None = None
        """The last that was opened; there is never a second one in use."""
        self._socket: socket.socket | None = None
        """Its socket: a connection forgets it while a last answer is still being read from it."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._call: threading.Event | None = None
        """The present call's; set when it was cut."""
        self._at = 0.0
        """The present call's deadline, monotonic seconds."""
        self._wakes_at = math.inf
        self._closed = False

    @contextmanager
    def cutting(self, after_s: float) -> Iterator[threading.Event]:
        """The time of one call. The event is set if it was over; when the block is left, nothing is cut any more."""
        call = threading.Event()
        with self._changed:
            self._call, self._at = call, time.monotonic() + after_s
            if self._at < self._wakes_at:
                self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="cutter", daemon=True)
                self._thread.start()
        try:
            yield call
        finally:
            with self._changed:
                self._call = None

    def close(self) -> None:
        """No call follows."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def opens(self, connection: HTTPConnection) -> None:
        self._connection, self._socket = connection, None

    def opened(self, connection: HTTPConnection) -> None:
        self._socket = connection.sock

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                if self._call is not None and now >= self._at:
                    self._call.set()
                    self._cut()
                    self._call = None
                self._wakes_at = math.inf if self._call is None else self._at
                self._changed.wait(None if self._call is None else self._at - now)

    def _cut(self) -> None:
        connecting = self._connection.sock if self._connection is not None else None
        for sock in (self._socket, connecting):
            if sock is not None:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it ended by itself in this moment


class _WatchedAdapter(HTTPAdapter):
    """Tells the cutter of each connection that is opened."""

    def __init__(self, cutter: _Cutter) -> None:
        self._cutter = cutter
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as the base class has it
        super().init_poolmanager(*args, **kwargs)
        cutter = self._cutter

        class Plain(HTTPConnection):
            def connect(self) -> None:
                cutter.opens(self)
                super().connect()
                cutter.opened(self)

        class Tls(HTTPSConnection):
            def connect(self) -> None:
                cutter.opens(self)
                super().connect()
                cutter.opened(self)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class TlsPool(HTTPSConnectionPool):
            ConnectionCls = Tls

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}
