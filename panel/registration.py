"""What a report adds to what the panel knows (design 03, rules and `vmwatch.report`): a core without I/O."""

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Raw
from msgspec.structs import replace

from vmwatch.panel.complaints import drop, judge_clock, refuse
from vmwatch.panel.installation import happened, listed
from vmwatch.panel.installations import keep_installation
from vmwatch.panel.knowledge import Devices, Draft, Epoch, EpochKey, EventRow, Node, StatsRow
from vmwatch.panel.rules import Claim, after_event, after_inventory, is_suddenly_empty
from vmwatch.shared.errors import MessageError
from vmwatch.shared.messages import (
    AgentReport,
    Event,
    Inventory,
    ListedDomain,
    Message,
    Stats,
    decode_head,
    decode_message,
)
from vmwatch.shared.report import Refusal, Report, ReportEntry, Verdict
from vmwatch.shared.states import ACTIVE, State

CANARY = "canary"
"""What an agent says to see the way work (`vmwatch-healthcheck --canary`): registered by its key, and nothing else."""
EMPTY = "it suddenly lists no VM"
EMPTY_AGAIN_S = 60.0
"""A second empty inventory so long after the first one is believed (design 03, rule 3)."""
EPOCH_CLOSES_S = 30 * 86400.0
"""An epoch that is not its node's newest closes after so long without activity (design 03, *vmwatch.report*)."""


class _Unread(NamedTuple):
    """A message that has a place, and is not understood otherwise."""

    seq: int
    token: str
    error: str


Registered = Callable[[str, int, Message], bool]
"""Do the event log or the statistics hold this message of (node, epoch)?"""


def _never(node: str, epoch: int, message: Message) -> bool:
    return False


def register(draft: Draft, report: Report, now: float, registered: Registered = _never) -> list[Verdict]:
    """Register a report's messages into `draft`; returns a verdict for each of its entries. `now`: wall clock, seconds.

    Idempotent by (node, epoch, seq); of dead letters that are sent again, whose keys are below the base and not kept,
    by what is `registered`. Raises MessageError for a message without a place in its order: the report is not one
    that a master makes, and nothing of it counts.
    """
    return [_register_entry(draft, entry, now, registered) for entry in report.nodes]


def _register_entry(draft: Draft, entry: ReportEntry, now: float, registered: Registered) -> Verdict:
    key = (entry.node, entry.epoch)
    verdict = Verdict(node=entry.node, epoch=entry.epoch, applied=0, known=0)
    closed = _is_closed(draft, key, now)
    _note_node(draft, entry, now)
    if not closed:
        _note_epoch(draft, key, entry, now)
    messages = [_read(raw) for raw in entry.messages]
    fresh, taken = draft.unknown(key, [message.seq for message in messages]), set[int]()
    for message in messages:
        seq = message.seq
        if seq in entry.returned:
            _register_returned(draft, entry, message, verdict, now, registered)
            continue
        if closed:
            verdict.refused.append(Refusal(seq, "value", "epoch", f"epoch {entry.epoch} of {entry.node} is closed"))
            continue
        if seq not in fresh:
            verdict.known += 1
            token = message.token if isinstance(message, Inventory | _Unread) else ""
            if token and token == draft.nodes[entry.node].wanted:
                # The answer to the wish has the place of a message that was here before (an outbox was restored from a
                # copy), and is not looked at. The master takes this wish for answered, so it is another one.
                draft.nodes[entry.node] = replace(draft.nodes[entry.node], wanted=draft.next_token())
            continue
        if isinstance(message, _Unread):
            verdict.refused.append(Refusal(seq, "value", "message", message.error))
            continue
        _apply(draft, entry, message, now)
        fresh.discard(seq)
        taken.add(seq)
        verdict.applied += 1
    if taken:
        draft.keys.setdefault(key, set()).update(taken)
    if verdict.refused:
        # the picture of these VMs may lag now
        draft.nodes[entry.node] = replace(draft.nodes[entry.node], wanted=draft.next_token())
        refuse(draft, now, entry.node, verdict.refused)
    node = draft.nodes[entry.node]
    verdict.newest_epoch, verdict.want_inventory = node.newest_epoch, node.wanted
    return verdict


