"""What the two rivals' panels show: an HTTP server that takes what their agents post, and the two pictures.

It forgets nothing when it is away, which is more than could be asked of it.
"""

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from bench.veracity.timeline import rank
from tests.testbed.waiting import LOOPBACK, free_port
from vmwatch.shared.states import State


def shown(state: str, node: str) -> str:
    """A state as it is compared: of a VM that runs, where it does is a part of it."""
    return f"{state}@{node}" if state == State.RUNNING else state


class RivalPanel:
    """Listens in the `with` block, unless it is away."""

    def __init__(self) -> None:
        self.port = free_port()
        self._lock = threading.Lock()
        self._told: dict[str, str] = {}
        self._listed: dict[str, dict[str, str]] = {}
        """By node, by UUID."""
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        self.come_back()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.go_away()

    def forwarded(self) -> dict[str, str]:
        """The picture of who is told events: a VM is what the last one says."""
        with self._lock:
            return dict(self._told)

    def polled(self) -> dict[str, str]:
        """The picture of who is told lists: a VM is what the last list of each node says."""
        with self._lock:
            found: dict[str, str] = {}
            for domains in self._listed.values():
                for uuid, state in domains.items():
                    if uuid not in found or rank(state) < rank(found[uuid]):
                        found[uuid] = state
            return found

    def go_away(self) -> None:
        """Nothing listens any more."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def come_back(self) -> None:
        """Listen, at the same address as before."""
        if self._server is None:
            self._server = ThreadingHTTPServer((LOOPBACK, self.port), _handler(self))
            self._server.daemon_threads = True
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def take(self, path: str, body: Mapping[str, Any]) -> None:
        """What an agent posted."""
        node = str(body["node"])
        states = {uuid: shown(state, node) for uuid, state in body["states"].items()}
        with self._lock:
            if path == "/list":
                self._listed[node] = states
            else:  # the list at the very first start counts as events
                self._told.update(states)


def _handler(panel: RivalPanel) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            panel.take(self.path, json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    return Handler
