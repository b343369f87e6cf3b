"""Guards of `panel/duplicates.py` and `panel/inquiry.py`: what must not be twice, and when all have listed."""

from tests.guards.guard import Guard

DUPLICATES, INQUIRY = "panel/duplicates.py", "panel/inquiry.py"


def _guard(name: str, text: str, replacement: str, keeps: str) -> Guard:
    return Guard(name, DUPLICATES, text, replacement, keeps)


def _of_inquiry(name: str, text: str, replacement: str, keeps: str) -> Guard:
    return Guard(name, INQUIRY, text, replacement, keeps)


CONFIRMING = (
    _guard(
        "an-open-duplicate-needs-no-new-proof",
        "if known is not None and known.is_open:",
        "if False:",
        "6: a problem names the nodes as they are now",
    ),
    _guard(
        "a-duplicate-has-grace",
        "return now - candidate.since >= GRACE_S and candidate",
        "return candidate",
        "6: for longer than the grace period",
    ),
    _guard(
        "a-duplicate-is-confirmed",
        "return now - candidate.since >= GRACE_S and candidate.inquiry.is_answered(draft, self._nodes(subject))",
        "return now - candidate.since >= GRACE_S",
        "6: confirmed by fresh messages of both",
    ),
    _guard(
        "a-duplicate-keeps-its-beginning",
        "        elif subject not in self._found:\n",
        "        else:\n",
        "6: since when it is one, whatever else changes",
    ),
    _guard(
        "a-duplicate-that-is-gone-is-none",
        "            self._found.pop(subject, None)\n",
        "",
        "6: it closes itself when it is gone",
    ),
    _guard(
        "a-start-closes-no-duplicate",
        "is_known = all_listed or not subject.startswith(_DISK)",
        "is_known = True",
        "6: it closes when it is gone, not when the panel has not heard of it yet",
    ),
    _guard(
        "a-node-that-is-away-keeps-open-what-needs-no-disks",
        "is_known = all_listed or not subject.startswith(_DISK)",
        "is_known = all_listed",
        "6: it closes itself when it is gone, whatever other nodes do",
    ),
    _guard(
        "who-never-lists-keeps-none-open",
        "return node is None or not node.seen or node.answered > 0",
        "return node is None or node.answered > 0",
        "6: it closes itself, also beside a node that speaks `vm.event`",
    ),
    _guard(
        "a-duplicate-closes",
        "if is_known and subject not in self._found:",
        "if False:",
        "6: it closes itself when it is gone",
    ),
    _guard(
        "a-duplicate-stays-open",
        "if is_known and subject not in self._found:",
        "if is_known:",
        "6: while it is there",
    ),
)

FINDING = (
    _guard("one-node-is-no-duplicate", "len(part.nodes) > 1", "len(part.nodes) > 0", "6: active on two nodes"),
    _guard("one-vm-of-a-name-is-none", "len(self._by_name.of(name)) > 1", "True", "6: one name under two UUIDs"),
    _guard("one-vm-of-a-disk-is-none", "len(self._by_disk.of(disk)) > 1", "True", "6: one disk, two running VMs"),
    _guard(
        "who-has-it-not-is-no-part",
        "if claim.state is not State.ABSENT}",
        "}",
        "6: what is gone is no duplicate",
    ),
    _guard(
        "only-holders-are-duplicates",
        "held = frozenset(node for node, claim in claims.items() if claim.is_held)",
        "held = frozenset(claims)",
        "6: active on two nodes, with no migration under way",
    ),
    _guard(
        "only-what-runs-writes",
        "for node in held for disk in draft.disks(uuid, node)",
        "for node in claims for disk in draft.disks(uuid, node)",
        "6: written by two running VMs",
    ),
    _guard(
        "the-holder-tells-the-name",
        "key=lambda claim: (claim.is_held, claim.turn)",
        "key=lambda claim: claim.turn",
        "6: an old definition elsewhere is no second VM of its name",
    ),
    _guard(
        "the-newest-definition-tells-the-name",
        "key=lambda claim: (claim.is_held, claim.turn)",
        "key=lambda claim: (claim.is_held, -claim.turn)",
        "6: an old definition elsewhere is no second VM of its name",
    ),
    _guard(
        "a-disk-is-on-a-machine",
        'return _DISK + path + (f" of {on}" if on else "")',
        "return _DISK + path",
        "6: one path on two machines is two disks",
    ),
    _guard(
        "a-name-is-asked-for-everywhere",
        "return part.everywhere if subject.startswith(_NAME) else part.nodes",
        "return part.nodes",
        "6: confirmed by fresh messages of all that have it, also stopped",
    ),
    _guard(
        "a-stopped-twin-is-not-asked-for",
        "return part.everywhere if subject.startswith(_NAME) else part.nodes",
        "return part.everywhere",
        "6: a node that only has a definition is no part of a duplicate",
    ),
)

ASKING = (
    _of_inquiry(
        "who-has-no-signs-of-life-is-not-waited-for",
        "if node is None or not node.seen:",
        "if node is None:",
        "3: a node that speaks `vm.event` lists nothing",
    ),
    _of_inquiry(
        "a-lost-wish-is-made-again",
        "if asked is None or (node.answered < asked and not node.wanted):",
        "if asked is None:",
        "5, 6: it ends by itself",
    ),
    _of_inquiry(
        "an-answered-wish-is-not-made-again",
        "if asked is None or (node.answered < asked and not node.wanted):",
        "if asked is None or not node.wanted:",
        "5, 6: a node that is asked anew each second never answers the last question",
    ),
    _of_inquiry(
        "a-wish-under-way-is-not-made-again",
        "if asked is None or (node.answered < asked and not node.wanted):",
        "if asked is None or node.answered < asked:",
        "5, 6: a node that is asked anew each second never answers the last question",
    ),
    _of_inquiry(
        "all-have-to-answer",
        "answered = answered and not node.doubted",
        "answered = not node.doubted",
        "5, 6: fresh messages of both",
    ),
    _of_inquiry(
        "a-doubted-answer-is-none",
        "answered and not node.doubted and node.answered >= asked",
        "answered and node.answered >= asked",
        "3: its word does not count",
    ),
    _of_inquiry(
        "an-earlier-listing-is-no-answer",
        "answered and not node.doubted and node.answered >= asked",
        "answered and not node.doubted",
        "5, 6: fresh messages of both",
    ),
)

GUARDS = (*CONFIRMING, *FINDING, *ASKING)
