"""Live pages: what changes, as server-sent events.

Each client has a mailbox that holds the newest word on each VM and node, and a bounded number of events. It is
emptied at most ten times a second; so a storm of changes costs a client what it can show, and no more.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Struct
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vmwatch.panel.board import Board, Change, NodeRow, VmRow
from vmwatch.panel.events import Numbered, row_of
from vmwatch.panel.labels import time_label
from vmwatch.panel.maintenance import MASTER
from vmwatch.shared.clock import Clock, SystemClock

log = logging.getLogger(__name__)

MOST_CLIENTS = 200
EVERY_S = 0.1
"""Between two messages to one client."""
MOST_EVENTS = 500
"""Events in a mailbox, or missed by a client that comes back. Past that its page is loaded anew."""
BEAT_S = 15.0
"""A comment so often when nothing happens: proxies keep the connection, and a client that is gone is noticed."""
SEND_LIMIT_S = 10.0
"""A client that takes so long to read is dropped; it comes back by itself and says what it saw last."""
RETRY_MS = 2000

SHOWN_LINES = 100
"""Of an attempt's progress."""

IDLE_TEXTS = {"tx_packets": "no packets sent", "write_requests": "no disk writes"}
"""What a page says of a counter that does not move."""


class Progress(Struct, frozen=True):
    """What an attempt at a problem has told: so many lines, of which these are the last."""

    attempt: int
    told: int
    lines: list[str]


class Mailbox:
    """What one client has not been told yet. In the event loop's thread only."""

    def __init__(self, seen: int, problem: int = 0) -> None:
        self.seen = seen
        """The id of the last event that the client was sent."""
        self.problem = problem
        """The number of the problem whose solving the client follows, 0: none."""
        self.lost = False
        """More happened than is kept: the client must load its page anew."""
        self.wake = asyncio.Event()
        self._vms: dict[str, VmRow | None] = {}
        self._nodes: dict[str, NodeRow] = {}
        self._events: list[Numbered] = []

    def add(self, change: Change) -> None:
        self._vms.update({row.uuid: row for row in change.vms})
        self._vms.update(dict.fromkeys(change.gone))
        self._nodes.update({row.name: row for row in change.nodes})
        self._events += [event for event in change.events if event[0] > self.seen]
        if len(self._events) > MOST_EVENTS:
            self._events.clear()
            self.lost = True
        self.wake.set()

    def take(self) -> Change:
        """Everything, and the box is empty."""
        vms = [row for row in self._vms.values() if row is not None]
        gone = [uuid for uuid, row in self._vms.items() if row is None]
        change = Change(vms, gone, list(self._nodes.values()), self._events)
        self._vms, self._nodes, self._events = {}, {}, []
        self.wake.clear()
        return change


class Live:
    """All clients. `close` ends them, because a server that stops waits for its connections."""

    def __init__(self, board: Board, clock: Clock | None = None) -> None:
        self.board = board
        self._clock = clock or SystemClock()
        self.closing = asyncio.Event()
        self.dropped = 0
        self.progress: Callable[[int], Progress | None] = lambda problem: None
        """What is being done about a problem."""
        self._boxes: set[Mailbox] = set()

    @property
    def clients(self) -> int:
        return len(self._boxes)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on hear of every change."""

        def tell(change: Change) -> None:
            if self._boxes and not loop.is_closed():
                loop.call_soon_threadsafe(self._publish, change)

        self.board.on_change = tell

    def close(self) -> None:
        self.closing.set()
        for box in self._boxes:
            box.wake.set()

    def join(self, seen: int, run: str, problem: int = 0) -> Mailbox | None:
        """A mailbox for one more client, whose page this `run` of the panel drew; None if there are too many."""
        if len(self._boxes) >= MOST_CLIENTS or self.closing.is_set():
            return None
        box = Mailbox(seen, problem)
        box.lost = run != self.board.run
        self._boxes.add(box)
        return box

    def leave(self, box: Mailbox) -> None:
        self._boxes.discard(box)

    def touch(self, problem: int) -> None:
        """What is being done about this problem has got on. In the event loop's thread."""
        for box in self._boxes:
            if box.problem == problem:
                box.wake.set()

    def node_fields(self, row: NodeRow) -> dict[str, Any]:
        """A node for a page's script.

        `ago`: seconds since its last sign of life by the panel's clock; a browser's may be anything.
        """
        return {
            "name": row.name,
            "hidden": row.hidden,
            "seen": time_label(row.seen),
            "ago": round(max(0.0, self._clock.wall() - row.seen), 3),
            "state": row.state,
            "doubt": row.doubt,
            "removed": row.removed,
            "maintenance": time_label(row.maintenance),
            "lag": lag_label(row),
            "version": row.agent,
            "vms": self.board.hosted(row.name),
        }

    def _publish(self, change: Change) -> None:
        for box in self._boxes:
            box.add(change)


