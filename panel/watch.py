"""What time alone changes (design 03, rules 3, 5 and 6): silence, doubt and its end, empty listings, migrations that
nobody finished, duplicates. A core without I/O: `turn` is called about once a second.
"""

from collections import deque
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field

from msgspec.structs import replace

from vmwatch.panel.checkup import ILL, is_unfinished
from vmwatch.panel.complaints import Knocks
from vmwatch.panel.duplicates import Duplicates
from vmwatch.panel.inquiry import Inquiry
from vmwatch.panel.knowledge import Draft, Node
from vmwatch.panel.problems import Kind, Level, Problem, close_problem, keep_problem, open_objects
from vmwatch.panel.registration import EMPTY, EMPTY_AGAIN_S
from vmwatch.panel.removed import ENDED_WITH_IT
from vmwatch.panel.rules import Claim, departures_ended, judge
from vmwatch.shared.nodestatus import libvirt_answers

SILENT_AFTER_INTERVALS = 3
"""So many heartbeats missed, and a node is silent."""
MASTER_SILENT_S = 15.0
"""A master reports every 5 s, if only that it is there."""
ARRIVES_WITHIN_S = 10.0
"""A VM that left by a migration and that no node has shown for so long is asked for at all of them."""
AGENTS_ALTERNATE_S, AGENTS_ALTERNATE = 120.0, 2
"""So often in so long an older epoch spoke after a newer one: two agents use one node_id. One alone never goes back."""

NO_LIFE = "it gives no sign of life"
NO_LIBVIRT = "its libvirt does not answer"
NO_REPORT = "no report comes from vmwatch-master"
TWO_AGENTS = "two agents say that they are this node"
OLD_EPOCH = "its messages are older than what is known of it"
NOT_WRITTEN = "the panel cannot write its database"
"""Of all nodes; the one reason that is not stored."""

_MASTER = "vmwatch-master"


@dataclass(slots=True)
class _Voice:
    """What was heard of one node in this run of the panel; monotonic seconds."""

    heard_at: float
    epoch: int = 0
    older_since: float | None = None
    """Since when only an epoch older than its newest has spoken."""
    went_back: deque[float] = field(default_factory=lambda: deque(maxlen=AGENTS_ALTERNATE))
    status: bytes = b""
    answers: bool = True


