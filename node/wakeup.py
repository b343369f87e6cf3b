"""Wakes the main loop's poll from other threads."""

import os


class Wakeup:
    """An eventfd (eventfd(2)): `wake` never blocks and may be called from any thread, libvirt's too."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def wake(self) -> None:
        """Make `fd` readable."""
        try:
            os.eventfd_write(self.fd, 1)
        except BlockingIOError:
            pass  # the counter is full: the loop has more than enough reason to wake

    def drain(self) -> None:
        """After a poll saw `fd`, and before looking for what it announced."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass
