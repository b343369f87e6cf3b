"""What the panel knows, in memory (design 03): a core without I/O.

`Known` holds everything that judging a message needs. Changes go into a `Draft` that overlays it; the store writes the
draft's changes in one transaction, and only after the commit is the draft merged. Drafts nest, so that one report of a
transaction can be taken back alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from vmwatch.panel.installation import Installation
from vmwatch.panel.maintenance import Maintenance
from vmwatch.panel.problems import Key as ProblemKey
from vmwatch.panel.problems import Problem
from vmwatch.panel.rules import NOTHING, Claim, Judgement, Mark, arrivals, judge
from vmwatch.shared.messages import DomainStats


class Node(Struct, frozen=True):
    """What is known of a node. `seen`: wall clock (seconds) of its last sign of life here, 0 if none yet;
    `interval`: its heartbeats' (seconds); `status`: the JSON of its last heartbeat; `said`: its agent's last word.

    `doubted`: since when its word does not count (wall clock, 0: it does), for the reason `doubt`; an inventory that
    was asked for with the token number `proof` (0: not asked for yet), or later, ends that. `answered`: the number of
    the newest token that an inventory came with. `emptied`: epoch and wall clock of an empty inventory that waits for
    a second one.
    """

    newest_epoch: int = 0
    floor: Mark = NOTHING
    wanted: str = ""
    agent: str = ""
    interval: float = 10.0
    status: bytes = b""
    said: str = ""
    seen: float = 0.0
    doubted: float = 0.0
    doubt: str = ""
    emptied: tuple[int, float] = (0, 0.0)
    proof: int = 0
    answered: int = 0


class Epoch(Struct, frozen=True):
    """What is known of one epoch of a node: its highest `base`, and the wall clock (seconds) of its last message."""

    base: int = 0
    active: float = 0.0


class Devices(NamedTuple):
    """A domain's disks that it writes, each (path, where that path means it), and its network cards' addresses."""

    disks: tuple[tuple[str, str], ...]
    macs: tuple[str, ...]


NO_DEVICES = Devices((), ())


class EventRow(NamedTuple):
    """A registered event, as `eventlog` shows it; times in seconds since 1970."""

    node: str
    epoch: int
    seq: int
    time: float
    received: float
    uuid: str
    name: str
    event: str
    detail: str
    state: str


class StatsRow(NamedTuple):
    """One domain's sample."""

    node: str
    epoch: int
    seq: int
    taken: float
    interval: float
    domain: DomainStats


EpochKey = tuple[str, int]
Place = tuple[str, str]
"""(uuid, node)."""


@dataclass
class Known:
    """All that was committed. `run` names this run of the panel and makes its tokens its own."""

    run: str
    nodes: dict[str, Node] = field(default_factory=dict)
    epochs: dict[EpochKey, Epoch] = field(default_factory=dict)
    keys: dict[EpochKey, set[int]] = field(default_factory=dict)
    vms: dict[str, dict[str, Claim]] = field(default_factory=dict)
    """Claims by UUID, then by node."""
    uuids: dict[str, set[str]] = field(default_factory=dict)
    """UUIDs that a node has a claim on."""
    departing: set[str] = field(default_factory=set)
    """UUIDs of VMs that left a node by a migration."""
    devices: dict[Place, Devices] = field(default_factory=dict)
    """What the last inventories said of VMs' disks and network cards; not stored, since a start asks for new ones."""
    problems: dict[ProblemKey, Problem] = field(default_factory=dict)
    installations: dict[str, Installation] = field(default_factory=dict)
    """The last one of each VM, by UUID."""
    maintenance: dict[str, Maintenance] = field(default_factory=dict)
    """By object."""
    turn: int = 0
    tokens: int = 0
    problem_ids: int = 0
    installation_ids: int = 0
    attempt_ids: int = 0

    def next_attempt(self) -> int:
        """A number that no attempt at a problem has; one that is not used in the end is no loss."""
        self.attempt_ids += 1
        return self.attempt_ids

    def next_installation(self) -> int:
        """A number that no installation has; one that is not used in the end is no loss."""
        self.installation_ids += 1
        return self.installation_ids

    def installation(self, uuid: str) -> Installation | None:
        return self.installations.get(uuid)

    def installations_on(self, node: str) -> list[Installation]:
        """Those that something is still to be done for."""
        return [found for found in self.installations.values() if found.node == node and found.unfinished]

    def next_problem(self) -> int:
        """A number that no problem has; one that is not used in the end is no loss."""
        self.problem_ids += 1
        return self.problem_ids

    def problem(self, key: ProblemKey) -> Problem | None:
        return self.problems.get(key)

    def next_token(self) -> str:
        """A token for `want_inventory` that no other run of the panel used."""
        self.tokens += 1
        return f"{self.run}-{self.tokens}"

    def token_number(self, token: str) -> int:
        """Which of this run's tokens it is, 0 for any other."""
        run, _, number = token.rpartition("-")
        return int(number) if run == self.run and number.isascii() and number.isdigit() else 0

    def want_all_inventories(self) -> None:
        """After a start: what happened meanwhile no one told."""
        for name, node in self.nodes.items():
            self.nodes[name] = replace(node, wanted=self.next_token())

    def has_key(self, key: EpochKey, seq: int) -> bool:
        """Was this message registered, as far as keys are kept."""
        return seq in self.keys.get(key, ())

    def unknown(self, key: EpochKey, seqs: Iterable[int]) -> set[int]:
        """Those of these messages that were not registered yet."""
        epoch = self.epochs.get(key)
        base = epoch.base if epoch is not None else 0
        return {seq for seq in seqs if seq >= base}.difference(self.keys.get(key, ()))

    def claim(self, uuid: str, node: str) -> Claim | None:
        return self.vms.get(uuid, {}).get(node)

    def claims_of_node(self, node: str) -> dict[str, Claim]:
        """By UUID."""
        return {uuid: self.vms[uuid][node] for uuid in self.uuids.get(node, ())}

    def claims_of_vm(self, uuid: str) -> Mapping[str, Claim]:
        """By node."""
        return self.vms.get(uuid, {})

    def judgement(self, uuid: str) -> Judgement | None:
        """The VM's state, or None if there is no such VM."""
        claims = self.claims_of_vm(uuid)
        doubted = {name: node.doubted for name in claims if (node := self.nodes.get(name)) and node.doubted}
        return judge(claims, doubted)

    def set_claim(self, uuid: str, node: str, claim: Claim | None) -> None:
        if claim is not None:
            self.vms.setdefault(uuid, {})[node] = claim
            self.uuids.setdefault(node, set()).add(uuid)
            if claim.departed:
                self.departing.add(uuid)
            elif uuid in self.departing and not any(one.departed for one in self.vms[uuid].values()):
                self.departing.discard(uuid)
            return
        self.devices.pop((uuid, node), None)
        claims = self.vms.get(uuid, {})
        claims.pop(node, None)
        if not claims:
            self.vms.pop(uuid, None)
            self.departing.discard(uuid)
        self.uuids.get(node, set()).discard(uuid)


