"""The rules for the state of VMs (design 03, *Rules*, 1, 2 and 4): pure functions on claims.

A *claim* is what one node says about one VM. All claims are kept; the VM's state follows from them
(`judge`), so a late word of one node can never overwrite what another node holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgspec import Struct
from msgspec.structs import replace

from vmwatch.shared.messages import Event, Inventory
from vmwatch.shared.states import ACTIVE, State

Mark = tuple[int, int]
"""(epoch, seq), compared as a pair."""

NOTHING: Mark = (0, 0)


class Claim(Struct, frozen=True):
    """One node's word about one VM.

    `mark` is the place of the last message that says that the VM is there or gone, `stated` (never above it) of the
    last one that tells the state. `since` is when the state began (seconds since 1970 by the node's clock, a label).
    `turn` counts the panel's changes of state and tells which claim changed last.
    """

    state: State
    name: str
    mark: Mark
    since: float
    turn: int
    stated: Mark = NOTHING


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
"""Which claim speaks for the VM: the lowest rank, among equals the one that changed last.

An active claim comes before any other: only the node that holds a VM may stop it (rule 4). During a migration the
running end comes before the paused one. `unknown` comes before the stopped states, since unknown is not stopped.
"""


def judge(claims: Mapping[str, Claim]) -> Judgement | None:
    """The VM's state from the claims of all nodes; None if no node has it any more."""
    speaking = [(_RANK[claim.state], -claim.turn, node) for node, claim in claims.items()]
    if not speaking:
        return None
    node = min(speaking)[2]
    claim = claims[node]
    return None if claim.state is State.ABSENT else Judgement(claim.state, node, claim.name, claim.since)


def after_event(claim: Claim | None, floor: Mark, place: Mark, event: Event, turn: int) -> Claim | None:
    """The claim after an event at `place`; None if it changes nothing: it is not newer, or says nothing.

    Above the claim's mark and the node's floor an event moves the mark; the state follows the newest message that
    *tells* one. An event that tells none (a reboot) must not keep an inventory, or an event that comes late, from it.
    """
    if place <= floor:
        return None
    before = claim or Claim(State.ABSENT, event.vm.name, NOTHING, event.time, turn)
    removed = event.event == "undefined" and event.detail != "renamed"
    if removed and before.state in ACTIVE:
        return None  # it runs on without a definition, for as long as it runs
    told = State.ABSENT if removed else event.state
    newer, tells = place > before.mark, told is not None and place > before.stated
    if not newer and not tells:
        return None
    state = told if told is not None and tells else _untold(claim, event)
    name = event.vm.name if newer and event.event != "undefined" else before.name
    after = replace(before, name=name, mark=max(place, before.mark), stated=place if tells else before.stated)
    return after if state is before.state else replace(after, state=state, since=event.time, turn=turn)


def _untold(claim: Claim | None, event: Event) -> State:
    """The state after an event that tells none: it was there when this happened (design 02, *Message types*)."""
    if claim is not None and claim.state is not State.ABSENT:
        return claim.state
    return State.SHUTOFF if event.event == "defined" else State.UNKNOWN


@dataclass(frozen=True, slots=True)
class InventoryEffect:
    """What an inventory changes at its node: claims by UUID (None: forget it) and the new floor."""

    claims: dict[str, Claim | None]
    floor: Mark


def after_inventory(
    claims: Mapping[str, Claim], floor: Mark, epoch: int, inventory: Inventory, turn: int
) -> InventoryEffect | None:
    """What a complete listing changes; None if a newer one was applied already.

    `claims` are the node's, by UUID. What an entry says of a VM counts only if no event told it later than the listing
    began, and a VM's absence from the list only if no event was about it since then. A claim that is absent and not
    above the new floor is forgotten: the floor alone keeps older messages from bringing it back.
    """
    snapshot = (epoch, inventory.as_of)
    if snapshot < floor:
        return None
    changed: dict[str, Claim | None] = {}
    listed = set()
    for domain in inventory.domains:
        listed.add(domain.uuid)
        claim = claims.get(domain.uuid) or Claim(State.ABSENT, domain.name, NOTHING, inventory.time, turn)
        if snapshot < claim.stated:
            continue
        name = domain.name if snapshot >= claim.mark else claim.name
        after = replace(claim, name=name, mark=max(snapshot, claim.mark), stated=snapshot)
        if claim.state is not domain.state:
            after = replace(after, state=domain.state, since=inventory.time, turn=turn)
        changed[domain.uuid] = after
    for uuid in _gone(claims, listed, snapshot):
        changed[uuid] = None
    return InventoryEffect(changed, snapshot)


def _gone(claims: Mapping[str, Claim], listed: set[str], snapshot: Mark) -> Iterable[str]:
    return [uuid for uuid, claim in claims.items() if uuid not in listed and claim.mark <= snapshot]
