"""The installation that a run kills: where its files are, how it is set up, and its orderly end.

    FOLDER/m    panel and master          FOLDER/kvm    vmwatch-node, on libvirt's test driver
    FOLDER/gen  the generator             FOLDER/h      libvirtd's configuration and log
"""

from contextlib import ExitStack
from pathlib import Path

import psutil

from bench.killing.hypervisor import Hypervisor
from bench.killing.ledger import keep_in_outbox, keep_in_panel
from bench.killing.programs import GeneratorService, Program, Programs
from bench.killing.schedule import Kill, Target
from tests.testbed.stack import Stack
from tests.testbed.withblock import WithBlock
from vmwatch.shared.exits import Exit

NODE, GENERATOR = "kvm", "gen"
NODES = {Target.NODE: NODE, Target.LIBVIRTD: NODE, Target.GENERATOR: GENERATOR}
"""Which node's events stop when this is killed."""
WORKERS = 2


class Installation(WithBlock):
    """Runs in a `with` block; what was killed or ended is started again at once until `stop`."""

    def __init__(self, folder: Path, seed: int, pace: float) -> None:
        self.outboxes = {name: folder / name / "var" / "vmwatch-node.db" for name in (NODE, GENERATOR)}
        self.panel_database = folder / "m" / "var" / "vmwatch-panel.db"
        self.dead_letters = folder / "m" / "var" / "vmwatch-master.dead"
        self.hypervisor = Hypervisor(folder / "h", seed, pace)
        self._folder = folder
        self._seed = seed
        self._pace = pace
        self._open = ExitStack()
        self.stack: Stack
        self.programs: Programs

    def close(self) -> None:
        self._open.close()

    def kill(self, kill: Kill) -> bool:
        """kill -9 as the schedule says; False if there is no such process at this moment."""
        programs = self.programs
        if kill.target is Target.WORKER:
            return self._kill_worker(kill.draw)
        if kill.target is Target.LIBVIRTD:
            return self.hypervisor.kill()
        return {
            Target.NODE: programs.node,
            Target.GENERATOR: programs.generator,
            Target.MASTER: programs.master,
            Target.PANEL: programs.panel,
        }[kill.target].kill()

    def stop(self) -> list[str]:
        """SIGTERM to all, those who send before those who receive; what went wrong with that."""
        self.programs.stop()
        troubles = []
        for program in (self.programs.node, self.programs.generator, self.programs.master, self.programs.panel):
            troubles += _end(program)
        return troubles

    def begin(self) -> None:
        self._open.callback(self.hypervisor.close)
        stack = self.stack = Stack(self._folder, workers=WORKERS)
        keep_in_panel(self.panel_database)
        self._open.enter_context(stack)
        self.hypervisor.begin()
        node = stack.node(NODE, self.hypervisor.libvirtd.uri, stats_interval="5")
        stack.node(GENERATOR, "none:///")  # for its configuration file
        generator = GeneratorService(self._folder / GENERATOR, self._seed, self._pace)
        self._open.callback(generator.close)
        for name, path in self.outboxes.items():
            keep_in_outbox(path, name)
        node.start()
        stack.wait_listening(node)
        generator.start()
        self.programs = Programs(stack.master, stack.panel, node, generator)
        self._open.callback(self.programs.stop)
        self.programs.start()
        self.hypervisor.start()

    def _kill_worker(self, draw: float) -> bool:
        """One of the master's children; the master itself starts another."""
        try:
            workers = psutil.Process(self.programs.master.service.pid).children()
            if workers:
                workers[int(draw * len(workers))].kill()
        except psutil.NoSuchProcess:
            return False
        return bool(workers)


def _end(program: Program) -> list[str]:
    if program.service.process_ended():
        return [f"{program.name} did not run at the end"]
    code = program.service.terminate()
    return [] if code == Exit.OK else [f"{program.name}, asked to stop, ended with exit code {code}"]
