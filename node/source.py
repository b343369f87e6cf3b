"""The event source: a connection to libvirtd, and what its callbacks say (design 01; 06, lesson *libvirt client*)."""

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import libvirt

from vmwatch.node.background import Background
from vmwatch.node.domainname import name_of
from vmwatch.node.eventloop import EventLoop
from vmwatch.shared.backoff import Backoff
from vmwatch.shared.clock import Clock
from vmwatch.shared.messages import Event, Vm
from vmwatch.shared.states import (
    AGENT_STATES,
    IO_ERROR_ACTIONS,
    MEMORY_FAILURE_ACTIONS,
    WATCHDOG_ACTIONS,
    lifecycle_names,
    numbered,
    state_of_event,
)

log = logging.getLogger(__name__)

KEEPALIVE_S = 5
KEEPALIVE_COUNT = 3
"""libvirtd is lost when it answers no keepalive for (KEEPALIVE_COUNT + 1) * KEEPALIVE_S seconds."""
TICK_MOST_S = 5.0
"""An event loop that did not tick for so long is stuck."""
OPEN_LIMIT_S = 15.0
"""An opening that takes longer is called hung in the status; it is waited for all the same."""
MAX_NAME = 1024
TAKEN_MOST = 1000
"""Events for one transaction of the outbox: a flood shall not make one that no disk can take."""

_CLOSE_REASONS = ("error", "end of file", "no answer to keepalives", "closed by us")

_NUMBERS: dict[str, tuple[int, tuple[str, ...]]] = {
    # event: position of the number that names the detail among the callback's own arguments, and its names
    "watchdog": (0, WATCHDOG_ACTIONS),
    "io_error": (2, IO_ERROR_ACTIONS),  # (path, device, action)
    "agent_lifecycle": (0, AGENT_STATES),
    "memory_failure": (1, MEMORY_FAILURE_ACTIONS),  # (recipient, action, flags)
}

_CALLBACKS: tuple[tuple[str, int], ...] = (
    ("lifecycle", libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE),
    ("reboot", libvirt.VIR_DOMAIN_EVENT_ID_REBOOT),
    ("watchdog", libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG),
    # Not IO_ERROR_REASON too: libvirt calls both for one error, and one callback is one message.
    ("io_error", libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR),
    ("agent_lifecycle", libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE),
    ("memory_failure", libvirt.VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE),
    ("control_error", libvirt.VIR_DOMAIN_EVENT_ID_CONTROL_ERROR),
)

_CHANGES: tuple[tuple[str, int], ...] = (
    # They say that a running domain has other disks or cards now. libvirt tells them to a read-only connection too;
    # they are no events of a VM's life, so none becomes a message. A block job may end with the disk elsewhere.
    ("device_added", libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED),
    ("device_removed", libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED),
    ("block_job", libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2),
)


@dataclass(frozen=True, slots=True)
class Happened:
    """One callback of libvirt as it came. `wall`: seconds since 1970, a label."""

    kind: str
    numbers: tuple[int, ...]
    uuid: str
    name: str
    wall: float


def to_event(happened: Happened) -> Event:
    """The message for a callback (design 02, *Message types*)."""
    if happened.kind == "lifecycle":
        event, detail = lifecycle_names(*happened.numbers)
    else:
        event = happened.kind
        _, names = _NUMBERS.get(event, (0, ()))
        detail = numbered(names, happened.numbers[0]) if happened.numbers else ""
    vm = Vm(happened.uuid.lower(), happened.name[:MAX_NAME] or happened.uuid)
    return Event(seq=0, time=happened.wall, vm=vm, event=event, detail=detail, state=state_of_event(event))


@dataclass(frozen=True)
class Opened:
    """A connection on which every callback is registered. `closed` receives the reason when it is lost."""

    connection: Any
    version: str
    closed: list[str]


