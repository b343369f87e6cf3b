"""The faults of a storm, as they strike a cluster (design 01, *What a fault does*)."""

from random import Random
from typing import TYPE_CHECKING

from tests.simulation.node import EMPTY_DISK, SimNode
from tests.simulation.storm import Kind, Strike
from tests.simulation.world import Process

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

NODES_MOST = 4


class Faults:
    """Strikes one cluster. All that it ends it begins again, at the latest when the calm comes."""

    def __init__(self, cluster: "Cluster") -> None:
        self.cluster = cluster
        self.world = cluster.world

    def strike(self, strike: Strike) -> None:
        """One fault, now."""
        luck = Random(strike.luck)
        node, seconds = luck.choice(self.cluster.nodes), luck.choice((0.0, 0.3, 2.0, 8.0)) * luck.uniform(0.5, 1.5)
        kind = strike.kind
        if kind.value.startswith(("kill_", "hang_")):
            self._stop(kind, node, luck, seconds)
        elif kind in (Kind.CUT, Kind.CUT_UP, Kind.CUT_DOWN):
            self._cut(kind, node.host, luck.choice(self.cluster.masters).host, seconds)
        elif kind in (Kind.RESTORE_DISK, Kind.LOSE_DISK, Kind.MOVE_NODE):
            self._strike_disk(kind, node, seconds)
        elif kind is Kind.CLONE_NODE:
            if len(self.cluster.nodes) < NODES_MOST:
                self.cluster.add_node(f"clone{len(self.cluster.nodes)}", node.disk.serialize())
        elif kind is Kind.BAD_ANSWERS:
            self.cluster.panel.bad_answers_until = self.world.now + seconds
        elif kind is Kind.RESTORE_PANEL:
            self._restore_panel(seconds)
        elif kind is Kind.STEP_CLOCK:
            process = luck.choice((node, node, self.cluster.panel))
            process.wall_s += luck.choice((-1.0, 1.0)) * luck.choice((0.5, 5.0, 60.0, 86400.0))
        elif kind is Kind.ROTATE_SECRET:
            self._rotate_secret(seconds)
        elif kind is Kind.REPLAY:
            self._replay(luck)

    # Processes

    def _stop(self, kind: Kind, node: SimNode, luck: Random, seconds: float) -> None:
        """Kill or hang something for a while."""
        how, what = kind.value.split("_")
        master = luck.choice(self.cluster.masters)
        if what == "worker":
            if master.alive and master.workers:
                worker = master.workers[luck.choice(sorted(master.workers))]
                if how == "kill":
                    master.lose(worker)
                else:
                    worker.hang(seconds)
            return
        process: Process = {"node": node, "master": master, "panel": self.cluster.panel}[what]
        if how == "hang":
            process.hang(seconds)
        elif process.alive:
            process.kill()
            self.world.after(seconds, lambda: up(process))

    def _restore_panel(self, seconds: float) -> None:
        panel = self.cluster.panel
        backup = panel.back_up()

        def restore() -> None:
            if self.cluster.blowing and panel.alive:
                panel.kill()
                panel.restore(backup)
                panel.start()

        self.world.after(seconds, restore)

    # Disks

    def _strike_disk(self, kind: Kind, node: SimNode, seconds: float) -> None:
        """The disk is copied now and comes back a while later, or is gone, or gets into another machine."""
        image = node.disk.serialize() if kind is Kind.RESTORE_DISK else EMPTY_DISK

        def strike() -> None:
            if not self.cluster.blowing:
                return
            node.kill()
            if kind is Kind.MOVE_NODE:
                node.machine += "x"
            else:
                node.replace_disk(image)
            self.world.after(0.2, lambda: up(node))

        self.world.after(seconds, strike)

    # The network

    def _cut(self, kind: Kind, node: str, master: str, seconds: float) -> None:
        network = self.cluster.network
        ways = {Kind.CUT_UP: [(node, master)], Kind.CUT_DOWN: [(master, node)]}
        for way in ways.get(kind, [(node, master), (master, node)]):
            network.cut(*way)
            heal = lambda way=way: network.heal(*way) if self.cluster.blowing else None  # noqa: E731
            self.world.after(seconds, heal)

    def _replay(self, luck: Random) -> None:
        """Somebody who listened sends again what he has."""
        recorded = self.cluster.network.recorded
        for frames in luck.choices(recorded, k=10) if recorded else []:
            master = luck.choice(self.cluster.masters)
            master.later(luck.uniform(0.0, 1.0), lambda frames=frames, master=master: master.receive(frames))  # type: ignore[misc]

    def _rotate_secret(self, seconds: float) -> None:
        """As `vmwatch.configure` does: masters accept both, nodes change one by one, then the old one goes."""
        cluster, secrets = self.cluster, self.cluster.secrets
        if secrets.previous:
            return
        secrets.previous = secrets.now
        secrets.now = f"SECRETNUMBER{self.world.steps:08d}"
        for master in cluster.masters:
            master.reload()
        for node in cluster.nodes:
            change = lambda node=node: node.set_key(secrets.now)  # noqa: E731
            self.world.after(self.world.between(0.0, seconds), change)

        def retire() -> None:
            if any(node.secret != secrets.now for node in cluster.nodes):
                self.world.after(1.0, retire)  # one was cloned meanwhile
                return
            secrets.previous = ""
            for master in cluster.masters:
                master.reload()

        self.world.after(seconds + 0.1, retire)


def up(process: Process) -> None:
    """Let it run again, unless something else did."""
    if not process.alive:
        process.start()