class Draft:
    """Changes on top of `under` that are not committed yet; also the list of what the store must write.

    `durable` says whether there is anything that must survive: a report that only says that a master runs is
    merged in memory and costs no transaction.
    """

    def __init__(self, under: "Known | Draft") -> None:
        self._under = under
        self.events: list[EventRow] = []
        self.stats: list[StatsRow] = []
        self.nodes: dict[str, Node] = {}
        self.epochs: dict[EpochKey, Epoch] = {}
        self.keys: dict[EpochKey, set[int]] = {}
        self.claims: dict[Place, Claim | None] = {}
        """By (uuid, node); None: the claim is forgotten."""
        self.departing: set[str] = set()
        """Beside those of what is under it: VMs that left a node by a migration, or did so before."""
        self.devices: dict[Place, Devices] = {}
        self.problems: dict[ProblemKey, Problem] = {}
        self.forgotten_problems: set[ProblemKey] = set()
        """Deleted before `problems` are written."""
        self.installations: dict[str, Installation] = {}
        self.maintenance: dict[str, Maintenance | None] = {}
        """By object; None: it has ended."""
        self.turn: int = under.turn
        self.durable = False

    def node(self, name: str) -> Node | None:
        if name in self.nodes:
            return self.nodes[name]
        return self._under.node(name) if isinstance(self._under, Draft) else self._under.nodes.get(name)

    def epoch(self, key: EpochKey) -> Epoch | None:
        if key in self.epochs:
            return self.epochs[key]
        return self._under.epoch(key) if isinstance(self._under, Draft) else self._under.epochs.get(key)

    def has_key(self, key: EpochKey, seq: int) -> bool:
        return seq in self.keys.get(key, ()) or self._under.has_key(key, seq)

    def unknown(self, key: EpochKey, seqs: Iterable[int]) -> set[int]:
        """Those of these messages that were not registered yet."""
        epoch = self.epochs.get(key)
        base = epoch.base if epoch is not None else 0
        return {seq for seq in self._under.unknown(key, seqs) if seq >= base}.difference(self.keys.get(key, ()))

    def claim(self, uuid: str, node: str) -> Claim | None:
        place = (uuid, node)
        return self.claims[place] if place in self.claims else self._under.claim(uuid, node)

    def claims_of_node(self, node: str) -> dict[str, Claim]:
        found = self._under.claims_of_node(node)
        for (uuid, owner), claim in self.claims.items():
            if owner == node:
                if claim is None:
                    found.pop(uuid, None)
                else:
                    found[uuid] = claim
        return found

    def claims_of_vm(self, uuid: str) -> Mapping[str, Claim]:
        """By node."""
        found = dict(self._under.claims_of_vm(uuid))
        for (of, node), claim in self.claims.items():
            if of == uuid:
                if claim is None:
                    found.pop(node, None)
                else:
                    found[node] = claim
        return found

    def set_claim(self, uuid: str, node: str, claim: Claim | None) -> None:
        """Change a claim; and where it ends a migration, that of the node which the VM left."""
        self.claims[uuid, node] = claim
        if claim is not None and claim.departed:
            self.departing.add(uuid)
        if self.is_departing(uuid):
            for other, ended in arrivals(self.claims_of_vm(uuid)).items():
                self.claims[uuid, other] = ended

    def is_departing(self, uuid: str) -> bool:
        """May some node have a claim on this VM that says that it left?"""
        if uuid in self.departing:
            return True
        under = self._under
        return under.is_departing(uuid) if isinstance(under, Draft) else uuid in under.departing

    def all_departing(self) -> set[str]:
        """VMs that left a node by a migration, or did so before."""
        under = self._under
        return self.departing | (under.all_departing() if isinstance(under, Draft) else under.departing)

    def next_token(self) -> str:
        return self._under.next_token()

    def token_number(self, token: str) -> int:
        return self._under.token_number(token)

    def want_inventory(self, name: str) -> int:
        """Ask a node to list, and say with which token's number."""
        node, token = self.node(name), self.next_token()
        if node is not None:
            self.nodes[name] = replace(node, wanted=token)
        return self.token_number(token)

    def disks(self, uuid: str, node: str) -> tuple[tuple[str, str], ...]:
        """What the VM writes there, as far as is known: each (path, where that path means it)."""
        return self._devices(uuid, node).disks

    def macs(self, uuid: str, node: str) -> tuple[str, ...]:
        """Addresses of its network cards there, as far as is known."""
        return self._devices(uuid, node).macs

    def _devices(self, uuid: str, node: str) -> Devices:
        under = self._under
        below = under._devices(uuid, node) if isinstance(under, Draft) else under.devices.get((uuid, node), NO_DEVICES)
        return self.devices.get((uuid, node), below)

    def problem(self, key: ProblemKey) -> Problem | None:
        if key in self.problems or key in self.forgotten_problems:
            return self.problems.get(key)
        return self._under.problem(key)

    def next_problem(self) -> int:
        return self._under.next_problem()

    def next_attempt(self) -> int:
        return self._under.next_attempt()

    def all_problems(self) -> Mapping[ProblemKey, Problem]:
        """Also those that are under it."""
        under = self._under
        below = under.all_problems() if isinstance(under, Draft) else under.problems
        if self.forgotten_problems:
            below = {key: problem for key, problem in below.items() if key not in self.forgotten_problems}
        return {**below, **self.problems} if self.problems else below

    def forget_problem(self, key: ProblemKey) -> None:
        """It is deleted, with the log of its attempts."""
        self.problems.pop(key, None)
        self.forgotten_problems.add(key)

    def installation(self, uuid: str) -> Installation | None:
        return self.installations.get(uuid) or self._under.installation(uuid)

    def installations_on(self, node: str) -> list[Installation]:
        """Those that something is still to be done for."""
        under = {found.uuid: found for found in self._under.installations_on(node)} | self.installations
        return [found for found in under.values() if found.node == node and found.unfinished]

    def all_maintenance(self) -> Mapping[str, Maintenance]:
        """By object, also what is under it."""
        under = self._under
        below = under.all_maintenance() if isinstance(under, Draft) else under.maintenance
        merged = {**below, **self.maintenance} if self.maintenance else below
        return {subject: found for subject, found in merged.items() if found is not None}

    def next_installation(self) -> int:
        return self._under.next_installation()

    def next_turn(self) -> int:
        self.turn += 1
        return self.turn

    def merge(self) -> None:
        """Put the changes into what is under: after the commit, or at the end of a savepoint."""
        under = self._under
        under.turn = self.turn
        under.nodes.update(self.nodes)
        for forgotten in self.forgotten_problems:
            under.problems.pop(forgotten, None)
        under.problems.update(self.problems)
        under.installations.update(self.installations)
        moved = [key for key, epoch in self.epochs.items() if epoch.base > (under.epochs.get(key) or epoch).base]
        under.epochs.update(self.epochs)
        for key, seqs in self.keys.items():
            under.keys.setdefault(key, set()).update(seqs)
        if isinstance(under, Draft):
            under.claims.update(self.claims)
            under.departing |= self.departing
            under.forgotten_problems |= self.forgotten_problems
            under.devices.update(self.devices)
            under.events += self.events
            under.stats += self.stats
            under.maintenance.update(self.maintenance)
            under.durable |= self.durable
            return
        for subject, maintenance in self.maintenance.items():
            under.maintenance.pop(subject, None)
            if maintenance is not None:
                under.maintenance[subject] = maintenance
        for (uuid, node), claim in self.claims.items():
            under.set_claim(uuid, node, claim)
        under.devices.update(self.devices)
        for key in moved:
            base = under.epochs[key].base
            under.keys[key] = {seq for seq in under.keys.get(key, ()) if seq >= base}
