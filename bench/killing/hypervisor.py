"""A private libvirtd that is kept running, its domains kept busy; an observer writes down what it tells."""

import json
import random
import shutil
import signal
import threading
import time
from dataclasses import asdict
from pathlib import Path

import libvirt

from bench.killing.operations import PERSISTENT, Operations
from bench.killing.reference import Life
from tests.testbed.daemon import quiet_libvirt
from tests.testbed.observer import Observer
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import wait_until

BURST_MOST = 60
"""Operations at libvirt's full pace; then a pause that keeps the pace on average."""
STARTS_MOST = 20
"""A libvirtd that is killed while it starts is started again, so often in a row."""
END_LIMIT_S = 120


class Hypervisor(threading.Thread):
    """Runs from `start` to `finish`; the libvirtd stays until `close`. `pace`: operations a second."""

    def __init__(self, folder: Path, seed: int, pace: float) -> None:
        super().__init__(name="hypervisor")
        self.libvirtd = TestDriverDaemon(folder / "libvirtd", domains=PERSISTENT)
        self.lives: list[Life] = []
        self.done = 0
        """Operations that succeeded."""
        self.failure = ""
        """Why the stream has ended before its time."""
        self._folder = folder
        self._chance = random.Random(f"operator {seed}")
        self._pace = pace
        self._ending = threading.Event()
        self._observer: Observer | None = None
        self._operations: Operations

    def begin(self) -> None:
        """The first libvirtd, and its observer."""
        self.libvirtd.start()
        self._observe()

    def run(self) -> None:
        """Operate; a libvirtd that was killed is started again at once."""
        try:
            while not self._ending.is_set():
                burst = self._chance.randint(1, BURST_MOST)
                try:
                    with quiet_libvirt():
                        self._operate(burst)
                except libvirt.libvirtError:
                    self._restart()
                self._ending.wait(burst / self._pace * self._chance.uniform(0.5, 1.5))
        except Exception as error:
            self.failure = f"the stream from libvirt ended: {type(error).__name__}: {error}"

    def finish(self) -> None:
        """No more operations; wait until the observer has seen the last one."""
        self._ending.set()
        if self.is_alive():
            self.join(END_LIMIT_S)
        if self._observer is not None and not self.failure:
            observer, life = self._observer, self.lives[-1]
            wait_until(lambda: len(observer.events) >= len(life.done), "the observer to have printed all")
        self._end_life()

    def kill(self) -> bool:
        """kill -9 to libvirtd, also while it starts; False if it does not run at this moment."""
        if not self.libvirtd.is_running:
            return False
        self.libvirtd.kept.signal(signal.SIGKILL)
        return True

    def listing(self) -> dict[str, tuple[str, str]]:
        """libvirt's own list: name and state by UUID."""
        names = {libvirt.VIR_DOMAIN_RUNNING: "running", libvirt.VIR_DOMAIN_PAUSED: "paused"}
        domains = self.libvirtd.connection.listAllDomains()
        return {domain.UUIDString(): (domain.name(), names.get(domain.state()[0], "shutoff")) for domain in domains}

    def write_lives(self) -> None:
        """Keep what libvirt told beside the logs, for who looks for a cause."""
        (self._folder / "lives.json").write_text(json.dumps([asdict(life) for life in self.lives]))

    def close(self) -> None:
        """End everything, whatever has happened before."""
        self._ending.set()
        if self.is_alive():
            self.join(END_LIMIT_S)
        if self._observer is not None:
            self._observer.stop()
        self.libvirtd.close()

    def _operate(self, count: int) -> None:
        life = self.lives[-1]
        for _ in range(count):
            operation = self._operations.next()
            life.done.append((operation[0], operation[2], operation[3]))
            operation[1]()
            self._operations.done(operation)
            self.done += 1

    def _restart(self) -> None:
        daemon = self.libvirtd
        # An error of a living libvirtd is none that we expect: then this waits in vain and ends the stream.
        wait_until(lambda: not daemon.is_running, "libvirtd to be dead after a call has failed", 10)
        self._end_life()
        for attempt in range(STARTS_MOST):
            try:
                daemon.kill()
                daemon.start()
                self._observe()
                return
            except (AssertionError, libvirt.libvirtError):
                if attempt + 1 == STARTS_MOST or daemon.is_running:
                    raise

    def _observe(self) -> None:
        number = len(self.lives)
        observer = Observer(self.libvirtd.uri, self._folder / f"observer-{number}")
        try:
            observer.start()
        except BaseException:
            observer.stop()
            raise
        self._observer = observer
        self._operations = Operations(self.libvirtd, self._chance)
        self.lives.append(Life())

    def _end_life(self) -> None:
        """virsh ends by itself when libvirtd has gone, and has printed by then what it was sent."""
        observer, self._observer = self._observer, None
        if observer is None:
            return
        if not self._ending.is_set():
            deadline = time.monotonic() + END_LIMIT_S
            while observer.is_running and time.monotonic() < deadline:
                time.sleep(0.005)
        observer.stop()
        self.lives[-1].observed = [(seen.domain, seen.event, seen.detail) for seen in observer.events]
        shutil.rmtree(observer.output.parent, ignore_errors=True)
