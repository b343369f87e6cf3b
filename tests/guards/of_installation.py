"""Guards of `panel/installation.py` and `panel/installations.py`: rule 7, each reboot counted once, one outcome."""

from tests.guards.guard import Guard

CORE, KEEPING = "panel/installation.py", "panel/installations.py"


def _guard(name: str, text: str, replacement: str, keeps: str) -> Guard:
    return Guard(name, CORE, text, replacement, "7: " + keeps)


def _of_keeping(name: str, text: str, replacement: str, keeps: str) -> Guard:
    return Guard(name, KEEPING, text, replacement, "7: " + keeps)


ANSWERS = (
    _guard("a-late-answer-is-none", "if action != pending(now):", "if False:", "what is not pending is not answered"),
    _guard(
        "attempts-get-rarer",
        "pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(now.failures, 16))",
        "pause_s = FIRST_PAUSE_S",
        "libvirt that does not answer is not pressed",
    ),
    _guard(
        "attempts-do-not-cease",
        "pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(now.failures, 16))",
        "pause_s = FIRST_PAUSE_S * 2.0 ** min(now.failures, 16)",
        "the definition is put back however long that takes",
    ),
    _guard(
        "a-refusal-of-libvirt-fails",
        "    if answer.kind is Kind.FAILED:\n        return _decide",
        "    if False:\n        return _decide",
        "failed, with libvirt's words",
    ),
    _guard(
        "an-unsure-start-is-looked-for",
        "    if answer.kind is Kind.UNSURE:\n",
        "    if False:\n",
        "a start that may have been done is not counted as done",
    ),
    _guard(
        "only-a-start-from-the-disk-is-the-end",
        "    if action.disk:\n        return _decide",
        "    if True:\n        return _decide",
        "installed when it boots from its disk",
    ),
)

EVENTS = (
    _guard(
        "what-is-decided-counts-no-events",
        "if now.phase not in _COUNTING or place <= now.place:",
        "if place <= now.place:",
        "the outcome is decided once",
    ),
    _guard(
        "an-older-starts-events-count-nothing",
        "if now.phase not in _COUNTING or place <= now.place:",
        "if now.phase not in _COUNTING:",
        "an event of an older start",
    ),
    _guard(
        "an-event-counts-once",
        "if now.phase not in _COUNTING or place <= now.place:",
        "if now.phase not in _COUNTING or place < now.place:",
        "an event that comes twice",
    ),
    _guard(
        "a-rename-is-no-end",
        'if event == "undefined" and detail != "renamed":',
        'if event == "undefined":',
        "a rename is no end",
    ),
    _guard(
        "a-vm-without-definition-fails",
        'if event == "undefined" and detail != "renamed":',
        "if False:",
        "what cannot be started again fails, and says so",
    ),
    _guard(
        "a-second-start-hides-no-end",
        'if event == "started" and now.phase is not Phase.RUNNING:',
        'if event == "started":',
        "an end that comes after somebody's start counts",
    ),
    _guard(
        "a-crash-fails",
        'if event == "crashed" and now.phase is Phase.RUNNING:',
        "if False:",
        "crashed is failed",
    ),
    _guard("a-pause-is-no-end", '    if event != "stopped":\n        return now\n', "", "a pause is no reboot"),
    _guard(
        "an-end-without-a-beginning-is-none",
        "    if now.phase is Phase.RUNNING:\n        return _end(now, place, detail, wall)\n",
        "    return _end(now, place, detail, wall)\n",
        "only a run of the installation's own is counted",
    ),
    _guard(
        "only-a-shutdown-is-a-reboot",
        '    if detail != "shutdown":\n',
        "    if False:\n",
        "destroyed, crashed, migrated: failed, and says which",
    ),
    _guard(
        "the-last-reboot-boots-from-the-disk",
        "Phase.STARTING if now.left > 1 else Phase.BOOTING",
        "Phase.STARTING if now.left > 0 else Phase.BOOTING",
        "at zero it boots from the disk",
    ),
    _guard(
        "not-before-the-last-reboot",
        "Phase.STARTING if now.left > 1 else Phase.BOOTING",
        "Phase.BOOTING",
        "the expected reboots are counted down",
    ),
)

