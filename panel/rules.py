"""The rules for the state of VMs (design 03, *Rules*, 1 to 5): pure functions on claims.

A *claim* is what one node says about one VM. All claims are kept; the VM's state follows from them
(`judge`), so a late word of one node can never overwrite what another node holds. A claim keeps apart what was told of
the state, of the definition and of the name, each with the place of the message that told it: so the outcome is the
same in whatever order the messages come.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from vmwatch.shared.messages import Event, Inventory, ListedDomain
from vmwatch.shared.states import ACTIVE, PAUSED_FOR_MIGRATION, SHUTOFF_FAR_AWAY, State

Mark = tuple[int, int]
"""(epoch, seq), compared as a pair."""

NOTHING: Mark = (0, 0)


Moving = Literal["", "in", "out", "arrived"]
"""Which end of a live migration that is under way a claim is; or that the VM came here by one, and is here since."""


class Claim(Struct, frozen=True):
    """One node's word about one VM.

    `mark` is the place of the last message that says that the VM is there or gone, `stated` (never above it) of the
    last one that told the state. `since` is when the state began (seconds since 1970 by the node's clock, a label).
    `turn` counts the panel's changes of state and tells which claim changed last.

    `persistent`: has it a definition (None: nobody told), and `persisted` the place of who told it. `moving`: see
    `Moving`. `departed`: it left this node by a migration, and no other node has shown it yet; when that was (seconds
    since 1970 by the panel's clock), else 0. A migration that brings it back (`moving` is "in") may fail: then it is
    where it went, so this stays until it has come.
    """

    told: State
    name: str
    mark: Mark
    since: float
    turn: int
    stated: Mark = NOTHING
    persistent: bool | None = None
    persisted: Mark = NOTHING
    moving: Moving = ""
    departed: float = 0.0

    @property
    def state(self) -> State:
        """What follows from all that was told."""
        return _follows(self.told, _is_transient(self.persistent, self.persisted, self.stated), self.departed)

    @property
    def is_defined(self) -> bool:
        """It has stopped, and its definition is known to be here."""
        return self.told is State.SHUTOFF and self.persistent is True

    @property
    def is_held(self) -> bool:
        """The node holds the VM: it runs there, or is paused there, and is not one end of a migration."""
        return self.told in ACTIVE and not self.is_moving

    @property
    def never_came(self) -> bool:
        """A migration to this node has failed, and no other node has shown the VM yet."""
        return self.moving == "in" and self.told is State.SHUTOFF

    @property
    def is_moving(self) -> bool:
        """It is one end of a migration that is under way."""
        return self.moving in ("in", "out")


def _is_transient(persistent: bool | None, persisted: Mark, stated: Mark) -> bool:
    """It has no definition. That an earlier run of the agent said so is not enough: nobody listened in between."""
    return persistent is False and persisted[0] >= stated[0]


def _follows(told: State, transient: bool, departed: float) -> State:
    """The state: a VM without a definition is gone when it ends, and one that left by a migration runs elsewhere."""
    if told is State.SHUTOFF:
        if departed:
            return State.UNKNOWN
        if transient:
            return State.ABSENT
    return told


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the panel says about a VM: its state, the node that the state is from, its name and since when."""

    state: State
    node: str
    name: str
    since: float


_RANK = {
    State.RUNNING: 0,
    State.IN_SHUTDOWN: 1,
    State.PAUSED: 2,
    State.PMSUSPENDED: 3,
    State.UNKNOWN: 4,
    State.CRASHED: 5,
    State.SHUTOFF: 5,
    State.ABSENT: 6,
}
"""Which claim speaks for the VM: the lowest rank, among equals one that is known to be defined there, and then the one
that changed last.

An active claim comes before any other: only the node that holds a VM may stop it (rule 4). During a migration the
running end comes before the paused one. `unknown` comes before the stopped states, since unknown is not stopped.
"""


def judge(claims: Mapping[str, Claim], doubted: Mapping[str, float] | None = None) -> Judgement | None:
    """The VM's state from the claims of all nodes; None if no node has it any more.

    `doubted`: nodes whose word does not count now, and since when (rule 3): what they have is `unknown`.
    """
    speaking: list[tuple[int, bool, int, str, State, float]] = []
    for node, claim in claims.items():
        state, since = claim.state, claim.since
        if doubted and node in doubted and state is not State.ABSENT:
            state, since = State.UNKNOWN, max(since, doubted[node])
        speaking.append((_RANK[state], not claim.is_defined, -claim.turn, node, state, since))
    if not speaking:
        return None
    *_, node, state, since = min(speaking)
    return None if state is State.ABSENT else Judgement(state, node, claims[node].name, since)


# Events


@dataclass(frozen=True, slots=True)
class _Told:
    """What an event says of the state."""

    state: State
    moving: Moving = ""
    departs: bool = False


_MIGRATION = {
    # The destination's QEMU waits for the guest; only `resumed/migrated` says that it runs there.
    ("started", "migrated"): _Told(State.PAUSED, moving="in"),
    # Also when the migration then fails: `resumed/migrated` or `resumed/unpaused` follows.
    ("suspended", "migrated"): _Told(State.PAUSED, moving="out"),
    ("suspended", "postcopy"): _Told(State.PAUSED, moving="out"),
    ("suspended", "postcopy_failed"): _Told(State.PAUSED, moving="out"),
    ("resumed", "migrated"): _Told(State.RUNNING, moving="arrived"),
    ("resumed", "postcopy"): _Told(State.RUNNING, moving="arrived"),
    ("stopped", "migrated"): _Told(State.SHUTOFF, departs=True),
}
"""Rule 5: what libvirt's events say when they come from one end of a live migration."""

_HAS_DEFINITION = {
    ("defined", "added"): True,
    ("defined", "updated"): True,
    ("defined", "renamed"): True,
    ("defined", "from_snapshot"): True,
    ("undefined", "removed"): False,
}


def after_event(
    claim: Claim | None, floor: Mark, place: Mark, event: Event, turn: int, now: float = 0.0
) -> Claim | None:
    """The claim after an event at `place`; None if it changes nothing: it is not newer, or says nothing.

    Above the claim's mark and the node's floor an event moves the mark; the state follows the newest message that
    *tells* one. An event that tells none (a reboot) must not keep an inventory, or an event that comes late, from it.
    `now`: the panel's wall clock, seconds.
    """
    if place <= floor:
        return None
    if event.event == "undefined" and event.detail == "renamed":
        return None  # half of a rename: `defined/renamed` follows it at once and says all
    before = claim or Claim(State.ABSENT, event.vm.name, NOTHING, event.time, turn)
    said = _told_by(before, event)
    defined = _HAS_DEFINITION.get((event.event, event.detail))
    newer, tells = place > before.mark, said is not None and place > before.stated
    defines = defined is not None and place > before.persisted
    if not (newer or tells or defines):
        return None
    name = event.vm.name if newer else before.name
    persistent, persisted = (defined, place) if defines else (before.persistent, before.persisted)
    told, stated, moving, departed = before.told, before.stated, before.moving, before.departed
    if said is not None and tells:
        told, stated, moving = said.state, place, said.moving or _stays(before, said.state)
        departed = (now or 1.0) if said.departs else _still_away(before, moving)
        if before.told is State.SHUTOFF and event.detail == "failed":
            moving, departed = before.moving, before.departed  # one more way here that led nowhere
        elif before.moving == "out" and event.detail == "failed":
            departed = now or 1.0  # it had handed over; or it was away, and what ended is its way back
        elif _has_failed(before, told):
            moving, departed = _where_it_was(before, now)
    elif newer:
        told = _untold(claim, event)
    since, mark = event.time, place if newer else before.mark
    if _follows(told, _is_transient(persistent, persisted, stated), departed) is before.state:
        since, turn = before.since, before.turn
    # Made at once: an event is the commonest thing that happens here, and each `replace` costs as much as all the rest.
    return Claim(told, name, mark, since, turn, stated, persistent, persisted, moving, departed)


def _stays(before: Claim, state: State) -> Moving:
    """Where the VM came to by a migration it is until it ends."""
    return "arrived" if state in ACTIVE and before.moving in ("in", "arrived") else ""


def _still_away(before: Claim, moving: Moving) -> float:
    """When a VM left that a migration brings back: until it has come it is where it went."""
    return before.departed if moving == "in" and not before.never_came else 0.0


def _has_failed(before: Claim, state: State) -> bool:
    """A migration to here has ended without the guest."""
    return before.moving == "in" and before.told in ACTIVE and state is State.SHUTOFF


def _where_it_was(before: Claim, now: float) -> tuple[Moving, float]:
    """(moving, departed) of a VM that did not come: any node that runs it tells where it is; of one that had left here
    only its arrival does, as before."""
    return ("", before.departed) if before.departed else ("in", now or 1.0)


def _told_by(before: Claim, event: Event) -> _Told | None:
    if event.event == "undefined":
        # A VM that is taken for running runs on without its definition, for as long as it runs.
        stopped = before.told in (State.SHUTOFF, State.CRASHED, State.ABSENT) and not before.departed
        return _Told(State.ABSENT) if stopped else None
    if event.state is None:
        return None
    if before.moving == "in" and (event.event, event.detail) == ("shutdown", "host"):
        return _Told(State.PAUSED, moving="in")  # libvirt ends what waited for the guest; a guest that waits does not
    return _MIGRATION.get((event.event, event.detail)) or _Told(event.state)


def _untold(claim: Claim | None, event: Event) -> State:
    """The state after an event that tells none: it was there when this happened (design 02, *Message types*)."""
    if claim is not None and claim.told is not State.ABSENT:
        return claim.told
    return State.SHUTOFF if event.event == "defined" else State.UNKNOWN


def _changed(before: Claim, after: Claim, time: float, turn: int) -> Claim:
    return after if after.state is before.state else replace(after, since=time, turn=turn)


# Inventories


@dataclass(frozen=True, slots=True)
class InventoryEffect:
    """What an inventory changes at its node: claims by UUID (None: forget it) and the new floor."""

    claims: dict[str, Claim | None]
    floor: Mark


def after_inventory(
    claims: Mapping[str, Claim], floor: Mark, epoch: int, inventory: Inventory, turn: int, now: float = 0.0
) -> InventoryEffect | None:
    """What a complete listing changes; None if a newer one was applied already.

    `claims` are the node's, by UUID. What an entry says of a VM counts only if no event told it later than the listing
    began, and a VM's absence from the list only if no event was about it since then. A claim that is absent and not
    above the new floor is forgotten: the floor alone keeps older messages from bringing it back. `now`: the panel's
    wall clock, seconds.
    """
    snapshot = (epoch, inventory.as_of)
    if snapshot < floor:
        return None
    changed: dict[str, Claim | None] = {}
    listed = set()
    for domain in inventory.domains:
        listed.add(domain.uuid)
        claim = claims.get(domain.uuid) or Claim(State.ABSENT, domain.name, NOTHING, inventory.time, turn)
        after = _listed(claim, snapshot, domain, now)
        if after != claim:
            changed[domain.uuid] = _changed(claim, after, inventory.time, turn)
    for uuid, claim in claims.items():
        if uuid not in listed and claim.stated <= snapshot:
            changed |= _unlisted(uuid, claim, snapshot, inventory.time, turn, now)
    return InventoryEffect(changed, snapshot)


def _listed(claim: Claim, snapshot: Mark, domain: ListedDomain, now: float) -> Claim:
    after = replace(claim, mark=max(snapshot, claim.mark))
    if snapshot >= claim.mark:
        after = replace(after, name=domain.name)
    if snapshot >= claim.persisted:
        after = replace(after, persistent=domain.persistent, persisted=snapshot)
    if snapshot >= claim.stated:
        moving = _stays(claim, domain.state)
        if domain.state is State.PAUSED and domain.reason in PAUSED_FOR_MIGRATION:
            moving = "in" if claim.moving == "in" or claim.told not in ACTIVE else "out"
        departed = _still_away(claim, moving)
        if domain.state is State.SHUTOFF:
            # A definition that stays behind says nothing of where the VM went; it may come before the event of that.
            left = claim.told is not State.SHUTOFF and domain.reason in SHUTOFF_FAR_AWAY
            departed = (now or 1.0) if left and not claim.departed else claim.departed
            moving = claim.moving if departed and claim.told is State.SHUTOFF else ""
            if _has_failed(claim, domain.state):
                moving, departed = _where_it_was(claim, now)
        after = replace(after, told=domain.state, stated=snapshot, moving=moving, departed=departed)
    return after


def _unlisted(
    uuid: str, claim: Claim, snapshot: Mark, time: float, turn: int, now: float
) -> dict[str, Claim | None]:
    """A VM that was not there when the listing was made; nothing that tells a state came later."""
    if claim.departed:
        # Its definition is gone as well, and still it runs somewhere else.
        persisted, mark = max(snapshot, claim.persisted), max(snapshot, claim.mark)
        after = replace(claim, persistent=False, persisted=persisted, mark=mark)
        if claim.moving == "in" and claim.told in ACTIVE:
            after = replace(after, told=State.SHUTOFF, stated=snapshot, moving="")
        return {uuid: _changed(claim, after, time, turn)}
    if claim.persisted > snapshot:
        # It was defined, or undefined, after the listing, and has not run since.
        after = replace(claim, told=State.SHUTOFF, stated=snapshot, moving="")
        return {uuid: _changed(claim, after, time, turn)}
    if claim.told in ACTIVE and claim.moving != "in":
        # It was active and is gone: it ended, or left by a migration. The event that says which may come later, or was
        # lost; by then it is below the floor. So it is looked for first.
        left = replace(claim, told=State.SHUTOFF, stated=snapshot, moving="", departed=now or 1.0)
        left = replace(left, persistent=False, persisted=snapshot, mark=max(snapshot, claim.mark))
        return {uuid: _changed(claim, left, time, turn)}
    if claim.mark <= snapshot:
        return {uuid: None}
    return {}


def is_suddenly_empty(claims: Mapping[str, Claim], epoch: int, inventory: Inventory) -> bool:
    """Rule 3: a node that had VMs lists none. It may be libvirt that has lost them; so once is not enough.

    A VM that has stopped, and that nobody called persistent, is not missed: a transient one goes like that. Nor is one
    that came after the listing had begun: the first VM of a node may be defined while the node lists.
    """
    snapshot = (epoch, inventory.as_of)
    return not inventory.domains and any(
        claim.told in ACTIVE or claim.told is State.UNKNOWN or (claim.state is not State.ABSENT and claim.persistent)
        for claim in claims.values()
        if not claim.departed and _was_there(claim, snapshot)
    )


def _was_there(claim: Claim, snapshot: Mark) -> bool:
    """Was the VM there when the listing was made? Of one that ran before, what came later changes only its end."""
    return claim.stated <= snapshot and (claim.told in ACTIVE or claim.mark <= snapshot)


# Migrations


def arrivals(claims: Mapping[str, Claim]) -> dict[str, Claim]:
    """Claims, by node, of a VM that left by a migration and has arrived at another node: what was told counts again.

    That another node only holds it is not enough: it may be what that node said long ago, and its next word is late.
    So one arrival ends one departure and is then spent. Of a VM that never came, since the migration failed, it is
    enough that another node has it.
    """
    arrived = [node for node, claim in claims.items() if claim.moving == "arrived"]
    elsewhere = any(not claim.departed and claim.state is not State.ABSENT for claim in claims.values())
    failed = departures_ended(claims, lambda claim: claim.never_came and elsewhere)
    left = departures_ended(claims, lambda claim: not claim.never_came and bool(arrived))
    spent = {node: replace(claims[node], moving="") for node in arrived} if left else {}
    return {**failed, **left, **spent}


def departures_ended(claims: Mapping[str, Claim], is_over: Callable[[Claim], bool]) -> dict[str, Claim]:
    """Claims, by node, of a VM that left by a migration, where that `is_over`; as they are without it."""
    return {
        node: replace(claim, departed=0.0, moving="" if claim.told is State.SHUTOFF else claim.moving)
        for node, claim in claims.items()
        if claim.departed and is_over(claim)
    }
