"""One trial inside one process: an honest node among hostile frames, and what must hold after each handful of them."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from bench.hostility.bodies import KEY_HOLDERS
from bench.hostility.footprint import footprint
from bench.hostility.kinds import OUTSIDERS, Cast, Kind
from bench.hostility.rig import Breaches, MasterRig, PanelRig
from bench.hostility.speakers import Frames, Signer, Speaker
from vmwatch.shared.keys import down_mac, node_key, topic_of
from vmwatch.shared.messages import VERSION, Heard, encode
from vmwatch.supervisor.receiver import DOUBTED_FROM_BYTES

SECRET = "TRIALSECRETTRIAL"
VICTIM, DEAD, EVIL = "kvm-1", "kvm-2", "kvm-3"
EPOCH = 1_763_900_000_000_000
HANDFUL = 32
HANDFUL_S = 0.5
"""Virtual seconds from one handful to the next."""
FORGET_EVERY = 20
RECORDED_MOST = 400
EPOCHS_MOST = 64
"""Of one node in the master's memory at a time."""
STATUS_MOST_BYTES = 64 * 1024
GROWTH_MOST_BYTES = 256 * 1024
"""Of the master's objects, from a tenth of the trial to its end."""
_OUTSIDE, _INSIDE = 0.55, 0.30
"""Shares of frames without a key, and with the evil node's; the rest are recordings sent again."""


@dataclass
class Outcome:
    """What a trial did and found."""

    seed: int
    frames: int = 0
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    genuine: int = 0
    victims_events: int = 0
    growth_bytes: int = 0
    panels_epochs: int = 0
    """Epochs that the panel has of the evil node."""
    breaches: Breaches = field(default_factory=Breaches)


@dataclass(frozen=True)
class Shot:
    """One frame to send, and what it may be rejected for (None: it must pass the authentication)."""

    kind: str
    frames: Frames
    reasons: frozenset[str] | None


