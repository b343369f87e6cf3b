"""The dead letters: messages that the panel will never take, kept for a person (design 01, *What a fault does*).

`var/vmwatch-master.dead` holds one JSON object a line: `time` (ISO 8601), `node`, `epoch`, `seq`, `reason`,
`message`. Whoever rewrites the file (to discard letters, or to send them again) takes its lock with flock(2) first
and puts the new file in its place by rename while holding it: a letter is only written to a file that is still in its
place after its lock was had.
"""

import fcntl
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from vmwatch.shared.logs import RateLimit, iso_time
from vmwatch.supervisor.ledger import Entry

log = logging.getLogger(__name__)

RETRY_S = 1.0
FAILURE_LOGGED_EVERY_S = 60.0
_REPLACED_MOST = 3
"""So often in a row the file may be replaced under our hands before we come back later."""


@dataclass(slots=True, eq=False)
class Letter:
    """One refused message. Its entry stays unsettled until the letter is on the disk."""

    entry: Entry
    reason: str
    line: bytes


class DeadLetters:
    """Writes refused messages so that they survive a power cut; until then nothing may acknowledge them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[Letter] = []
        self._retry_at = 0.0
        self._logged = RateLimit(FAILURE_LOGGED_EVERY_S)
        self.written = 0
        self.failure = ""
        """Why the last attempt to write failed; empty if it did not."""

    def add(self, entry: Entry, reason: str) -> None:
        """Keep this message; `flush` writes it."""
        self._waiting.append(Letter(entry, reason, _line(entry, reason)))

    def flush(self, now: float) -> list[Entry]:
        """Write what waits, if it is time; returns the entries that are safe on the disk now: they may be settled.

        `now`: monotonic seconds. A failure is logged, shown in the status, and tried again each second.
        """
        if not self._waiting or now < self._retry_at:
            return []
        try:
            _append(self._path, b"".join(letter.line for letter in self._waiting))
        except OSError as error:
            self._failed(now, error)
            return []
        if self.failure:
            log.info("%s: can be written again", self._path)
            self.failure = ""
        safe, self._waiting = self._waiting, []
        self.written += len(safe)
        for letter in safe:
            entry = letter.entry
            log.error(
                "message %s/%d/%d is refused and lies in %s: %s",
                entry.stream.node,
                entry.stream.epoch,
                entry.seq,
                self._path,
                letter.reason,
            )
        return [letter.entry for letter in safe]

    def _failed(self, now: float, error: OSError) -> None:
        self.failure = f"{self._path}: dead letters cannot be written: {error.strerror or error}"
        self._retry_at = now + RETRY_S
        if self._logged.allows(now) is not None:
            log.error("%s; %d messages wait and are not acknowledged", self.failure, len(self._waiting))

    def describe(self) -> dict[str, Any]:
        """For the status."""
        return {"written": self.written, "waiting": len(self._waiting), "failure": self.failure}


def _line(entry: Entry, reason: str) -> bytes:
    letter = {
        "time": iso_time(time.time()),
        "node": entry.stream.node,
        "epoch": entry.stream.epoch,
        "seq": entry.seq,
        "reason": reason,
        "message": _one_line(entry.raw),
    }
    return msgspec.json.encode(letter) + b"\n"


def _one_line(raw: bytes) -> Raw | str:
    """The message as its own JSON without line breaks; what is not JSON in the strict sense, as text."""
    try:
        raw.decode()  # `format` does not look into strings
        return Raw(msgspec.json.format(raw, indent=-1))
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        return raw.decode(errors="replace")


def _append(path: Path, lines: bytes) -> None:
    """Append and fsync; on failure the file is as it was before. Raises OSError."""
    handle = _open_locked(path)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            lines = b"\n" + lines  # a crash or a full disk left half a line
        try:
            _write_all(handle, lines)
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size)
            raise
        if not size:
            _sync_folder(path.parent)
    finally:
        os.close(handle)


def _open_locked(path: Path) -> int:
    """The file's descriptor, locked while the file is in its place. Raises OSError (BlockingIOError: in use)."""
    for _ in range(_REPLACED_MOST):
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except OSError:
            os.close(handle)
            raise
        os.close(handle)
    raise BlockingIOError(0, "the file is being replaced")


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _sync_folder(folder: Path) -> None:
    """So that a new file's name is on the disk too."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