class Source:
    """Opens the connection, again with back-off until it succeeds, and then tells its events until it is lost.

    `turn` and `take` are for the main loop; callbacks run in libvirt's thread and only put into a queue and `wake`.
    An established connection that was lost is not opened again: the program ends (design 01, *What a fault does*).
    """

    def __init__(self, uri: str, clock: Clock, wake: Callable[[], None]) -> None:
        self.uri = uri
        self.loop = EventLoop(clock, self._check)
        self.last_error = ""
        self.failures = 0
        """Openings that failed in a row."""
        self.received = 0
        self.callback_errors = 0
        self._clock = clock
        self._wake = wake
        self._happened: deque[Happened] = deque()
        self._redefined: deque[str] = deque()
        self._opening: Background[Opened] = Background("libvirt connection", OPEN_LIMIT_S, clock, wake)
        self._backoff = Backoff(0.5, 30.0)
        self._open_at = clock.monotonic()
        self._opened: Opened | None = None
        self._stopped = False

    @property
    def connection(self) -> Any:  # noqa: ANN401 - libvirt-python has no types
        """The established connection; None until there is one."""
        return None if self._opened is None else self._opened.connection

    @property
    def version(self) -> str:
        """libvirt's, such as 9.0.0; empty until connected."""
        return "" if self._opened is None else self._opened.version

    @property
    def lost_reason(self) -> str:
        """Why the established connection was lost; empty if it was not."""
        return "" if self._opened is None or not self._opened.closed else self._opened.closed[0]

    @property
    def open_at(self) -> float:
        """When `turn` has something to do by itself, monotonic seconds."""
        return float("inf") if self._opening.busy or self.connection is not None else self._open_at

    def opening_hung_s(self, now: float) -> float:
        """Seconds for which an opening has taken too long; 0 if none does."""
        return self._opening.hung_s(now)

    def answers(self, now: float) -> bool:
        """The connection stands and the event loop lives, as far as can be known without asking."""
        return self.connection is not None and not self.lost_reason and self.loop.tick_age_s(now) < TICK_MOST_S

    def start(self) -> None:
        """Start libvirt's event loop; the first `turn` opens the connection."""
        self.loop.start()

    def turn(self, now: float) -> bool:
        """Open the connection if it is time; True when it has just been established."""
        if self._stopped:
            return False
        if self._opening.busy:
            outcome = self._opening.take()
            if outcome is None:
                return False
            if outcome.result is not None:
                self._established(outcome.result)
                return True
            self._failed(now, outcome.error)
        elif self.connection is None and now >= self._open_at:
            self._opening.begin(self._open)
        return False

    def take(self) -> list[Happened]:
        """What libvirt told since the last call, in its order; the rest of very much at the next call."""
        taken: list[Happened] = []
        while self._happened and len(taken) < TAKEN_MOST:
            taken.append(self._happened.popleft())
        if self._happened:
            self._wake()
        return taken

    def take_changes(self) -> set[str]:
        """UUIDs of running domains whose devices have changed since the last call."""
        return {self._redefined.popleft().lower() for _ in range(len(self._redefined))}

    def stop(self) -> None:
        """Take in nothing more. Asks libvirtd nothing, which might hang: the process's end closes the connection."""
        self._stopped = True

    def _established(self, opened: Opened) -> None:
        self._opened = opened
        failures = self._backoff.reset()
        self.failures, self.last_error = 0, ""
        log.info("connected to libvirt %s at %s (after %d failures)", self.version, self.uri, failures)

    def _failed(self, now: float, error: Exception | None) -> None:
        wait_s = self._backoff.next_s()
        self._open_at = now + wait_s
        self.failures += 1
        self.last_error = str(error)
        log.warning("waiting for libvirt at %s: %s; next try in %.1f s", self.uri, error, wait_s)

    def _open(self) -> Opened:
        """In a thread of its own, because it may hang. Callbacks are registered before anyone lists anything."""
        connection = libvirt.openReadOnly(self.uri)
        closed: list[str] = []
        registered: list[int] = []
        try:
            _keep_alive(connection)
            connection.registerCloseCallback(self._on_close, closed)
            for kind, number in (*_CALLBACKS, *_CHANGES):
                registered += self._register(connection, kind, number)
            version = connection.getLibVersion()
        except BaseException:
            _give_up(connection, registered)
            raise
        return Opened(connection, f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}", closed)

    def _register(self, connection: Any, kind: str, number: int) -> list[int]:  # noqa: ANN401
        try:
            called = self._changed if (kind, number) in _CHANGES else self._callback(kind)
            return [connection.domainEventRegisterAny(None, number, called, None)]
        except libvirt.libvirtError as error:
            if kind == "lifecycle" or error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                raise
            log.warning("this libvirt tells no %s events: %s", kind, error)
            return []

    def _callback(self, kind: str) -> Callable[..., None]:
        position = _NUMBERS[kind][0] if kind in _NUMBERS else None

        def called(connection: object, domain: Any, *arguments: Any) -> None:  # noqa: ANN401
            if self._stopped:
                return
            wall = self._clock.wall()
            try:
                if kind == "lifecycle":
                    numbers = (int(arguments[0]), int(arguments[1]))
                else:
                    numbers = () if position is None else (int(arguments[position]),)  # type: ignore[assignment]
                happened = Happened(kind, numbers, domain.UUIDString(), name_of(domain), wall)
            except Exception as error:  # libvirt would print it and forget it
                self.callback_errors += 1
                self.last_error = f"{kind} event not understood: {error}"
                return
            self._happened.append(happened)
            self.received += 1
            self._wake()

        return called

    def _changed(self, connection: object, domain: Any, *arguments: Any) -> None:  # noqa: ANN401
        """Wakes nobody: the next listing is soon enough, and the loop looks each second."""
        if not self._stopped:
            with suppress(libvirt.libvirtError):  # then it is gone
                self._redefined.append(domain.UUIDString())

    def _on_close(self, connection: object, reason: int, closed: list[str]) -> None:
        closed.append(numbered(_CLOSE_REASONS, reason))
        self._wake()

    def _check(self) -> None:
        """Once a second. When keepalives are not answered while two calls of ours are under way, libvirt (9.0)
        closes the connection, ends one of the calls, and tells nobody else."""
        opened = self._opened
        if opened is None or opened.closed:
            return
        try:
            alive = opened.connection.isAlive()
        except libvirt.libvirtError:
            return  # a driver that cannot tell
        if not alive:
            opened.closed.append("the connection is closed")
            self._wake()


def _give_up(connection: Any, registered: list[int]) -> None:  # noqa: ANN401
    """Each callback keeps its connection open after `close`, and would tell every event once more."""
    for number in registered:
        with suppress(libvirt.libvirtError):
            connection.domainEventDeregisterAny(number)
    with suppress(libvirt.libvirtError):
        connection.unregisterCloseCallback()
    connection.close()


def _keep_alive(connection: Any) -> None:  # noqa: ANN401
    """Notice a libvirtd that hangs; a driver inside this process has no keepalive and needs none."""
    try:
        connection.setKeepAlive(KEEPALIVE_S, KEEPALIVE_COUNT)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
