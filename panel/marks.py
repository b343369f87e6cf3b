"""Marks of maintenance for the probes on this host: `var/run/NAME.maintenance` follows what the panel knows."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

import anyio.to_thread

from vmwatch.panel.board import Board
from vmwatch.panel.maintenance import MASTER, Maintenance
from vmwatch.shared import maintenance as marks
from vmwatch.shared.paths import Paths

log = logging.getLogger(__name__)

EVERY_S = 30.0
"""Marks end by themselves; only what else changes (a node's `reach`, a file that somebody removed) waits so long."""
LOCAL = "local"


class Marks:
    """The master's, and those of nodes on this machine."""

    def __init__(self, board: Board, prefix: Path) -> None:
        self._board = board
        self._prefix = prefix
        self._ours: dict[Path, marks.Maintenance] = {}
        """As they were written here."""
        self._busy = asyncio.Lock()

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            await self.follow()
            await asyncio.sleep(EVERY_S)

    async def follow(self) -> None:
        """Write and remove what differs now."""
        async with self._busy:
            await anyio.to_thread.run_sync(self._follow)

    def _follow(self) -> None:
        wanted = {
            Paths(self._prefix, program).maintenance: marks.Maintenance(found.until, found.by, found.reason)
            for program, found in self._on_this_host(self._board.in_maintenance).items()
        }
        for path, mark in wanted.items():
            if self._ours.get(path) == mark and path.exists():
                continue
            try:
                marks.write_maintenance(path, mark)
                self._ours[path] = mark
            except OSError as error:
                log.warning("%s: cannot be written: %s; the probe does not know of the maintenance", path, error)
        for path in [path for path in self._ours if path not in wanted]:
            del self._ours[path]
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s: cannot be removed: %s; it ends by itself", path, error)

    def _on_this_host(self, found: Mapping[str, Maintenance]) -> dict[str, Maintenance]:
        """By program."""
        here = {MASTER: MASTER} | {row.name: "vmwatch-node" for row in self._board.nodes() if row.reach == LOCAL}
        return {here[subject]: one for subject, one in found.items() if subject in here}
