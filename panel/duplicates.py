"""Duplicates: what must not be twice in a cluster (design 03, rule 6). A core without I/O.

The same UUID held by two nodes, one name under two UUIDs, one disk that two running VMs write. Each is looked at when
one of its VMs changes; it becomes a problem only after the grace period, and after a listing that was asked for then,
of each node that has a part in it, has shown it once more.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from vmwatch.panel.inquiry import Inquiry
from vmwatch.panel.knowledge import Draft
from vmwatch.panel.problems import MAX_TEXT, Kind, Level, close_problem, keep_problem, open_objects
from vmwatch.panel.rules import Claim
from vmwatch.shared.states import State

GRACE_S = 30.0

Subject = str
"""A problem's object: a UUID, `name NAME` or `disk PATH`."""
_NAME, _DISK = "name ", "disk "
_SINCE = ", since "
Disk = tuple[str, str]
"""(path, where that path means it)."""
_K = TypeVar("_K")


@dataclass
class _Candidate:
    """A duplicate that is there. `since`, `since_wall`: monotonic and wall clock (seconds)."""

    since: float
    since_wall: float
    told: str = ""
    """Since when, as its problem says it: also what an earlier run of the panel said."""
    inquiry: Inquiry = field(default_factory=Inquiry)


@dataclass(frozen=True)
class _Part:
    """What one VM brings into the indexes."""

    name: str = ""
    nodes: frozenset[str] = frozenset()
    """That hold it."""
    everywhere: frozenset[str] = frozenset()
    """That have it at all."""
    disks: frozenset[Disk] = frozenset()


_NO_PART = _Part()


class _Index(Generic[_K]):
    """VMs by something that only one of them should have."""

    def __init__(self) -> None:
        self._uuids: dict[_K, set[str]] = {}

    def of(self, key: _K) -> set[str]:
        return self._uuids.get(key, set())

    def move(self, uuid: str, before: Iterable[_K], after: Iterable[_K]) -> None:
        for key in before:
            self.of(key).discard(uuid)
            if not self.of(key):
                self._uuids.pop(key, None)
        for key in after:
            self._uuids.setdefault(key, set()).add(uuid)


