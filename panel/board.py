"""What lists and pages show of the cluster: immutable rows, put here by the writer after each commit.

The writer's thread owns all that is known; everybody else reads these rows. So a list never waits for a
transaction, and never sees what is not committed.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import msgspec
from msgspec import Struct

from vmwatch.panel.activity import Idle
from vmwatch.panel.installation import label
from vmwatch.panel.knowledge import EventRow, Node
from vmwatch.panel.maintenance import Maintenance
from vmwatch.panel.problems import Problem
from vmwatch.panel.removed import returned
from vmwatch.panel.store import Host, Stored
from vmwatch.shared.messages import Seconds
from vmwatch.shared.states import State

TOMBSTONES = 2_000
"""So many VMs that are gone are remembered for pages that come back; one that missed more gets everything anew."""


@dataclass(frozen=True, slots=True)
class VmRow:
    """A VM as the panel shows it. `stamp`: the last event's id when this row changed. `warnings`: what stands still."""

    id: int
    uuid: str
    name: str
    node: str
    state: State
    since: float
    stamp: int
    warnings: tuple[Idle, ...] = ()
    installing: bool = False
    install: str = ""
    """Where its installation is, or how the last one came out."""

    @property
    def shown(self) -> tuple[object, ...]:
        """What of it changes."""
        return self.state, self.node, self.name, self.since, self.warnings, self.install


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node. `doubted`: since when its word does not count (wall clock, 0: it does), for the reason `doubt`.

    `lag`, seconds: the age of the oldest message that the node still holds, as its last heartbeat said; from one that
    does not say it, what the node's last event took from its label to its registration. None: nothing known.
    """

    id: int
    name: str
    address: str
    reach: str
    hidden: bool
    allow_install: bool
    libvirt_uri: str
    ssh: str
    agent: str
    status: bytes
    interval: float
    seen: float
    lag: float | None
    doubted: float
    doubt: str
    maintenance: float
    """Until when it is in maintenance (wall clock, seconds); 0: it is not."""
    removed: bool
    """A person removed it, and it reports all the same (`panel/removed.py`)."""

    @property
    def state(self) -> str:
        """`new` until its first sign of life, then `active`, or `silent` while its word does not count."""
        if not self.seen:
            return "new"
        return "silent" if self.doubted else "active"


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit changed. `gone`: UUIDs of VMs that no node has any more."""

    vms: list[VmRow] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    nodes: list[NodeRow] = field(default_factory=list)
    events: list[tuple[int, EventRow]] = field(default_factory=list)


class _Heartbeat(Struct):
    """What is read of a heartbeat's status."""

    outbox_oldest_s: Seconds | None = None


_heartbeat = msgspec.json.Decoder(_Heartbeat)


def _held_s(status: bytes) -> float | None:
    """The age of the oldest message in the node's outbox, seconds. The status may be anything: it is the node's own."""
    try:
        return _heartbeat.decode(status).outbox_oldest_s
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


