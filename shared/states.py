"""The vocabulary of VM states and of libvirt's events: the one table of names.

Names and numbers are libvirt's own (https://libvirt.org/html/libvirt-libvirt-domain.html, enums
virDomainState, virDomainEventType and its ...DetailType enums), in lower case without their prefix. This
module imports nothing but the standard library, so that everything may import it.
"""

from enum import StrEnum


class State(StrEnum):
    """A VM's state. `UNKNOWN` exists only in the panel and in a listing of libvirt's `nostate`."""

    RUNNING = "running"
    PAUSED = "paused"
    IN_SHUTDOWN = "in_shutdown"
    SHUTOFF = "shutoff"
    CRASHED = "crashed"
    PMSUSPENDED = "pmsuspended"
    ABSENT = "absent"
    UNKNOWN = "unknown"


ACTIVE = frozenset({State.RUNNING, State.PAUSED, State.IN_SHUTDOWN, State.PMSUSPENDED})
"""States in which a hypervisor holds a process (or, for pmsuspended, a sleeping guest) of the VM."""

STATE_OF_LIBVIRT: tuple[State, ...] = (
    State.UNKNOWN,  # nostate
    State.RUNNING,
    State.RUNNING,  # blocked: waits for a resource, and runs for everybody who asks
    State.PAUSED,
    State.IN_SHUTDOWN,
    State.SHUTOFF,
    State.CRASHED,
    State.PMSUSPENDED,
)
"""virDomainState's number is the index."""

PAUSED_FOR_MIGRATION = frozenset({2, 11, 12, 13})
"""virDomainPausedReason of a domain that is, or may be, one end of a live migration: MIGRATION, STARTING_UP (what the
destination says first), POSTCOPY, POSTCOPY_FAILED. The guest of such a domain runs at the other end, if at all."""

SHUTOFF_FAR_AWAY = frozenset((4, 6))
"""virDomainShutoffReason of a definition whose VM may run elsewhere: MIGRATED, and FAILED, which is what libvirt calls
the end of a QEMU that died, but also that of a live migration that did not come in."""

LIFECYCLE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("defined", ("added", "updated", "renamed", "from_snapshot")),
    ("undefined", ("removed", "renamed")),
    ("started", ("booted", "migrated", "restored", "from_snapshot", "wakeup")),
    (
        "suspended",
        (
            "paused",
            "migrated",
            "ioerror",
            "watchdog",
            "restored",
            "from_snapshot",
            "api_error",
            "postcopy",
            "postcopy_failed",
        ),
    ),
    ("resumed", ("unpaused", "migrated", "from_snapshot", "postcopy", "postcopy_failed")),
    ("stopped", ("shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from_snapshot")),
    ("shutdown", ("finished", "guest", "host")),
    ("pmsuspended", ("memory", "disk")),
    ("crashed", ("panicked", "crashloaded")),
)
"""virDomainEventType's number is the outer index, the detail's number the inner one (libvirt 9)."""

WATCHDOG_ACTIONS = ("none", "pause", "reset", "poweroff", "shutdown", "debug", "injectnmi")
IO_ERROR_ACTIONS = ("none", "pause", "report")
AGENT_STATES = ("", "connected", "disconnected")
MEMORY_FAILURE_ACTIONS = ("ignore", "inject", "fatal", "reset")

OTHER_EVENTS = frozenset({"reboot", "watchdog", "io_error", "agent_lifecycle", "memory_failure", "control_error"})
"""Events that libvirt delivers by callbacks of their own; none of them carries a state."""

EVENTS = frozenset(name for name, _ in LIFECYCLE) | OTHER_EVENTS

_STATE_OF_EVENT = {
    "started": State.RUNNING,
    "resumed": State.RUNNING,
    "suspended": State.PAUSED,
    "stopped": State.SHUTOFF,
    "crashed": State.CRASHED,
    "pmsuspended": State.PMSUSPENDED,
    "shutdown": State.IN_SHUTDOWN,
}


def lifecycle_names(event: int, detail: int) -> tuple[str, str]:
    """The names of a lifecycle event's two numbers; what this table does not know keeps its number (`detail_17`).

    A newer libvirt may send numbers that libvirt 9 had not; such an event is still an event.
    """
    if not 0 <= event < len(LIFECYCLE):
        return f"event_{event}", f"detail_{detail}"
    name, details = LIFECYCLE[event]
    return name, numbered(details, detail)


def numbered(names: tuple[str, ...], number: int) -> str:
    """`names[number]`, or `detail_<number>` where the table ends."""
    return names[number] if 0 <= number < len(names) else f"detail_{number}"


def state_of_event(event: str) -> State | None:
    """The state that follows from an event alone (design 02, *Message types*); None: the panel decides."""
    return _STATE_OF_EVENT.get(event)


def state_of_libvirt(number: int) -> State:
    """The state for virDomainState's number; `unknown` for one that libvirt 9 did not have."""
    return STATE_OF_LIBVIRT[number] if 0 <= number < len(STATE_OF_LIBVIRT) else State.UNKNOWN
