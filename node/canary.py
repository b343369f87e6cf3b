"""The canary: a message that asks for nothing but its acknowledgement, so that a probe sees the whole way work."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from vmwatch.node.sender import Held

ANSWER_MOST_S = 4.0
"""A loop that turns at least each second has answered by then; the status socket's client waits little longer."""


class Canary:
    """The last canary of this run. One at a time: who asks while one is under way is told of that one.

    `ask` and `describe` are for any thread, everything else for the main loop. Times are monotonic seconds.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._wanted = threading.Event()
        self._answered = threading.Event()
        self._answer: dict[str, Any] = {}
        self._place: tuple[int, int] | None = None
        self._sent_at = 0.0
        self._state = ""
        self._took_s = 0.0

    def ask(self) -> dict[str, Any]:
        """Have one sent; where it stands in the order (`epoch`, `seq`), or the `error` why it is not sent."""
        self._answered.clear()
        self._wanted.set()
        self._wake()
        if not self._answered.wait(ANSWER_MOST_S):
            return {"error": "the agent's loop does not turn"}
        return self._answer

    @property
    def wanted(self) -> bool:
        """Somebody waits for `sent`, `refused` or `shared`."""
        return self._wanted.is_set()

    @property
    def under_way(self) -> bool:
        return self._state == "under way"

    def share(self) -> None:
        """One is under way already: it does as well."""
        assert self._place is not None
        self._tell({"epoch": self._place[0], "seq": self._place[1]})

    def sent(self, now: float, epoch: int, seq: int) -> None:
        """It lies in the outbox."""
        self._state, self._sent_at, self._place = "under way", now, (epoch, seq)
        self._tell({"epoch": epoch, "seq": seq})

    def refused(self, why: str) -> None:
        """It does not."""
        self._tell({"error": why})

    def settled(self, now: float, completed: Mapping[int, int], held: Held) -> None:
        """What acknowledgements settled since the last call, by epoch, and what the outbox holds after that."""
        if self._place is None or not self.under_way:
            return
        epoch, seq = self._place
        if completed.get(epoch, 0) >= seq:
            self._took_s, self._state = now - self._sent_at, "acknowledged"
        elif (held.epoch, held.base) > self._place:
            self._took_s, self._state = now - self._sent_at, "dropped"

    def describe(self, now: float) -> dict[str, Any]:
        """For the status. `seconds`: that it took, or has been under way for."""
        place, state = self._place, self._state
        if place is None:
            return {}
        seconds = max(0.0, now - self._sent_at) if state == "under way" else self._took_s
        return {"epoch": place[0], "seq": place[1], "state": state, "seconds": round(seconds, 3)}

    def _tell(self, answer: dict[str, Any]) -> None:
        self._wanted.clear()
        self._answer = answer
        self._answered.set()