class Trial:
    """An earlier run of the master in which everything was recorded, and a later one under attack."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.outcome = Outcome(seed)
        self._chance = Random(seed)
        self._breaches = self.outcome.breaches
        self._folder = folder
        self._panel = PanelRig(folder)
        self._panel.registered = {VICTIM: [], DEAD: []}
        self._victim = Speaker(VICTIM, SECRET, EPOCH)
        self._expected: list[tuple[int, int]] = []
        self._recorded: list[Frames] = []
        self._replies: list[Frames] = []
        self._cast = Cast(self._chance, Signer(EVIL, SECRET), VICTIM, self._recorded, self._replies, evil_epoch=EPOCH)
        self._kinds = [(name, kind) for table in (OUTSIDERS, KEY_HOLDERS) for name, kind in table.items()]

    def run(self, count: int) -> Outcome:
        """Send `count` hostile frames, and check."""
        started = time.perf_counter()
        try:
            self._earlier_run()
            with MasterRig("later", SECRET, self._panel, self._folder, self._breaches) as master:
                for _ in range(3):  # until it has heard of this run, and said so
                    master.send([self._victim.frame(master.wall)])
                    self._turn(master, [self._victim])
                self._attack(master, count)
        finally:
            self._panel.close()
        self.outcome.seconds = time.perf_counter() - started
        return self.outcome

    # What was overheard

    def _earlier_run(self) -> None:
        dead = Speaker(DEAD, SECRET, EPOCH + 7)
        with MasterRig("earlier", SECRET, self._panel, self._folder, self._breaches) as master:
            for epoch in (EPOCH - 1000, EPOCH):
                self._victim = Speaker(VICTIM, SECRET, epoch)
                for number in range(12):
                    for node in (self._victim, dead):
                        if number == 0:
                            node.list_domains()
                        node.produce(self._chance.choice([0, 1, 5, 40]))
                        frames = node.frame(master.wall)
                        self._recorded.append(frames)
                        master.send([frames])
                    self._turn(master, [self._victim, dead])
        self._expected = list(self._panel.registered[VICTIM])
        self._dead_seen = self._panel.known.nodes[DEAD].seen
        self._dead_events = list(self._panel.registered[DEAD])
        if not self._dead_seen or not self._dead_events or not self._expected:
            raise AssertionError("the earlier run recorded nothing worth sending again")

    def _turn(self, master: MasterRig, nodes: list[Speaker]) -> None:
        """What follows a handful: the panel, the acknowledgements, and time."""
        master.settle()
        master.now += HANDFUL_S
        master.wall += HANDFUL_S
        for name, acknowledgement in master.acknowledgements():
            text = encode(acknowledgement)
            topic = topic_of(name)
            reply = [topic, VERSION, down_mac(node_key(SECRET, name), topic, text), text]
            self._keep(self._replies, reply)
            for node in nodes:
                if node.name == name:
                    node.hear(acknowledgement)
            if name == EVIL:
                self._cast.heard = encode(Heard(acknowledgement.master, acknowledgement.stamp))

    def _keep(self, where: list[Frames], frames: Frames) -> None:
        if len(where) < RECORDED_MOST:
            where.append(frames)
        else:
            where[self._chance.randrange(RECORDED_MOST // 2, RECORDED_MOST)] = frames

    # The attack

    def _attack(self, master: MasterRig, count: int) -> None:
        baseline, at_baseline = 0, count // 10
        number = 0
        while self.outcome.frames < count:
            self._handful(master, min(HANDFUL, count - self.outcome.frames))
            number += 1
            if number % FORGET_EVERY == 0:
                master.authenticator.forget(master.ledger.forget(master.now))
            if not baseline and self.outcome.frames >= at_baseline:
                baseline = self._masters_bytes(master)
        self.outcome.rejected = Counter(master.rejects)
        self.outcome.genuine = master.genuine
        self.outcome.growth_bytes = self._masters_bytes(master) - baseline
        self.outcome.panels_epochs = sum(node == EVIL for node, _ in self._panel.known.epochs)
        if self.outcome.growth_bytes > GROWTH_MOST_BYTES:
            self._breaches.note("the master's memory grows", f"by {self.outcome.growth_bytes} bytes")
        # Of one VM in order; those of different VMs may overtake each other.
        if sorted(self._panel.registered[VICTIM]) != sorted(self._expected):
            self._breaches.note("the victim's events are not those that it sent, each once")

    def _handful(self, master: MasterRig, count: int) -> None:
        shots = [self._shot() for _ in range(count)]
        before = self._victim.seq
        self._victim.produce(self._chance.randint(0, 3))
        self._expected += [(self._victim.epoch, seq) for seq in range(before + 1, self._victim.seq + 1)]
        genuine = self._victim.frame(master.wall)
        self._keep(self._recorded, genuine)
        batch = [shot.frames for shot in shots]
        batch.insert(self._chance.randint(0, len(batch)), genuine)
        rejected, passed = Counter(master.rejects), master.genuine
        try:
            master.send(batch)
            self._turn(master, [self._victim])
        except Exception as error:
            kinds = sorted({shot.kind for shot in shots})
            raise AssertionError(f"seed {self.outcome.seed}: the service ended in one of {kinds}: {error!r}") from error
        self._account(shots, master.rejects - rejected, master.genuine - passed - 1)
        self._check(master)
        stream = master.ledger.streams.get((EVIL, EPOCH))
        self._cast.evil_seq, self._cast.evil_offered = stream.received if stream else 0, 0
        self.outcome.frames += count
        self.outcome.victims_events += self._victim.seq - before

    def _shot(self) -> Shot:
        which = self._chance.random()
        if which < _OUTSIDE:
            return self._of(OUTSIDERS)
        if which < _OUTSIDE + _INSIDE:
            return self._of(KEY_HOLDERS)
        return Shot("recording sent again", self._cast.recording(), None)

    def _of(self, table: Mapping[str, Kind]) -> Shot:
        name = self._chance.choices(list(table), [kind.weight for kind in table.values()])[0]
        kind = table[name]
        frames, reasons = kind.make(self._cast), kind.reasons or frozenset({"envelope", ""})
        if reasons & {"", "mac", "envelope"} and len(frames[-1]) > DOUBTED_FROM_BYTES:
            reasons |= {"doubted"}  # if one with a wrong MAC came just before
        return Shot(name, frames, reasons)

    # What must hold

    def _account(self, shots: list[Shot], rejected: Counter[str], passed: int) -> None:
        """Every frame is counted under one of the names that it may be counted under."""
        counted = Counter(rejected) + Counter({"": passed})
        self.outcome.kinds.update(shot.kind for shot in shots)
        allowed = [shot.reasons or frozenset({""}) for shot in shots]
        for reason in counted.keys() | {reason for reasons in allowed for reason in reasons}:
            least = sum(reasons == {reason} for reasons in allowed)
            most = sum(reason in reasons for reasons in allowed)
            if not least <= counted[reason] <= most:
                kinds = sorted({shot.kind for shot, reasons in zip(shots, allowed, strict=True) if reason in reasons})
                what = f"{counted[reason]} frames counted as {reason or 'genuine'!r}, not {least} to {most}: {kinds}"
                self._breaches.note("a frame is not counted under its name", what)

    def _check(self, master: MasterRig) -> None:
        note, ledger, known = self._breaches.note, master.ledger, self._panel.known
        if self._victim.held:
            note("the victim's messages wait", f"{len(self._victim.held)} up to {self._victim.seq}")
        victim = ledger.nodes.get(VICTIM)
        if victim is None or not ledger.is_alive(master.now, victim):
            note("the victim is not alive")
        if known.nodes[VICTIM].seen < master.wall - 30:
            note("the panel hears of no sign of the victim's life")
        dead = ledger.nodes.get(DEAD)
        if dead is not None and ledger.is_alive(master.now, dead):
            note("the dead node looks alive to the master")
        if known.nodes[DEAD].seen != self._dead_seen:
            note("the dead node looks alive to the panel")
        if self._panel.registered[DEAD] != self._dead_events:
            note("something is registered of the dead node")
        if len(self._panel.registered[VICTIM]) != len(self._expected):
            note("the panel has not what the victim sent")
        if known.nodes.keys() - {VICTIM, DEAD, EVIL}:
            note("a node is registered that there is not", str(sorted(known.nodes))[:200])
        self._check_bounds(master)

    def _check_bounds(self, master: MasterRig) -> None:
        note, ledger = self._breaches.note, master.ledger
        if ledger.nodes.keys() - {VICTIM, DEAD, EVIL}:
            note("the master remembers a node that there is not")
        epochs = Counter(node for node, _ in ledger.streams)
        if epochs and max(epochs.values()) > EPOCHS_MOST:
            note("the master remembers too many epochs", str(epochs))
        if ledger.entries or master.dispatcher.waiting:
            note("something stays in flight")
        if any(len(record.status) > STATUS_MOST_BYTES for record in ledger.nodes.values()):
            note("the master remembers a status without bounds")

    def _masters_bytes(self, master: MasterRig) -> int:
        parts = (master.authenticator, master.receiver.rejects, master.ledger, master.dispatcher, master.dead_letters)
        return footprint(parts)
