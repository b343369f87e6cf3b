"""The master in the simulation: the real ledger, dispatcher and batchers; sockets and processes are virtual."""

from tests.simulation.panel import SimPanel
from tests.simulation.world import Network, World
from vmwatch.shared.handover import StreamLabel
from vmwatch.shared.messages import decode_envelope, encode
from vmwatch.shared.report import Report, Verdict, decode_report
from vmwatch.supervisor.dispatcher import Dispatcher
from vmwatch.supervisor.ledger import Entry, Ledger
from vmwatch.workers.batcher import Batcher, CallResult, Job, Outcome, Settlement
from vmwatch.workers.verdicts import compose_report, judge

CALL_LIMIT_S = 5.0
HUNG_S = 20.0
BATCH_MAX = 8


class SimWorker:
    """One worker process: calls the panel with what it was handed, one call at a time."""

    def __init__(self, master: "SimMaster", generation: int) -> None:
        self.master = master
        self.world = master.world
        self.generation = generation
        self.batcher = Batcher(BATCH_MAX, self.world.chance)
        self.alive = True
        self.calling: list[Job] = []
        self.heard_at = self.world.now
        self._call = 0

    def hand(self, jobs: list[Job]) -> None:
        self.batcher.add(jobs)
        self.turn()

    def turn(self) -> None:
        if not self.alive or self.calling:
            return
        self.calling = self.batcher.next_call(self.world.now)
        if not self.calling:
            at = self.batcher.wait_until(self.world.now)
            if at is not None:
                self.world.after(max(0.01, at - self.world.now), self.turn)
            return
        self._call += 1
        call, jobs = self._call, self.calling
        body = compose_report(self.master.name, jobs)

        def answered(verdicts: list[Verdict]) -> None:
            if self.alive and call == self._call and self.calling:
                self._finish(judge(jobs, verdicts), verdicts)

        def timed_out() -> None:
            if self.alive and call == self._call and self.calling:
                self._finish(CallResult([Outcome.RETRY] * len(jobs)), [])

        self.master.panel.request(decode_report(body), answered)
        self.world.after(CALL_LIMIT_S, timed_out)

    def _finish(self, result: CallResult, verdicts: list[Verdict]) -> None:
        jobs, self.calling = self.calling, []
        self.heard_at = self.world.now
        settlement = self.batcher.finished(self.world.now, jobs, result)
        master, life = self.master, self.master.life

        def arrive() -> None:
            if master.life == life:
                master.settled(self.generation, settlement, verdicts)

        self.world.after(self.world.between(0.0001, 0.01), arrive)
        self.turn()


