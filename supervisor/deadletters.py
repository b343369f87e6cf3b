"""The dead letters: messages that the panel will never take, kept for a person (design 01, *What a fault does*).

`var/vmwatch-master.dead` holds one JSON object a line: `time` (ISO 8601), `node`, `epoch`, `seq`, `reason`,
`message`. How such a file is shared with who reads and rewrites it: `shared/letters.py`.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from vmwatch.shared import letters
from vmwatch.shared.logs import RateLimit, iso_time
from vmwatch.supervisor.ledger import Entry

log = logging.getLogger(__name__)

RETRY_S = 1.0
FAILURE_LOGGED_EVERY_S = 60.0


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
        self._lying = _Lines(path)
        self._discarded = _Lines(path.with_suffix(".discarded"))

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
            letters.append(self._path, b"".join(letter.line for letter in self._waiting))
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
        """For the status. `in_file`: letters that lie there now; `discarded`: by a person, since that file began."""
        return {
            "written": self.written,
            "waiting": len(self._waiting),
            "failure": self.failure,
            "in_file": self._lying.count(),
            "discarded": self._discarded.count(),
        }


class _Lines:
    """How many lines a file has; read only where it has changed, and only what has grown."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] = (0, 0)
        """Its inode and size when it was counted."""
        self._count = 0

    def count(self) -> int:
        """0 if there is no such file; as before if it cannot be read."""
        try:
            found = self._path.stat()
            inode, size = self._seen
            if (found.st_ino, found.st_size) == self._seen:
                return self._count
            if found.st_ino != inode or found.st_size < size:
                size = self._count = 0
            with self._path.open("rb") as file:
                file.seek(size)
                while chunk := file.read(1 << 20):
                    self._count += chunk.count(b"\n")
                    size += len(chunk)
            self._seen = (found.st_ino, size)
        except FileNotFoundError:
            self._seen, self._count = (0, 0), 0
        except OSError as error:
            log.debug("%s: %s", self._path, error)
        return self._count


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
