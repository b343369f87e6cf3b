"""The activity of VMs (design 03, rule 8): which of them sent no packet, or wrote nothing to disk, and since when.

A core without I/O. Of each VM on each node it keeps no list of samples but where the row of samples stands: the last
one, and for each counter the first one since when it has not changed. That says the same as comparing two samples a
window apart, says when the idle time began, and is as large for a window of a week as for one of a minute.
"""

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from vmwatch.panel.knowledge import StatsRow
from vmwatch.panel.rules import Claim, Judgement, Mark
from vmwatch.shared.states import State

WATCHED = ("tx_packets", "write_requests")
"""The counters that a VM at work moves, as the wire protocol names them."""
GAP_INTERVALS = 3
"""Samples farther apart than so many intervals tell nothing of the time between; after as much time without a new one
a warning goes away."""
LOOK_EVERY_S = 1.0
JITTER = 0.25
"""Of an interval: two samples of neighbouring turns may be closer together by so much and still count as a turn."""


class Policy(Struct, frozen=True):
    """*Check VM activity*. `window_s` 0: one statistics interval. `exempt`: UUIDs and names."""

    enabled: bool = False
    window_s: float = 0.0
    min_running_s: float = 0.0
    exempt: frozenset[str] = frozenset()


class Idle(Struct, frozen=True):
    """A warning: this counter has not moved since then (seconds since 1970 by the node's clock)."""

    counter: str
    since: float


class Level(Struct, frozen=True):
    """A counter that has had one value in all samples since the one at `place`, taken at `since`."""

    value: int
    since: float
    place: Mark


class Track(Struct, frozen=True):
    """Where the samples of one VM on one node stand. `heard`: the panel's monotonic clock at the last one."""

    place: Mark
    taken: float
    interval: float
    cpu_ns: int | None
    levels: dict[str, Level]
    heard: float


def after_sample(track: Track | None, row: StatsRow, running_since: float, heard: float) -> Track:
    """The track after one more sample of a VM that runs since then by its node's clock.

    A counter without a level has nothing to be compared with. Levels begin anew where the samples do not tell of one
    unbroken run: after a change, a gap, a stop (also one that only the CPU time betrays), a clock that went back, and a
    sample that came too late to be compared with its neighbours.
    """
    place = (row.epoch, row.seq)
    if track is not None and place <= track.place:
        return _after_late(track, place)
    before = track.levels if track is not None and _follows(track, row) else {}
    levels = {}
    for name in WATCHED if row.domain.state is State.RUNNING else ():
        value: int | None = getattr(row.domain, name)
        level = before.get(name)
        if value is None:
            continue
        holds = level is not None and level.value == value and level.since >= running_since
        levels[name] = level if level is not None and holds else Level(value, row.taken, place)
    return Track(place, row.taken, row.interval, row.domain.cpu_ns, levels, heard)


def _follows(track: Track, row: StatsRow) -> bool:
    """Is it the same run of the VM, with no samples missing that could tell otherwise?"""
    cpu = row.domain.cpu_ns
    longest = GAP_INTERVALS * max(track.interval, row.interval)
    restarted = cpu is not None and track.cpu_ns is not None and cpu < track.cpu_ns
    return track.taken < row.taken <= track.taken + longest and not restarted


def _after_late(track: Track, place: Mark) -> Track:
    """A sample from within an idle time that was taken for unbroken: it begins anew at the newest sample."""
    if place == track.place:
        return track
    levels = {
        name: Level(level.value, track.taken, track.place) if level.place < place else level
        for name, level in track.levels.items()
    }
    return Track(track.place, track.taken, track.interval, track.cpu_ns, levels, track.heard)


def idle_counters(track: Track, policy: Policy, running_since: float) -> tuple[Idle, ...]:
    """The verdict: what did not move through the whole window, in which the VM ran."""
    if track.taken - running_since < policy.min_running_s:
        return ()
    least = (policy.window_s or track.interval) - JITTER * track.interval
    return tuple(
        Idle(name, level.since)
        for name, level in track.levels.items()
        if level.since >= running_since and track.taken > level.since and track.taken - level.since >= least
    )


def is_moving(claims: Mapping[str, Claim]) -> bool:
    """Is a migration under way? Then the counters of one end do not tell what the VM does."""
    return any(claim.is_moving for claim in claims.values())


class Activity:
    """The tracks of all VMs that run, one for each node that has a claim on the VM: they are no more than claims."""

    def __init__(self) -> None:
        self.policy = Policy()
        self._tracks: dict[str, dict[str, Track]] = {}
        """By UUID, then by node."""
        self._warned: set[str] = set()
        self._next_look = 0.0

    def __len__(self) -> int:
        return sum(len(tracks) for tracks in self._tracks.values())

    def observe(
        self, rows: Iterable[StatsRow], claim_of: Callable[[str, str], Claim | None], monotonic: float
    ) -> set[str]:
        """Take samples in; returns the UUIDs of VMs whose warnings these may change."""
        touched = set()
        for row in rows:
            uuid = row.domain.uuid
            claim = claim_of(uuid, row.node)
            if claim is None or claim.state is not State.RUNNING:
                self.forget(uuid, row.node)
            else:
                tracks = self._tracks.setdefault(uuid, {})
                tracks[row.node] = after_sample(tracks.get(row.node), row, claim.since, monotonic)
            if self.policy.enabled or uuid in self._warned:
                touched.add(uuid)
        return touched

    def forget(self, uuid: str, node: str) -> None:
        """The node does not run this VM (any more)."""
        tracks = self._tracks.get(uuid, {})
        tracks.pop(node, None)
        if not tracks:
            self._tracks.pop(uuid, None)

    def expire(self, monotonic: float) -> set[str]:
        """Forget what warns and had no sample for long; returns the UUIDs. It looks at all once a second at most."""
        expired: set[str] = set()
        if monotonic < self._next_look:
            return expired
        self._next_look = monotonic + LOOK_EVERY_S
        for uuid in self._warned:
            for node, track in list(self._tracks.get(uuid, {}).items()):
                if monotonic - track.heard > GAP_INTERVALS * track.interval:
                    self.forget(uuid, node)
                    expired.add(uuid)
        return expired

    def warnings(
        self, uuid: str, claims: Mapping[str, Claim], judgement: Judgement | None, *, installing: bool = False
    ) -> tuple[Idle, ...]:
        """What the panel warns of, judged by the node that the VM's state is from."""
        found: tuple[Idle, ...] = ()
        track = self._tracks.get(uuid, {}).get(judgement.node) if judgement is not None else None
        if judgement is not None and track is not None and not self._is_excused(uuid, claims, judgement, installing):
            found = idle_counters(track, self.policy, claims[judgement.node].since)
        if found:
            self._warned.add(uuid)
        else:
            self._warned.discard(uuid)
        return found

    def _is_excused(self, uuid: str, claims: Mapping[str, Claim], judgement: Judgement, installing: bool) -> bool:
        exempt = self.policy.exempt
        return (
            not self.policy.enabled
            or judgement.state is not State.RUNNING
            or installing
            or is_moving(claims)
            or uuid in exempt
            or judgement.name in exempt
        )
