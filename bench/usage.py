"""Memory and processor time of processes while something is measured."""

import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psutil

EVERY_S = 0.5
MEGABYTE = 1024 * 1024


@dataclass
class Usage:
    """Of one process. `uss`: memory that it shares with no other; peaks in MiB, `cpu_s` since the watch began."""

    rss_mb: float = 0.0
    uss_mb: float = 0.0
    cpu_s: float = 0.0
    first_rss_mb: float = 0.0


class UsageWatch:
    """Looks at processes twice a second, from `with` on to its end; one that ends keeps its last figures."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.usages = {name: Usage() for name in pids}
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._before: dict[str, float] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        for name in self._processes:
            self._look(name)
            self.usages[name].first_rss_mb = self.usages[name].rss_mb
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()
        for name in self._processes:
            self._look(name)

    def follow(self, name: str, pid: int) -> None:
        """Go on with another process under this name: it was restarted."""
        self._before.pop(name, None)
        self._processes[name] = psutil.Process(pid)

    def _run(self) -> None:
        while not self._ending.wait(EVERY_S):
            for name in list(self._processes):
                self._look(name)

    def _look(self, name: str) -> None:
        usage = self.usages[name]
        try:
            memory = self._processes[name].memory_full_info()
            times = self._processes[name].cpu_times()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return
        usage.rss_mb = max(usage.rss_mb, memory.rss / MEGABYTE)
        usage.uss_mb = max(usage.uss_mb, memory.uss / MEGABYTE)
        cpu_s = times.user + times.system
        usage.cpu_s += cpu_s - self._before.get(name, cpu_s)
        self._before[name] = cpu_s