class Watch:
    """For the writer's thread. `now` is monotonic, `wall` the wall clock; both in seconds."""

    def __init__(self, now: float) -> None:
        self._reported_at = now
        self.reported_once = False
        """In this run of the panel."""
        self._counts_from = now
        """The panel's start, or the master's return: no silence is counted from before it."""
        self._voices: dict[str, _Voice] = {}
        self._inquiry: Inquiry | None = None
        """Whether any node has a VM that left another one."""
        self._missed: set[tuple[str, float]] = set()
        """Which ones it is about: (uuid, when it left)."""
        self.duplicates = Duplicates()
        self.knocks = Knocks()

    def reported(self, now: float, lives: Iterable[tuple[str, int]]) -> None:
        """A report came from a master, with signs of life: (node, epoch)."""
        if now - self._reported_at > MASTER_SILENT_S:
            self._counts_from = now
        self._reported_at, self.reported_once = now, True
        for name, epoch in lives:
            voice = self._voices.setdefault(name, _Voice(now))
            voice.heard_at = now
            if epoch < voice.epoch and voice.older_since is None:
                voice.went_back.append(now)
                voice.older_since = now
            elif epoch >= voice.epoch:
                voice.epoch, voice.older_since = epoch, None

    def turn(self, draft: Draft, names: Iterable[str], now: float, wall: float, label: Callable[[float], str]) -> None:
        """Judge the nodes of these names, which are all that are not deleted, and what follows from them."""
        nodes = {name: node for name in names if (node := draft.node(name)) is not None}
        for name, node in nodes.items():
            after = self._judge(draft, name, node, now, wall)
            if after is not node:
                draft.nodes[name] = after
                draft.durable |= (after.doubted, after.doubt) != (node.doubted, node.doubt)
        self._tell(draft, nodes, now, wall)
        self._end_with_removal(draft, nodes, wall)
        self._end_with_vms(draft, nodes, wall)
        self._end_departures(draft, list(nodes), wall)
        self.duplicates.turn(draft, nodes, now, wall, label)

    # Nodes

    def _judge(self, draft: Draft, name: str, node: Node, now: float, wall: float) -> Node:
        reason = self._reason(name, node, now) or (EMPTY if node.emptied[0] else "")
        if reason == EMPTY and not 0 <= wall - node.emptied[1] < EMPTY_AGAIN_S and not node.wanted:
            node = replace(node, wanted=draft.next_token())
        if reason:
            if reason == node.doubt and not node.proof:
                return node
            return replace(node, doubted=node.doubted or wall, doubt=reason, proof=0)
        if node.doubted and not node.proof:
            # It is over only with a listing that is made now: what else comes may be an hour old.
            token = draft.next_token()
            return replace(node, wanted=token, proof=draft.token_number(token))
        return node

    def _reason(self, name: str, node: Node, now: float) -> str:
        """Why the node's word does not count now; empty if it does."""
        if not node.seen:
            return ""  # it speaks another protocol, `vm.event`, which has no signs of life
        if now - self._reported_at > MASTER_SILENT_S:
            return NO_REPORT
        voice = self._voices.get(name)
        heard_at = max(voice.heard_at if voice else 0.0, self._counts_from)
        if now - heard_at > SILENT_AFTER_INTERVALS * node.interval:
            return NO_LIFE
        if voice is None:
            return ""
        if len(voice.went_back) == AGENTS_ALTERNATE and now - voice.went_back[0] < AGENTS_ALTERNATE_S:
            return TWO_AGENTS
        if voice.older_since is not None and now - voice.older_since > SILENT_AFTER_INTERVALS * node.interval:
            return OLD_EPOCH
        return "" if _answers(voice, node.status) else NO_LIBVIRT

    def _tell(self, draft: Draft, nodes: dict[str, Node], now: float, wall: float) -> None:
        """Problems about nodes and the master."""
        silent = now - self._reported_at > MASTER_SILENT_S
        stopped = draft.problem((Kind.MASTER_STOPPED, _MASTER))
        if silent and any(node.seen for node in nodes.values()):
            text = f"{NO_REPORT}: it is stopped, cannot reach the panel, or its account is wrong; all VMs are unknown"
            if stopped is not None and stopped.is_open:
                text = stopped.text  # who saw it on its own host knows more than we
            keep_problem(draft, wall, Kind.MASTER_STOPPED, _MASTER, Level.ERROR, text)
        elif not silent and stopped is not None and self._disproves(stopped, now, wall):
            close_problem(draft, wall, Kind.MASTER_STOPPED, _MASTER)
        kinds = {NO_LIFE: Kind.NODE_SILENT, NO_LIBVIRT: Kind.NODE_SILENT, TWO_AGENTS: Kind.ID_CONFLICT}
        held: set[tuple[str, str]] = set()
        for name in nodes:
            node = draft.node(name) or nodes[name]
            kind = kinds.get(node.doubt)
            if kind is not None:
                held.add((kind, name))
                keep_problem(draft, wall, kind, name, Level.ERROR, f"{name}: {node.doubt}; its VMs are unknown")
            elif node.doubted:
                held |= {(kind, name) for kind in kinds.values()}  # for another reason: what was wrong may still be
        for kind in (Kind.NODE_SILENT, Kind.ID_CONFLICT):
            for name in open_objects(draft.all_problems(), kind):
                if (kind, name) not in held:
                    close_problem(draft, wall, kind, name)

    def _end_with_removal(self, draft: Draft, nodes: Container[str], wall: float) -> None:
        """Problems that are left of nodes that were removed. What others report of strangers is theirs."""
        for kind in ENDED_WITH_IT:
            for name in open_objects(draft.all_problems(), kind):
                if name not in nodes and draft.node(name) is not None:
                    close_problem(draft, wall, kind, name)

    def _end_with_vms(self, draft: Draft, nodes: Iterable[str], wall: float) -> None:
        """Failed installations of VMs that no node has any more. Of one whose word does not count nobody knows that."""
        failed = open_objects(draft.all_problems(), Kind.INSTALL_FAILED)
        if not failed or any((node := draft.node(name)) and node.doubted for name in nodes):
            return
        for uuid in failed:
            if draft.installation(uuid) is not None and judge(draft.claims_of_vm(uuid), {}) is None:
                close_problem(draft, wall, Kind.INSTALL_FAILED, uuid)

    def report_age_s(self, now: float) -> float | None:
        """How long ago the master's last report came; None: there was none yet in this run of the panel."""
        return now - self._reported_at if self.reported_once else None

    def _disproves(self, stopped: Problem, now: float, wall: float) -> bool:
        """Do the master's reports say that it is not? One that came before somebody saw it stopped says nothing; nor do
        those of one that is ill, or that works with what it had before configuring it failed."""
        if stopped.text.removeprefix(f"{_MASTER}: ").startswith(ILL) or is_unfinished(_MASTER, stopped.text):
            return False
        return wall - (now - self._reported_at) > stopped.last

    # Migrations

    def _end_departures(self, draft: Draft, names: list[str], wall: float) -> None:
        """VMs that left by a migration, and all nodes were asked and none shows it: then they are where they were."""
        waiting = {
            (uuid, claim.departed)
            for uuid in draft.all_departing()
            for claim in draft.claims_of_vm(uuid).values()
            if _is_overdue(claim, wall)
        }
        if not waiting:
            self._inquiry = None
            return
        if self._inquiry is None:
            self._inquiry, self._missed = Inquiry(), waiting
        if not self._inquiry.is_answered(draft, names):
            return
        self._inquiry = None
        # Of what left since, what was listed for this inquiry says nothing: the next one will.
        missed = waiting & self._missed
        for uuid in sorted({uuid for uuid, _ in missed}):
            ended = departures_ended(draft.claims_of_vm(uuid), lambda claim: (uuid, claim.departed) in missed)  # noqa: B023
            for name, claim in ended.items():
                draft.set_claim(uuid, name, replace(claim, turn=draft.next_turn()))
                draft.durable = True


def _is_overdue(claim: Claim, wall: float) -> bool:
    """It left long ago. If that is in the future, the panel's clock went back, and nobody knows how long ago it was."""
    return bool(claim.departed) and not 0.0 <= wall - claim.departed <= ARRIVES_WITHIN_S


def _answers(voice: _Voice, status: bytes) -> bool:
    """What the node's last heartbeat says of its libvirt."""
    if status is not voice.status:
        voice.status, voice.answers = status, libvirt_answers(status)
    return voice.answers