class Board:
    """Rows by UUID and by node. Any thread may read; only the writer's writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._vms: dict[str, VmRow] = {}
        self._gone: dict[str, int] = {}
        self._nodes: dict[str, NodeRow] = {}
        self._problems: list[Problem] = []
        self._returned: frozenset[str] = frozenset()
        self._oldest_stamp = 0
        self._last_event = 0
        self._counts: Counter[str] = Counter()
        self._hosted: Counter[str] = Counter()
        self._warned = 0
        self.maintenance: Mapping[str, float] = {}
        """Objects of problems that are in maintenance, until when (wall clock, seconds): what is wrong with them is
        shown as muted and not resolved automatically. Replaced as a whole, never changed."""
        self.in_maintenance: Mapping[str, Maintenance] = {}
        """The same with who said so, and why."""
        self.problems_version = 0
        """Grows with each change of the problems: a page that was drawn with another one is out of date."""
        self.installations_version = 0
        """The same of installations."""
        self.policies: Mapping[str, str] = {}
        """Values by name, of those that somebody has set. Replaced as a whole, never changed."""
        self.doubt = ""
        """Why no node's word counts until the next commit; empty: it does, but for what stands beside a node."""
        self.run = ""
        """This run of the panel; a page that was drawn by another one may have missed something in between."""
        self.on_change: Callable[[Change], None] = lambda change: None
        """Called in the writer's thread after each change; it must not block."""

    @property
    def last_event(self) -> int:
        """The id of the newest registered event, 0 if there is none."""
        return self._last_event

    def counts(self) -> dict[str, int]:
        """VMs by state."""
        with self._lock:
            return {state: number for state, number in self._counts.items() if number}

    @property
    def warned(self) -> int:
        """How many VMs there are warnings of."""
        return self._warned

    def hosted(self, node: str) -> int:
        """How many VMs are on this node."""
        with self._lock:
            return self._hosted[node]

    def vms(self) -> list[VmRow]:
        with self._lock:
            return list(self._vms.values())

    def vm(self, key: str) -> VmRow | None:
        """By UUID or by number."""
        with self._lock:
            row = self._vms.get(key)
            return row or next((row for row in self._vms.values() if str(row.id) == key), None)

    def nodes(self) -> list[NodeRow]:
        """All that are not deleted, in the order of their numbers."""
        with self._lock:
            return sorted((row for row in self._nodes.values() if not row.hidden), key=lambda row: row.id)

    def problems(self) -> list[Problem]:
        with self._lock:
            return self._problems

    def problem(self, number: str) -> Problem | None:
        """By number."""
        return next((one for one in self.problems() if str(one.id) == number), None)

    def node(self, key: str) -> NodeRow | None:
        """By number, or by name; a name of digits alone yields to the number. For what a caller says."""
        return next((row for row in self.nodes() if str(row.id) == key), None) or self.node_named(key)

    def node_named(self, name: str) -> NodeRow | None:
        return next((row for row in self.nodes() if row.name == name), None)

    def since(self, stamp: int) -> Change | None:
        """What changed at or after an event's id; None if that is longer ago than is remembered."""
        with self._lock:
            if stamp < self._oldest_stamp or stamp > self._last_event:
                return None
            changed = [row for row in self._vms.values() if row.stamp >= stamp]
            gone = [uuid for uuid, at in self._gone.items() if at >= stamp]
            return Change(changed, gone, [row for row in self._nodes.values() if not row.hidden])

    def fill(self, stored: Stored) -> None:
        """At the start, with all that is stored."""
        self.run = stored.known.run
        self._oldest_stamp = stored.last_event
        self.update(stored, stored.known.vms, stored.known.nodes, [], problems=True)

    def update(
        self,
        stored: Stored,
        uuids: Iterable[str],
        nodes: Iterable[str],
        events: list[tuple[int, EventRow]],
        *,
        problems: bool = False,
        installations: bool = False,
    ) -> None:
        """After a commit that touched these VMs and nodes and registered these events; `problems`, `installations`:
        some changed."""
        change = Change(events=events)
        with self._lock:
            self._last_event = stored.last_event
            if problems:
                self._problems = list(stored.known.problems.values())
                self._returned = returned(self._problems)
            if problems or stored.known.maintenance != self.in_maintenance:  # what is in maintenance is shown muted
                self.problems_version += 1
            self.installations_version += installations
            self.policies = dict(stored.policies)
            self.in_maintenance = dict(stored.known.maintenance)
            self.maintenance = {name: found.until for name, found in self.in_maintenance.items()}
            if self.doubt:  # all that it hid is shown again
                self.doubt, uuids, nodes = "", [*uuids, *stored.known.vms], stored.known.nodes
            lags = {row.node: max(0.0, row.received - row.time) for _, row in events}
            touched = dict.fromkeys(uuids)
            for name in dict.fromkeys(nodes):
                before, node = self._nodes.get(name), stored.known.nodes[name]
                self._update_node(change, stored.hosts[name], node, lags.get(name))
                if before is not None and before.doubted != node.doubted:
                    touched |= dict.fromkeys(stored.known.uuids.get(name, ()))
            for uuid in touched:
                self._update_vm(change, stored, uuid)
        self.on_change(change)

    def doubt_all(self, reason: str, now: float) -> None:
        """No commit succeeds: what is here may be wrong since, and nothing that would say so can be stored. Until the
        next one all VMs are unknown, since `now` (wall clock, seconds)."""
        if self.doubt:
            return
        change = Change()
        with self._lock:
            self.doubt = reason
            for name, node in self._nodes.items():
                if not node.hidden:
                    self._nodes[name] = replace(node, doubted=node.doubted or now, doubt=reason)
                    change.nodes.append(self._nodes[name])
            for uuid, before in self._vms.items():
                if before.state is not State.UNKNOWN:
                    row = replace(before, state=State.UNKNOWN, since=now, stamp=self._last_event)
                    self._vms[uuid] = row
                    self._count(before, row)
                    change.vms.append(row)
        self.on_change(change)

    def _update_vm(self, change: Change, stored: Stored, uuid: str) -> None:
        before, now = self._vms.get(uuid), stored.known.judgement(uuid)
        installation = stored.known.installation(uuid)
        installing = installation is not None and installation.undecided
        claims = stored.known.claims_of_vm(uuid)
        warnings = stored.activity.warnings(uuid, claims, now, installing=installing)
        if now is not None:
            install = "" if installation is None else label(installation)
            shown = now.state, now.node, now.name, now.since, warnings, install
            if before is None or shown != before.shown:
                number, told = stored.vm_ids[uuid], (now.name, now.node, now.state, now.since, self._last_event)
                row = VmRow(number, uuid, *told, warnings, installing, install)
                self._vms[uuid] = row
                self._count(before, row)
                self._gone.pop(uuid, None)
                change.vms.append(row)
        elif before is not None:
            del self._vms[uuid]
            self._count(before, None)
            self._gone[uuid] = self._last_event
            change.gone.append(uuid)
            while len(self._gone) > TOMBSTONES:
                self._oldest_stamp = self._gone.pop(next(iter(self._gone))) + 1

    def _count(self, before: VmRow | None, after: VmRow | None) -> None:
        if before is not None:
            self._counts[before.state.value] -= 1
            self._warned -= bool(before.warnings)
            self._hosted[before.node] -= 1
        if after is not None:
            self._counts[after.state.value] += 1
            self._warned += bool(after.warnings)
            self._hosted[after.node] += 1

    def _update_node(self, change: Change, host: Host, node: Node, lag: float | None) -> None:
        before = self._nodes.get(host.name)
        held_s = _held_s(node.status)
        if held_s is not None:
            lag = held_s
        elif lag is None and before is not None:
            lag = before.lag
        row = NodeRow(
            id=host.id,
            name=host.name,
            address=host.address,
            reach=host.reach,
            hidden=host.hidden,
            allow_install=host.allow_install,
            libvirt_uri=host.libvirt_uri,
            ssh=host.ssh,
            agent=node.agent,
            status=node.status,
            interval=node.interval,
            seen=node.seen,
            lag=lag,
            doubted=node.doubted,
            doubt=node.doubt,
            maintenance=self.maintenance.get(host.name, 0.0),
            removed=host.name in self._returned,
        )
        if row != before:
            self._nodes[host.name] = row
            change.nodes.append(row)
