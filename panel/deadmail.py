"""What lies among the dead letters on this host: the master may refuse a message that the panel never saw (design 01).

The panel looks itself: a letter is a problem also while no master runs, and it is over as soon as a person has sent or
discarded it with `vmwatch deadletter`.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vmwatch.panel.complaints import Lying
from vmwatch.shared import letters
from vmwatch.shared.logs import RateLimit

log = logging.getLogger(__name__)

READ_BYTES = 1 << 20
FAILURE_LOGGED_EVERY_S = 3600.0


@dataclass(frozen=True)
class _Place:
    """Up to where which file was read."""

    inode: int = 0
    offset: int = 0


class DeadMail:
    """Counts the letters of each node; reads only what has grown. Blocks: for a thread, and for one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = _Place()
        self._found: dict[str, Lying] = {}
        self._logged = RateLimit(FAILURE_LOGGED_EVERY_S)

    def look(self) -> Mapping[str, Lying] | None:
        """By node, what lies there now; None if nobody can say: there is no such file here, or it cannot be read."""
        try:
            status = self._path.stat()
            if status.st_ino != self._place.inode or status.st_size < self._place.offset:
                self._place, self._found = _Place(status.st_ino), {}
            if status.st_size > self._place.offset:
                self._read()
        except FileNotFoundError:
            self._place, self._found = _Place(), {}
            return None
        except OSError as error:
            if self._logged.allows(time.monotonic()) is not None:
                log.warning("%s: what lies there is not known: %s", self._path, error.strerror or error)
            return None
        return dict(self._found)

    def _read(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._place.offset)
            rest = b""
            while chunk := file.read(READ_BYTES):
                whole, newline, rest = (rest + chunk).rpartition(b"\n")
                self._count(whole + newline)
                self._place = _Place(self._place.inode, self._place.offset + len(whole) + len(newline))

    def _count(self, data: bytes) -> None:
        for line in letters.parse(data):
            if (letter := line.letter) is not None:
                before = self._found.get(letter.node)
                self._found[letter.node] = Lying(1 + (before.count if before else 0), letter.seq, letter.reason)
