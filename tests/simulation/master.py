"""The master in the simulation: the real authenticator, ledger and dispatcher; sockets and processes are virtual."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.network import Network
from tests.simulation.panel import SimPanel
from tests.simulation.truth import PromiseBroken
from tests.simulation.worker import BATCH_MAX, SimWorker, presence_outcome
from tests.simulation.world import Process, World
from vmwatch.shared.errors import MessageError
from vmwatch.shared.handover import StreamLabel
from vmwatch.shared.keys import down_mac, topic_of
from vmwatch.shared.messages import VERSION, encode
from vmwatch.shared.report import Report, Verdict
from vmwatch.supervisor.dispatcher import DEATHS_ALLOWED, Dispatcher
from vmwatch.supervisor.ledger import Entry, Ledger
from vmwatch.supervisor.receiver import Authenticator
from vmwatch.workers.batcher import Job, Settlement
from vmwatch.workers.transport import Reply

if TYPE_CHECKING:
    from tests.simulation.node import SimNode

HUNG_S = 4.0
PRESENCE_LIMIT_S = 1.0
TICK_S = 1.0
MEMORY_BYTES = 16 * 1024
"""Little, so that the credit is used up in an outage."""


@dataclass
class Secrets:
    """What the configuration of all masters says."""

    now: str = "FIRSTSECRET0000001"
    previous: str = ""


class SimMaster(Process):
    """One master's host; each start is a new run with a new name and an empty memory."""

    def __init__(
        self, world: World, network: Network, panel: SimPanel, host: str, workers: int, secrets: Secrets
    ) -> None:
        super().__init__(world)
        self.network = network
        self.panel = panel
        self.host = host
        self.secrets = secrets
        self.worker_count = workers
        self.name = ""
        self.nodes: dict[str, list[SimNode]] = {}
        """By node_id."""
        self.refused: set[tuple[str, int, int]] = set()
        """(node, epoch, seq) of what lies in the dead letters."""
        self.rejected: Counter[str] = Counter()
        self.workers: dict[int, SimWorker] = {}
        self._deaths: Counter[int] = Counter()
        """By entry: how many workers were lost that held it."""
        self._generations = 0
        self.start()

    def start(self) -> None:
        super().start()
        self.name = f"{self.host}-{self.life}"
        self.reload()
        self.ledger = Ledger(self.name, MEMORY_BYTES, self.world.now)
        self.dispatcher = Dispatcher(2 * BATCH_MAX)
        self.workers.clear()
        self._deaths.clear()
        for _ in range(self.worker_count):
            self._new_worker()
        self._tick()

    def kill(self) -> None:
        super().kill()
        for worker in self.workers.values():
            worker.kill()
        for nodes in self.nodes.values():
            for node in nodes:
                node.master_died(self)

    def reload(self) -> None:
        """Read the configuration's secrets."""
        self.authenticator = Authenticator(self.secrets.now, self.secrets.previous)

    # Workers

    def _new_worker(self) -> None:
        self._generations += 1
        self.workers[self._generations] = SimWorker(self, self._generations)
        self.dispatcher.worker_ready(self._generations)

    def heard(self, worker: SimWorker) -> None:
        worker.heard_at = self.world.now

    def _check_affinity(self, worker: SimWorker, jobs: list[Job]) -> None:
        """A VM keeps its worker while anything of it is in flight: else two calls for it could be."""
        lanes = {job.lane for job in jobs}
        for other in self.workers.values():
            if other is not worker and not lanes.isdisjoint(other.lanes.values()):
                raise PromiseBroken(f"two workers have the same VM in hand: {worker.generation}, {other.generation}")

    def lose(self, worker: SimWorker) -> None:
        """A worker died, or is killed because it hangs; the supervisor process learns it and replaces it."""
        worker.kill()
        if self.workers.pop(worker.generation, None) is None:
            return
        held = [id_ for id_ in self.ledger.entries if self.dispatcher.owned(worker.generation, id_)]
        self._deaths.update(held)
        for entry in self.dispatcher.worker_lost(worker.generation, [job.id for job in worker.calling]):
            self._refuse(entry, self._deaths[entry.id] >= DEATHS_ALLOWED)

        def replace() -> None:
            self._new_worker()
            self._hand_out()

        self.later(self.world.between(0.05, 0.5), replace)

    # From the nodes

    def receive(self, frames: list[bytes]) -> None:
        """A message of the PULL socket."""
        try:
            node, envelope = self.authenticator.verify(frames)
        except MessageError as error:
            self.rejected[error.reason] += 1
            return
        self.dispatcher.add(self.ledger.receive(self.world.now, node, envelope))
        if sum(record.unsettled_bytes for record in self.ledger.nodes.values()) > 2 * MEMORY_BYTES:
            raise PromiseBroken(f"the master holds more than it may: {MEMORY_BYTES} bytes are shared as credit")
        self._hand_out()
        self._acknowledge()

    # From the workers

    def settled(self, worker: SimWorker, settlement: Settlement, verdicts: list[Verdict]) -> None:
        """A worker's result arrives, perhaps of one that is no more."""
        worker.heard_at = self.world.now
        for id_ in settlement.delivered:
            entry = self.dispatcher.owned(worker.generation, id_)
            if entry is not None:
                self.dispatcher.done(worker.generation, id_, success=True)
                self.ledger.settle(entry)
        for refused in settlement.refused:
            entry = self.dispatcher.owned(worker.generation, refused.id)
            if entry is not None:
                self.dispatcher.done(worker.generation, refused.id, success=False)
                by_panel = not refused.reason.startswith("failed alone")
                self._refuse(entry, by_panel or worker.gave_up_rightly(refused.id))
        if worker.generation in self.workers:
            self.ledger.learn(verdicts)
        self._hand_out()
        self._acknowledge()

    def _refuse(self, entry: Entry, rightly: bool) -> None:
        key = (entry.stream.node, entry.stream.epoch, entry.seq)
        if not rightly:
            raise PromiseBroken(f"refused without the reasons of design 01: {key}")
        self.refused.add(key)
        self.panel.truth.missed(key)
        self.ledger.refuse(entry)

    # The loop

    def _hand_out(self) -> None:
        if not self.dispatcher.waiting:
            return
        for generation, worker in self.workers.items():
            jobs = []
            for entry in self.dispatcher.take(generation):
                e = self.ledger.report_entry(entry.stream)
                label = StreamLabel(e.node, e.epoch, e.base, e.agent, e.interval)
                jobs.append(Job(entry.id, label, entry.seq, entry.lane, entry.raw))
            if jobs:
                self._check_affinity(worker, jobs)
                worker.hand(jobs)

    def _acknowledge(self) -> None:
        for node, ack in self.ledger.acknowledgements(self.world.now):
            topic, body = topic_of(node), encode(ack)
            frames = [topic, VERSION, down_mac(self.authenticator.key_of(node), topic, body), body]
            for agent in self.nodes.get(node, ()):
                self._publish(agent, frames)

    def _publish(self, agent: "SimNode", frames: list[bytes]) -> None:
        if agent.alive and agent.master is self:
            self.network.carry(self.host, agent.host, agent, lambda: agent.hear(self, frames))

    def _tick(self) -> None:
        for worker in list(self.workers.values()):
            if self.world.now - worker.heard_at > HUNG_S:
                self.lose(worker)
        self._hand_out()
        self._acknowledge()
        self._tell_presence()
        for generation, worker in self.workers.items():
            if self.dispatcher.in_hand(generation):
                worker.others_succeeded(self.dispatcher.elsewhere(generation))
        self.authenticator.forget(self.ledger.forget(self.world.now))
        self.later(TICK_S, self._tick)

    def _tell_presence(self) -> None:
        entries = self.ledger.presence(self.world.now)
        if entries is None:
            return
        is_open = True

        def done(reply: Reply | None) -> None:
            nonlocal is_open
            if is_open:
                is_open = False
                delivered, verdicts = presence_outcome(reply)
                self.ledger.presence_done(self.world.now, delivered=delivered)
                if verdicts:
                    self.dispatcher.witness()
                self.ledger.learn(verdicts)

        self.panel.request(encode(Report(self.name, entries)), lambda reply: self.later(0.0, lambda: done(reply)))
        self.later(PRESENCE_LIMIT_S, lambda: done(None))
