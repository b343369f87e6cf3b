"""What must hold at every moment of a run, whatever happens: each breach raises PromiseBroken at once."""

from collections.abc import Iterable

from tests.simulation.hypervisor import Hypervisor
from vmwatch.panel.knowledge import Draft, Known
from vmwatch.panel.rules import NOTHING, Mark
from vmwatch.shared.states import ACTIVE, State

Key = tuple[str, int, int]
"""(node, epoch, seq)."""


class PromiseBroken(AssertionError):
    """The promise does not hold; the text says which part of it."""


class Truth:
    """Knows what each message said and when it was true, and holds the panel's picture against it.

    The picture may lag behind the truth, but never behind a message that was registered: for each VM of each node,
    `bounds` has the index (in `Hypervisor.history`) of the latest moment that the panel was told of, and the
    claim must be something that was true then or later.
    """

    def __init__(self) -> None:
        self.hypervisors: dict[str, Hypervisor] = {}
        """By the node_id of the agent."""
        self.bounds: dict[tuple[str, str], int] = {}
        """By (node, uuid)."""
        self.shown: dict[str, int] = {}
        """The run, by UUID, in which the panel has shown a VM as active."""
        self._events: dict[Key, tuple[str, int]] = {}
        self._arrivals: dict[Key, int] = {}
        """Of messages that tell of a migration's arrival, the run that arrived."""
        self._arrived: dict[tuple[str, str], int] = {}
        """By (node, uuid), the run that arrived there last, as far as the panel was told."""
        self._inventories: dict[Key, dict[str, int]] = {}
        self._unheard: dict[tuple[str, str], Mark] = {}
        """By (node, uuid), the latest event that the panel may not hear."""
        self._begun: dict[tuple[str, int], int] = {}
        """By (node, epoch), which of all it was: a clock that went back makes lower ones after higher ones."""
        self._heard: dict[str, int] = {}
        """By node, the epoch that was begun last of those of which the panel has had a message."""

    # What the nodes write

    def began_epoch(self, node: str, epoch: int) -> None:
        """The node's agent has begun an epoch."""
        self._begun[node, epoch] = len(self._begun)

    def wrote_event(self, key: Key, uuid: str, moment: int) -> None:
        """An event was committed to an outbox; `moment` is -1 if it does not tell the VM's state."""
        self._events[key] = (uuid, moment)
        if run := self.hypervisors[key[0]].arrived.get((uuid, moment)):
            self._arrivals[key] = run

    def wrote_inventory(self, key: Key, moments: dict[str, int]) -> None:
        """An inventory was; `moments`: of each VM's last event that was committed before the listing began."""
        self._inventories[key] = moments

    def missed(self, key: Key) -> None:
        """The panel may not hear a message: it is for the dead letters, the outbox had no room for it, or it went with
        a disk or with what a restored backup did not have."""
        node, epoch, seq = key
        if key in self._events:
            uuid, moment = self._events[key]
            self._unheard[node, uuid] = max((epoch, seq), self._unheard.get((node, uuid), NOTHING))
            if moment >= 0 and self.hypervisors[node].history[uuid][moment].told is State.SHUTOFF:
                # It may have left for another node, of which the panel has not heard yet: then what else is told of its
                # stopping here, as of another migration that fails, seems to be its end.
                self.shown.pop(uuid, None)

    # What the panel makes of it

    def committed(self, known: Known, draft: Draft) -> None:
        """The panel has committed a report."""
        if not draft.keys:
            return
        changed = set(draft.claims)
        for (node, epoch), seqs in draft.keys.items():
            self._heard[node] = max(epoch, self._heard.get(node, epoch), key=lambda one: self._begun[node, one])
            if epoch < known.nodes[node].newest_epoch:
                continue  # of an earlier run of the agent: the panel may know better
            for seq in seqs:
                changed |= {(uuid, node) for uuid in self._raise(node, epoch, seq)}
        self._hear_arrivals(draft)
        for uuid, node in changed:
            self._compare(known, uuid, node)
        for uuid in {uuid for uuid, _ in changed}:
            self._compare_picture(known, uuid)

    def _hear_arrivals(self, draft: Draft) -> None:
        """A node that tells late that a VM came to it, of a run that is over: the panel may take it for the arrival of
        the run that has just left another node, or leaves it next. Nothing in it says which of the two it is (design
        03, rule 5)."""
        for (node, epoch), seqs in draft.keys.items():
            for key in ((node, epoch, seq) for seq in seqs):
                uuid = self._events[key][0] if key in self._arrivals else ""
                if uuid:
                    self._arrived[node, uuid] = self._arrivals[key]
                    if self.shown.get(uuid) != self._arrivals[key]:
                        self.shown.pop(uuid, None)

    def _raise(self, node: str, epoch: int, seq: int) -> Iterable[str]:
        key = (node, epoch, seq)
        if key in self._events:
            uuid, moment = self._events[key]
            self.bounds[node, uuid] = max(moment, self.bounds.get((node, uuid), -1))
            return (uuid,)
        moments = self._inventories.get(key, {})
        for uuid, moment in moments.items():
            self.bounds[node, uuid] = max(moment, self.bounds.get((node, uuid), -1))
        return moments

    def _compare_picture(self, known: Known, uuid: str) -> None:
        """A VM that was shown as running is never shown as stopped or gone while it runs on, here or elsewhere."""
        # One that comes to a node for a second time may be taken to have arrived by that node's late word of the first.
        began = {
            name: h.began[uuid] for name, h in self.hypervisors.items() if uuid in h.began and h.visits[uuid] < 2
        }
        judged = known.judgement(uuid)
        if any(self._is_misled(known, name) for name in began):
            self.shown.pop(uuid, None)
        elif judged is not None and judged.state in ACTIVE:
            moment, run = began.get(judged.node, (0, 0))
            if any(
                claim.moving == "arrived" and self._arrived.get((node, uuid)) != run
                for node, claim in known.claims_of_vm(uuid).items()
            ):
                self.shown.pop(uuid, None)  # as in `_hear_arrivals`
            elif run and self.bounds.get((judged.node, uuid), -1) >= moment:
                self.shown[uuid] = run
        elif self.shown.get(uuid) in [run for _, run in began.values()] and (
            judged is None or judged.state is not State.UNKNOWN
        ):
            raise PromiseBroken(f"VM {uuid} runs on {', '.join(began)} and is shown as {judged and judged.state}")

    def _is_misled(self, known: Known, node: str) -> bool:
        """Does the panel take an epoch for the newest that is not? Its outbox was lost while the clock was behind, it
        is late, and by its number it is above the one that came after it. With the next answer the agent begins one
        above both, and lists."""
        heard, taken = self._heard.get(node, 0), known.nodes[node].newest_epoch if node in known.nodes else 0
        return taken > heard and self._begun[node, taken] < self._begun.get((node, heard), 0)

    def _compare(self, known: Known, uuid: str, node: str) -> None:
        if known.nodes[node].doubted:
            return  # the picture says `unknown`
        if self._is_misled(known, node):
            return
        claim = known.claim(uuid, node)
        bound = self.bounds.get((node, uuid), -1)
        moments = self.hypervisors[node].history.get(uuid, [])[max(0, bound) :]
        if claim is not None and claim.stated == NOTHING:
            return  # a guess: what told the state was refused, or is late
        unheard = self._unheard.get((node, uuid), NOTHING)
        if claim is not None and unheard > claim.stated:
            return  # what told the state is missed
        if claim is not None and claim.told is State.SHUTOFF and unheard > claim.persisted:
            return  # as may be what told of its definition
        state = State.ABSENT if claim is None else claim.state
        if state is State.UNKNOWN or (bound < 0 and state is State.ABSENT):
            return
        if not any(state in (moment.state, moment.told) for moment in moments):
            raise PromiseBroken(
                f"the panel says {state} of VM {uuid} on {node}, and since it was told last (moment {bound}) only this "
                f"was true: {[(moment.state, moment.told) for moment in moments]}"
            )
        names = {moment.name for moment in moments}
        if claim is not None and state is not State.ABSENT and "" not in names and claim.name not in names:
            raise PromiseBroken(f"the panel calls VM {uuid} of {node} {claim.name!r}, not what it was called last")