def _read(raw: Raw) -> Message | _Unread:
    """Decoded once: its place is looked at apart only where the rest of it is not understood."""
    try:
        return decode_message(raw)
    except MessageError as error:
        head = decode_head(raw)
        return _Unread(head.seq, head.token, str(error))


def _register_returned(
    draft: Draft,
    entry: ReportEntry,
    message: Message | _Unread,
    verdict: Verdict,
    now: float,
    registered: Registered,
) -> None:
    """A dead letter that is sent again. A person wants it: it counts also where its epoch is closed."""
    key, seq = (entry.node, entry.epoch), message.seq
    if isinstance(message, _Unread):
        verdict.refused.append(Refusal(seq, "value", "message", message.error))
        return
    if draft.has_key(key, seq) or registered(*key, message):
        verdict.known += 1
        return
    _apply(draft, entry, message, now)
    draft.epochs.setdefault(key, draft.epoch(key) or Epoch(active=now))
    draft.keys.setdefault(key, set()).add(seq)
    verdict.applied += 1


def _is_closed(draft: Draft, key: EpochKey, now: float) -> bool:
    epoch, node = draft.epoch(key), draft.node(key[0])
    if epoch is None or node is None or now - epoch.active <= EPOCH_CLOSES_S:
        return False
    return 0 < key[1] < node.newest_epoch  # 0: of `vm.event` without a key, which is of no run


def _note_node(draft: Draft, entry: ReportEntry, now: float) -> None:
    before = draft.node(entry.node)
    # Of a node that is new here, what it said earlier may have been settled with a panel that remembered more than
    # this one (a backup was restored).
    node = before or Node(wanted=draft.next_token())
    # Signs of life as well: that they were committed is how a master knows that it is no outage (`Batcher.witness`).
    draft.durable |= bool(entry.messages) or entry.live
    if entry.live:
        node = replace(node, seen=now)
        judge_clock(draft, now, entry.node, entry.skew)
    draft.nodes[entry.node] = replace(
        node,
        newest_epoch=max(node.newest_epoch, entry.epoch),
        agent=entry.agent or node.agent,
        interval=node.interval if _is_old(entry) else entry.interval,
        status=_text(entry.status) or node.status,
    )


def _text(status: Raw) -> bytes:
    """A status as it can be stored; empty if it is no UTF-8, which a raw field may hide. Messages come first."""
    try:
        bytes(status).decode()
    except UnicodeDecodeError:
        return b""
    return bytes(status)


def _note_epoch(draft: Draft, key: EpochKey, entry: ReportEntry, now: float) -> None:
    before = draft.epoch(key)
    draft.durable |= before is None
    epoch = before or Epoch(active=now)
    active = entry.messages and not _is_old(entry)
    draft.epochs[key] = Epoch(max(epoch.base, entry.base), now if active else epoch.active)


def _is_old(entry: ReportEntry) -> bool:
    """Nothing but dead letters that are sent again."""
    return bool(entry.messages) and len(entry.returned) == len(entry.messages)


def _apply(draft: Draft, entry: ReportEntry, message: Message, now: float) -> None:
    if isinstance(message, Event):
        _apply_event(draft, entry, message, now)
    elif isinstance(message, Inventory):
        _apply_inventory(draft, entry, message, now)
    elif isinstance(message, Stats):
        draft.stats += [
            StatsRow(entry.node, entry.epoch, message.seq, message.taken, message.interval, domain)
            for domain in message.domains
        ]
    elif isinstance(message, AgentReport) and message.what != CANARY:
        draft.nodes[entry.node] = replace(draft.nodes[entry.node], said=message.what)
        if message.what == "dropped":
            drop(draft, now, entry.node, message.counts)


