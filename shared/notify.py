"""What a service tells systemd while it runs (sd_notify(3), sd_watchdog_enabled(3)); nothing where nobody listens."""

import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping

log = logging.getLogger(__name__)

SOCKET_VARIABLE = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE = "WATCHDOG_USEC"
WATCHDOG_PID_VARIABLE = "WATCHDOG_PID"
FEEDS_A_LIMIT = 4
"""The watchdog is fed so often within its limit: one that comes late is then still in time."""
STATUS_EVERY_S = 5.0
"""A service's words may change with each message; systemd need not hear of each."""


class Notifier:
    """For the main thread. No call blocks, waits or raises: what systemd does not take, it does not get.

    `environment` loses the variables: a child must not speak for this process.
    """

    def __init__(
        self, environment: MutableMapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._address = _address(environment.pop(SOCKET_VARIABLE, ""))
        limit_us, pid = environment.pop(WATCHDOG_VARIABLE, ""), environment.pop(WATCHDOG_PID_VARIABLE, "")
        ours = not pid or pid == str(os.getpid())
        self.feed_every_s = int(limit_us) / 1e6 / FEEDS_A_LIMIT if ours and limit_us.isdecimal() else 0.0
        """0: there is no watchdog."""
        self._feed_at = self._status_at = 0.0
        self._status = ""

    @property
    def listens(self) -> bool:
        """Whether anybody does."""
        return bool(self._address)

    def ready(self, status: str = "") -> None:
        """Started, or done with reading its file again."""
        self._send("READY=1", status)

    def reloading(self) -> None:
        """`ready` must follow."""
        self._send("RELOADING=1")

    def stopping(self, status: str = "") -> None:
        """It ends in order."""
        self._send("STOPPING=1", status)

    def turned(self, status: Callable[[], str] = str) -> None:
        """The main loop has turned: feeds the watchdog, if there is one and it is time. `status`: what it does now."""
        if not self._address:
            return
        now = self._clock()
        if self.feed_every_s and now >= self._feed_at:
            self._feed_at = now + self.feed_every_s
            self._send("WATCHDOG=1")
        if now >= self._status_at:
            self._status_at = now + STATUS_EVERY_S
            told = status()
            if told != self._status:
                self._send("", told)

    def _send(self, state: str, status: str = "") -> None:
        if not self._address:
            return
        lines = [state] if state else []
        if status:
            self._status = status
            lines.append(f"STATUS={' '.join(status.split())}")
        if not lines:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.debug("systemd was not told %s: %s", lines[0], error)


def _address(text: str) -> str:
    """A path, or with @ an abstract address; empty for what is neither."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""
