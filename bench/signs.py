"""What the panel says of the nodes' signs of life after it came back."""

import threading
import time
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from tests.testbed.stack import Stack

EVERY_S = 0.25


class SignsOfLife:
    """Asks the panel for its nodes from `with` on to its end."""

    def __init__(self, stack: Stack, nodes: Sequence[str]) -> None:
        self.unseen = set(nodes)
        """Nodes of which the panel has heard nothing since."""
        self.silent: set[str] = set()
        """Nodes that it called silent at any time, although all of them live."""
        self.all_seen_s = float("inf")
        """How long it took until it had heard of all of them."""
        self._stack = stack
        self._since = time.time()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def silent_text(self) -> str:
        return f" ({', '.join(sorted(self.silent))} were)" if self.silent else ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(EVERY_S):
            for row in self._stack.panel.rows("vmhostnode"):
                if row["state"] == "silent":
                    self.silent.add(row["name"])
                if row["last_seen"] and datetime.fromisoformat(row["last_seen"]).timestamp() > self._since:
                    self.unseen.discard(row["name"])
            if not self.unseen:
                self.all_seen_s = min(self.all_seen_s, time.time() - self._since)
