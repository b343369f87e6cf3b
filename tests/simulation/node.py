"""A hypervisor's agent in the simulation: the real sender and the real outbox on an in-memory disk."""

import sqlite3
from collections.abc import Sequence

from tests.simulation.hypervisor import Hypervisor
from tests.simulation.master import SimMaster
from tests.simulation.network import Network
from tests.simulation.truth import Key, PromiseBroken, Truth
from tests.simulation.world import BEGAN_WALL_S, Process, World
from vmwatch.node.inventory import Inventories
from vmwatch.node.outbox import ForeignOutboxError, Outbox
from vmwatch.node.schema import migrate
from vmwatch.node.sender import Sender
from vmwatch.shared.keys import down_mac, node_key, same_mac, up_mac
from vmwatch.shared.messages import VERSION, Event, ListedDomain, decode_acknowledgement, encode_payload

INTERVAL_S = 2.0
INVENTORY_S = 60.0
COMMIT_S = 0.005
SMALL_OUTBOX_BYTES, LARGE_OUTBOX_BYTES = 13 * 4096, 1 << 30
REPORT_DROPS_S = 1.0


def _empty_disk() -> bytes:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    image = connection.serialize()
    connection.close()
    return image


EMPTY_DISK = _empty_disk()


def disk_of(image: bytes) -> sqlite3.Connection:
    """A disk with these contents."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(image)
    return connection


class SimNode(Process):
    """One agent. Its disk survives a kill; what it had not committed does not."""

    def __init__(
        self,
        world: World,
        network: Network,
        truth: Truth,
        name: str,
        masters: list[SimMaster],
        secret: str,
        *,
        small: bool = False,
        poison: float = 0.0,
        image: bytes = EMPTY_DISK,
        others: Sequence[Hypervisor] = (),
    ) -> None:
        super().__init__(world)
        self.network = network
        self.truth = truth
        self.name = name
        self.host = name
        self.masters = masters
        self.secret = secret
        self.poison = poison
        self.machine = f"machine of {name}"
        self.hypervisor = Hypervisor(world, name, others)
        self.disk = disk_of(image)
        self.wall_s = BEGAN_WALL_S
        """What its clock shows beside the virtual time."""
        self.produced: dict[Key, int] = {}
        """All events that were committed to the outbox, with their place in the order of all that this host wrote."""
        self.lost: set[Key] = set()
        """What went with a disk."""
        self.dropped: set[Key] = set()
        """What found no room."""
        self.reported: dict[Key, int] = {}
        """Messages that tell of drops, and of how many."""
        self.set_aside = 0
        self.drops = 0
        """Messages that found no room, as all lives of the outbox counted them."""
        self.allowed_rewinds = 0
        self.rewinds = 0
        self._small = small
        self._moments: dict[str, int] = {}
        """Of each VM, its last event that was committed and tells the state."""
        truth.hypervisors[name] = self.hypervisor
        for master in masters:
            master.nodes.setdefault(name, []).append(self)
        self.start()

    # Life and death

    def start(self) -> None:
        super().start()
        self.address = 0
        self.waiting: list[tuple[Event, bytes, int]] = []
        """(event, payload, moment) of what is not committed yet."""
        self.inventories = Inventories(INVENTORY_S, self.world.now)
        self.key = node_key(self.secret, self.name)
        self.outbox = self._open_outbox()
        self.truth.began_epoch(self.name, self.outbox.epoch)
        self.sender = Sender("sim/1", self.outbox.epoch, INTERVAL_S, self.world.now)
        self._met: set[str] = set()
        self._listing = False
        self._last_reported = -REPORT_DROPS_S
        self.hypervisor.report = self._heard_event
        self._open()
        self._tick()

    def _open_outbox(self) -> Outbox:
        """As outboxfile.py does: one that is another's is set aside, and a new one begins."""
        limit = SMALL_OUTBOX_BYTES if self._small else LARGE_OUTBOX_BYTES
        while True:
            try:
                chance = self.world.chance
                return Outbox(self.disk, self.name, self.machine, self._now_us, limit_bytes=limit, chance=chance)
            except ForeignOutboxError:
                self._lose(held_keys(self.disk, self.name))
                self.disk = disk_of(EMPTY_DISK)
                self.set_aside += 1

    def _now_us(self) -> int:
        return int((self.world.now + self.wall_s) * 1e6)

    def kill(self) -> None:
        if self.alive:
            self._account()
            self.drops += sum(self.outbox.dropped.values())
        super().kill()
        self.hypervisor.report = None

    def _account(self) -> None:
        self.rewinds += self.sender.resends
        self.allowed_rewinds += len(self._met)

    def replace_disk(self, image: bytes) -> None:
        """Of an agent that does not run; what only the old disk held is lost."""
        old = held_keys(self.disk, self.name)
        self.disk = disk_of(image)
        self._lose(old - held_keys(self.disk, self.name))

    def _lose(self, keys: set[Key]) -> None:
        self.lost |= keys
        for key in keys:
            self.truth.missed(key)

    @property
    def idle(self) -> bool:
        """It runs, and nothing waits: not for a commit, not for a listing, not for an acknowledgement."""
        if not self.alive or self.waiting or self.outbox.waiting or self.outbox.unreported:
            return False
        if self._listing or self.inventories.due_at < self.world.now + 1.0:
            return False
        held = self.outbox.held()
        return held.last < held.base

    # Events and inventories

    def _heard_event(self, event: Event, moment: int) -> None:
        payload = encode_payload(event)
        kind = self.world.chance.choice(("poison_panel", "poison_worker", "novelty")) if self._is_poisoned() else ""
        if kind == "novelty":
            payload = payload.replace(b'"type":"event"', b'"type":"novelty"')
        elif kind:
            payload = payload.replace(b'"detail":"', b'"detail":"%b","was":"' % kind.encode())
        if not self.waiting:
            self.later(COMMIT_S, self._commit)
        self.waiting.append((event, payload, moment))

    def _is_poisoned(self) -> bool:
        return self.world.happens(self.poison)

    def _commit(self) -> None:
        """What waits is committed together, and from then on it must not be lost."""
        batch, self.waiting = self.waiting, []
        before = self._held_if_small()
        drops = sum(self.outbox.dropped.values())
        for event, _, _ in batch:
            self.inventories.observe(self.world.now, event)
        seqs = self.outbox.add([("event", payload) for _, payload, _ in batch])
        if sum(self.outbox.dropped.values()) > drops:
            placed = self._placed(seqs)
            batch = [item for item in batch if item[1] in placed]
            self._note_drops(before, seqs)
            seqs = [placed[item[1]] for item in batch]
        for seq, (event, _, moment) in zip(seqs, batch, strict=True):
            key, uuid = (self.name, self.outbox.epoch, seq), event.vm.uuid
            self.produced[key] = len(self.produced)
            self.truth.wrote_event(key, uuid, moment)
            self._moments[uuid] = max(moment, self._moments.get(uuid, -1))
        self.turn()

    def _placed(self, seqs: list[int]) -> dict[bytes, int]:
        """Which of a batch's payloads got which seq, and kept it."""
        query = "SELECT payload, seq FROM message WHERE epoch = ? AND seq >= ?"
        return dict(self.disk.execute(query, (self.outbox.epoch, min(seqs, default=0))).fetchall()) if seqs else {}

    def _held_if_small(self) -> set[Key]:
        return held_keys(self.disk, self.name) if self._small else set()

    def _note_drops(self, before: set[Key], seqs: list[int]) -> None:
        if self._small:
            added = {(self.name, self.outbox.epoch, seq) for seq in seqs}
            dropped = (before | added) - held_keys(self.disk, self.name)
            self.dropped |= dropped
            for key in dropped:
                self.truth.missed(key)

    def _list(self) -> None:
        """Ask libvirt: the seq is noted before, the list is read a while later, and written later still."""
        self._listing = True
        moments = dict(self._moments)
        self.inventories.begin(self.world.now, self.outbox.epoch, self.outbox.last_seq)

        def read() -> None:
            domains = self.hypervisor.listing()
            slow = self.world.happens(self.network.weather.straggle)
            self.later(self.world.between(0.5, 2.0) if slow else 0.01, lambda: self._listed(domains, moments))

        self.later(self.world.between(0.001, 0.05), read)

    def _listed(self, domains: list[ListedDomain], moments: dict[str, int]) -> None:
        self._listing = False
        inventory = self.inventories.finished(self.world.now, self.world.now, self.outbox.epoch, domains)
        if inventory is not None:
            before = self._held_if_small()
            seqs = self.outbox.add_inventory(inventory, self.sender.first_unsent)
            for seq in seqs:
                self.truth.wrote_inventory((self.name, self.outbox.epoch, seq), moments)
            self._note_drops(before, seqs)
        self.turn()

    # The link

    @property
    def master(self) -> SimMaster:
        return self.masters[self.address]

    def set_key(self, secret: str) -> None:
        """The configuration has another secret; an agent that runs is told by SIGHUP."""
        self.secret = secret
        if self.alive:
            self.key = node_key(secret, self.name)
            self._open()

    def _open(self) -> None:
        self.sender.opened(self.world.now)
        self.later(0.05, self._connect)

    def _connect(self) -> None:
        if self.sender.connected:
            return
        if self.master.alive and self.network.reachable(self.host, self.master.host):
            self.allowed_rewinds += 1
            self.sender.went_up(self.world.now)
            self.turn()
        else:
            self.later(0.5, self._connect)

    def master_died(self, master: SimMaster) -> None:
        """The peer's socket is reset; now and then (power cut, or the network is down) nothing tells."""
        if not self.alive or master is not self.master or not self.network.reachable(self.host, master.host):
            return
        if not self.world.happens(0.3):
            self.later(0.01, self._down)

    def _down(self) -> None:
        self.sender.went_down()
        self.later(0.5, self._connect)

    def hear(self, master: SimMaster, frames: list[bytes]) -> None:
        """An acknowledgement arrives, or what looks like one."""
        topic, _, mac, body = frames
        if master is not self.master or not self.sender.connected or not same_mac(mac, down_mac(self.key, topic, body)):
            return
        ack = decode_acknowledgement(body)
        self._met.add(ack.master)
        answered = self.sender.acknowledged(self.world.now, ack)
        self.outbox.complete(answered.epoch, answered.completed)
        if answered.newer_epoch:
            self.sender.begin_epoch(self.outbox.begin_epoch(answered.newer_epoch))
            self.truth.began_epoch(self.name, self.outbox.epoch)
            self.inventories.due_at = self.world.now
        token = answered.want_inventory
        if token and not self.outbox.holds_token(token):
            self.inventories.ask(self.world.now, token)
        self.turn()

    def _tick(self) -> None:
        self.turn()
        due_at = self.sender.deadline(self.world.now)
        if not self._listing:
            due_at = min(due_at, self.inventories.due_at)
        self.later(max(0.05, due_at - self.world.now), self._tick)

    def turn(self) -> None:
        """What the agent's loop does after anything happened."""
        now = self.world.now
        if now >= self.inventories.due_at and not self._listing:
            self._list()
        if self.sender.must_reopen(now):
            self.address = (self.address + 1) % len(self.masters)
            self._open()
            return
        if self.outbox.unreported and now - self._last_reported >= REPORT_DROPS_S:
            self._last_reported = now
            self._report_drops()
        held = self.outbox.held()
        while (wanted := self.sender.wanted(now, held)) is not None:
            before, rows = self.outbox.read(wanted)
            if not rows:
                break
            self._send(self.sender.compose(now, now + self.wall_s, held, before, rows))
        if self.sender.heartbeat_due(now):
            self._send(self.sender.compose(now, now + self.wall_s, held, held.base - 1, [], status=b"{}"))

    def _report_drops(self) -> None:
        count = sum(self.outbox.unreported.values())
        for seq in self.outbox.report_drops(self.world.now):
            key = (self.name, self.outbox.epoch, seq)
            self.produced[key] = len(self.produced)
            self.reported[key] = count
            self.inventories.due_at = self.world.now

    def _send(self, body: bytes) -> None:
        master, name = self.master, self.name.encode()
        frames = [VERSION, name, up_mac(self.key, name, body), body]
        self.network.record(frames)
        self.network.carry(self.host, master.host, master, lambda: master.receive(frames))

    # What it is judged by

    def check_resending(self, elapsed_s: float) -> None:
        """What it sent again stays within its reasons: connects, masters met, and standstills, each 5 s apart."""
        rewinds = self.rewinds + (self.sender.resends if self.alive else 0)
        allowed = self.allowed_rewinds + len(self._met) + elapsed_s / 5.0 + 1
        if rewinds > allowed:
            raise PromiseBroken(f"{self.name} went back {rewinds} times to send again; {allowed:.0f} are explained")


def held_keys(disk: sqlite3.Connection, name: str) -> set[Key]:
    """What an outbox on this disk holds."""
    return {(name, epoch, seq) for epoch, seq in disk.execute("SELECT epoch, seq FROM message")}
