"""Checks of the services (design 04, *Health*): several nodes at a time, a time limit each, and then the problems."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from vmwatch.panel.board import Board, NodeRow
from vmwatch.panel.checkup import (
    MANUAL,
    NOT_CONFIGURED,
    Result,
    in_maintenance,
    is_unfinished,
    judge_by_life,
    judge_master,
    judge_node,
)
from vmwatch.panel.labels import time_label
from vmwatch.panel.maintenance import MASTER
from vmwatch.panel.problems import Key, Kind, close_problem, raise_problem
from vmwatch.panel.removed import TOLD
from vmwatch.panel.ways import ThisMachine, Way
from vmwatch.panel.writer import Work, Writer
from vmwatch.shared.clock import Clock
from vmwatch.shared.errors import VmwatchError

log = logging.getLogger(__name__)

LOOK_LIMIT_S = 20.0
PROBE_LIMIT_S = 30.0
"""Together a hung node's time; `vmwatch-healthcheck` itself ends earlier (`nodectl.HEALTH_LIMIT_S`)."""
MOST_AT_ONCE = 16
RUN_LIMIT_S = 240.0
"""Of all nodes together: the next check comes after five minutes. Those that had no turn are told so."""


class CheckUnderWay(VmwatchError):
    """A check of the same kind is under way: one at a time."""


@dataclass(frozen=True)
class Checked:
    """The last result of an object, and when (seconds since 1970)."""

    at: float
    result: Result


class Checks:
    """One panel's. `ways`: how nodes are looked at, by their `reach`; for the event loop's thread.

    A `reach` that has no way is judged by signs of life alone.
    """

    def __init__(
        self, board: Board, writer: Writer, clock: Clock, here: ThisMachine, ways: Mapping[str, Way] | None = None
    ) -> None:
        self._board = board
        self._writer = writer
        self._clock = clock
        self._here = here
        self.ways: dict[str, Way] = dict(ways or {"local": here})
        self.look_limit_s = LOOK_LIMIT_S
        self.probe_limit_s = PROBE_LIMIT_S
        self.run_limit_s = RUN_LIMIT_S
        self._running: set[str] = set()
        self.last: dict[str, Checked] = {}
        """By object; of this run of the panel."""

    async def master(self) -> list[Result]:
        """Check vmwatch-master. Raises CheckUnderWay."""
        with _Alone(self._running, "master"):
            if (until := self._board.maintenance.get(MASTER)) is not None:
                return await self._conclude([in_maintenance(MASTER, _until(until))])
            found = await self._here.probe_master(self.probe_limit_s)
            return await self._conclude([judge_master(MASTER, found, self._writer.hears_master())])

    async def look_again(self, key: Key) -> None:
        """Before something is done automatically: that no report comes does not say whether somebody has stopped the
        master. Nodes' problems come of checks."""
        if key == (Kind.MASTER_STOPPED.value, MASTER):
            with suppress(CheckUnderWay):
                await self.master()

    async def nodes(self) -> list[Result]:
        """Check all nodes. Raises CheckUnderWay."""
        with _Alone(self._running, "nodes"):
            rows = self._board.nodes()
            places = asyncio.Semaphore(MOST_AT_ONCE)
            tasks = [asyncio.create_task(self._node(row, places), name=row.name) for row in rows]
            if tasks:
                await asyncio.wait(tasks, timeout=self.run_limit_s)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return await self._conclude([_result_of(task) for task in tasks])

    async def _node(self, row: NodeRow, places: asyncio.Semaphore) -> Result:
        if (until := self._board.maintenance.get(row.name)) is not None:
            return in_maintenance(row.name, _until(until))
        if row.removed:
            return Result(row.name, "removed", TOLD)
        way = self.ways.get(row.reach)
        host = self._writer.hosts.get(row.name)
        if way is None or row.reach == MANUAL or host is None:
            return judge_by_life(row.name, row.state, row.doubt)
        async with places:
            looked = await way.look(host, self.look_limit_s)
            if not looked.reachable:
                return judge_node(row.name, looked, None)
            return judge_node(row.name, looked, await way.probe(host, self.probe_limit_s))

    async def _conclude(self, results: list[Result]) -> list[Result]:
        """Raise and close problems, and remember."""
        if any(result.found or result.over for result in results):
            await self._writer.do(lambda work: _apply(work, results))
        now = self._clock.wall()
        for result in results:
            self.last[result.object] = Checked(now, result)
            if not result.is_well:
                log.warning("%s: %s: %s", result.object, result.state, result.text)
        return results


class _Alone:
    """Held while one check of a kind runs."""

    def __init__(self, running: set[str], kind: str) -> None:
        self._running = running
        self._kind = kind

    def __enter__(self) -> None:
        if self._kind in self._running:
            raise CheckUnderWay(f"a check of the {self._kind} is under way")
        self._running.add(self._kind)

    def __exit__(self, *_: object) -> None:
        self._running.discard(self._kind)


def _apply(work: Work, results: Iterable[Result]) -> None:
    for result in results:
        if result.object != MASTER and not work.has_node(result.object):
            continue  # removed while it was looked at: nobody would ever look again
        for found in result.found:
            pending = f"{NOT_CONFIGURED}; " if _is_unfinished(work, (found.kind.value, result.object)) else ""
            text = f"{result.object}: {pending}{found.text}"
            raise_problem(work.draft, work.now, found.kind, result.object, found.level, text)
        for kind in result.over:
            # A service that works with what it had before says nothing of what configuring left undone.
            if not _is_unfinished(work, (kind.value, result.object)):
                close_problem(work.draft, work.now, kind, result.object)


def _is_unfinished(work: Work, key: Key) -> bool:
    problem = work.draft.problem(key)
    return problem is not None and problem.is_open and is_unfinished(problem.object, problem.text)


def _result_of(task: "asyncio.Task[Result]") -> Result:
    if task.cancelled():
        return Result(task.get_name(), "unknown", "there was no time left to look at it")
    error = task.exception()
    if error is not None:
        log.error("%s could not be checked", task.get_name(), exc_info=error)
        return Result(task.get_name(), "unknown", "the check failed; the panel's log says why")
    return task.result()


def _until(until: float) -> str:
    return f"until {time_label(until)}"
