"""What supervisord's events mean: which service is down for good, and when it is back. A core without I/O.

Times are monotonic seconds. A service that waits for libvirtd runs; one that is disabled, or that somebody stopped,
has ended in order: neither is told of.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

CRASHES = 5
CRASHES_WITHIN_S = 60.0
"""So many unexpected ends in so long: it is started again each time, and never serves."""
STEADY_S = 30.0
"""It has run for so long without an end: it is back."""
USAGE, CONFIGURATION = 64, 78
"""Exit codes after which supervisord, as conf.d tells it, does not start a service again."""
_WHY = {USAGE: "its command line is wrong", CONFIGURATION: "its configuration is wrong, or an address is in use"}


@dataclass(frozen=True)
class Report:
    """`down`: the service is, and `text` says how; else it is back."""

    program: str
    down: bool
    text: str = ""


@dataclass
class _Program:
    running_since: float | None = None
    crashes: deque[float] = field(default_factory=lambda: deque(maxlen=CRASHES))


class Watcher:
    """Watches these programs. `down`: those that were reported earlier and are not known to be back."""

    def __init__(self, programs: Iterable[str], down: Iterable[str] = ()) -> None:
        self._programs = {name: _Program() for name in programs}
        self.down = {name for name in down if name in self._programs}

    def running(self, name: str, now: float) -> list[Report]:
        """It was started, or runs when we come."""
        if name in self._programs:
            self._programs[name].running_since = now
        return []

    def fatal(self, name: str, now: float) -> list[Report]:
        """supervisord has given it up."""
        return self._report(name, "supervisord could not start it and has given it up (FATAL)")

    def exited(self, name: str, expected: bool, code: int | None, now: float) -> list[Report]:
        """It ended. `expected`: with a code after which it is not started again; `code` is None if nobody knows it."""
        program = self._programs.get(name)
        if program is None:
            return []
        program.running_since = None
        if expected:
            program.crashes.clear()
            if code in _WHY:
                return self._report(name, f"it ended with exit code {code}: {_WHY[code]}; it is not started again")
            return []
        program.crashes.append(now)
        if len(program.crashes) == CRASHES and now - program.crashes[0] <= CRASHES_WITHIN_S:
            often = f"{CRASHES} times within {CRASHES_WITHIN_S:.0f} s"
            return self._report(name, f"it ended unexpectedly {often}; it is started again each time")
        return []

    def stopped(self, name: str, now: float) -> list[Report]:
        """Somebody has stopped it: that is not fought, and no news."""
        if name in self._programs:
            self._programs[name] = _Program()
        return []

    def tick(self, now: float) -> list[Report]:
        """Time has passed: who is back?"""
        back = [
            name
            for name in sorted(self.down)
            if (since := self._programs[name].running_since) is not None and now - since >= STEADY_S
        ]
        self.down -= set(back)
        return [Report(name, down=False) for name in back]

    def _report(self, name: str, text: str) -> list[Report]:
        if name not in self._programs:
            return []
        self._programs[name].running_since = None
        self._programs[name].crashes.clear()
        self.down.add(name)
        return [Report(name, down=True, text=text)]
