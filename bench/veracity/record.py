"""Samples of many VMs, as they come from one who looks: libvirt of one node, or one picture."""

import threading
from collections.abc import Mapping

from bench.veracity.timeline import NOBODY, Timeline, Value

GONE = "absent"


class Record:
    """For several threads. A VM that is not in a sample was not there, also before it was first in one."""

    def __init__(self) -> None:
        self.vms: dict[str, Timeline] = {}
        self.samples = 0
        self._lock = threading.Lock()
        self._first: tuple[float, float] | None = None
        self._last = (0.0, 0.0)

    def add(self, begin: float, end: float, values: Mapping[str, str]) -> None:
        """All VMs that there are, looked at between these times (monotonic seconds)."""
        with self._lock:
            for vm in values.keys() - self.vms.keys():
                self._begin(vm)
            for vm, timeline in self.vms.items():
                timeline.add(begin, end, values.get(vm, GONE))
            self._note(begin, end)

    def add_one(self, begin: float, end: float, vm: str, value: Value) -> None:
        """One VM alone."""
        with self._lock:
            if vm not in self.vms:
                self._begin(vm)
            self.vms[vm].add(begin, end, value)

    def add_nothing(self, begin: float, end: float) -> None:
        """Nobody could say anything of any VM."""
        with self._lock:
            for timeline in self.vms.values():
                timeline.add(begin, end, NOBODY)
            self._note(begin, end)

    def now(self) -> dict[str, Value]:
        """What the last samples showed; without VMs that are not there."""
        with self._lock:
            return {vm: timeline.now for vm, timeline in self.vms.items() if timeline.now != GONE}

    def _begin(self, vm: str) -> None:
        timeline = self.vms[vm] = Timeline()
        if self._first is not None:
            timeline.add(*self._first, GONE)
            timeline.add(*self._last, GONE)

    def _note(self, begin: float, end: float) -> None:
        self.samples += 1
        self._first = self._first or (begin, end)
        self._last = (begin, end)