LISTINGS = (
    _guard(
        "a-listing-from-before-the-start-tells-no-end",
        "if now.phase is Phase.RUNNING and (epoch, as_of) >= now.place:",
        "if now.phase is Phase.RUNNING:",
        "a snapshot never overwrites a newer event",
    ),
    _guard(
        "a-listing-tells-an-end",
        "if now.phase is Phase.RUNNING and (epoch, as_of) >= now.place:",
        "if False:",
        "an end that nobody saw is counted from the listing",
    ),
    _guard(
        "what-runs-has-not-ended",
        "return now if runs else _end_of_listing",
        "return _end_of_listing",
        "a guest that runs on goes on",
    ),
    _guard(
        "only-a-fresh-listing-moves-on",
        "if not fresh or now.phase not in (Phase.LISTING, Phase.UNSURE, Phase.AWAITING) or",
        "if now.phase not in (Phase.LISTING, Phase.UNSURE, Phase.AWAITING) or",
        "a listing from before the question is no answer",
    ),
    _guard(
        "only-who-waits-for-a-listing-moves-on",
        "if not fresh or now.phase not in (Phase.LISTING, Phase.UNSURE, Phase.AWAITING) or",
        "if not fresh or",
        "the outcome is decided once",
    ),
    _guard(
        "a-listing-below-the-place-is-old",
        " or (epoch, seq) <= now.place:",
        ":",
        "an event of an older start",
    ),
    _guard(
        "a-vm-that-is-not-listed-is-gone",
        "    if state is State.ABSENT:\n        return _decide(now, Outcome.FAILED, GONE, wall)\n    if now.phase",
        "    if now.phase",
        "what cannot be started again fails, and says so",
    ),
    _guard(
        "events-count-above-the-first-listing",
        "return _turn(now, phase=Phase.STARTING, place=(epoch, seq), step=1, sure=False)",
        "return _turn(now, phase=Phase.STARTING, step=1, sure=False)",
        "an event of an older start",
    ),
    _guard(
        "a-listed-run-never-lowers-the-place",
        "place=max(now.place, (epoch, as_of))",
        "place=(epoch, as_of)",
        "an event that comes twice",
    ),
    _guard(
        "an-unsure-start-is-done-again-with-a-pause",
        "return _turn(now, phase=Phase.STARTING, sure=True, pause_s=SETTLE_S)",
        "return _turn(now, phase=Phase.STARTING, sure=True)",
        "what was on its way has come by then",
    ),
    _guard(
        "an-unknown-state-is-no-end",
        "    if state is State.UNKNOWN:\n        return now\n",
        "",
        "unknown is not stopped",
    ),
    _guard(
        "a-listed-crash-fails",
        "    if state is State.CRASHED:\n        return _decide(now, Outcome.FAILED, CRASHED, wall)\n",
        "",
        "crashed is failed",
    ),
    _guard(
        "an-end-that-nobody-knows-fails",
        "return _end(now, place, detail, wall) if detail else _decide(now, Outcome.FAILED, UNWATCHED, wall)",
        'return _end(now, place, detail or "shutdown", wall)',
        "a crash must not be called installed",
    ),
)

ENDS = (
    _guard(
        "a-time-limit-changes-no-outcome",
        "    if not now.undecided:\n        return now\n",
        "",
        "the outcome is decided once",
    ),
    _guard(
        "a-refusal-changes-no-outcome",
        "return _decide(now, Outcome.FAILED, reason, wall, spent_s) if now.undecided else now",
        "return _decide(now, Outcome.FAILED, reason, wall, spent_s)",
        "the outcome is decided once",
    ),
    _guard(
        "a-cancel-changes-no-outcome",
        'return _decide(now, Outcome.CANCELLED, "", wall, spent_s) if now.undecided else now',
        'return _decide(now, Outcome.CANCELLED, "", wall, spent_s)',
        "the outcome is decided once",
    ),
    _guard(
        "a-decision-forgets-the-failures",
        "        failures=0,\n        pause_s=0.0,\n        note=\"\",\n        ask=False,\n",
        "        ask=False,\n",
        "the definition is put back at once",
    ),
)

KEPT = (
    _of_keeping(
        "what-has-not-changed-is-not-stored",
        "    if after is before:\n        return\n",
        "",
        "a message that changes nothing costs nothing",
    ),
    _of_keeping("a-listing-is-asked-for", "    if after.ask:\n", "    if False:\n", "the node lists anew"),
    _of_keeping(
        "a-failure-is-told-once",
        "decided = before is None or before.outcome is not after.outcome",
        "decided = True",
        "one problem for one failure",
    ),
    _of_keeping(
        "a-failure-is-a-problem",
        "if decided and after.outcome is Outcome.FAILED:",
        "if False:",
        "installation failed, a problem that says which",
    ),
    _of_keeping(
        "a-success-closes-the-problem",
        "elif decided and after.outcome is Outcome.INSTALLED:",
        "elif False:",
        "problems close themselves",
    ),
    _of_keeping(
        "a-spoiled-definition-is-a-problem",
        "elif not after.unfinished and after.spoiled:",
        "elif False:",
        "everything it changed is restored, or said not to be",
    ),
)

GUARDS = (*ANSWERS, *EVENTS, *LISTINGS, *ENDS, *KEPT)