def _apply_event(draft: Draft, entry: ReportEntry, event: Event, now: float) -> None:
    uuid = event.vm.uuid
    draft.events.append(
        EventRow(
            entry.node,
            entry.epoch,
            event.seq,
            event.time,
            now,
            uuid,
            event.vm.name,
            event.event,
            event.detail,
            event.state or "",
        )
    )
    floor = draft.nodes[entry.node].floor
    place = (entry.epoch, event.seq)
    claim = after_event(draft.claim(uuid, entry.node), floor, place, event, draft.next_turn(), now)
    if claim is not None:
        draft.set_claim(uuid, entry.node, claim)
    installation = draft.installation(uuid)
    if installation is not None and installation.node == entry.node:
        keep_installation(draft, installation, happened(installation, place, event.event, event.detail, now), now)


def _apply_inventory(draft: Draft, entry: ReportEntry, inventory: Inventory, now: float) -> None:
    node, claims = draft.nodes[entry.node], draft.claims_of_node(entry.node)
    number = draft.token_number(inventory.token)
    if inventory.token and inventory.token == node.wanted:
        node = replace(node, wanted="")
    may_be_missed = claims if inventory.domains else _not_elsewhere(draft, claims)
    if is_suddenly_empty(may_be_missed, entry.epoch, inventory) and not _is_second(node, entry.epoch, now):
        if node.emptied[0] != entry.epoch or now < node.emptied[1]:
            node = replace(node, emptied=(entry.epoch, now))
        draft.nodes[entry.node] = replace(node, doubted=node.doubted or now, doubt=node.doubt or EMPTY, proof=0)
        return
    node = replace(node, emptied=(0, 0.0), answered=max(node.answered, number))
    if node.doubted and node.proof and number >= node.proof:
        node = replace(node, doubted=0.0, doubt="", proof=0)
    effect = after_inventory(claims, node.floor, entry.epoch, inventory, draft.next_turn(), now)
    if effect is not None:
        for uuid, claim in effect.claims.items():
            draft.set_claim(uuid, entry.node, claim)
        node = replace(node, floor=effect.floor)
        for domain in inventory.domains:
            _note_devices(draft, entry.node, domain)
    draft.nodes[entry.node] = node
    if effect is not None:
        _tell_installations(draft, entry, inventory, number, now)


def _tell_installations(draft: Draft, entry: ReportEntry, inventory: Inventory, number: int, now: float) -> None:
    """`number`: of the token that the inventory came with."""
    installations = draft.installations_on(entry.node)
    domains = {domain.uuid: domain for domain in inventory.domains} if installations else {}
    for before in installations:
        found = domains.get(before.uuid)
        state, reason = (found.state, found.reason) if found else (State.ABSENT, 0)
        place = (entry.epoch, inventory.as_of, inventory.seq)
        fresh = number > 0 and number >= before.asked
        keep_installation(draft, before, listed(before, *place, state, reason, now, fresh=fresh), now)


def _not_elsewhere(draft: Draft, claims: dict[str, Claim]) -> dict[str, Claim]:
    """Claims without those of stopped VMs that another node runs: a migration may have taken the definition along."""
    return {
        uuid: claim
        for uuid, claim in claims.items()
        if claim.told in ACTIVE or not any(other.is_held for other in draft.claims_of_vm(uuid).values())
    }


def _is_second(node: Node, epoch: int, now: float) -> bool:
    """The second empty inventory, long enough after the first one of the same epoch."""
    return node.emptied[0] == epoch and now - node.emptied[1] >= EMPTY_AGAIN_S


def _note_devices(draft: Draft, node: str, domain: ListedDomain) -> None:
    disks, macs = getattr(domain, "disks", None), getattr(domain, "macs", None)
    if disks is not None or macs is not None:
        draft.devices[domain.uuid, node] = Devices(tuple((d.path, d.on) for d in disks or ()), tuple(macs or ()))
