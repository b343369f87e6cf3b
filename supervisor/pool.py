"""The pool: keeps the worker processes running, notices when one dies or hangs, and replaces it."""

import itertools
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vmwatch.shared.backoff import Backoff
from vmwatch.shared.exits import Exit
from vmwatch.shared.handover import Doing, Farewell, HandOver, Ready, Result, Trouble
from vmwatch.shared.logs import iso_time
from vmwatch.supervisor.child import Child

log = logging.getLogger(__name__)

CRASH_FIRST_S, CRASH_MOST_S = 0.2, 10.0
"""Back-off after a worker that had worked: something of its work ended it, another worker may be luckier."""
BOOT_FIRST_S, BOOT_MOST_S = 2.0, 60.0
"""Back-off after one that did not even boot: an installation is broken, and haste does not mend it."""
STABLE_S = 60.0
"""A worker that was ready for so long has shown that it works: its back-off begins anew."""
BOOT_LEAST_S = 30.0
"""So long a boot may take on a machine under load."""
LAST_WORDS_MOST_S = 2.0
"""After the end of a worker that ended in order: so long its last results may be on their way."""

_MEANINGS = {
    1: " (Python could not run it: standard error says why)",
    Exit.CONFIGURATION: " (it cannot use its configuration: its line in the log says why)",
    Exit.DEFECT: " (a defect: its traceback is in the log)",
}
"""Of a worker's exit codes. 1 is Python's own, as for a module that is missing; a worker has no use for it."""

Spawn = Callable[[int, int], Child]
"""Start an incarnation of the worker (slot, generation). Raises OSError."""


@dataclass(eq=False)
class Slot:
    """One worker's place. Times are monotonic seconds."""

    number: int
    child: Child | None = None
    edition: int = 0
    """Of the settings that its worker was started with."""
    silence_s: float = 0.0
    replaces: "Slot | None" = None
    """The place of a worker with older settings, which works on until this one's worker is ready."""
    leaving: bool = False
    """Its worker finishes what it holds; then the place is given up."""
    ready_at: float | None = None
    heard_at: float = 0.0
    start_at: float = 0.0
    ended_at: float | None = None
    """When its process was first seen to have ended in order, while its last words may still be on their way."""
    said_farewell: bool = False
    doing: str = "waiting to start"
    calling: list[int] = field(default_factory=list)
    doing_since: float = 0.0
    hung: bool = False
    restarts: int = 0
    boot_failures: int = 0
    last_trouble: str = ""
    panel_trouble: Trouble | None = None
    crash: Backoff = field(default_factory=lambda: Backoff(CRASH_FIRST_S, CRASH_MOST_S))
    boot: Backoff = field(default_factory=lambda: Backoff(BOOT_FIRST_S, BOOT_MOST_S))

    def does(self, now: float, doing: str, calling: list[int]) -> None:
        if doing != self.doing or calling != self.calling:
            self.doing, self.calling, self.doing_since = doing, calling, now


@dataclass(frozen=True)
class Lost:
    """A worker that is no more: what it held must go out again. `calling`: ids of its last call.

    `crashed`: false for one that ended in order, which is no message's fault.
    """

    generation: int
    calling: list[int]
    crashed: bool


