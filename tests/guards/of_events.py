"""Guards of `panel/rules.py`: what an event makes of a claim."""

from tests.guards.guard import Guard

FILE = "panel/rules.py"


def _guard(name: str, text: str, replacement: str, keeps: str) -> Guard:
    return Guard(name, FILE, text, replacement, keeps)


TOLD = (
    _guard(
        "started-migrated-waits",
        '("started", "migrated"): _Told(State.PAUSED, moving="in"),',
        '("started", "migrated"): _Told(State.RUNNING, moving="in"),',
        "5: the guest does not run at the destination before it resumes",
    ),
    _guard(
        "started-migrated-is-incoming",
        '("started", "migrated"): _Told(State.PAUSED, moving="in"),',
        '("started", "migrated"): _Told(State.PAUSED),',
        "5: the destination waits",
    ),
    _guard(
        "suspended-migrated-is-outgoing",
        '("suspended", "migrated"): _Told(State.PAUSED, moving="out"),',
        '("suspended", "migrated"): _Told(State.PAUSED),',
        "5: the source hands over",
    ),
    _guard(
        "suspended-postcopy-is-outgoing",
        '("suspended", "postcopy"): _Told(State.PAUSED, moving="out"),',
        '("suspended", "postcopy"): _Told(State.PAUSED),',
        "5: the source hands over",
    ),
    _guard(
        "suspended-postcopy-failed-is-outgoing",
        '("suspended", "postcopy_failed"): _Told(State.PAUSED, moving="out"),',
        '("suspended", "postcopy_failed"): _Told(State.PAUSED),',
        "5: the guest runs at the destination, which lacks some of its memory",
    ),
    _guard(
        "resumed-migrated-has-arrived",
        '("resumed", "migrated"): _Told(State.RUNNING, moving="arrived"),',
        '("resumed", "migrated"): _Told(State.RUNNING),',
        "5: who arrived ends the departure",
    ),
    _guard(
        "resumed-postcopy-has-arrived",
        '("resumed", "postcopy"): _Told(State.RUNNING, moving="arrived"),',
        '("resumed", "postcopy"): _Told(State.RUNNING),',
        "5: who arrived ends the departure",
    ),
    _guard(
        "stopped-migrated-departs",
        '("stopped", "migrated"): _Told(State.SHUTOFF, departs=True),',
        "",
        "5: who stops by leaving is not stopped",
    ),
    _guard(
        "an-undefinition-tells-the-end",
        'if event.event == "undefined":',
        "if False:",
        "1: an undefined VM is gone",
    ),
    _guard(
        "a-rename-is-no-undefinition",
        'if event.event == "undefined" and event.detail == "renamed":',
        "if False:",
        "1: a renamed VM is not gone",
    ),
    _guard(
        "an-active-vm-outlives-its-definition",
        "stopped = before.told in (State.SHUTOFF, State.CRASHED, State.ABSENT) and not before.departed",
        "stopped = not before.departed",
        "1: a running VM that is undefined runs on",
    ),
    _guard(
        "who-left-outlives-its-definition",
        "State.CRASHED, State.ABSENT) and not before.departed",
        "State.CRASHED, State.ABSENT)",
        "5: a VM that left and is undefined at the source runs somewhere else",
    ),
    _guard(
        "what-waits-does-not-shut-down",
        'if before.moving == "in" and (event.event, event.detail) == ("shutdown", "host"):',
        "if False:",
        "5: libvirt ends what waited for a guest; no guest shuts down",
    ),
    _guard(
        "a-vm-that-does-not-wait-shuts-down",
        'if before.moving == "in" and (event.event, event.detail) == ("shutdown", "host"):',
        'if (event.event, event.detail) == ("shutdown", "host"):',
        "1: in_shutdown as it is told",
    ),
    _guard(
        "a-guests-own-shutdown-counts",
        'if before.moving == "in" and (event.event, event.detail) == ("shutdown", "host"):',
        'if before.moving == "in" and event.event == "shutdown":',
        "5: a guest that shuts down has arrived",
    ),
    _guard(
        "an-untold-state-stays",
        "if claim is not None and claim.told is not State.ABSENT:",
        "if False:",
        "1: a reboot changes no state",
    ),
    _guard(
        "absent-and-defined-is-stopped",
        "if claim is not None and claim.told is not State.ABSENT:",
        "if claim is not None:",
        "1: a VM that is defined is there",
    ),
    _guard(
        "untold-is-unknown",
        'return State.SHUTOFF if event.event == "defined" else State.UNKNOWN',
        "return State.SHUTOFF",
        "3: unknown is not stopped",
    ),
)

DEFINITIONS = tuple(
    _guard(f"{event}-{detail}-is-of-the-definition", f'    ("{event}", "{detail}"): {value},\n', "", "1: " + keeps)
    for event, detail, value, keeps in (
        ("defined", "added", True, "who has a definition is there when it ends"),
        ("defined", "updated", True, "who has a definition is there when it ends"),
        ("defined", "renamed", True, "who has a definition is there when it ends"),
        ("defined", "from_snapshot", True, "who has a definition is there when it ends"),
        ("undefined", "removed", False, "who has none is gone when it ends"),
    )
)

