"""What a run is made of: four hypervisors, vmwatch on them, the two rivals beside it, and wires that can be cut.

    FOLDER/m     vmwatch's panel and master      FOLDER/NODE    vmwatch-node, and the rivals' agents
    FOLDER/h     libvirtd's configurations, logs and the real VMs' disks
"""

import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

from bench.killing.programs import LOOK_EVERY_S, ROOT, Program
from bench.veracity.operations import TRANSIENT, Operator, RealOperator
from bench.veracity.rivalpanel import RivalPanel
from bench.veracity.script import MANY, NODES, REAL, Course
from tests.testbed.migration import Hypervisor
from tests.testbed.service import Service
from tests.testbed.stack import Stack
from tests.testbed.testdriver import TestDriverDaemon
from tests.testbed.waiting import LOOPBACK, free_port, free_port_pair
from tests.testbed.wire import Wire
from tests.testbed.withblock import WithBlock
from vmwatch.shared.exits import Exit


class RivalService(Service):
    """The rivals' agents of one node, as a service; only the first start begins with a list."""

    def __init__(self, prefix: Path, node: str, uri: str, url: str, period_s: float) -> None:
        super().__init__("rivals", prefix)
        self._words = [node, uri, url, "--period", str(period_s)]
        self._starts = 0

    def launch(self) -> None:
        self._starts += 1
        words = [*self._words, *(["--first"] if self._starts == 1 else [])]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bench.veracity.rivals", *words],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )


class Tending:
    """Starts each of these programs again at once when it has ended, as a service manager would, until `stop`."""

    def __init__(self, programs: list[Program]) -> None:
        self.programs = programs
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """May be called again, also without a start."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(LOOK_EVERY_S):
            for program in self.programs:
                program.tend()


class Cluster(WithBlock):
    """Runs in a `with` block."""

    def __init__(self, folder: Path, course: Course) -> None:
        self._folder = folder
        self._course = course
        self._open = ExitStack()
        self.many = {node: self._new_many(node) for node in MANY}
        self.real = {node: Hypervisor(folder / "h" / node) for node in REAL}
        for daemon in (*self.many.values(), *self.real.values()):
            self._open.callback(daemon.close)
        self.operators = {node: Operator(daemon, self._names(node)) for node, daemon in self.many.items()}
        self.real_operator = RealOperator(self.real, folder / "h", course.real)
        self.rival_panel = RivalPanel()
        self.wires: dict[str, list[Wire]] = {}
        self.agents: dict[str, Program] = {}
        self.rivals: dict[str, Program] = {}
        self.stack: Stack
        self._tending: Tending

    def close(self) -> None:
        self._open.close()

    def daemon(self, node: str) -> TestDriverDaemon | Hypervisor:
        return self.many[node] if node in self.many else self.real[node]

    @property
    def unasked(self) -> list[str]:
        """Programs that ended without being asked."""
        programs = (*self.agents.values(), *self.rivals.values())
        return [f"{program.name} ended unasked: {program.unasked}" for program in programs if program.unasked]

    def start_agents(self) -> None:
        """The agents of all three, once the VMs are there; from now on each that ends is started again."""
        for node in NODES:
            service = self._new_agent(node)
            service.start()
            self.stack.wait_listening(service)
            self.agents[node] = Program(f"vmwatch-node of {node}", service, allowed=(Exit.LIBVIRT_LOST,))
            self.rivals[node].service.launch()
        self._tending = Tending([*self.agents.values(), *self.rivals.values()])
        # Before the services are closed, and after it is certain that they will be.
        self._open.callback(self._tending.stop)
        self._tending.start()

    def begin(self) -> None:
        for daemon in (*self.many.values(), *self.real.values()):
            daemon.start()
        self.stack = self._open.enter_context(Stack(self._folder))
        self._open.enter_context(self.rival_panel)
        for node in NODES:
            port = free_port_pair()
            to_master = [Wire((LOOPBACK, port + n), (LOOPBACK, self.stack.port + n)) for n in (0, 1)]
            to_rivals = Wire((LOOPBACK, free_port()), (LOOPBACK, self.rival_panel.port))
            self.wires[node] = [*to_master, to_rivals]
            for wire in self.wires[node]:
                self._open.enter_context(wire)
            rivals = self._new_rivals(node, to_rivals)
            self._open.callback(rivals.close)
            self.rivals[node] = Program(f"rivals of {node}", rivals)

    def _new_agent(self, node: str) -> Service:
        push, *_ = self.wires[node]
        return self.stack.node(
            node,
            self.daemon(node).uri,
            connect=f"tcp://{LOOPBACK}:{push.at[1]}",
            heartbeat_interval=f"{self._course.heartbeat_s:g}",
        )

    def _new_rivals(self, node: str, wire: Wire) -> RivalService:
        prefix = self._folder / f"rivals-{node}"
        prefix.mkdir()
        url = f"http://{LOOPBACK}:{wire.at[1]}"
        return RivalService(prefix, node, self.daemon(node).uri, url, self._course.poll_s)

    def _new_many(self, node: str) -> TestDriverDaemon:
        return TestDriverDaemon(self._folder / "h" / node, domains=tuple(self._names(node)[TRANSIENT:]))

    def _names(self, node: str) -> list[str]:
        return [f"{node}-vm{number}" for number in range(self._course.many)]
