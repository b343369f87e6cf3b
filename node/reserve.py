"""The reserved megabyte: disk space that lets deletes work when the disk is full (design 01, *disk full*)."""

import os
from contextlib import suppress
from pathlib import Path

RESERVE_BYTES = 1024 * 1024
"""More than the write-ahead log of the deletes that make room (outboxfile.py keeps that log short)."""


class NoReserve:
    """For an outbox without a file, as in the simulation: as if it were always there."""

    held = True

    def release(self) -> None:
        """Nothing to release."""

    def restore(self) -> bool:
        """It is there."""
        return True


class Reserve(NoReserve):
    """An allocated file of no use but its space.

    Where a file system does not allocate for real (one that compresses or copies on write), it promises nothing;
    then the outbox keeps messages in memory until there is room.
    """

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        self._path = path
        self._size = size
        self.held = False
        self.restore()

    def release(self) -> None:
        """Give the space to the outbox."""
        self._remove()
        self.held = False

    def restore(self) -> bool:
        """Take the space again; False if the disk has none."""
        if self.held:
            return True
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(handle, 0, self._size)
            finally:
                os.close(handle)
        except OSError:
            self._remove()
            return False
        self.held = True
        return True

    def _remove(self) -> None:
        with suppress(OSError):  # a file system that has become read-only
            self._path.unlink(missing_ok=True)
