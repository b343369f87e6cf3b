"""Calls that may hang, kept away from the main loop: one at a time, in a thread of its own, with a deadline."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from vmwatch.shared.clock import Clock

_T = TypeVar("_T")


@dataclass(frozen=True)
class Outcome(Generic[_T]):
    """How a call ended: with a `result`, or with an `error`. `late`: after its deadline, when nobody wants it."""

    result: _T | None
    error: Exception | None
    late: bool


class Background(Generic[_T]):
    """Runs one call at a time; a hung one cannot be ended, so nothing is started on top of it.

    `wake` is called, from the call's thread, when an outcome is ready. The thread is a daemon: it keeps no program
    from ending.
    """

    def __init__(self, name: str, deadline_s: float, clock: Clock, wake: Callable[[], None]) -> None:
        self.name = name
        self._deadline_s = deadline_s
        self._clock = clock
        self._wake = wake
        self._begun_at: float | None = None
        self._outcome: Outcome[_T] | None = None

    @property
    def busy(self) -> bool:
        """A call runs, or its outcome was not taken yet."""
        return self._begun_at is not None

    def running_s(self, now: float) -> float:
        """For how many seconds the present call has been running; 0 if none is. For any thread."""
        begun_at = self._begun_at
        return 0.0 if begun_at is None else max(0.0, now - begun_at)

    def hung_s(self, now: float) -> float:
        """Seconds since the running call's deadline passed; 0 if it has not, or none runs. For any thread."""
        return max(0.0, self.running_s(now) - self._deadline_s)

    def begin(self, function: Callable[[], _T]) -> None:
        """Run `function` in a new thread; only when not busy."""
        if self.busy:
            raise RuntimeError(f"{self.name} is running already")
        self._begun_at = self._clock.monotonic()
        threading.Thread(target=self._run, args=(function, self._begun_at), name=self.name, daemon=True).start()

    def take(self) -> Outcome[_T] | None:
        """The outcome of the call that has ended, once; None if none has."""
        outcome = self._outcome
        if outcome is not None:
            self._outcome = None
            self._begun_at = None
        return outcome

    def _run(self, function: Callable[[], _T], begun_at: float) -> None:
        result, failure = None, None
        try:
            result = function()
        except Exception as error:  # it is the caller's, who gets it in the other thread
            failure = error
        late = self._clock.monotonic() - begun_at > self._deadline_s
        self._outcome = Outcome(result, failure, late)
        self._wake()
