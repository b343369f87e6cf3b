"""Guards of `panel/rules.py`: what a listing makes of claims."""

from tests.guards.guard import Guard

FILE = "panel/rules.py"


def _guard(name: str, text: str, replacement: str, keeps: str) -> Guard:
    return Guard(name, FILE, text, replacement, keeps)


LISTINGS = (
    _guard("an-older-listing-changes-nothing", "if snapshot < floor:", "if False:", "2: nor an older snapshot a newer"),
    _guard("a-listing-may-come-again", "if snapshot < floor:", "if snapshot <= floor:", "2: from the floor on"),
    _guard(
        "a-listing-forgets-nothing-newer",
        "if uuid not in listed and claim.stated <= snapshot:",
        "if uuid not in listed:",
        "2: a snapshot never overwrites a newer event",
    ),
    _guard(
        "what-is-listed-is-there",
        "if uuid not in listed and claim.stated <= snapshot:",
        "if claim.stated <= snapshot:",
        "2: a complete snapshot is the truth",
    ),
    _guard(
        "a-listing-takes-no-mark-down",
        "after = replace(claim, mark=max(snapshot, claim.mark))",
        "after = replace(claim, mark=snapshot)",
        "2: the mark is the newest message's",
    ),
    _guard(
        "an-older-listing-tells-no-name",
        "if snapshot >= claim.mark:",
        "if True:",
        "2: a snapshot never overwrites a newer event",
    ),
    _guard(
        "a-listing-at-the-mark-tells-the-name",
        "if snapshot >= claim.mark:",
        "if snapshot > claim.mark:",
        "2: it applies from the claim's mark on",
    ),
    _guard(
        "an-older-listing-tells-no-definition",
        "if snapshot >= claim.persisted:",
        "if True:",
        "2: a snapshot never overwrites a newer event",
    ),
    _guard(
        "a-listing-at-its-place-tells-the-definition",
        "if snapshot >= claim.persisted:",
        "if snapshot > claim.persisted:",
        "2: it applies from the claim's mark on",
    ),
    _guard(
        "an-older-listing-tells-no-state",
        "if snapshot >= claim.stated:",
        "if True:",
        "2: a snapshot never overwrites a newer event",
    ),
    _guard(
        "a-listing-at-its-place-tells-the-state",
        "if snapshot >= claim.stated:",
        "if snapshot > claim.stated:",
        "2: it applies from the claim's mark on",
    ),
    _guard(
        "a-listed-end-of-a-migration-is-one",
        "if domain.state is State.PAUSED and domain.reason in PAUSED_FOR_MIGRATION:",
        "if False:",
        "5: both ends may be listed in the middle",
    ),
    _guard(
        "a-listed-pause-is-no-migration",
        "if domain.state is State.PAUSED and domain.reason in PAUSED_FOR_MIGRATION:",
        "if domain.state is State.PAUSED:",
        "6: a paused VM on two nodes is a duplicate",
    ),
    _guard(
        "a-reason-belongs-to-its-state",
        "if domain.state is State.PAUSED and domain.reason in PAUSED_FOR_MIGRATION:",
        "if domain.reason in PAUSED_FOR_MIGRATION:",
        "5: the same number says of a running VM that it has come by a migration",
    ),
    _guard(
        "a-listed-end-that-came-is-incoming",
        'moving = "in" if claim.moving == "in" or claim.told not in ACTIVE else "out"',
        'moving = "in" if claim.told not in ACTIVE else "out"',
        "5: the destination waits",
    ),
    _guard(
        "a-listed-end-that-is-new-is-incoming",
        'moving = "in" if claim.moving == "in" or claim.told not in ACTIVE else "out"',
        'moving = "in" if claim.moving == "in" else "out"',
        "5: the destination waits",
    ),
    _guard(
        "a-listed-end-that-ran-is-outgoing",
        'moving = "in" if claim.moving == "in" or claim.told not in ACTIVE else "out"',
        'moving = "in"',
        "5: the source hands over",
    ),
    _guard(
        "a-definition-left-behind-is-no-stop",
        "left = claim.told is not State.SHUTOFF and domain.reason in SHUTOFF_FAR_AWAY",
        "left = False",
        "5: a listing may come before the event of the departure",
    ),
    _guard(
        "a-departure-ends-once",
        "left = claim.told is not State.SHUTOFF and domain.reason in SHUTOFF_FAR_AWAY",
        "left = domain.reason in SHUTOFF_FAR_AWAY",
        "5: a definition that stayed behind is no new departure at each listing",
    ),
    _guard(
        "a-listed-definition-ends-no-departure",
        "if left and not claim.departed else claim.departed",
        "if left and not claim.departed else 0.0",
        "5: a definition that stays behind says nothing of where the VM went",
    ),
    _guard(
        "a-listed-definition-leaves-a-failure-one",
        'moving = claim.moving if departed and claim.told is State.SHUTOFF else ""',
        'moving = ""',
        "5: a migration that failed is over when another node has the VM",
    ),
    _guard(
        "a-listed-failure-stops-no-vm",
        "            if _has_failed(claim, domain.state):\n",
        "            if False:\n",
        "5: what ends at the destination without the guest is not the VM's end",
    ),
    _guard(
        "a-missing-vm-that-left-is-not-gone",
        "    if claim.departed:\n",
        "    if False:\n",
        "5: its definition may have gone with it",
    ),
    _guard(
        "a-missing-definition-is-missed",
        "after = replace(claim, persistent=False, persisted=persisted, mark=mark)",
        "after = replace(claim, persisted=persisted, mark=mark)",
        "5: when it has arrived nothing is left at the source",
    ),
    _guard(
        "a-vm-defined-since-is-there",
        "if claim.persisted > snapshot:",
        "if False:",
        "2: a snapshot never overwrites a newer event",
    ),
    _guard(
        "an-active-vm-that-is-missing-is-looked-for",
        'if claim.told in ACTIVE and claim.moving != "in":',
        "if False:",
        "5: it ended or left; the event that says which may be late",
    ),
    _guard(
        "what-waited-is-not-looked-for",
        'if claim.told in ACTIVE and claim.moving != "in":',
        "if claim.told in ACTIVE:",
        "5: a migration that failed leaves nothing at the destination",
    ),
    _guard(
        "what-is-missing-has-no-definition",
        "left = replace(left, persistent=False, persisted=snapshot, mark=max(snapshot, claim.mark))",
        "left = replace(left, persisted=snapshot, mark=max(snapshot, claim.mark))",
        "1: a VM that is nowhere is gone",
    ),
    _guard(
        "a-vm-named-since-is-not-forgotten",
        "    if claim.mark <= snapshot:\n        return {uuid: None}",
        "    if True:\n        return {uuid: None}",
        "2: a snapshot never overwrites a newer event",
    ),
)

