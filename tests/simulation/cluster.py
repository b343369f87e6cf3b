"""A whole cluster on one seed: a storm of faults, then calm, then the promise is checked.

    python -m tests.simulation SEED [SEED ...]     replays single seeds
    python -m tests.simulation --count 10000       runs many
"""

from collections import Counter

from tests.simulation.faults import Faults, up
from tests.simulation.hypervisor import Domain, Hypervisor
from tests.simulation.master import Secrets, SimMaster
from tests.simulation.network import Network
from tests.simulation.node import EMPTY_DISK, SimNode
from tests.simulation.panel import SimPanel
from tests.simulation.storm import Storm
from tests.simulation.truth import Key, PromiseBroken, Truth
from tests.simulation.world import World
from vmwatch.panel.knowledge import EventRow
from vmwatch.shared.states import ACTIVE, State

CALM_MOST_S = 400.0
"""Back-offs end at 60 s; several times that and it is a livelock."""
CALM_MOST_STEPS = 20_000
"""So many for all that the calm has to do; an idle cluster takes some 12 steps a second."""


class Cluster:
    """Nodes, a network, masters with workers and a panel, all of one seed."""

    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.blowing = True
        self.world = World(storm.seed)
        self.weather = storm.weather
        self.truth = Truth()
        self.network = Network(self.world, self.weather)
        self.panel = SimPanel(self.world, self.weather, self.truth)
        self.secrets = Secrets()
        self.masters = [
            SimMaster(self.world, self.network, self.panel, f"m{number}", storm.workers, self.secrets)
            for number in range(storm.masters)
        ]
        self.nodes: list[SimNode] = []
        self._hypervisors: list[Hypervisor] = []
        for number in range(storm.nodes):
            self.add_node(f"n{number}")
        faults = Faults(self)
        for strike in storm.strikes:
            self.world.after(strike.at_s, lambda strike=strike: faults.strike(strike))  # type: ignore[misc]

    def run(self) -> None:
        """The storm, the calm, the checks; raises PromiseBroken."""
        self.world.run(self.world.now + self.storm.length_s)
        self._calm()
        self._until_quiet()
        self.check()

    # Life

    def add_node(self, name: str, image: bytes = EMPTY_DISK) -> None:
        """One more hypervisor, with an outbox of which this is the file."""
        node = SimNode(
            self.world,
            self.network,
            self.truth,
            name,
            self.masters,
            self.secrets.now,
            small=self.storm.small_outbox,
            poison=self.storm.poison,
            image=image,
            others=self._hypervisors,
        )
        self.nodes.append(node)
        self._hypervisors.append(node.hypervisor)
        self._operate(node)

    def _operate(self, node: SimNode) -> None:
        if self.blowing:
            for _ in range(self.world.chance.choice((1, 1, 1, 5))):
                node.hypervisor.operate()
            self.world.after(self.world.between(0.05, 2.0), lambda: self._operate(node))

    # The calm

    def _calm(self) -> None:
        self.blowing = False
        self.weather.calm()
        self.network.heal_all()
        self.panel.bad_answers_until = 0.0
        for part in (self.panel, *self.masters, *self.nodes):
            up(part)

    def _until_quiet(self) -> None:
        """Until nothing waits anywhere. What is set aside only beside successes needs some: the VMs go on till then."""
        until, steps = self.world.now + CALM_MOST_S, self.world.steps + CALM_MOST_STEPS
        while not self._quiet():
            if self.world.now >= until or self.world.steps >= steps:
                held = ", ".join(f"{node.name} holds {node.outbox.held()}" for node in self.nodes)
                raise PromiseBroken(f"no progress since the faults ended: {held}")
            if self.storm.poison:
                for node in self.nodes:
                    node.poison = 0.0
                    if self.world.now < until - CALM_MOST_S / 2 and not self._quiet():
                        node.hypervisor.operate()
            self.world.run(self.world.now + 0.5)

    def _quiet(self) -> bool:
        known = self.panel.known
        if known.departing or any(domain.moving for node in self.nodes for domain in node.hypervisor.domains.values()):
            return False
        if any(node.wanted or node.doubted or node.emptied[0] for node in known.nodes.values()):
            return False
        # A restored panel learns of a node that it does not remember by its next sign of life.
        return all(node.idle and (node.name, node.outbox.epoch) in known.epochs for node in self.nodes)

    # The promise

    def check(self) -> None:
        """Every message exactly once, in order per VM, and the picture is the truth."""
        self._check_registered()
        self._check_drops()
        self._check_order()
        self._check_picture()
        for node in self.nodes:
            node.check_resending(self.world.now - 1000.0)

    def _excepted(self) -> set[Key]:
        """What may be missing (design 01, *the stated exceptions*): each is known and counted."""
        sets = [self.panel.lost, *(master.refused for master in self.masters)]
        return set().union(*sets, *(node.lost | node.dropped for node in self.nodes))

    def _check_registered(self) -> None:
        produced = {key for node in self.nodes for key in node.produced}
        rows = Counter((row.node, row.epoch, row.seq) for row in self.panel.registered)
        if doubled := {key for key, count in (rows | self.panel.keys).items() if count > 1}:
            raise PromiseBroken(f"registered twice: {sorted(doubled)}")
        if lost := produced - self.panel.keys.keys() - self._excepted():
            raise PromiseBroken(f"lost: {sorted(lost)}")
        if invented := rows.keys() - produced:
            raise PromiseBroken(f"never sent: {sorted(invented)}")

    def _check_drops(self) -> None:
        """What an outbox had no room for was counted, and the panel was told of it."""
        for node in self.nodes:
            told = sum(count for key, count in node.reported.items() if key not in node.dropped)
            drops = node.drops + sum(node.outbox.dropped.values())
            if drops != told and not node.lost:
                raise PromiseBroken(f"{node.name} dropped {drops} messages and reported {told}")

    def _check_order(self) -> None:
        # Put aside or gone with a disk or a panel's, and yet on its way, or sent again for want of an acknowledgement.
        sets = [self.panel.lost, *(master.refused for master in self.masters), *(node.lost for node in self.nodes)]
        late = set().union(*sets)
        places = {key: place for node in self.nodes for key, place in node.produced.items()}
        last: dict[tuple[str, str], tuple[int, EventRow]] = {}
        for row in self.panel.registered:
            key = (row.node, row.epoch, row.seq)
            if key in late:
                continue
            before = last.get((row.node, row.uuid))
            if before is not None and before[0] > places[key]:
                raise PromiseBroken(f"out of order for one VM: {row} after {before[1]}")
            last[row.node, row.uuid] = (places[key], row)

    def _check_picture(self) -> None:
        truth = self._truth()
        picture: dict[str, tuple[State, str, str]] = {}
        for uuid in self.panel.known.vms:
            judgement = self.panel.known.judgement(uuid)
            if judgement is not None:
                picture[uuid] = (judgement.state, judgement.name, judgement.node)
        wrong = {
            uuid: (picture.get(uuid), truth.get(uuid))
            for uuid in picture.keys() | truth.keys()
            if picture.get(uuid) not in truth.get(uuid, [None])
        }
        if wrong:
            raise PromiseBroken(f"the picture is wrong (picture, truth): {wrong}")

    def _truth(self) -> dict[str, list[tuple[State, str, str] | None]]:
        """What may be shown of each VM: where it runs, or else any of the nodes that have its definition."""
        places: dict[str, list[tuple[Domain, str]]] = {}
        for node in self.nodes:
            for uuid, domain in node.hypervisor.domains.items():
                places.setdefault(uuid, []).append((domain, node.name))
        truth: dict[str, list[tuple[State, str, str] | None]] = {}
        for uuid, found in places.items():
            active = [place for place in found if place[0].state in ACTIVE]
            truth[uuid] = [(domain.state, domain.name, name) for domain, name in active or found]
        return truth
