"""Makes attempts at problems: automatic ones when they are due, and those that a person asks for.

What is due and what an attempt leaves behind is decided by `solving`. An attempt is committed before it begins; so one
that the end of the panel cuts is found by the next run, logged as such, and counts.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from msgspec.structs import astuple, replace

from vmwatch.panel.board import Board
from vmwatch.panel.live import Live, Progress
from vmwatch.panel.problems import MAX_TEXT, Key, Problem
from vmwatch.panel.solvers import Remedy, Result, Solvers, Tell
from vmwatch.panel.solving import Attempt, Outcome, begun, ended, is_due, is_muted
from vmwatch.panel.statements import CUT_ATTEMPTS, PRUNE_ATTEMPTS, SAVE_ATTEMPT
from vmwatch.panel.writer import NotCommitted, Work, Writer, WriterBusy
from vmwatch.shared.clock import Clock
from vmwatch.shared.errors import VmwatchError

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
MOST_ATTEMPTS = 4
"""At a time, on all objects together."""
KEPT_ATTEMPTS = 100
"""In the log of one problem."""
KEPT_LINES = 400
LONGEST_LINE = 500
"""Of what an attempt tells."""
CANCEL_S = 5.0
"""So long a solver may take to end when it is cancelled."""
REST_S = 1.0
"""After an end that could not be committed."""
CUT_TEXT = "the panel ended during it"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class NotSolvable(VmwatchError):
    """There is nothing to be solved: the problem is solved or gone."""


@dataclass
class _Running:
    """An attempt that is under way, and the last lines that it told."""

    key: Key
    attempt: Attempt
    told: int = 0
    lines: "deque[str]" = field(default_factory=lambda: deque(maxlen=KEPT_LINES))


class Mender:
    """One for a panel, in its event loop. `look_again`: called before an automatic attempt, which then may not be due
    any more."""

    def __init__(
        self,
        writer: Writer,
        board: Board,
        live: Live,
        clock: Clock,
        solvers: Solvers,
        look_again: Callable[[Key], Awaitable[None]],
    ) -> None:
        self._writer = writer
        self._board = board
        self._live = live
        self._clock = clock
        self._solvers = solvers
        self._look_again = look_again
        self._looking: set[Key] = set()
        self._ready = asyncio.Event()
        self._places = asyncio.Semaphore(MOST_ATTEMPTS)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._running: dict[int, _Running] = {}
        """By the problem's number."""
        self._tasks: set[asyncio.Task[Any]] = set()
        live.progress = self.progress

    def progress(self, problem: int) -> Progress | None:
        """What the attempt that is under way has told so far."""
        running = self._running.get(problem)
        return None if running is None else Progress(running.attempt.id, running.told, list(running.lines))

    async def solve(self, key: Key, who: str) -> int:
        """Begin an attempt now; returns its number, or that of the one that is under way already.

        Raises NotSolvable, WriterBusy or NotCommitted. Whoever asks may go away meanwhile: it goes on.
        """
        await self._ready.wait()
        return await asyncio.shield(self._spawn(self._begin(key, who)))

    async def run(self) -> None:
        """Until cancelled; attempts that are under way then are cut."""
        try:
            while not self._ready.is_set():
                await self._recover()
            while True:
                self._look()
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _recover(self) -> None:
        """Attempts that an earlier run of the panel began and did not end."""

        def job(work: Work) -> int:
            cut = {key: one for key, one in work.draft.all_problems().items() if one.attempt}
            work.draft.problems.update({key: ended(one, Outcome.CUT, work.now) for key, one in cut.items()})
            values = (work.now, Outcome.CUT, CUT_TEXT, Outcome.NONE)
            work.writes.append(lambda recorder: recorder.execute(CUT_ATTEMPTS, values))
            return len(cut)

        try:
            if count := await self._writer.do(job):
                log.warning("%d attempts at problems were cut by the panel's end", count)
            self._ready.set()
        except (WriterBusy, NotCommitted) as error:
            log.warning("no problem is solved yet: %s", error)
            await asyncio.sleep(REST_S)

    def _look(self) -> None:
        """Begin what is due."""
        wall, busy = self._clock.wall(), {running.key[1] for running in self._running.values()}
        for problem in self._board.problems():
            if len(busy) >= MOST_ATTEMPTS:
                return
            if self._solvers.of(problem.type) is None or problem.object in busy or not is_due(problem, wall):
                continue
            if problem.key in self._looking:
                continue
            if not is_muted(problem, self._board.maintenance, wall):
                busy.add(problem.object)
                self._spawn(self._begin_by_itself(problem.key))

    async def _begin_by_itself(self, key: Key) -> None:
        self._looking.add(key)
        try:
            await self._look_again(key)
            await self._begin(key, "", lambda problem, wall: is_due(problem, wall))
        except (NotSolvable, WriterBusy, NotCommitted) as error:
            log.info("no attempt at %s of %s now: %s", *key, error)
        finally:
            self._looking.discard(key)

    async def _begin(self, key: Key, who: str, fits: Callable[[Problem, float], bool] = lambda *_: True) -> int:
        def job(work: Work) -> Attempt | int:
            problem = work.draft.problem(key)
            if problem is None or not problem.is_open:
                raise NotSolvable("it is solved already")
            if problem.attempt:
                return problem.attempt
            if not fits(problem, work.now):
                raise NotSolvable("it is not due any more")
            attempt = Attempt(work.draft.next_attempt(), problem.id, work.now, who)
            work.draft.problems[key] = begun(problem, attempt.id)
            work.writes.append(lambda recorder: recorder.execute(SAVE_ATTEMPT, astuple(attempt)))
            return attempt

        remedy = self._solvers.of(key[0])
        if remedy is None:
            raise NotSolvable("only a person can solve it")
        attempt = await self._writer.do(job)
        if isinstance(attempt, int):
            return attempt
        running = self._running[attempt.problem] = _Running(key, attempt)
        self._spawn(self._attempt(running, remedy))
        return attempt.id

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _attempt(self, running: _Running, remedy: Remedy) -> None:
        attempt, key = running.attempt, running.key
        log.info("attempt %d at %s of %s, by %s", attempt.id, *key, attempt.who or "itself")
        outcome, text = await self._in_turn(running, remedy)
        log.info("attempt %d at %s of %s: %s: %s", attempt.id, *key, outcome, text)
        try:
            await self._end(running, outcome, _clean(text, MAX_TEXT))
        except Exception:
            log.exception("the end of attempt %d could not be logged; it counts as cut", attempt.id)
        finally:
            del self._running[attempt.problem]
            self._live.touch(attempt.problem)

    async def _in_turn(self, running: _Running, remedy: Remedy) -> tuple[Outcome, str]:
        """One attempt at a time about one object, and a few about all."""
        subject = running.key[1]
        lock = self._locks.setdefault(subject, asyncio.Lock())
        tell = self._teller(running)
        if lock.locked():
            tell(f"waits for another attempt about {subject}")
        async with lock:
            if self._places.locked():
                tell(f"waits while {MOST_ATTEMPTS} other attempts are under way")
            async with self._places:
                problem = self._board.problem(str(running.attempt.problem))
                if problem is None or not problem.is_open:
                    return Outcome.SOLVED, "its cause went away before the attempt began"
                return await _within_limit(problem, remedy, tell)

    def _teller(self, running: _Running) -> Tell:
        def tell(line: str) -> None:
            for part in line.splitlines():
                running.lines.append(_clean(part, LONGEST_LINE))
                running.told += 1
            self._live.touch(running.attempt.problem)

        return tell

    async def _end(self, running: _Running, outcome: Outcome, text: str) -> None:
        output = "\n".join(running.lines)
        told = replace(running.attempt, outcome=outcome, text=text, output=output, lines=running.told)

        def job(work: Work) -> None:
            problem = work.draft.problem(running.key)
            if problem is not None and problem.attempt == told.id:
                work.draft.problems[running.key] = ended(problem, outcome, work.now)
            values = astuple(replace(told, ended=work.now))
            work.writes.append(lambda recorder: recorder.execute(SAVE_ATTEMPT, values))
            pruned = (told.problem, -1, KEPT_ATTEMPTS)
            work.writes.append(lambda recorder: recorder.execute(PRUNE_ATTEMPTS, pruned))

        while True:
            try:
                return await self._writer.do(job)
            except (WriterBusy, NotCommitted) as error:
                log.warning("the end of attempt %d is not logged yet: %s", told.id, error)
                await asyncio.sleep(REST_S)


async def _within_limit(problem: Problem, remedy: Remedy, tell: Tell) -> tuple[Outcome, str]:
    """What came of it. A solver that does not even end when it is cancelled is left alone: nobody waits for it."""

    async def solve() -> Result:
        return await remedy.solver(problem, tell)

    task = asyncio.get_running_loop().create_task(solve())
    try:
        await asyncio.wait({task}, timeout=remedy.limit_s)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_S)
            if not task.done():
                log.error("the solver of %s does not end although it was cancelled", problem.type)
            return Outcome.LATE, f"it did not end within {remedy.limit_s:g} s"
    except asyncio.CancelledError:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=CANCEL_S)
        raise
    try:
        result = task.result()
    except asyncio.CancelledError:
        return Outcome.FAILED, "the solver was cancelled"
    except Exception as error:
        log.error("the solver of %s failed", problem.type, exc_info=error)
        return Outcome.FAILED, f"the solver failed: {error}"
    return Outcome.SOLVED if result.solved else Outcome.FAILED, result.text


def _clean(text: str, most: int) -> str:
    """One line, without what could write to a terminal."""
    return _CONTROL.sub(" ", text).strip()[:most]
