"""libvirt's event loop, in a thread that proves that it lives (https://libvirt.org/html/libvirt-libvirt-event.html)."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import libvirt

from vmwatch.shared.clock import Clock
from vmwatch.shared.logs import RateLimit

log = logging.getLogger(__name__)

TICK_S = 1.0
STOP_MOST_S = 2.0
_PAUSE_S = 0.1
"""After an error, so that a loop that fails at once each time does not take a whole core."""


class EventLoop:
    """Runs libvirt's default event loop. There is one in a process, started before the first connection.

    `on_tick` is called in its thread every `TICK_S`.
    """

    def __init__(self, clock: Clock, on_tick: Callable[[], None]) -> None:
        self.errors = 0
        self.last_error = ""
        self._clock = clock
        self._on_tick = on_tick
        self._ticked_at = clock.monotonic()
        self._limit = RateLimit(60.0)
        self._stopping = False
        self._timer = -1
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Register the loop with libvirt and run it in a daemon thread."""
        libvirt.registerErrorHandler(_ignore, None)
        libvirt.virEventRegisterDefaultImpl()
        self._timer = libvirt.virEventAddTimeout(int(TICK_S * 1000), self._tick, None)
        self._thread = threading.Thread(target=self._run, name="libvirt events", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Else a callback of libvirt could enter an interpreter that is no more (SIGSEGV)."""
        if self._thread is not None:
            self._stopping = True
            libvirt.virEventUpdateTimeout(self._timer, 0)  # the loop wakes at once
            self._thread.join(STOP_MOST_S)
            if self._thread.is_alive():
                EventLoop.left_running = True

    left_running = False
    """A loop of this process is stuck: it must end without the interpreter's own end (`os._exit`)."""

    def tick_age_s(self, now: float) -> float:
        """Seconds since the loop's own timer fired last; above a few `TICK_S` the loop is stuck."""
        return max(0.0, now - self._ticked_at)

    def _tick(self, timer: int, opaque: object) -> None:
        self._ticked_at = self._clock.monotonic()
        self._on_tick()

    def _run(self) -> None:
        while not self._stopping:
            try:
                libvirt.virEventRunDefaultImpl()
            except Exception as error:  # the edge of this thread: without the loop there are no events at all
                self.errors += 1
                self.last_error = str(error)
                held = self._limit.allows(self._clock.monotonic())
                if held is not None:
                    log.error("libvirt's event loop: %s (%d more such errors were not logged)", error, held)
                time.sleep(_PAUSE_S)


def _ignore(context: object, error: Any) -> None:  # noqa: ANN401 - libvirt-python has no types
    """libvirt prints its errors on standard error unless told otherwise; each is raised as well."""