EMPTINESS = (
    _guard(
        "emptiness-is-doubted",
        "return not inventory.domains and any(",
        "return False and any(",
        "3: a suddenly empty inventory waits for a second one",
    ),
    _guard(
        "only-emptiness-is-sudden",
        "return not inventory.domains and any(",
        "return any(",
        "2: a complete snapshot is the truth",
    ),
    _guard("an-active-vm-is-missed", "claim.told in ACTIVE or claim.told is", "claim.told is", "3: it had VMs"),
    _guard(
        "an-unknown-vm-is-missed",
        "claim.told in ACTIVE or claim.told is State.UNKNOWN or (",
        "claim.told in ACTIVE or (",
        "3: it had VMs",
    ),
    _guard(
        "a-defined-vm-is-missed",
        "or (claim.state is not State.ABSENT and claim.persistent)",
        "",
        "3: it had VMs",
    ),
    _guard(
        "a-stopped-transient-vm-is-not-missed",
        "or (claim.state is not State.ABSENT and claim.persistent)",
        "or claim.state is not State.ABSENT",
        "2: a transient VM vanishes without another event",
    ),
    _guard(
        "an-undefined-vm-is-not-missed",
        "or (claim.state is not State.ABSENT and claim.persistent)",
        "or claim.persistent is not False",
        "2: the last VM of a node may be undefined",
    ),
    _guard(
        "a-vm-that-left-is-not-missed",
        "if not claim.departed and _was_there(claim, snapshot)",
        "if _was_there(claim, snapshot)",
        "5: the last VM of a node may leave with its definition",
    ),
    _guard(
        "a-vm-that-came-after-the-listing-is-not-missed",
        "if not claim.departed and _was_there(claim, snapshot)",
        "if not claim.departed",
        "2: a snapshot never overwrites a newer event",
    ),
    _guard(
        "a-vm-that-began-to-run-after-the-listing-is-not-missed",
        "return claim.stated <= snapshot and (claim.told in ACTIVE or claim.mark <= snapshot)",
        "return claim.told in ACTIVE or claim.mark <= snapshot",
        "2: a snapshot never overwrites a newer event",
    ),
    _guard(
        "a-vm-that-was-defined-after-the-listing-is-not-missed",
        "return claim.stated <= snapshot and (claim.told in ACTIVE or claim.mark <= snapshot)",
        "return claim.stated <= snapshot",
        "2: a snapshot never overwrites a newer event",
    ),
    _guard(
        "an-active-vm-is-missed-also-if-it-was-spoken-of-since",
        "return claim.stated <= snapshot and (claim.told in ACTIVE or claim.mark <= snapshot)",
        "return claim.stated <= snapshot and claim.mark <= snapshot",
        "3: it had VMs",
    ),
)

GUARDS = (*LISTINGS, *EMPTINESS)
