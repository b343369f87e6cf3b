"""A thread beside a test or a measurement, for as long as a `with` block lasts."""

import threading
from types import TracebackType
from typing import Self


class Background:
    """`run` is done in the thread; it returns soon after `ended` is set, which is waited for at the end."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._thread.join()

    def run(self) -> None:
        """The work."""
        raise NotImplementedError
