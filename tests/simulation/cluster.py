"""A whole cluster on one seed: faults of every kind for a while, then calm, then the promise is checked.

    python -m tests.simulation.cluster SEED [SEED …]

replays single seeds; `python -m tests.simulation.cluster --count 10000` runs many.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable

from tests.simulation.master import SimMaster
from tests.simulation.node import SimNode
from tests.simulation.panel import SimPanel
from tests.simulation.world import Faults, Network, World
from vmwatch.panel.registration import EventRow
from vmwatch.shared.states import State

STORM_S = 90.0
CALM_MOST_S = 600.0
"""Back-offs end at 60 s, and an inventory comes each 60 s; ten times that and it is a livelock."""


class PromiseBroken(AssertionError):
    """The promise does not hold; the text says which part of it, and the seed."""


class Cluster:
    """Nodes, a network, a master with workers and a panel, all of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.world = World(seed)
        chance = self.world.chance
        self.faults = Faults(
            lose=chance.choice((0.0, 0.02, 0.2)),
            repeat=chance.choice((0.0, 0.1)),
            straggle=chance.choice((0.0, 0.02, 0.1)),
        )
        self.network = Network(self.world, self.faults)
        self.panel = SimPanel(self.world, self.faults)
        self.master = SimMaster(self.world, self.network, self.panel, workers=chance.choice((1, 2, 3)))
        count = chance.choice((1, 2, 3))
        self.nodes = [SimNode(self.world, self.network, f"n{i}", [self.master]) for i in range(count)]
        self.storm = True
        for node in self.nodes:
            self._operate(node)
        self._strike(1.0 + chance.random() * 10.0)

    def run(self) -> None:
        """The storm, the calm, the checks; raises PromiseBroken."""
        self.world.run(self.world.now + STORM_S)
        self.storm = False
        self._calm()
        ended = self.world.now
        if not self.world.run(ended + CALM_MOST_S, lambda: self._quiet(ended)):
            raise self._broken(f"no progress: {CALM_MOST_S:g} s after the faults ended: {self._backlog()}")
        self.check()

    def check(self) -> None:
        """Every message exactly once, in order per VM, and the picture is the truth."""
        self._check_registered()
        self._check_order()
        self._check_picture()

    # Faults

    def _operate(self, node: SimNode) -> None:
        if self.storm:
            for _ in range(self.world.chance.choice((1, 1, 1, 5))):
                node.hypervisor.operate()
            self.world.after(self.world.between(0.05, 4.0), lambda: self._operate(node))

    def _strike(self, every_s: float) -> None:
        if self.storm:
            self.world.chance.choice(
                (
                    self._kill_node,
                    self._kill_master,
                    self._kill_panel,
                    self.master.kill_worker,
                    self.master.hang_worker,
                    self._partition,
                )
            )()
            self.world.after(self.world.between(0.0, 2 * every_s), lambda: self._strike(every_s))

    def _down(self, part: SimNode | SimMaster | SimPanel) -> None:
        if part.alive:
            part.kill()
            self.world.after(self.world.between(0.0, 15.0), lambda: None if part.alive else part.start())

    def _kill_node(self) -> None:
        self._down(self.world.chance.choice(self.nodes))

    def _kill_master(self) -> None:
        self._down(self.master)

    def _kill_panel(self) -> None:
        self._down(self.panel)

    def _partition(self) -> None:
        name = self.world.chance.choice(self.nodes).name
        self.network.cut.add(name)
        self.world.after(self.world.between(0.5, 30.0), lambda: self.network.cut.discard(name))

    def _calm(self) -> None:
        self.faults.calm()
        self.network.cut.clear()
        parts: list[SimPanel | SimMaster | SimNode] = [self.panel, self.master, *self.nodes]
        for part in parts:
            if not part.alive:
                part.start()

    # The promise

    def _quiet(self, since: float) -> bool:
        return all(node.idle and node.listed_at > since for node in self.nodes)

    def _backlog(self) -> str:
        return ", ".join(f"{node.name} holds {node.outbox.held()}" for node in self.nodes)

    def _check_registered(self) -> None:
        produced = {(node.name, epoch, seq) for node in self.nodes for epoch, seq in node.produced}
        registered = Counter((row.node, row.epoch, row.seq) for row in self.panel.registered)
        doubled = {key for key, count in registered.items() if count > 1}
        if doubled:
            raise self._broken(f"registered twice: {sorted(doubled)}")
        # What lies in the dead letters is a stated exception: three workers died of it, or so it seemed.
        if lost := produced - registered.keys() - self.master.refused:
            raise self._broken(f"lost: {sorted(lost)}")
        if invented := registered.keys() - produced:
            raise self._broken(f"never sent: {sorted(invented)}")

    def _check_order(self) -> None:
        last: dict[tuple[str, str], EventRow] = {}
        for row in self.panel.registered:
            if (row.node, row.epoch, row.seq) in self.master.refused:
                continue  # it was put aside, and came again after its successors when the acknowledgement was lost
            before = last.get((row.node, row.uuid))
            if before is not None and (before.epoch, before.seq) > (row.epoch, row.seq):
                raise self._broken(f"out of order for one VM: {row} after {before}")
            last[row.node, row.uuid] = row

    def _check_picture(self) -> None:
        truth = {
            uuid: (domain.state, domain.name, node.name)
            for node in self.nodes
            for uuid, domain in node.hypervisor.domains.items()
        }
        picture: dict[str, tuple[State, str, str]] = {}
        for uuid in self.panel.known.vms:
            judgement = self.panel.known.judgement(uuid)
            if judgement is not None:
                picture[uuid] = (judgement.state, judgement.name, judgement.node)
        if picture != truth:
            wrong = {
                uuid: (picture.get(uuid), truth.get(uuid))
                for uuid in picture.keys() | truth.keys()
                if picture.get(uuid) != truth.get(uuid)
            }
            raise self._broken(f"the picture is wrong (picture, truth): {wrong}")

    def _broken(self, text: str) -> PromiseBroken:
        return PromiseBroken(f"seed {self.seed}: {text}\nreplay it: python -m tests.simulation.cluster {self.seed}")


def run_seeds(seeds: range | list[int], say: Callable[[str], object] = print) -> int:
    """Run each seed; returns how many broke the promise."""
    broken = 0
    for seed in seeds:
        try:
            Cluster(seed).run()
        except PromiseBroken as error:
            broken += 1
            say(str(error))
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(description="Simulate whole clusters under faults and check the promise.")
    parser.add_argument("seeds", nargs="*", type=int, metavar="SEED", help="replay these seeds")
    parser.add_argument("--count", type=int, default=0, help="run this many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: 0)")
    options = parser.parse_args()
    seeds = options.seeds or range(options.first, options.first + (options.count or 100))
    broken = run_seeds(seeds)
    print(f"{len(seeds)} seeds, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
