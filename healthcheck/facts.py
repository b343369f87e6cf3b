"""What the probe found, before anything is judged: plain values, made by the shells and by tests."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Status = Mapping[str, Any]
"""What a service says on its status socket."""


class Config(StrEnum):
    """What can be said of the service's configuration file."""

    RIGHT = "right"
    DISABLED = "disabled"
    """Right, and `disabled=yes`."""
    WRONG = "wrong"
    ABSENT = "absent"
    UNREADABLE = "unreadable"
    """By the user that runs the probe."""


class Answer(StrEnum):
    """How the status socket answered."""

    GIVEN = "given"
    ABSENT = "absent"
    REFUSED = "refused"
    """The socket is there and nobody listens."""
    FORBIDDEN = "forbidden"
    """Not to the user that runs the probe."""
    SILENT = "silent"
    """Nothing came in time, or not all of it."""
    GARBLED = "garbled"


@dataclass(frozen=True)
class ConfigFacts:
    """`text`: what is wrong with it, or why it cannot be read."""

    kind: Config
    text: str = ""


@dataclass(frozen=True)
class PidFileFacts:
    """`pid` 0: there is no number in it. `written`: seconds since 1970."""

    pid: int
    written: float


@dataclass(frozen=True)
class ChildFacts:
    """A child process that does not run: `state` is `zombie` or `stopped`."""

    pid: int
    state: str


@dataclass(frozen=True)
class ProcessFacts:
    """A living (or zombie) process. `started`: seconds since 1970; `age_s`: since then, as the probe's clock has it.

    `state`: the kernel's, as psutil names it. `holds_pid_file`: None where that may not be seen. `memory_bytes`:
    resident, with its children. `children`: those that are not well.
    """

    pid: int
    command: tuple[str, ...]
    started: float
    state: str
    age_s: float = 0.0
    holds_pid_file: bool | None = None
    memory_bytes: int | None = None
    descriptors: int | None = None
    descriptors_limit: int | None = None
    children: tuple[ChildFacts, ...] = ()


@dataclass(frozen=True)
class CanaryFacts:
    """`state`: `acknowledged`, `under way`, `dropped`, or `not sent` with the reason in `text`."""

    state: str
    seconds: float | None = None
    text: str = ""


@dataclass(frozen=True)
class DaemonFacts:
    """libvirt's daemon on this machine. `name`: `libvirtd`, `virtqemud`, or empty if neither is found. `pid`: 0 if it
    is not known. `socket`: by which it was found where no process of that name is seen (it starts when it is asked).
    """

    name: str = ""
    pid: int = 0
    socket: str = ""


@dataclass(frozen=True)
class MaintenanceFacts:
    """`until`: seconds since 1970."""

    until: float
    by: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Facts:
    """Everything about one service at one time. `now`: seconds since 1970."""

    program: str
    now: float
    installed: bool
    config: ConfigFacts
    pid_file: PidFileFacts | None = None
    process: ProcessFacts | None = None
    """The process that the pid file names, or, where there is none, the one that the status names; not believed yet."""
    answer: Answer = Answer.ABSENT
    answer_text: str = ""
    status: Status = field(default_factory=dict)
    canary: CanaryFacts | None = None
    maintenance: MaintenanceFacts | None = None
    maintenance_error: str = ""
    daemon: DaemonFacts | None = None
    """None where it is not this machine's matter: the master, or an agent that watches another machine's libvirt."""


def value_at(status: Status, *path: str) -> Any:  # noqa: ANN401 - JSON
    """What the status has there; None if it has nothing there (another version of the service)."""
    found: Any = status
    for name in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found


def number_at(status: Status, *path: str) -> float | None:
    """The number that the status has there; None if it has none there."""
    return _number(value_at(status, *path))


def total_at(status: Status, *path: str) -> float | None:
    """The sum of the counts that the status has there, by some name; None if it has none there."""
    found = value_at(status, *path)
    return sum(_number(count) or 0.0 for count in found.values()) if isinstance(found, Mapping) else None


def _number(found: object) -> float | None:
    if not isinstance(found, int | float) or isinstance(found, bool) or not math.isfinite(found):
        return None
    return float(found)


def text_at(status: Status, *path: str) -> str:
    """The text that the status has there; empty if it has none there."""
    found = value_at(status, *path)
    return found if isinstance(found, str) else ""
