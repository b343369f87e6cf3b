"""Runs of configuring: what each does at the moment, kept for pages and commands that look on. In memory."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from vmwatch.panel.configurereport import MASTER, Part, Report, Say
from vmwatch.shared.errors import VmwatchError

log = logging.getLogger(__name__)

KEPT = 50
MOST_LINES = 5_000
DEFECT = "a defect; the panel's log has the traceback"

Work = Callable[[Say], Awaitable[Report]]


@dataclass(frozen=True)
class Line:
    """A line of progress. `time`: wall clock, seconds."""

    time: float
    part: str
    text: str


@dataclass
class Run:
    """`report`: None while it goes on."""

    number: int
    cause: str
    began: float
    lines: list[Line] = field(default_factory=list)
    report: Report | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, part: str, text: str) -> None:
        """A line more."""
        log.info("configuring (%d), %s: %s", self.number, part, text)
        if len(self.lines) < MOST_LINES:
            self.lines.append(Line(time.time(), part, text))
        self._wake()

    def end(self, report: Report) -> None:
        self.report = report
        self._wake()

    async def wait(self, seen: int, limit_s: float) -> None:
        """Until there are more than `seen` lines or it has ended, or for so long."""
        try:
            async with asyncio.timeout(limit_s):
                while self.report is None and len(self.lines) <= seen:
                    await self.changed.wait()
        except TimeoutError:
            pass

    async def ended(self) -> Report:
        while self.report is None:
            await self.changed.wait()
        return self.report

    def _wake(self) -> None:
        before, self.changed = self.changed, asyncio.Event()
        before.set()


class Runs:
    """The newest runs. For the event loop's thread."""

    def __init__(self) -> None:
        self._runs: dict[int, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last = 0

    def begin(self, cause: str, work: Work) -> Run:
        """Start `work` in the background."""
        self._last += 1
        run = self._runs[self._last] = Run(self._last, cause, time.time())
        for number in list(self._runs)[:-KEPT]:
            if self._runs[number].report is not None:
                del self._runs[number]
        task = asyncio.get_running_loop().create_task(self._do(run, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return run

    def find(self, number: int) -> Run | None:
        return self._runs.get(number)

    def all(self) -> list[Run]:
        """Newest first."""
        return list(reversed(self._runs.values()))

    async def close(self) -> None:
        """End what goes on."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _do(self, run: Run, work: Work) -> None:
        try:
            report = await work(run.say)
        except asyncio.CancelledError:
            run.end(_failed(run, "the panel stops; configuring was not finished"))
            raise
        except VmwatchError as error:
            report = _failed(run, str(error))
        except Exception:
            log.exception("configuring failed")
            report = _failed(run, DEFECT)
        run.end(report)


def _failed(run: Run, text: str) -> Report:
    run.say(MASTER, f"FAILED: {text}")
    return Report((Part(MASTER, False, text),))
