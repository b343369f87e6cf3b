"""The panel's proof that it moves, for systemd's watchdog: its loop turns, and its writer does what waits."""

import asyncio

from vmwatch.panel.functions import Panel
from vmwatch.shared.notify import Notifier

TURN_S = 1.0
STUCK_S = 60.0
"""A step of the writer takes seconds at most, on the slowest disk: beyond this nothing moves any more."""


class Proof:
    """`keep` is a task of the event loop itself: were it a thread, it would go on beside a loop that hangs."""

    def __init__(self, panel: Panel, notifier: Notifier) -> None:
        self._panel = panel
        self._notifier = notifier

    async def keep(self) -> None:
        """Until it is cancelled."""
        if not self._notifier.listens:
            return
        every_s = min(TURN_S, self._notifier.feed_every_s or TURN_S)
        while True:
            if self._moves():
                self._notifier.turned(self._doing)
            await asyncio.sleep(every_s)

    def _moves(self) -> bool:
        writer = self._panel.writer
        return not writer.waiting or self._panel.clock.monotonic() - writer.last_turn < STUCK_S

    def _doing(self) -> str:
        board = self._panel.board
        return f"{len(board.nodes())} nodes, {len(board.vms())} VMs"
