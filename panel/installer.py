"""Drives installations: has done at libvirt what follows from each (`installation.pending`), and commits the answers.

Nothing that it remembers matters: after a restart it goes on from what is stored. Time limits and pauses are counted
on the monotonic clock while the panel runs; across a restart the wall clock says how much of the limit is left.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from vmwatch.panel.functions import Panel
from vmwatch.panel.hypervisors import Hypervisors
from vmwatch.panel.installation import Action, Installation, answered, expired, pending, refused
from vmwatch.panel.installations import keep_installation
from vmwatch.panel.writer import NotCommitted, Work, WriterBusy

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.1
"""A look at no installation costs nothing."""
REST_S = 1.0
"""After an answer that could not be committed."""


@dataclass
class _Run:
    """What this process knows of one installation. Monotonic seconds."""

    begins_at: float
    turn: int = -1
    due_at: float = 0.0
    task: "asyncio.Task[None] | None" = None


class Installer:
    """One for a panel, in its event loop."""

    def __init__(self, panel: Panel, hypervisors: Hypervisors) -> None:
        self._panel = panel
        self._hypervisors = hypervisors
        self._runs: dict[str, _Run] = {}

    async def run(self) -> None:
        """Until cancelled; what is under way at libvirt then is ended, and done again by the next run."""
        try:
            while True:
                self._look()
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            tasks = [run.task for run in self._runs.values() if run.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def spent_s(self, installation: Installation) -> float:
        """How long it has been going on."""
        now = self._panel.clock.monotonic()
        run = self._runs.get(installation.key)
        if run is None:
            run = self._runs[installation.key] = _Run(now - max(0.0, self._panel.clock.wall() - installation.began))
        return now - run.begins_at

    def _look(self) -> None:
        installations = [found for found in list(self._panel.writer.installations.values()) if found.unfinished]
        for key in self._runs.keys() - {found.key for found in installations}:
            if self._runs[key].task is None:
                del self._runs[key]
        for installation in installations:
            self._drive(installation)

    def _drive(self, installation: Installation) -> None:
        spent_s, now = self.spent_s(installation), self._panel.clock.monotonic()
        run = self._runs[installation.key]
        if run.task is not None:
            return
        if run.turn != installation.turn:
            run.turn, run.due_at = installation.turn, now + installation.pause_s
        if installation.undecided and spent_s > installation.limit_s:
            self._begin(run, self._change(installation, lambda now, wall: expired(now, wall, spent_s)))
        elif installation.undecided and not self._allowed(installation.node):
            text = "installing was forbidden on the node meanwhile (allow_install=no)"
            self._begin(run, self._change(installation, lambda now, wall: refused(now, text, wall, spent_s)))
        elif (action := pending(installation)) is not None and now >= run.due_at:
            self._begin(run, self._perform(installation, action))

    def _begin(self, run: _Run, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except (WriterBusy, NotCommitted) as error:
                log.warning("an installation waits: %s", error)
                await asyncio.sleep(REST_S)
            except Exception:
                log.exception("a step of an installation failed; it is tried again")
                await asyncio.sleep(REST_S)
            finally:
                run.task = None

        run.task = asyncio.get_running_loop().create_task(guarded())

    def _allowed(self, node: str) -> bool:
        host = self._panel.writer.hosts.get(node)
        return host is None or host.hidden or host.allow_install

    async def _perform(self, installation: Installation, action: Action) -> None:
        what = f"{action.verb.value} of {installation.name} on {installation.node}"
        log.info("installation %d: %s (start %d)", installation.id, what, action.step)
        answer = await self._hypervisors.perform(installation, action, self._panel.writer.hosts.get(installation.node))
        log.info("installation %d: %s: %s %s", installation.id, what, answer.kind.value, answer.text)
        spent_s = self.spent_s(installation)
        await self._change(installation, lambda now, wall: answered(now, action, answer, wall, spent_s))

    async def _change(self, installation: Installation, change: Callable[[Installation, float], Installation]) -> None:
        """Apply it to what the installation has become meanwhile, and commit."""

        def job(work: Work) -> None:
            now = work.draft.installation(installation.uuid)
            if now is not None and now.key == installation.key:
                keep_installation(work.draft, now, change(now, work.now), work.now)

        await self._panel.writer.do(job)
