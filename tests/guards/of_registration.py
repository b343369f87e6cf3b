"""Guards of `panel/registration.py`: what a report adds to what is known."""

from tests.guards.guard import Guard

FILE = "panel/registration.py"


def _guard(name: str, text: str, replacement: str, keeps: str) -> Guard:
    return Guard(name, FILE, text, replacement, keeps)


def _known(name: str, text: str, replacement: str, keeps: str) -> Guard:
    return Guard(name, "panel/knowledge.py", text, replacement, keeps)


REGISTERING = (
    _known(
        "below-the-base-all-is-known",
        "return {seq for seq in seqs if seq >= base}.difference",
        "return set(seqs).difference",
        "9: every event is registered once",
    ),
    _known(
        "at-the-base-nothing-is-known-by-itself",
        "return {seq for seq in seqs if seq >= base}.difference",
        "return {seq for seq in seqs if seq > base}.difference",
        "9: every event is registered",
    ),
    _known(
        "a-key-is-known",
        "return {seq for seq in seqs if seq >= base}.difference(self.keys.get(key, ()))",
        "return {seq for seq in seqs if seq >= base}",
        "9: every event is registered once",
    ),
    _guard(
        "a-registered-message-is-remembered",
        "        draft.keys.setdefault(key, set()).update(taken)\n",
        "        pass\n",
        "9: every event is registered once",
    ),
    _guard("after-a-refusal-a-listing", "    if verdict.refused:\n", "    if False:\n", "3: the picture may lag now"),
    _guard(
        "a-closed-epoch-stays-closed",
        "    if not closed:\n",
        "    if True:\n",
        "vmwatch.report: what still comes of it is refused",
    ),
    _guard(
        "an-active-epoch-is-open",
        "or now - epoch.active <= EPOCH_CLOSES_S:",
        "or False:",
        "vmwatch.report: it closes after 30 days",
    ),
    _guard(
        "only-an-older-epoch-closes",
        "return 0 < key[1] < node.newest_epoch",
        "return 0 < key[1]",
        "vmwatch.report: older than the node's newest",
    ),
    _guard(
        "no-epoch-never-closes",
        "return 0 < key[1] < node.newest_epoch",
        "return key[1] < node.newest_epoch",
        "vm.event without a key is of no epoch",
    ),
    _guard(
        "messages-keep-an-epoch-open",
        "now if active else epoch.active)",
        "epoch.active)",
        "vmwatch.report: activity",
    ),
    _guard(
        "a-sign-of-life-keeps-no-epoch-open",
        "now if active else epoch.active)",
        "now)",
        "vmwatch.report: the last message counts",
    ),
    _guard(
        "a-base-never-goes-down",
        "Epoch(max(epoch.base, entry.base),",
        "Epoch(entry.base,",
        "9: a late frame makes nothing new",
    ),
    _guard(
        "a-new-epoch-is-stored",
        "    before = draft.epoch(key)\n    draft.durable |= before is None\n",
        "    before = draft.epoch(key)\n",
        "9: it outlives a restart of the panel",
    ),
)

NODES = (
    _guard(
        "a-new-node-lists",
        "node = before or Node(wanted=draft.next_token())",
        "node = before or Node()",
        "3: what it said earlier may have been settled with a panel that knew more",
    ),
    _guard(
        "messages-are-stored",
        "draft.durable |= bool(entry.messages) or entry.live",
        "draft.durable |= entry.live",
        "9: every event is registered",
    ),
    _guard(
        "a-sign-of-life-is-stored",
        "draft.durable |= bool(entry.messages) or entry.live",
        "draft.durable |= bool(entry.messages)",
        "01: its success tells a poison from an outage",
    ),
    _guard("a-message-is-no-sign-of-life", "    if entry.live:\n", "    if True:\n", "3: a recording proves nothing"),
    _guard(
        "the-newest-epoch-never-goes-down",
        "newest_epoch=max(node.newest_epoch, entry.epoch),",
        "newest_epoch=entry.epoch,",
        "02: newest_epoch is the newest that the panel knows",
    ),
    _guard(
        "a-report-without-a-status-changes-none",
        "status=_text(entry.status) or node.status,",
        "status=_text(entry.status),",
        "3: also while it says that libvirt does not answer",
    ),
    _guard(
        "a-status-that-is-no-text-is-not-kept",
        '    except UnicodeDecodeError:\n        return b""\n',
        "    except UnicodeDecodeError:\n        pass\n",
        "9: it could not be stored, and every report with it would fail",
    ),
)

