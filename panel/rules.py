"""The rules for the state of VMs (design 03, *Rules*, 1, 2 and 4): pure functions on claims.

A *claim* is what one node says about one VM. All claims are kept; the VM's state follows from them
(`judge`), so a late word of one node can never overwrite what another node holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from vmwatch.shared.messages import Event, Inventory
from vmwatch.shared.states import ACTIVE, State

Mark = tuple[int, int]
"""(epoch, seq), compared as a pair."""

NOTHING: Mark = (0, 0)


@dataclass(frozen=True, slots=True)
class Claim:
    """One node's word about one VM.

    `mark` is the place of the last message that it follows from. `since` is when the state began (seconds since
    1970 by the node's clock, a label). `turn` counts the panel's changes of state and tells which claim changed last.
    """

    state: State
    name: str
    mark: Mark
    since: float
    turn: int


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
    """The claim after an event at `place`; None if the event is not newer than what is known and changes nothing.

    Above the claim's mark and the node's floor an event always moves the mark, also when it carries no state.
    """
    if place <= floor or (claim is not None and place <= claim.mark):
        return None
    before = claim or Claim(State.ABSENT, event.vm.name, NOTHING, event.time, turn)
    state = _state_after(claim, event)
    renamed_away = event.event == "undefined"
    name = before.name if renamed_away else event.vm.name
    if claim is not None and state is claim.state:
        return replace(claim, name=name, mark=place)
    return Claim(state, name, place, event.time, turn)


def _state_after(claim: Claim | None, event: Event) -> State:
    """The state that an event leads to (design 02, *Message types*)."""
    if event.state is not None:
        return event.state
    if event.event == "defined" and (claim is None or claim.state is State.ABSENT):
        return State.SHUTOFF
    if event.event == "undefined" and event.detail != "renamed" and (claim is None or claim.state not in ACTIVE):
        return State.ABSENT
    # An event that carries no state about a VM never heard of: it is there, in what state no one said yet.
    return State.UNKNOWN if claim is None else claim.state


@dataclass(frozen=True, slots=True)
class InventoryEffect:
    """What an inventory changes at its node: claims by UUID (None: forget it) and the new floor."""

    claims: dict[str, Claim | None]
    floor: Mark


def after_inventory(
    claims: Mapping[str, Claim], floor: Mark, epoch: int, inventory: Inventory, turn: int
) -> InventoryEffect | None:
    """What a complete listing changes; None if a newer one was applied already.

    `claims` are the node's, by UUID. An entry, or a VM's absence from the list, counts only against a claim that
    is not newer than the listing's start. A claim that is absent and not above the new floor is forgotten: the
    floor alone keeps older messages from bringing it back.
    """
    snapshot = (epoch, inventory.as_of)
    if snapshot < floor:
        return None
    changed: dict[str, Claim | None] = {}
    listed = set()
    for domain in inventory.domains:
        listed.add(domain.uuid)
        claim = claims.get(domain.uuid)
        if claim is not None and snapshot < claim.mark:
            continue
        if claim is not None and claim.state is domain.state:
            changed[domain.uuid] = replace(claim, name=domain.name, mark=snapshot)
        else:
            changed[domain.uuid] = Claim(domain.state, domain.name, snapshot, inventory.time, turn)
    for uuid in _gone(claims, listed, snapshot):
        changed[uuid] = None
    return InventoryEffect(changed, snapshot)


def _gone(claims: Mapping[str, Claim], listed: set[str], snapshot: Mark) -> Iterable[str]:
    return [uuid for uuid, claim in claims.items() if uuid not in listed and claim.mark <= snapshot]
