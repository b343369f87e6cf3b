"""Dead letters that a person sends again: from their file through the workers, once more (design 01, *faults*).

`vmwatch deadletter replay` puts them into `var/vmwatch-master.returned`. There they stay until all that the file holds
is settled, so neither the end of this process nor a panel that is away loses one; one that is sent twice for that is
told apart by the panel, as any message is. They belong to no node's window: nothing is acknowledged with them.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vmwatch.shared import letters
from vmwatch.shared.errors import MessageError
from vmwatch.shared.letters import Letter
from vmwatch.shared.logs import RateLimit
from vmwatch.shared.messages import decode_head, is_plain
from vmwatch.supervisor.ledger import LEAST_CHARGE, MESSAGE_MOST_BYTES, Entry, Stream, lane_of

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
READ_BYTES = 256 * 1024
"""Of letters in hand at a time, about; a single one may be larger. Nodes' own messages are the master's work."""
FAILURE_LOGGED_EVERY_S = 60.0


class Returns:
    """What of the file is in the workers' hands. `new_id` gives entries their numbers among all others."""

    def __init__(self, path: Path, new_id: Callable[[], int]) -> None:
        self._path = path
        self._new_id = new_id
        self._in_hand: dict[int, Entry] = {}
        self._offset = 0
        self._look_at = 0.0
        self._logged = RateLimit(FAILURE_LOGGED_EVERY_S)
        self.taken = 0
        """By the panel, in this run."""
        self.refused = 0

    def __contains__(self, entry_id: int) -> bool:
        return entry_id in self._in_hand

    def take(self, now: float) -> list[Entry]:
        """The next ones to hand out, if it is time. `now`: monotonic seconds."""
        if self._in_hand or now < self._look_at:
            return []
        self._look_at = now + LOOK_EVERY_S
        try:
            data = letters.read_from(self._path, self._offset, READ_BYTES)
        except FileNotFoundError:
            self._offset = 0
            return []
        except OSError as error:
            self._failed(now, error)
            return []
        self._offset += len(data)
        found = []
        for line in letters.parse(data):
            entry = self._entry(line.letter) if line.letter is not None else None
            if entry is None:
                log.error("%s: what is no letter is not sent: %s", self._path, line.text[:200].decode(errors="replace"))
            else:
                found.append(entry)
        self._in_hand = {entry.id: entry for entry in found}
        if found:
            log.info("%d dead letters are sent again", len(found))
        return found

    def settle(self, entry: Entry, *, refused: bool = False) -> bool:
        """The panel has it, or it is a dead letter again. False if it is none of these, but a node's message."""
        if self._in_hand.pop(entry.id, None) is None:
            return False
        self.refused += refused
        self.taken += not refused
        if not refused:
            log.info("dead letter %s/%d/%d was taken by the panel", entry.stream.node, entry.stream.epoch, entry.seq)
        if not self._in_hand:
            self._look_at = 0.0
        return True

    def flush(self, now: float) -> None:
        """Empty the file when all of it is settled."""
        if self._in_hand or not self._offset:
            return
        try:
            if letters.empty(self._path, self._offset):
                self._offset = 0
        except OSError as error:
            self._failed(now, error)

    def describe(self) -> dict[str, Any]:
        """For the status."""
        return {"returning": len(self._in_hand), "returned": self.taken, "refused_again": self.refused}

    def _entry(self, letter: Letter) -> Entry | None:
        raw = bytes(letter.message)
        try:
            head = decode_head(letter.message)
        except MessageError:
            return None
        if head.seq != letter.seq or len(raw) > MESSAGE_MOST_BYTES or not is_plain(raw):
            return None
        stream = Stream(letter.node, letter.epoch, base=0, received=0, completed=0)
        lane, size = lane_of(letter.node, head), max(len(raw), LEAST_CHARGE)
        return Entry(self._new_id(), stream, letter.seq, lane, size, raw, token="")

    def _failed(self, now: float, error: OSError) -> None:
        if not isinstance(error, BlockingIOError) and self._logged.allows(now) is not None:
            log.error("%s: dead letters cannot be sent again: %s", self._path, error.strerror or error)