EVENTS = (
    _guard("nothing-below-the-floor", "if place <= floor:", "if False:", "2: an old event undoes no listing"),
    _guard("nothing-at-the-floor", "if place <= floor:", "if place < floor:", "2: the listing knew that event"),
    _guard(
        "an-older-event-tells-no-name",
        "newer, tells = place > before.mark,",
        "newer, tells = True,",
        "2: the newest message tells the name",
    ),
    _guard(
        "an-older-event-tells-no-state",
        "said is not None and place > before.stated",
        "said is not None",
        "2: the newest message that tells a state counts",
    ),
    _guard(
        "an-overtaken-event-still-tells",
        "said is not None and place > before.stated",
        "said is not None and place > before.mark",
        "2: an event without a state hides none that has one",
    ),
    _guard(
        "an-older-event-tells-no-definition",
        "defined is not None and place > before.persisted",
        "defined is not None",
        "2: the newest message about the definition counts",
    ),
    _guard(
        "what-is-not-newer-changes-nothing",
        "if not (newer or tells or defines):",
        "if False:",
        "2: an event that comes again changes nothing",
    ),
    _guard(
        "a-late-event-brings-no-old-name-back",
        "name = event.vm.name if newer else before.name",
        "name = event.vm.name",
        "2: the newest message tells the name",
    ),
    _guard(
        "a-mark-never-goes-down",
        "since, mark = event.time, place if newer else before.mark",
        "since, mark = event.time, place",
        "2: the mark is the newest message's",
    ),
    _guard(
        "who-arrived-stays-arrived",
        "said.moving or _stays(before, said.state)",
        "said.moving",
        "5: the end of a departure may come after other words of the destination",
    ),
    _guard(
        "a-failed-migration-stops-no-vm",
        "        elif _has_failed(before, told):\n",
        "        elif False:\n",
        "5: what ends at the destination without the guest is not the VM's end",
    ),
    _guard(
        "one-more-way-leads-nowhere",
        'if before.told is State.SHUTOFF and event.detail == "failed":',
        "if False:",
        "5: a VM that left is away though the beginning of its way back was not heard",
    ),
    _guard(
        "who-handed-over-and-failed-may-run-elsewhere",
        'elif before.moving == "out" and event.detail == "failed":',
        "elif False:",
        "5: a VM whose source failed after the hand-over is looked for first",
    ),
    _guard(
        "only-who-failed-after-the-hand-over-is-looked-for",
        'elif before.moving == "out" and event.detail == "failed":',
        'elif before.moving == "out" and told is State.SHUTOFF:',
        "1: a VM that stops is stopped",
    ),
    _guard(
        "who-fails-before-the-hand-over-is-stopped",
        'elif before.moving == "out" and event.detail == "failed":',
        'elif event.detail == "failed":',
        "1: a VM that stops is stopped",
    ),
    _guard(
        "a-way-back-that-waits-ends",
        'if before.told is State.SHUTOFF and event.detail == "failed":',
        'if event.detail == "failed":',
        "5: it left, and only its arrival says where it is",
    ),
    _guard(
        "who-ends-here-was-here",
        'if before.told is State.SHUTOFF and event.detail == "failed":',
        "if before.told is State.SHUTOFF:",
        "1: a VM that stops is stopped",
    ),
    _guard(
        "only-what-waited-fails",
        'return before.moving == "in" and before.told in ACTIVE and state is State.SHUTOFF',
        "return before.told in ACTIVE and state is State.SHUTOFF",
        "1: a VM that stops is stopped",
    ),
    _guard(
        "a-failed-migration-fails-once",
        'return before.moving == "in" and before.told in ACTIVE and state is State.SHUTOFF',
        'return before.moving == "in" and state is State.SHUTOFF',
        "1: a VM that stops is stopped",
    ),
    _guard(
        "a-return-that-failed-is-still-a-departure",
        'return ("", before.departed) if before.departed else ("in", now or 1.0)',
        'return "in", now or 1.0',
        "5: it left, and only its arrival says where it is",
    ),
    _guard(
        "any-node-tells-where-a-vm-is-that-never-came",
        'else ("in", now or 1.0)',
        'else ("", now or 1.0)',
        "5: a migration that failed is over when another node has the VM",
    ),
    _guard(
        "who-left-may-come-back",
        'return before.departed if moving == "in" and not before.never_came else 0.0',
        "return 0.0",
        "5: it left, and only its arrival says where it is",
    ),
    _guard(
        "a-return-stays-one",
        "        departed = _still_away(claim, moving)\n",
        "        departed = 0.0\n",
        "5: it left, and only its arrival says where it is",
    ),
    _guard(
        "a-second-attempt-is-no-return",
        'moving == "in" and not before.never_came else 0.0',
        'moving == "in" else 0.0',
        "5: a migration that failed is over when another node has the VM",
    ),
    _guard("an-event-shows-that-it-is-there", "elif newer:", "elif False:", "1: a VM that is defined is there"),
    _guard(
        "a-stopped-vm-has-not-arrived",
        'return "arrived" if state in ACTIVE and before.moving in ("in", "arrived") else ""',
        'return "arrived" if before.moving in ("in", "arrived") else ""',
        "5: an arrival ends with the VM",
    ),
    _guard(
        "who-is-told-of-after-waiting-has-arrived",
        'before.moving in ("in", "arrived") else ""',
        'before.moving == "arrived" else ""',
        "5: a VM that arrives paused has arrived",
    ),
    _guard(
        "an-arrival-outlives-a-pause",
        'before.moving in ("in", "arrived") else ""',
        'before.moving == "in" else ""',
        "5: the end of a departure may come after other words of the destination",
    ),
    _guard(
        "only-who-came-has-arrived",
        'state in ACTIVE and before.moving in ("in", "arrived") else ""',
        'state in ACTIVE else ""',
        "5: a VM that was started there did not arrive",
    ),
    _guard(
        "an-unchanged-state-keeps-its-since",
        "return after if after.state is before.state else replace(after, since=time, turn=turn)",
        "return replace(after, since=time, turn=turn)",
        "1: since when it is so",
    ),
)

GUARDS = (*TOLD, *DEFINITIONS, *EVENTS)