INVENTORIES = (
    _guard(
        "another-token-is-no-answer",
        "if inventory.token and inventory.token == node.wanted:",
        "if inventory.token:",
        "3: a listing from before the question is no answer",
    ),
    _guard(
        "an-answered-wish-ends",
        "if inventory.token and inventory.token == node.wanted:",
        "if False:",
        "3: one listing for one token",
    ),
    _guard(
        "a-wish-that-is-answered-under-an-old-number-is-another-one",
        "if token and token == draft.nodes[entry.node].wanted:",
        "if False:",
        "3: the master takes a wish for answered when its answer is settled",
    ),
    _guard(
        "a-wish-is-answered-by-its-own-answer",
        "if token and token == draft.nodes[entry.node].wanted:",
        "if token:",
        "3: a listing that comes twice asks for none",
    ),
    _guard(
        "one-empty-listing-is-not-enough",
        "if is_suddenly_empty(may_be_missed, entry.epoch, inventory) and not _is_second(node, entry.epoch, now):",
        "if False:",
        "3: a suddenly empty inventory waits for a second one",
    ),
    _guard(
        "two-empty-listings-are-enough",
        "if is_suddenly_empty(may_be_missed, entry.epoch, inventory) and not _is_second(node, entry.epoch, now):",
        "if is_suddenly_empty(may_be_missed, entry.epoch, inventory):",
        "3: a second empty one is believed",
    ),
    _guard(
        "a-vm-that-arrived-elsewhere-is-not-missed",
        "may_be_missed = claims if inventory.domains else _not_elsewhere(draft, claims)",
        "may_be_missed = claims",
        "5: the last VM of a node may leave with its definition",
    ),
    _guard(
        "a-running-vm-is-missed-also-if-it-runs-elsewhere",
        "if claim.told in ACTIVE or not any(",
        "if not any(",
        "3: it had VMs",
    ),
    _guard(
        "a-stopped-vm-is-missed-unless-it-runs-elsewhere",
        "if claim.told in ACTIVE or not any(other.is_held for other in draft.claims_of_vm(uuid).values())",
        "if claim.told in ACTIVE",
        "3: it had VMs",
    ),
    _guard(
        "the-first-empty-listing-counts",
        "if node.emptied[0] != entry.epoch or now < node.emptied[1]:",
        "if True:",
        "3: 60 s after the first one, however many come between",
    ),
    _guard(
        "emptiness-is-of-one-epoch",
        "if node.emptied[0] != entry.epoch or now < node.emptied[1]:",
        "if not node.emptied[0] or now < node.emptied[1]:",
        "3: of the same epoch",
    ),
    _guard(
        "a-clock-that-went-back-begins-the-wait-anew",
        "if node.emptied[0] != entry.epoch or now < node.emptied[1]:",
        "if node.emptied[0] != entry.epoch:",
        "3: it ends by itself, also when the panel's clock went back",
    ),
    _guard(
        "a-second-one-is-of-the-same-epoch",
        "return node.emptied[0] == epoch and now - node.emptied[1] >= EMPTY_AGAIN_S",
        "return node.emptied[0] != 0 and now - node.emptied[1] >= EMPTY_AGAIN_S",
        "3: of the same epoch",
    ),
    _guard(
        "a-second-one-is-later",
        "return node.emptied[0] == epoch and now - node.emptied[1] >= EMPTY_AGAIN_S",
        "return node.emptied[0] == epoch",
        "3: at least 60 s later",
    ),
    _guard(
        "an-empty-listing-is-doubted-at-once",
        "doubted=node.doubted or now, doubt=node.doubt or EMPTY, proof=0)\n        return\n",
        "doubted=node.doubted, doubt=node.doubt, proof=0)\n        return\n",
        "3: its VMs are unknown from the first one on",
    ),
    _guard(
        "a-full-listing-ends-an-emptiness",
        "node = replace(node, emptied=(0, 0.0), answered=max(node.answered, number))",
        "node = replace(node, answered=max(node.answered, number))",
        "3: VMs that are listed again were never gone",
    ),
    _guard(
        "an-answer-is-noted",
        "node = replace(node, emptied=(0, 0.0), answered=max(node.answered, number))",
        "node = replace(node, emptied=(0, 0.0))",
        "5, 6: fresh messages of both",
    ),
    _guard(
        "a-late-answer-takes-none-back",
        "answered=max(node.answered, number))",
        "answered=number)",
        "5, 6: who has answered has answered",
    ),
    _guard(
        "a-doubt-ends-with-a-proof",
        "if node.doubted and node.proof and number >= node.proof:",
        "if False:",
        "3: it ends by itself, with an inventory listed after the silence",
    ),
    _guard(
        "a-doubt-without-a-proof-stays",
        "if node.doubted and node.proof and number >= node.proof:",
        "if node.doubted and number >= node.proof:",
        "3: an hour-old listing does not end it",
    ),
    _guard(
        "an-earlier-listing-is-no-proof",
        "if node.doubted and node.proof and number >= node.proof:",
        "if node.doubted and node.proof:",
        "3: an hour-old listing does not end it",
    ),
    _guard(
        "a-listing-sets-the-floor",
        "        node = replace(node, floor=effect.floor)\n",
        "",
        "2: nor an older snapshot a newer",
    ),
    _guard(
        "an-older-listing-tells-no-installation",
        "    if effect is not None:\n        _tell_installations(",
        "    if True:\n        _tell_installations(",
        "7: an end is counted once",
    ),
    _guard(
        "a-listing-is-fresh-by-its-token",
        "fresh = number > 0 and number >= before.asked",
        "fresh = number >= before.asked",
        "7: a listing from before the question is no answer",
    ),
    _guard(
        "an-earlier-listing-is-not-fresh",
        "fresh = number > 0 and number >= before.asked",
        "fresh = number > 0",
        "7: a listing from before the question is no answer",
    ),
    _guard(
        "another-nodes-events-end-no-installation",
        "if installation is not None and installation.node == entry.node:",
        "if installation is not None:",
        "7: the VM is installed on its node",
    ),
)

GUARDS = (*REGISTERING, *NODES, *INVENTORIES)
