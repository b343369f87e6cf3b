"""A hypervisor's agent in the simulation: the real sender and the real outbox on an in-memory disk."""

import sqlite3

from tests.simulation.hypervisor import Hypervisor
from tests.simulation.master import SimMaster, SimNodeLike
from tests.simulation.world import Action, Network, World
from vmwatch.node.outbox import Outbox
from vmwatch.node.sender import Sender
from vmwatch.shared.messages import Event, Inventory, decode_acknowledgement, encode_payload

INTERVAL_S = 2.0
INVENTORY_S = 60.0
COMMIT_S = 0.005
LISTING_MOST_S = 2.0


class SimNode(SimNodeLike):
    """One agent. Its disk survives a kill; what it had not committed does not."""

    def __init__(self, world: World, network: Network, name: str, masters: list[SimMaster]) -> None:
        self.world = world
        self.network = network
        self.name = name
        self.masters = masters
        self.hypervisor = Hypervisor(world, name)
        self.disk = sqlite3.connect(":memory:", isolation_level=None)
        self.produced: list[tuple[int, int]] = []
        """(epoch, seq) of all events that were committed to the outbox."""
        self.alive = False
        self.life = 0
        self.listed_at = 0.0
        for master in masters:
            master.nodes[name] = self
        self.start()

    # Life and death

    def start(self) -> None:
        self.alive = True
        self.life += 1
        self.address = 0
        self.waiting: list[Event] = []
        self.asked: set[str] = set()
        self.outbox = Outbox(self.disk, self.name, "machine", lambda: int(self.world.now * 1e6))
        self.sender = Sender("sim/1", self.outbox.epoch, INTERVAL_S, self.world.now)
        self.hypervisor.report = self._heard_event
        self._open()
        self._list("")
        self._inventory_timer(self.life)

    def kill(self) -> None:
        self.alive = False
        self.life += 1
        self.hypervisor.report = None

    def _later(self, delay_s: float, action: Action) -> None:
        """Something of this process: it dies with it."""
        life = self.life

        def unless_dead() -> None:
            if life == self.life:
                action()

        self.world.after(delay_s, unless_dead)

    @property
    def idle(self) -> bool:
        """It runs, and nothing waits: not for a commit, not for an acknowledgement."""
        held = self.outbox.held()
        return self.alive and not self.waiting and held.last < held.base

    # Events and inventories

    def _heard_event(self, event: Event) -> None:
        self._enqueue(event)
        if event.event == "stopped":
            self._later(self.world.between(0.1, 1.0), lambda: self._list(""))

    def _enqueue(self, event: Event) -> None:
        if not self.waiting:
            self._later(COMMIT_S, self._commit)
        self.waiting.append(event)

    def _commit(self) -> None:
        """What waits is committed together, and from then on it must not be lost."""
        events, self.waiting = self.waiting, []
        seqs = self.outbox.add([("event", encode_payload(event)) for event in events])
        self.produced += [(self.outbox.epoch, seq) for seq in seqs]
        self.turn()

    def _list(self, token: str) -> None:
        """Ask libvirt: the seq is noted before, the list is read a while later, and written later still."""
        epoch, as_of = self.outbox.epoch, self.outbox.last_seq

        def read() -> None:
            domains = self.hypervisor.listing()
            read_at = self.world.now

            def write() -> None:
                if epoch != self.outbox.epoch:
                    self._list(token)
                    return
                self.listed_at = read_at
                inventory = Inventory(seq=0, time=self.world.now, as_of=as_of, domains=domains, token=token)
                self.outbox.add_inventory(inventory, self.sender.first_unsent)
                self.turn()

            self._later(self.world.between(0.001, LISTING_MOST_S), write)

        self._later(self.world.between(0.001, 0.1), read)

    def _inventory_timer(self, life: int) -> None:
        def again() -> None:
            self._list("")
            self._inventory_timer(life)

        self._later(INVENTORY_S, again)

    # The link

    @property
    def master(self) -> SimMaster:
        return self.masters[self.address]

    def _open(self) -> None:
        self.sender.opened(self.world.now)
        self._later(0.05, self._connect)
        self._tick()

    def _connect(self) -> None:
        if self.sender.connected:
            return
        if self.master.alive and self.name not in self.network.cut:
            self.sender.went_up(self.world.now)
            self.turn()
        else:
            self._later(0.5, self._connect)

    def master_died(self) -> None:
        """The peer's socket is reset; now and then (power cut) nothing tells."""
        if self.alive and not self.world.happens(0.3):
            self._later(0.01, self._down)

    def _down(self) -> None:
        self.sender.went_down()
        self._later(0.5, self._connect)

    def hear(self, master: SimMaster, body: bytes) -> None:
        if not self.alive or master is not self.master or not self.sender.connected:
            return
        answered = self.sender.acknowledged(self.world.now, decode_acknowledgement(body))
        self.outbox.complete(answered.epoch, answered.completed)
        if answered.newer_epoch:
            self.sender.begin_epoch(self.outbox.begin_epoch(answered.newer_epoch))
            self._list("")
        token = answered.want_inventory
        if token and token not in self.asked and not self.outbox.holds_token(token):
            self.asked.add(token)
            self._list(token)
        self.turn()

    def _tick(self) -> None:
        self.turn()
        self._later(max(0.05, self.sender.deadline(self.world.now) - self.world.now), self._tick)

    def turn(self) -> None:
        """What the agent's loop does after anything happened."""
        now = self.world.now
        if self.sender.must_reopen(now):
            self.address = (self.address + 1) % len(self.masters)
            self.sender.opened(now)
            self._later(0.05, self._connect)
            return
        held = self.outbox.held()
        while (wanted := self.sender.wanted(now, held)) is not None:
            before, rows = self.outbox.read(wanted)
            if not rows:
                break
            self._send(self.sender.compose(now, now, held, before, rows))
        if self.sender.heartbeat_due(now):
            self._send(self.sender.compose(now, now, held, held.base - 1, [], status=b"{}"))

    def _send(self, body: bytes) -> None:
        master = self.master
        self.network.carry(self.name, lambda: master.receive(self.name, body))