class SimMaster:
    """One master's host; each start is a new run with a new name and an empty memory."""

    def __init__(self, world: World, network: Network, panel: SimPanel, workers: int) -> None:
        self.world = world
        self.network = network
        self.panel = panel
        self.worker_count = workers
        self.alive = False
        self.life = 0
        self.name = ""
        self.nodes: dict[str, SimNodeLike] = {}
        self.refused: set[tuple[str, int, int]] = set()
        """(node, epoch, seq) of what lies in the dead letters."""
        self._generations = 0
        self.start()

    def start(self) -> None:
        self.alive = True
        self.life += 1
        self.name = f"m{self.life}"
        self.ledger = Ledger(self.name, 64 * 1024, self.world.now)
        self.dispatcher = Dispatcher(2 * BATCH_MAX)
        self.workers: dict[int, SimWorker] = {}
        for _ in range(self.worker_count):
            self._new_worker()
        self._tick(self.life)

    def kill(self) -> None:
        self.alive = False
        self.life += 1
        for worker in self.workers.values():
            worker.alive = False
        for node in self.nodes.values():
            node.master_died()

    def kill_worker(self) -> None:
        """A worker dies; the supervisor process learns it and replaces it."""
        if self.alive and self.workers:
            generation = self.world.chance.choice(sorted(self.workers))
            self._lose(self.workers[generation])

    def hang_worker(self) -> None:
        """A worker stops: its calls' answers reach no one; it is noticed by its silence."""
        if self.alive and self.workers:
            self.workers[self.world.chance.choice(sorted(self.workers))].alive = False

    def _new_worker(self) -> None:
        self._generations += 1
        self.workers[self._generations] = SimWorker(self, self._generations)
        self.dispatcher.worker_ready(self._generations)

    def _lose(self, worker: SimWorker) -> None:
        worker.alive = False
        del self.workers[worker.generation]
        for entry in self.dispatcher.worker_lost(worker.generation, [job.id for job in worker.calling]):
            self._settle(entry, refused=True)
        self.world.after(self.world.between(0.1, 1.0), lambda life=self.life: self._replace(life))  # type: ignore[misc]

    def _replace(self, life: int) -> None:
        if life == self.life:
            self._new_worker()
            self._hand_out()

    def receive(self, node: str, body: bytes) -> None:
        """A frame whose authentication was right."""
        if self.alive:
            self.dispatcher.add(self.ledger.receive(self.world.now, node, decode_envelope(body)))
            self._hand_out()
            self._acknowledge()

    def settled(self, generation: int, settlement: Settlement, verdicts: list[Verdict]) -> None:
        """A worker's result arrives."""
        for id_ in settlement.delivered:
            self._finish(generation, id_, refused=False)
        for refusal in settlement.refused:
            self._finish(generation, refusal.id, refused=True)
        self.ledger.learn(verdicts)
        self._hand_out()
        self._acknowledge()

    def _finish(self, generation: int, id_: int, refused: bool) -> None:
        entry = self.dispatcher.owned(generation, id_)
        if entry is not None:
            self.dispatcher.done(generation, id_, success=not refused)
            self._settle(entry, refused)

    def _settle(self, entry: Entry, refused: bool) -> None:
        if refused:
            self.refused.add((entry.stream.node, entry.stream.epoch, entry.seq))
        self.ledger.settle(entry)

    def _hand_out(self) -> None:
        for generation, worker in self.workers.items():
            jobs = []
            for entry in self.dispatcher.take(generation):
                e = self.ledger.report_entry(entry.stream)
                label = StreamLabel(e.node, e.epoch, e.base, e.agent, e.interval)
                jobs.append(Job(entry.id, label, entry.seq, entry.lane, entry.raw))
            if jobs and worker.alive:
                worker.hand(jobs)

    def _acknowledge(self) -> None:
        for node, ack in self.ledger.acknowledgements(self.world.now):
            body = encode(ack)
            self.network.carry(node, lambda node=node, body=body: self.nodes[node].hear(self, body))  # type: ignore[misc]

    def _tick(self, life: int) -> None:
        if life != self.life:
            return
        for worker in list(self.workers.values()):
            if worker.alive and not worker.calling:
                worker.heard_at = self.world.now
            if self.world.now - worker.heard_at > HUNG_S:
                self._lose(worker)
        self._hand_out()
        self._acknowledge()
        self._tell_presence()
        self.ledger.forget(self.world.now)
        self.world.after(0.5, lambda: self._tick(life))

    def _tell_presence(self) -> None:
        entries = self.ledger.presence(self.world.now)
        if entries is None:
            return
        life, state = self.life, {"open": True}

        def done(delivered: bool, verdicts: list[Verdict]) -> None:
            if life == self.life and state["open"]:
                state["open"] = False
                self.ledger.presence_done(self.world.now, delivered)
                self.ledger.learn(verdicts)

        self.panel.request(Report(self.name, entries), lambda verdicts: done(True, verdicts))
        self.world.after(CALL_LIMIT_S, lambda: done(False, []))


class SimNodeLike:
    """What a master sees of a node in the simulation."""

    def hear(self, master: SimMaster, body: bytes) -> None:
        raise NotImplementedError

    def master_died(self) -> None:
        raise NotImplementedError