class Stream(Response):
    """One client's stream. `missed`: the events after an id; `holds`: may the client still see them?"""

    def __init__(
        self,
        live: Live,
        box: Mailbox,
        missed: Callable[[int], Awaitable[list[Numbered]]],
        holds: Callable[[], bool],
    ) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(headers=headers, media_type="text/event-stream")
        self._live = live
        self._box = box
        self._missed = missed
        self._holds = holds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Until the client goes, reads too slowly or may not see it any more, or the panel stops."""
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        talking = asyncio.create_task(self._talk(send, headers))
        leaving = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({talking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if talking.done():
                talking.result()
        except TimeoutError:
            self._live.dropped += 1
            log.info("a live page that reads too slowly was dropped")
        finally:
            self._live.leave(self._box)
            for task in (talking, leaving):
                task.cancel()
            await asyncio.gather(talking, leaving, return_exceptions=True)

    async def _talk(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send(send, await self._first())
        loop = asyncio.get_running_loop()
        beat = loop.time() + BEAT_S
        while not self._live.closing.is_set() and not self._box.lost:
            try:
                async with asyncio.timeout_at(beat):
                    await self._box.wake.wait()
            except TimeoutError:
                await _send(send, b": still here\n\n")
            if loop.time() >= beat:
                if not self._holds():
                    break
                beat = loop.time() + BEAT_S
            if self._box.wake.is_set() and not self._live.closing.is_set():
                await _send(send, self._message(self._box.take()))
                await asyncio.sleep(EVERY_S)
        if self._box.lost:
            await _send(send, _RESET)
        await _send(send, b"", more=False)

    async def _first(self) -> bytes:
        """What the client missed since it was here, or since its page was drawn."""
        retry = b"retry: %d\n\n" % RETRY_MS
        seen = self._box.seen
        change = None if self._box.lost else self._live.board.since(seen)
        events = await self._missed(seen) if change is not None else []
        if change is None or len(events) > MOST_EVENTS:
            self._box.lost = True
            return retry
        return retry + self._message(Change(change.vms, change.gone, change.nodes, events))

    def _message(self, change: Change) -> bytes:
        events = [event for event in change.events if event[0] > self._box.seen]
        if events:
            self._box.seen = events[-1][0]
        body = {
            "vms": [vm_fields(row) for row in change.vms],
            "gone": change.gone,
            "nodes": [self._live.node_fields(row) for row in change.nodes],
            "events": [row_of(*event) for event in events],
            "counts": self._live.board.counts(),
            "warned": self._live.board.warned,
            "problems": self._live.board.problems_version,
            "installations": self._live.board.installations_version,
            "doubt": self._live.board.doubt,
            "master_maintenance": time_label(self._live.board.maintenance.get(MASTER, 0.0)),
        }
        if self._box.problem:
            progress = self._live.progress(self._box.problem)
            body["progress"] = progress and Progress(progress.attempt, progress.told, progress.lines[-SHOWN_LINES:])
        return b"id: %d\ndata: %b\n\n" % (self._box.seen, msgspec.json.encode(body))


_RESET = b"event: reset\ndata: {}\n\n"


def vm_fields(row: VmRow) -> dict[str, Any]:
    """A VM for a page's script. `warnings`: what it has not done (`IDLE_TEXTS`), since when."""
    warnings = [{"text": IDLE_TEXTS[idle.counter], "since": time_label(idle.since)} for idle in row.warnings]
    since = time_label(row.since)
    install = row.install.partition(":")[0]  # why it failed is on the page behind it
    told = {"uuid": row.uuid, "name": row.name, "node": row.node, "state": row.state.value, "since": since}
    return told | {"warnings": warnings, "install": install}


def lag_label(row: NodeRow) -> str:
    """Seconds, to the millisecond; empty where nothing is known."""
    return "" if row.lag is None else f"{row.lag:.3f}"


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    """Raises TimeoutError if the client does not read."""
    async with asyncio.timeout(SEND_LIMIT_S):
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
