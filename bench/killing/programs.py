"""The programs that are killed, and who starts them again at once, as a service manager would."""

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.testbed.service import Service
from vmwatch.shared.exits import Exit

ROOT = Path(__file__).resolve().parents[2]
LOOK_EVERY_S = 0.005
UNASKED_MOST = 20
"""So many ends that nobody asked for, and a program is left alone: starting it goes round in circles."""


class GeneratorService(Service):
    """The generator as a service below a prefix of its own; each start draws from a seed of its own."""

    def __init__(self, prefix: Path, seed: int, pace: float) -> None:
        super().__init__("vmwatch-node", prefix)
        self._seed = seed
        self._pace = pace
        self._starts = 0

    def launch(self) -> None:
        self._starts += 1
        options = ["--prefix", str(self.prefix), "--seed", f"{self._seed}/{self._starts}", "--pace", str(self._pace)]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bench.killing.generator", *options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )


class Program:
    """A service that runs again at once whenever it has ended. `allowed`: exit codes that need no kill of ours."""

    def __init__(self, name: str, service: Service, allowed: Sequence[int] = ()) -> None:
        self.name = name
        self.service = service
        self.starts = 0
        self.unasked: list[int] = []
        """Exit codes of ends that nobody asked for."""
        self._allowed = frozenset(allowed)
        self._killed = False
        self._lock = threading.Lock()

    def kill(self) -> bool:
        """kill -9; False if it does not run at this moment."""
        with self._lock:
            if self.service.process is None or self.service.process_ended():
                return False
            self._killed = True
            self.service.signal(signal.SIGKILL)
            return True

    def tend(self) -> None:
        """Start it again if it has ended."""
        with self._lock:
            process = self.service.process
            if process is None or process.poll() is None or len(self.unasked) > UNASKED_MOST:
                return
            if not (self._killed and process.returncode == -signal.SIGKILL) and process.returncode not in self._allowed:
                self.unasked.append(process.returncode)
            self._killed = False
            self.starts += 1
            self.service.launch()


class Programs:
    """All programs, and from `start` to `stop` the thread that starts them again."""

    def __init__(self, master: Service, panel: Service, node: Service, generator: Service) -> None:
        self.master = Program("master", master)
        self.panel = Program("panel", panel)
        self.node = Program("node", node, allowed=(Exit.LIBVIRT_LOST,))
        self.generator = Program("generator", generator)
        self.all = (self.master, self.panel, self.node, self.generator)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._tend, name="programs")

    def start(self) -> None:
        """Watch over them from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Start nothing more. May be called again."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def unasked(self) -> list[str]:
        """Every end that nobody asked for."""
        ends = Counter((program.name, code) for program in self.all for code in program.unasked)
        return [f"{name} ended by itself with exit code {code}, {count} times" for (name, code), count in ends.items()]

    def wait_all_running(self, timeout_s: float) -> list[str]:
        """Wait until each answers on its status socket; the names of those that do not."""
        deadline = time.monotonic() + timeout_s
        missing = [program.name for program in self.all]
        while missing and time.monotonic() < deadline:
            missing = [program.name for program in self.all if not program.service.status]
            time.sleep(LOOK_EVERY_S)
        return missing

    def _tend(self) -> None:
        while not self._ending.wait(LOOK_EVERY_S):
            for program in self.all:
                program.tend()
