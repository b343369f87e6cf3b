"""The installation's core without I/O: an operating system is being installed in a VM (design 03, rule 7).

While it lasts the VM's definition says that a guest's reset ends the VM, as its power-off does. Each such end comes as
an event, is one of the expected reboots, and is followed by another start from the installation medium; after the
last one the VM starts from its disk and its former definition is put back.

An `Installation` holds everything, so that the panel may be killed between any two steps. What is to be done next at
libvirt is not remembered but follows from it (`pending`), and is done again until its answer is committed; the actions
are made so that doing them twice does no harm (`libvirtaction`).

    phase       waits for                                  then
    preparing   libvirt's answer to `prepare`              listing
    listing     a fresh listing of the node, so that all   starting
                events of older runs are below `place`
    starting    the answer to `start`, or an event         awaiting, running (unsure: it may have run already)
    unsure      a fresh listing                            starting, running
    awaiting    a `started`, or a fresh listing            running
    running     an end of the VM, told or listed           starting, booting (after the last), restoring (failed)
    booting     the answer to `start` from the disk        restoring
    restoring   the answer to `restore`                    done

`outcome` is decided once, with the change to `restoring`; nothing changes it afterwards.
"""

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from vmwatch.panel.rules import NOTHING, Mark
from vmwatch.shared.states import ACTIVE, State

SETTLE_S = 5.0
"""After a fresh listing that leaves open whether a start was done already: what was on its way then has come by now."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
"""Between attempts of an action: doubling from the first to the longest."""
MAX_TEXT = 1000


class Phase(StrEnum):
    """Where an installation is."""

    PREPARING = "preparing"
    LISTING = "listing"
    STARTING = "starting"
    UNSURE = "unsure"
    AWAITING = "awaiting"
    RUNNING = "running"
    BOOTING = "booting"
    RESTORING = "restoring"
    DONE = "done"


class Outcome(StrEnum):
    """How it came out; NONE until that is decided."""

    NONE = ""
    INSTALLED = "installed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Boot(StrEnum):
    """What the VM boots from while it is installed."""

    CDROM = "cdrom"
    NETWORK = "network"
    FLOPPY = "floppy"


class Verb(StrEnum):
    """What may be asked of libvirt."""

    PREPARE = "prepare"
    START = "start"
    RESTORE = "restore"


class Action(Struct, frozen=True):
    """One thing to do at libvirt. `step`: the number of the start; `disk`: start from the disk;
    `sure`: that start was not done already, also if its mark says that it was begun."""

    verb: Verb
    step: int = 0
    disk: bool = False
    sure: bool = False


class Kind(StrEnum):
    """How an action ended. AGAIN: not done, and another attempt may succeed. UNSURE: the start was begun by an earlier
    attempt and the VM does not run; whether it has run nobody at libvirt knows."""

    DONE = "done"
    AGAIN = "again"
    FAILED = "failed"
    UNSURE = "unsure"


class Answer(Struct, frozen=True):
    """libvirt's answer to an action. `former`: what `prepare` has changed (JSON); `text`: why it was not done."""

    kind: Kind
    text: str = ""
    former: str = ""


class Installation(Struct, frozen=True, omit_defaults=True):
    """One installation. `key` marks the VM's definition as this installation's.

    Messages of the node count above `place`. `step` numbers the starts. `pause_s`: how long to wait before the pending
    action. `turn` grows with every change. `began` and `ended` are wall-clock seconds, labels; `spent_s` is how long it
    took until the outcome. `ask`: a fresh listing is wanted, and was not asked for yet.
    """

    id: int
    key: str
    uuid: str
    name: str
    node: str
    boot: Boot
    image: str
    reboots: int
    limit_s: float
    began: float
    left: int
    place: Mark = NOTHING
    phase: Phase = Phase.PREPARING
    step: int = 0
    sure: bool = False
    failures: int = 0
    pause_s: float = 0.0
    turn: int = 0
    former: str = ""
    outcome: Outcome = Outcome.NONE
    reason: str = ""
    note: str = ""
    ended: float = 0.0
    spent_s: float = 0.0
    ask: bool = False
    asked: int = 0
    """With which of this run's tokens it was asked for; 0: with those that every run of the panel begins with."""
    spoiled: bool = False
    """The former definition could not be put back; `note` says why."""

    @property
    def undecided(self) -> bool:
        """The VM is being installed."""
        return self.outcome is Outcome.NONE

    @property
    def unfinished(self) -> bool:
        """There is still something to do, if only to put the definition back."""
        return self.phase is not Phase.DONE


