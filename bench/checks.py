"""What must hold in a run; all of it is said at the end, also when the first does not."""

from collections.abc import Iterator
from contextlib import contextmanager


class Checks:
    """In the order in which they were made."""

    def __init__(self) -> None:
        self._made: list[tuple[str, bool]] = []

    def add(self, text: str, holds: bool) -> None:
        self._made.append((text, holds))

    @contextmanager
    def that(self, text: str) -> Iterator[None]:
        """Holds unless an AssertionError is raised inside; its words are added."""
        try:
            yield
        except AssertionError as error:
            self.add(f"{text}: {error}", False)
        else:
            self.add(text, True)

    @property
    def failed(self) -> list[str]:
        return [text for text, holds in self._made if not holds]

    @property
    def hold(self) -> bool:
        """All of them, and there are some."""
        return bool(self._made) and not self.failed

    def text(self) -> str:
        return "\n".join(f"{'ok    ' if holds else 'FAILED'}  {text}" for text, holds in self._made)