class Pool:
    """`count` workers, each incarnation with a generation of its own. `silence_s`: without a word for so long a
    worker counts as hung and is killed."""

    def __init__(self, count: int, silence_s: float, spawn: Spawn) -> None:
        self._spawn = spawn
        self._silence_s = silence_s
        self._edition = 1
        self._slots = [Slot(number) for number in range(1, count + 1)]
        self._by_generation: dict[int, Slot] = {}
        self._generation = 0
        self._stopping = False

    # What is wanted

    @property
    def count(self) -> int:
        """How many workers there shall be."""
        return len(self._members())

    def resize(self, count: int) -> None:
        """From now on there shall be so many. Who is one too many finishes what it holds, and its results count."""
        members = self._members()
        for slot in members[count:]:
            self._leave(slot)
        taken = {slot.number for slot in self._slots}
        free = (number for number in itertools.count(1) if number not in taken)
        self._slots += [Slot(next(free)) for _ in range(count - len(members))]

    def renew(self, now: float, silence_s: float, spawn: Spawn) -> None:
        """The settings have changed: all workers are replaced, one after the other.

        Each works on until its successor is ready: if the new settings let none boot, the old workers remain.
        """
        self._spawn, self._silence_s = spawn, silence_s
        self._edition += 1
        for slot in self._slots:
            if slot.child is None:  # the change may be what it waits for
                slot.boot.reset()
                slot.start_at = now

    def _members(self) -> list[Slot]:
        members = [slot for slot in self._slots if not slot.leaving and slot.replaces is None]
        return sorted(members, key=lambda slot: slot.number)

    def _leave(self, slot: Slot) -> None:
        """Let this worker finish what it holds and end; nobody comes into its place."""
        for successor in [other for other in self._slots if other.replaces is slot]:
            self._leave(successor)
        slot.leaving, slot.replaces = True, None
        if slot.child is None:
            self._slots.remove(slot)
        else:
            _ask_to_end(slot, slot.child)

    # What the workers say

    def heard(self, now: float, result: Result) -> bool:
        """Note who spoke; False if it is no worker of now: what it says counts for nothing."""
        slot = self._by_generation.get(result.generation)
        if slot is None:
            return False
        slot.heard_at = now
        if isinstance(result, Ready):
            slot.ready_at = now
            slot.boot.reset()
            slot.does(now, "waiting", [])
            log.info("worker %d is ready (process %d, generation %d)", slot.number, _pid(slot), result.generation)
            if slot.replaces is not None:
                predecessor, slot.replaces = slot.replaces, None
                self._leave(predecessor)
        elif isinstance(result, Doing):
            slot.does(now, result.what, result.calling)
        elif isinstance(result, Trouble):
            slot.panel_trouble = result if result.text else None
        elif isinstance(result, Farewell):
            slot.said_farewell = True
        return True

    @property
    def ready(self) -> list[int]:
        """Generations of the workers that can be handed something now."""
        return [
            generation
            for generation, slot in self._by_generation.items()
            if slot.ready_at is not None
            and not (slot.hung or slot.leaving or slot.said_farewell)
            and slot.child is not None
            and not slot.child.is_congested
        ]

    @property
    def alive(self) -> int:
        """Processes that run."""
        return len(self._by_generation)

    @property
    def panel_trouble(self) -> Trouble | None:
        """What a worker says is wrong with the panel; what a person must mend comes first. None: nothing is."""
        troubles = [slot.panel_trouble for slot in self._slots if slot.panel_trouble is not None]
        return max(troubles, key=lambda trouble: trouble.needs_person, default=None)

    # What the workers get

    def hand_over(self, generation: int, work: HandOver) -> None:
        """Give a ready worker something to do. Never blocks."""
        child = self._by_generation[generation].child
        assert child is not None
        child.hand_over(work)

    # Life and death

    def tend(self, now: float) -> list[Lost]:
        """Reap the dead, kill the hung, start what is due; returns whom we lost."""
        lost = []
        for slot in list(self._slots):
            if slot.child is None:
                if not self._stopping and now >= slot.start_at:
                    self._start(now, slot)
                continue
            slot.child.flush()
            code = slot.child.exit_code()
            if code is not None:
                if not self._may_still_be_heard(now, slot, code):
                    lost.append(self._bury(now, slot, slot.child, code))
            elif not slot.hung and now - slot.heard_at > self._patience_s(slot):
                self._kill_hung(now, slot, slot.child)
        if not self._stopping:
            self._replace_next(now)
        return lost

    def _may_still_be_heard(self, now: float, slot: Slot, code: int) -> bool:
        """It ended in order, and what it said last may not have arrived: it must not be handed out again yet."""
        if code != 0 or slot.ready_at is None or slot.said_farewell:
            return False
        if slot.ended_at is None:
            slot.ended_at = now
        return now - slot.ended_at < LAST_WORDS_MOST_S

    def _replace_next(self, now: float) -> None:
        """A successor for one worker with older settings, when the last successor is ready."""
        if any(slot.replaces is not None for slot in self._slots):
            return
        for slot in self._members():
            if slot.child is not None and slot.edition != self._edition:
                successor = Slot(slot.number, replaces=slot, restarts=slot.restarts)
                self._slots.append(successor)
                self._start(now, successor)
                return

    def _patience_s(self, slot: Slot) -> float:
        return slot.silence_s if slot.ready_at is not None else max(slot.silence_s, BOOT_LEAST_S)

    def _start(self, now: float, slot: Slot) -> None:
        self._generation += 1
        slot.edition, slot.silence_s = self._edition, self._silence_s
        slot.ready_at, slot.heard_at, slot.hung, slot.panel_trouble = None, now, False, None
        slot.ended_at, slot.said_farewell = None, False
        try:
            slot.child = self._spawn(slot.number, self._generation)
        except OSError as error:
            self._boot_failed(now, slot, f"cannot be started: {error.strerror or error}")
            return
        self._by_generation[self._generation] = slot
        slot.does(now, "booting", [])

    def _bury(self, now: float, slot: Slot, child: Child, code: int) -> Lost:
        del self._by_generation[child.generation]
        child.close()
        slot.child = None
        lost = Lost(child.generation, slot.calling, crashed=code != 0)
        how = "was killed: it hung" if slot.hung else _ending(code)
        if slot.leaving:
            self._slots.remove(slot)
            log.info("worker %d (process %d) left: it %s", slot.number, child.pid, how)
            return lost
        if self._stopping:
            slot.does(now, "ended", [])
            return lost
        if slot.ready_at is None:
            self._boot_failed(now, slot, how)
            return lost
        if now - slot.ready_at > STABLE_S:
            slot.crash.reset()
        slot.restarts += 1
        self._pause(now, slot, slot.crash.next_s(), f"worker {slot.number} (process {child.pid}) {how}")
        return lost

    def _boot_failed(self, now: float, slot: Slot, how: str) -> None:
        slot.boot_failures += 1
        self._pause(now, slot, slot.boot.next_s(), f"worker {slot.number} {how} before it was ready")

    def _pause(self, now: float, slot: Slot, wait_s: float, trouble: str) -> None:
        slot.start_at = now + wait_s
        slot.last_trouble = f"{iso_time(time.time())} {trouble}"
        slot.does(now, "waiting to start", [])
        log.error("%s; a new one starts in %.1f s", trouble, wait_s)

    def _kill_hung(self, now: float, slot: Slot, child: Child) -> None:
        log.error(
            "worker %d (process %d) said nothing for %.0f s while %s: it is killed",
            slot.number,
            child.pid,
            now - slot.heard_at,
            slot.doing,
        )
        slot.hung = True
        child.kill()

    # The end

    def stop(self) -> None:
        """Let all workers finish what they hold and end; none is replaced from now on."""
        self._stopping = True
        for slot in self._by_generation.values():
            assert slot.child is not None
            _ask_to_end(slot, slot.child)

    def kill(self) -> None:
        """End all workers at once."""
        self._stopping = True
        for slot in self._by_generation.values():
            assert slot.child is not None
            slot.child.kill()

    def describe(self, now: float, in_hand: Callable[[int], int]) -> list[dict[str, Any]]:
        """For the status: each worker, what it does and since how many seconds."""
        return [
            {
                "slot": slot.number,
                "generation": slot.child.generation if slot.child else None,
                "pid": slot.child.pid if slot.child else None,
                "state": _state(slot),
                "doing": slot.doing,
                "since_s": round(now - slot.doing_since, 3),
                "silent_s": round(now - slot.heard_at, 3) if slot.child else None,
                "in_hand": in_hand(slot.child.generation) if slot.child else 0,
                "calling": len(slot.calling),
                "restarts": slot.restarts,
                "boot_failures": slot.boot_failures,
                "last_trouble": slot.last_trouble,
                "panel_trouble": slot.panel_trouble.text if slot.panel_trouble else "",
            }
            for slot in sorted(self._slots, key=lambda slot: slot.number)
        ]


def _ask_to_end(slot: Slot, child: Child) -> None:
    if slot.ready_at is not None:
        child.hand_over(HandOver(stop=True))
    else:
        child.terminate()


def _state(slot: Slot) -> str:
    if slot.child is None:
        return "backoff" if slot.last_trouble else "stopped"
    if slot.hung:
        return "killed"
    if slot.leaving:
        return "leaving"
    return "booting" if slot.ready_at is None else "ready"


def _pid(slot: Slot) -> int:
    return slot.child.pid if slot.child else 0


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}{_MEANINGS.get(code, '')}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