_COUNTING = frozenset({Phase.STARTING, Phase.UNSURE, Phase.AWAITING, Phase.RUNNING})
"""Phases in which a run of the installation's may begin or end."""

_ENDS = {
    "destroyed": "it was destroyed by an operator",
    "crashed": "the VM crashed",
    "failed": "the VM crashed: its process ended by itself",
    "migrated": "the VM was migrated to another node",
    "saved": "the VM was saved to a file",
    "from_snapshot": "the VM was reverted to a snapshot",
}
"""By the detail of libvirt's `stopped`; what is not here, and is not `shutdown`, is named as libvirt names it."""

_DETAIL_OF_REASON = ("", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from_snapshot")
"""virDomainShutoffReason's number is the index; past the end (and 0) libvirt does not know how it ended."""

UNWATCHED = "the VM ended while nobody watched it, and libvirt does not say how"
GONE = "the VM's definition is gone from the node"
CRASHED = "the VM crashed"


def pending(now: Installation) -> Action | None:
    """What has to be done at libvirt next; None: there is something to wait for."""
    if now.phase is Phase.PREPARING:
        return Action(Verb.PREPARE)
    if now.phase in (Phase.STARTING, Phase.BOOTING):
        return Action(Verb.START, now.step, now.phase is Phase.BOOTING, now.sure)
    return Action(Verb.RESTORE) if now.phase is Phase.RESTORING else None


def answered(now: Installation, action: Action, answer: Answer, wall: float, spent_s: float) -> Installation:
    """After libvirt's answer to an action. One to an action that is not pending any more changes nothing."""
    if action != pending(now):
        return now
    if answer.kind is Kind.AGAIN:
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(now.failures, 16))
        return _turn(now, failures=now.failures + 1, pause_s=pause_s, note=answer.text[:MAX_TEXT])
    now = replace(now, failures=0, pause_s=0.0, note="")
    if action.verb is Verb.RESTORE:
        return _turn(now, phase=Phase.DONE, note=answer.text[:MAX_TEXT], spoiled=answer.kind is Kind.FAILED)
    if answer.kind is Kind.FAILED:
        return _decide(now, Outcome.FAILED, answer.text, wall, spent_s)
    if action.verb is Verb.PREPARE:
        return _turn(now, phase=Phase.LISTING, former=answer.former, ask=True)
    if answer.kind is Kind.UNSURE and action.disk:
        return _turn(now, sure=True, pause_s=SETTLE_S)  # from the disk it may well be started twice
    if answer.kind is Kind.UNSURE:
        return _turn(now, phase=Phase.UNSURE, ask=True)
    if action.disk:
        return _decide(now, Outcome.INSTALLED, "", wall, spent_s)
    return _turn(now, phase=Phase.AWAITING, ask=True)


def happened(now: Installation, place: Mark, event: str, detail: str, wall: float) -> Installation:
    """After an event of the VM on its node. One that is not above `place` is of an older run, or comes again."""
    if now.phase not in _COUNTING or place <= now.place:
        return now
    if event == "undefined" and detail != "renamed":
        return _decide(now, Outcome.FAILED, GONE, wall)
    if event == "started" and now.phase is not Phase.RUNNING:
        return _turn(now, phase=Phase.RUNNING, place=place)
    if event == "crashed" and now.phase is Phase.RUNNING:
        return _decide(now, Outcome.FAILED, CRASHED, wall)
    if event != "stopped":
        return now
    if now.phase is Phase.RUNNING:
        return _end(now, place, detail, wall)
    return _turn(now, ask=True)  # an end without a beginning: a listing will tell


