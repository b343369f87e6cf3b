"""Signals: the handlers only record; the program's loop acts on what they recorded."""

import os
import signal
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT)
RESIZING = (signal.SIGTTIN, signal.SIGTTOU)
HELD = (*STOPPING, signal.SIGHUP)


class Signals:
    """Records SIGTERM, SIGINT, SIGHUP and, where workers can be added, SIGTTIN and SIGTTOU (design 04, *Commands*).

    It wakes a poll that watches `wakeup_fd`.
    """

    def __init__(self) -> None:
        self.stop_requests = 0
        """1: stop in order. 2 or more: stop at once."""
        self.reload_requests = 0
        self.more_workers = 0
        """SIGTTIN less SIGTTOU so far. Never set back: a signal that comes in just that moment would be lost."""
        self.held = False
        self.wakeup_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def install(self, *, workers: bool = False) -> None:
        """Take over the signals; in the main thread only. `workers`: this program has some to add and remove."""
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in STOPPING:
            signal.signal(number, self._record_stop)
        signal.signal(signal.SIGHUP, self._record_reload)
        for number in RESIZING:
            # By default they would suspend the process, and a service that is suspended looks as if it hung.
            signal.signal(number, self._record_resize if workers else signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)  # what `hold` kept for us comes now

    def hold(self) -> None:
        """From here on signals wait for the program that is executed next in this process, and for its `install`."""
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        self.held = True

    def retire(self) -> None:
        """The last thing before the program ends: no signal changes its exit code any more.

        Python gives signals that have a handler back to the kernel's default while it ends, and a second SIGTERM, or a
        SIGHUP that was sent to all, would then kill what has ended in order.
        """
        if self.held:
            return  # to ignore a signal would also discard one that waits
        for number in (*STOPPING, *RESIZING, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def drain(self) -> None:
        """Empty the wake-up pipe after a poll saw it."""
        try:
            while os.read(self.wakeup_fd, 512):
                pass
        except BlockingIOError:
            pass

    def _record_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop_requests += 1

    def _record_reload(self, number: int, frame: FrameType | None) -> None:
        self.reload_requests += 1

    def _record_resize(self, number: int, frame: FrameType | None) -> None:
        self.more_workers += 1 if number == signal.SIGTTIN else -1
