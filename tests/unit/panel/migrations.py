"""Live migrations as libvirt 9.0 and QEMU 7.2 told of them, recorded on two real hypervisors by `virsh event`.

Only data, for tests of the rules. Each case begins with a VM that runs on the source; `events` are those of both ends
in the order in which they happened. What is worth knowing before reading on:

- `started/migrated` says that the destination *waits* for the VM, from the first moment on; it runs there with
  `resumed/migrated` (post-copy: `resumed/postcopy`).
- A migration that fails or is cancelled before the hand-over is no event on the source at all.
- `resumed/migrated` comes on the source as well: where the hand-over failed, and it runs on there.
- `VIR_MIGRATE_UNDEFINE_SOURCE` takes the source's definition away without an `undefined`.
"""

from typing import NamedTuple

SOURCE, DESTINATION = "source", "destination"

Told = tuple[str, str, str]
"""(end, event, detail)."""


class Listed(NamedTuple):
    """What `listAllDomains` says of the VM: `reason` is libvirt's number for that state."""

    state: str
    reason: int
    persistent: bool


class Recorded(NamedTuple):
    """One migration. The truth when it was over: the VM is on node `holder`, in `state`.

    `persistent`: the source had a definition when it began. `source`, `destination`: what each end lists afterwards;
    None: not the VM. `restarted`: the end whose libvirtd was killed and started again in between.
    """

    name: str
    events: tuple[Told, ...]
    source: Listed | None
    destination: Listed | None
    holder: str
    state: str = "running"
    persistent: bool = True
    restarted: str = ""


# What the ends say.
INCOMING = (DESTINATION, "started", "migrated")
HANDED_OVER = (SOURCE, "suspended", "migrated")
ARRIVED = (DESTINATION, "resumed", "migrated")
ARRIVED_PAUSED = (DESTINATION, "suspended", "paused")
LEFT = (SOURCE, "stopped", "migrated")
DEFINED_THERE = (DESTINATION, "defined", "added")
GIVEN_UP = (DESTINATION, "stopped", "failed")
GOES_ON_HERE = (SOURCE, "resumed", "migrated")
DESTROYED_THERE = ((DESTINATION, "shutdown", "host"), (DESTINATION, "stopped", "destroyed"))
POSTCOPY = (
    (SOURCE, "suspended", "migrated"),
    (SOURCE, "suspended", "postcopy"),
    (DESTINATION, "resumed", "postcopy"),
)

# What the ends list. The reasons: running 1 booted, 2 migrated, 5 unpaused, 6 migration_canceled, 11 postcopy_failed;
# paused 1 user, 2 migration, 13 postcopy_failed; shutoff 1 shutdown, 2 destroyed, 3 crashed, 4 migrated.
RUNS_ON = Listed("running", 1, persistent=True)
RUNS_AGAIN = Listed("running", 6, persistent=True)
LEFT_BEHIND = Listed("shutoff", 4, persistent=True)
STANDS = Listed("paused", 2, persistent=True)
"""The source for ever, with a living QEMU, where it could not learn how the migration went."""
RUNS_THERE = Listed("running", 2, persistent=False)
DEFINED_AND_RUNS_THERE = Listed("running", 2, persistent=True)

_SUCCESS = (INCOMING, HANDED_OVER, ARRIVED, LEFT)
_SUCCESS_DEFINED = (INCOMING, HANDED_OVER, DEFINED_THERE, ARRIVED, LEFT)

SUCCEEDED = (
    Recorded("to a transient one", _SUCCESS, LEFT_BEHIND, RUNS_THERE, DESTINATION),
    Recorded("of a transient one", _SUCCESS, None, RUNS_THERE, DESTINATION, persistent=False),
    Recorded("with its definition", _SUCCESS_DEFINED, LEFT_BEHIND, DEFINED_AND_RUNS_THERE, DESTINATION),
    Recorded("the source undefined", _SUCCESS, None, RUNS_THERE, DESTINATION),
    Recorded("moved with its definition", _SUCCESS_DEFINED, None, DEFINED_AND_RUNS_THERE, DESTINATION),
    Recorded(
        "arrives paused",
        (INCOMING, HANDED_OVER, ARRIVED_PAUSED, LEFT),
        LEFT_BEHIND,
        Listed("paused", 1, persistent=False),
        DESTINATION,
        "paused",
    ),
    Recorded(
        "arrives paused, and is resumed",
        (INCOMING, HANDED_OVER, ARRIVED_PAUSED, LEFT, (DESTINATION, "resumed", "unpaused")),
        LEFT_BEHIND,
        Listed("running", 5, persistent=False),
        DESTINATION,
    ),
    Recorded(
        "paused by its user before",
        ((SOURCE, "suspended", "paused"), INCOMING, ARRIVED_PAUSED, LEFT),
        LEFT_BEHIND,
        Listed("paused", 1, persistent=False),
        DESTINATION,
        "paused",
    ),
    Recorded("post-copy", (INCOMING, *POSTCOPY, ARRIVED, LEFT), LEFT_BEHIND, RUNS_THERE, DESTINATION),
    # The memory was over before the destination's libvirtd, slow at that moment, heard that it had been post-copy.
    Recorded("post-copy, soon over", (INCOMING, *POSTCOPY[:2], ARRIVED, LEFT), LEFT_BEHIND, RUNS_THERE, DESTINATION),
    Recorded(
        "there and back, with a definition on both",
        (
            *_SUCCESS_DEFINED,
            (SOURCE, "started", "migrated"),
            (DESTINATION, "suspended", "migrated"),
            (SOURCE, "defined", "updated"),
            (SOURCE, "resumed", "migrated"),
            (DESTINATION, "stopped", "migrated"),
        ),
        DEFINED_AND_RUNS_THERE,
        LEFT_BEHIND,
        SOURCE,
    ),
)