def listed(
    now: Installation, epoch: int, as_of: int, seq: int, state: State, reason: int, wall: float, *, fresh: bool
) -> Installation:
    """After a complete listing of the node, message `seq`, begun when `as_of` was the last seq.

    `state` of the VM in it (absent: not listed), `reason`: libvirt's number for why. `fresh`: it was begun after the
    last thing that was asked for by `ask`.
    """
    runs = state in ACTIVE
    if now.phase is Phase.RUNNING and (epoch, as_of) >= now.place:
        return now if runs else _end_of_listing(now, (epoch, seq), state, reason, wall)
    if not fresh or now.phase not in (Phase.LISTING, Phase.UNSURE, Phase.AWAITING) or (epoch, seq) <= now.place:
        return now
    if state is State.ABSENT:
        return _decide(now, Outcome.FAILED, GONE, wall)
    if now.phase is Phase.LISTING:
        # All that happened before this listing ended is below its own place.
        return _turn(now, phase=Phase.STARTING, place=(epoch, seq), step=1, sure=False)
    if runs:
        return _turn(now, phase=Phase.RUNNING, place=max(now.place, (epoch, as_of)))
    if now.phase is Phase.UNSURE:
        return _turn(now, phase=Phase.STARTING, sure=True, pause_s=SETTLE_S)
    return _end_of_listing(now, (epoch, seq), state, reason, wall)


def expired(now: Installation, wall: float, spent_s: float) -> Installation:
    """The time limit has passed. What runs is left alone: nothing is ever destroyed by itself."""
    if not now.undecided:
        return now
    what = f", while {label(now)}" + (f" ({now.note})" if now.note else "")
    return _decide(now, Outcome.FAILED, f"the time limit of {now.limit_s:g} s has passed{what}", wall, spent_s)


def refused(now: Installation, reason: str, wall: float, spent_s: float) -> Installation:
    """It may not go on; the definition is put back."""
    return _decide(now, Outcome.FAILED, reason, wall, spent_s) if now.undecided else now


def cancelled(now: Installation, wall: float, spent_s: float) -> Installation:
    """A person does not want it any more."""
    return _decide(now, Outcome.CANCELLED, "", wall, spent_s) if now.undecided else now


def label(now: Installation) -> str:
    """Where it is or how it came out, for people."""
    if now.outcome is Outcome.INSTALLED:
        text = f"installed in {now.spent_s:.0f} s"
    elif now.outcome is Outcome.FAILED:
        text = f"installation failed: {now.reason}"
    elif now.outcome is Outcome.CANCELLED:
        text = "installation cancelled"
    elif now.phase in _COUNTING:
        text = f"{now.phase.value}, reboot {now.reboots - now.left + 1} of {now.reboots} ahead"
    elif now.phase is Phase.BOOTING:
        text = "booting from the disk"
    else:
        text = {Phase.PREPARING: "preparing the definition", Phase.LISTING: "waiting for a listing of the node"}[
            now.phase
        ]
    return text


def _end(now: Installation, place: Mark, detail: str, wall: float) -> Installation:
    """A run has ended; what is known of it lies at or below `place`."""
    if detail != "shutdown":
        return _decide(now, Outcome.FAILED, _ENDS.get(detail, f"the VM ended: stopped, {detail or 'unknown'}"), wall)
    phase = Phase.STARTING if now.left > 1 else Phase.BOOTING
    return _turn(now, phase=phase, place=place, left=now.left - 1, step=now.step + 1, sure=False)


def _end_of_listing(now: Installation, place: Mark, state: State, reason: int, wall: float) -> Installation:
    if state is State.UNKNOWN:
        return now
    if state is State.ABSENT:
        return _decide(now, Outcome.FAILED, GONE, wall)
    if state is State.CRASHED:
        return _decide(now, Outcome.FAILED, CRASHED, wall)
    detail = _DETAIL_OF_REASON[reason] if 0 <= reason < len(_DETAIL_OF_REASON) else ""
    return _end(now, place, detail, wall) if detail else _decide(now, Outcome.FAILED, UNWATCHED, wall)


def _decide(
    now: Installation, outcome: Outcome, reason: str, wall: float, spent_s: float | None = None
) -> Installation:
    spent_s = max(0.0, wall - now.began) if spent_s is None else spent_s
    return _turn(
        now,
        phase=Phase.RESTORING,
        outcome=outcome,
        reason=reason[:MAX_TEXT],
        ended=wall,
        spent_s=round(spent_s, 3),
        failures=0,
        pause_s=0.0,
        note="",
        ask=False,
    )


def _turn(now: Installation, **changes: object) -> Installation:
    return replace(now, turn=now.turn + 1, **changes)
