"""What the reader of a failed test wants to know of the parts that it ran; it becomes a part of the test's report."""

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

LAST_LINES = 60
"""Of a log: what was before is in the file."""


@runtime_checkable
class Telling(Protocol):
    """A fixture that has something to tell when its test fails. It must not raise, whatever has failed."""

    def told(self) -> Iterator[tuple[str, str]]:
        """(title, text) of each part."""
        ...


def end_of(log: str) -> str:
    """A log's last lines."""
    return "\n".join(log.splitlines()[-LAST_LINES:])


def told_by(fixtures: Iterable[object]) -> list[tuple[str, str]]:
    """What those of a test's fixtures that can tell something tell."""
    return [section for fixture in fixtures if isinstance(fixture, Telling) for section in fixture.told()]