class Duplicates:
    """For the writer's thread. `touch` names VMs that changed; `turn` judges, and changes problems in a draft."""

    def __init__(self) -> None:
        self._touched: set[str] = set()
        self._parts: dict[str, _Part] = {}
        self._by_name: _Index[str] = _Index()
        self._by_disk: _Index[Disk] = _Index()
        self._disks: dict[Subject, Disk] = {}
        """Of the subjects that were found."""
        self._found: dict[Subject, _Candidate] = {}

    def touch(self, uuids: Iterable[str]) -> None:
        self._touched.update(uuids)

    def turn(self, draft: Draft, nodes: Iterable[str], now: float, wall: float, label: Callable[[float], str]) -> None:
        """Judge. `nodes`: of the cluster; `now`: monotonic, `wall`: wall clock (seconds), which `label` makes text."""
        for uuid in self._touched:
            self._update(uuid, _part_of(draft, uuid), now, wall)
        self._touched.clear()
        for subject, candidate in self._found.items():
            if self._is_confirmed(draft, subject, candidate, now):
                candidate.told = candidate.told or _told(draft, subject) or label(candidate.since_wall)
                text = f"{self._text(draft, subject)}{_SINCE}{candidate.told}"
                keep_problem(draft, wall, Kind.DUPLICATE, subject, Level.ERROR, text)
        all_listed = all(_has_listed(draft, name) for name in nodes)
        for subject in open_objects(draft.all_problems(), Kind.DUPLICATE):
            # Disks are not stored: after the panel's start a disk's other VM may only not be known again yet.
            is_known = all_listed or not subject.startswith(_DISK)
            if is_known and subject not in self._found:
                close_problem(draft, wall, Kind.DUPLICATE, subject)

    def _is_confirmed(self, draft: Draft, subject: Subject, candidate: _Candidate, now: float) -> bool:
        known = draft.problem((Kind.DUPLICATE, subject))
        if known is not None and known.is_open:
            return True
        return now - candidate.since >= GRACE_S and candidate.inquiry.is_answered(draft, self._nodes(subject))

    # The indexes

    def _update(self, uuid: str, part: _Part, now: float, wall: float) -> None:
        before = self._parts.get(uuid, _NO_PART)
        if part == before:
            return
        if part == _NO_PART:
            del self._parts[uuid]
        else:
            self._parts[uuid] = part
        self._by_name.move(uuid, filter(None, [before.name]), filter(None, [part.name]))
        self._by_disk.move(uuid, before.disks, part.disks)
        self._note(uuid, len(part.nodes) > 1, now, wall)
        for name in {before.name, part.name} - {""}:
            self._note(_NAME + name, len(self._by_name.of(name)) > 1, now, wall)
        for disk in before.disks | part.disks:
            subject = _disk_subject(disk)
            self._disks[subject] = disk
            self._note(subject, len(self._by_disk.of(disk)) > 1, now, wall)

    def _note(self, subject: Subject, is_there: bool, now: float, wall: float) -> None:
        if not is_there:
            self._found.pop(subject, None)
            self._disks.pop(subject, None)
        elif subject not in self._found:
            self._found[subject] = _Candidate(now, wall)

    # What a problem says

    def _uuids(self, subject: Subject) -> list[str]:
        if subject.startswith(_NAME):
            return sorted(self._by_name.of(subject.removeprefix(_NAME)))
        if subject.startswith(_DISK):
            return sorted(self._by_disk.of(self._disks[subject]))
        return [subject]

    def _nodes(self, subject: Subject) -> set[str]:
        return {node for uuid in self._uuids(subject) for node in self._of(subject, uuid)}

    def _text(self, draft: Draft, subject: Subject) -> str:
        uuids = self._uuids(subject)
        vms = ", ".join(f"{self._parts[uuid].name} ({uuid}) on {_listed(self._of(subject, uuid))}" for uuid in uuids)
        same = _same_macs(draft, uuids, self._parts)
        if subject.startswith(_NAME):
            return f"{len(uuids)} VMs have one name: {vms}{same}"
        if subject.startswith(_DISK):
            return f"{len(uuids)} running VMs write one disk: {vms}{same}"
        return f"one VM is active on {len(self._parts[subject].nodes)} nodes: {vms}"

    def _of(self, subject: Subject, uuid: str) -> frozenset[str]:
        part = self._parts[uuid]
        return part.everywhere if subject.startswith(_NAME) else part.nodes


def _part_of(draft: Draft, uuid: str) -> _Part:
    claims = {node: claim for node, claim in draft.claims_of_vm(uuid).items() if claim.state is not State.ABSENT}
    if not claims:
        return _NO_PART
    held = frozenset(node for node, claim in claims.items() if claim.is_held)
    disks = frozenset(disk for node in held for disk in draft.disks(uuid, node))
    return _Part(_name(claims), held, frozenset(claims), disks)


def _name(claims: Mapping[str, Claim]) -> str:
    """What the claim that speaks for the VM calls it, as near as matters here: the one that holds it, or the last."""
    return max(claims.values(), key=lambda claim: (claim.is_held, claim.turn)).name


def _told(draft: Draft, subject: Subject) -> str:
    """Since when a problem that is open says that its duplicate is there; empty if nothing is known of that."""
    known = draft.problem((Kind.DUPLICATE, subject))
    if known is None or not known.is_open or known.gone or len(known.text) >= MAX_TEXT:
        return ""
    _, found, since = known.text.rpartition(_SINCE)
    return since if found else ""


def _disk_subject(disk: Disk) -> Subject:
    path, on = disk
    return _DISK + path + (f" of {on}" if on else "")


def _has_listed(draft: Draft, name: str) -> bool:
    node = draft.node(name)
    return node is None or not node.seen or node.answered > 0


def _listed(nodes: Iterable[str]) -> str:
    return " and ".join(sorted(nodes))


def _same_macs(draft: Draft, uuids: Iterable[str], parts: Mapping[str, _Part]) -> str:
    sets = [{mac for node in parts[uuid].everywhere for mac in draft.macs(uuid, node)} for uuid in uuids]
    same = set.intersection(*sets) if sets else set()
    return f"; with the same network addresses {', '.join(sorted(same))}" if same else ""