FAILED = (
    Recorded("refused before it began", (), RUNS_ON, None, SOURCE),
    Recorded("the port is blocked", (INCOMING, GIVEN_UP), RUNS_ON, None, SOURCE),
    Recorded("cancelled", (INCOMING, GIVEN_UP), RUNS_ON, None, SOURCE),
    Recorded("the destination's QEMU killed", (INCOMING, GIVEN_UP), RUNS_ON, None, SOURCE),
    Recorded("the connection of the QEMUs broken", (INCOMING, GIVEN_UP), RUNS_ON, None, SOURCE),
    Recorded("destroyed at the destination", (INCOMING, *DESTROYED_THERE), RUNS_ON, None, SOURCE),
    Recorded("the network cut", (INCOMING, *DESTROYED_THERE), RUNS_ON, None, SOURCE),
    Recorded("the network cut, tunnelled", (INCOMING, DESTROYED_THERE[1]), RUNS_ON, None, SOURCE),
    Recorded("the client of a managed one killed", (INCOMING, *DESTROYED_THERE), RUNS_ON, None, SOURCE),
    Recorded("the source's libvirtd killed", (INCOMING, *DESTROYED_THERE), RUNS_ON, None, SOURCE, restarted=SOURCE),
    Recorded("the same, managed", (INCOMING, GIVEN_UP), RUNS_ON, None, SOURCE, restarted=SOURCE),
    Recorded("the destination's libvirtd killed", (INCOMING,), RUNS_ON, None, SOURCE, restarted=DESTINATION),
)
"""Before the hand-over. All of them run on, on the source, of which nothing is heard."""

HANDED_OVER_IN_VAIN = (
    Recorded(
        "the destination's libvirtd hangs",
        (INCOMING, HANDED_OVER, GOES_ON_HERE, GIVEN_UP),
        RUNS_AGAIN,
        None,
        SOURCE,
    ),
    Recorded(
        "the destination's libvirtd hangs and is killed",
        (INCOMING, HANDED_OVER, GOES_ON_HERE),
        RUNS_AGAIN,
        None,
        SOURCE,
        restarted=DESTINATION,
    ),
    Recorded(
        "the libvirtds' connection cut",
        (INCOMING, HANDED_OVER, GOES_ON_HERE, *DESTROYED_THERE),
        RUNS_AGAIN,
        None,
        SOURCE,
    ),
    # The new libvirtd of the source lets it go on before anybody can connect and hear of it.
    Recorded(
        "the source's libvirtd killed before it called the destination",
        (INCOMING, HANDED_OVER, *DESTROYED_THERE),
        RUNS_AGAIN,
        None,
        SOURCE,
        restarted=SOURCE,
    ),
)

SOURCE_NEVER_LEARNS = (
    Recorded(
        "the destination's answer lost",
        (INCOMING, HANDED_OVER, ARRIVED),
        STANDS,
        RUNS_THERE,
        DESTINATION,
    ),
    Recorded(
        "the source's libvirtd killed before it had the answer",
        (INCOMING, HANDED_OVER, ARRIVED),
        STANDS,
        RUNS_THERE,
        DESTINATION,
        restarted=SOURCE,
    ),
    Recorded(
        "the connection lost in post-copy",
        (
            INCOMING,
            *POSTCOPY,
            (DESTINATION, "resumed", "postcopy_failed"),
            (SOURCE, "suspended", "postcopy_failed"),
        ),
        Listed("paused", 13, persistent=True),
        Listed("running", 11, persistent=False),
        DESTINATION,
    ),
)
"""The VM runs on the destination; the source keeps a paused QEMU of it until a person destroys that."""

ENDED = (
    Recorded(
        "the source's QEMU killed",
        (INCOMING, GIVEN_UP, (SOURCE, "stopped", "failed")),
        Listed("shutoff", 3, persistent=True),
        None,
        SOURCE,
        "shutoff",
    ),
    Recorded(
        "destroyed",
        (INCOMING, (SOURCE, "shutdown", "host"), (SOURCE, "stopped", "destroyed"), GIVEN_UP),
        Listed("shutoff", 2, persistent=True),
        None,
        SOURCE,
        "shutoff",
    ),
    Recorded(
        "switches itself off",
        (INCOMING, (SOURCE, "shutdown", "guest"), GIVEN_UP, (SOURCE, "stopped", "shutdown")),
        Listed("shutoff", 1, persistent=True),
        None,
        SOURCE,
        "shutoff",
    ),
)
"""The VM itself ends while it migrates."""

RECORDED = (*SUCCEEDED, *FAILED, *HANDED_OVER_IN_VAIN, *SOURCE_NEVER_LEARNS, *ENDED)
