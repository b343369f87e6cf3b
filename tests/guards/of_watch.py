"""Guards of `panel/watch.py`: what time alone changes."""

from tests.guards.guard import Guard

FILE = "panel/watch.py"


def _guard(name: str, text: str, replacement: str, keeps: str) -> Guard:
    return Guard(name, FILE, text, replacement, keeps)


HEARING = (
    _guard(
        "a-master-that-comes-back-has-time",
        "        if now - self._reported_at > MASTER_SILENT_S:\n            self._counts_from = now\n",
        "",
        "3: silence counts from the master's return",
    ),
    _guard("a-sign-of-life-is-heard", "voice.heard_at = now", "pass", "3: silence counts from the last sign"),
    _guard(
        "an-older-epoch-is-noticed",
        "if epoch < voice.epoch and voice.older_since is None:",
        "if False:",
        "3: two agents under one node_id",
    ),
    _guard(
        "going-back-is-counted-once",
        "if epoch < voice.epoch and voice.older_since is None:",
        "if epoch < voice.epoch:",
        "3: one agent that stays in an older epoch is not two",
    ),
    _guard(
        "a-newer-epoch-is-no-going-back",
        "if epoch < voice.epoch and voice.older_since is None:",
        "if epoch != voice.epoch and voice.older_since is None:",
        "3: the restart of an agent is no conflict",
    ),
    _guard("the-newest-epoch-counts", "elif epoch >= voice.epoch:", "else:", "3: an older epoch stays an older one"),
)

DOUBT = (
    _guard(
        "a-doubt-is-stored",
        "draft.durable |= (after.doubted, after.doubt) != (node.doubted, node.doubt)",
        "pass",
        "3: a silence outlives a restart of the panel",
    ),
    _guard(
        "an-emptiness-is-doubted",
        'or (EMPTY if node.emptied[0] else "")',
        'or ""',
        "3: a suddenly empty inventory waits for a second one",
    ),
    _guard(
        "a-second-empty-listing-is-asked-for",
        "if reason == EMPTY and not 0 <= wall - node.emptied[1] < EMPTY_AGAIN_S and not node.wanted:",
        "if False:",
        "3: it ends by itself",
    ),
    _guard(
        "a-second-empty-listing-is-asked-for-late",
        "if reason == EMPTY and not 0 <= wall - node.emptied[1] < EMPTY_AGAIN_S and not node.wanted:",
        "if reason == EMPTY and not node.wanted:",
        "3: at least 60 s later; until then no node is asked each second",
    ),
    _guard(
        "a-clock-that-went-back-ends-no-wait",
        "not 0 <= wall - node.emptied[1] < EMPTY_AGAIN_S",
        "not wall - node.emptied[1] < EMPTY_AGAIN_S",
        "3: it ends by itself, also when the panel's clock went back",
    ),
    _guard(
        "one-wish-at-a-time",
        "< EMPTY_AGAIN_S and not node.wanted:",
        "< EMPTY_AGAIN_S:",
        "3: a node that is asked anew each second never answers the last question",
    ),
    _guard(
        "a-second-silence-needs-a-second-proof",
        "if reason == node.doubt and not node.proof:",
        "if reason == node.doubt:",
        "3: a silence ends with a listing that was asked for after it",
    ),
    _guard(
        "a-doubt-keeps-its-beginning",
        "return replace(node, doubted=node.doubted or wall, doubt=reason, proof=0)",
        "return replace(node, doubted=wall, doubt=reason, proof=0)",
        "3: unknown since the first reason",
    ),
    _guard(
        "an-older-proof-ends-no-newer-doubt",
        "return replace(node, doubted=node.doubted or wall, doubt=reason, proof=0)",
        "return replace(node, doubted=node.doubted or wall, doubt=reason)",
        "3: a silence ends with a listing that was asked for after it",
    ),
    _guard(
        "a-proof-is-asked-for",
        "if node.doubted and not node.proof:",
        "if False:",
        "3: it ends by itself, with an inventory that the panel asks for",
    ),
    _guard(
        "a-proof-is-asked-for-once",
        "if node.doubted and not node.proof:",
        "if node.doubted:",
        "3: a node that is asked anew each second never answers the last question",
    ),
)

REASONS = (
    _guard(
        "who-has-no-signs-of-life-is-not-silent",
        "if not node.seen:",
        "if False:",
        "3: a node that speaks `vm.event` has no signs of life",
    ),
    _guard(
        "without-reports-nobody-is-known",
        "        if now - self._reported_at > MASTER_SILENT_S:\n            return NO_REPORT\n",
        "",
        "3: all nodes are silent while no report comes from the master",
    ),
    _guard(
        "silence-counts-from-the-last-sign",
        "heard_at = max(voice.heard_at if voice else 0.0, self._counts_from)",
        "heard_at = self._counts_from",
        "3: silence counts from the last sign",
    ),
    _guard(
        "silence-counts-from-the-start",
        "heard_at = max(voice.heard_at if voice else 0.0, self._counts_from)",
        "heard_at = voice.heard_at if voice else 0.0",
        "3: silence counts from the panel's start and the master's return",
    ),
    _guard(
        "silence-is-noticed",
        "if now - heard_at > SILENT_AFTER_INTERVALS * node.interval:",
        "if False:",
        "3: a node is silent after 3 of its intervals",
    ),
    _guard(
        "silence-is-measured-in-the-nodes-intervals",
        "if now - heard_at > SILENT_AFTER_INTERVALS * node.interval:",
        "if now - heard_at > SILENT_AFTER_INTERVALS * 10.0:",
        "3: of its own intervals",
    ),
    _guard(
        "two-agents-are-noticed",
        "            return TWO_AGENTS\n",
        "            pass\n",
        "3: neither of two agents under one node_id is believed blindly",
    ),
    _guard(
        "one-step-back-is-no-conflict",
        "if len(voice.went_back) == AGENTS_ALTERNATE and now",
        "if voice.went_back and now",
        "3: a late frame of the run before is no second agent",
    ),
    _guard(
        "a-conflict-ends",
        " and now - voice.went_back[0] < AGENTS_ALTERNATE_S:",
        ":",
        "3: it ends by itself when one of the two was stopped",
    ),
    _guard(
        "an-old-epoch-is-not-believed",
        "            return OLD_EPOCH\n",
        "            pass\n",
        "3: of what an older epoch says nothing changes the picture",
    ),
    _guard(
        "an-old-epoch-has-time-to-change",
        "if voice.older_since is not None and now - voice.older_since > SILENT_AFTER_INTERVALS * node.interval:",
        "if voice.older_since is not None:",
        "3: a late frame of the run before is no agent that stays there",
    ),
    _guard(
        "libvirt-that-does-not-answer-is-doubted",
        'return "" if _answers(voice, node.status) else NO_LIBVIRT',
        'return ""',
        "3: also while it says that libvirt does not answer",
    ),
    Guard(
        "a-strange-status-is-no-silence",
        "shared/nodestatus.py",
        "        return True\n",
        "        return False\n",
        "3: the status may be anything",
    ),
    _guard(
        "each-status-is-read",
        "if status is not voice.status:",
        "if not voice.status:",
        "3: it ends by itself when libvirt answers again",
    ),
)

TELLING = (
    _guard(
        "a-master-without-nodes-is-not-missed",
        "if silent and any(node.seen for node in nodes.values()):",
        "if silent:",
        "Problems: before the first node there is nothing to report",
    ),
    _guard(
        "a-master-that-is-back-is-no-problem",
        "elif not silent and stopped is not None and self._disproves(stopped, now, wall):",
        "elif False:",
        "Problems: they close themselves",
    ),
    *(
        _guard(f"{word}-is-a-problem", f"{reason}: Kind.{kind}", f'"{reason}": Kind.{kind}', "Problems: of this type")
        for word, reason, kind in (
            ("silence", "NO_LIFE", "NODE_SILENT"),
            ("libvirt-that-does-not-answer", "NO_LIBVIRT", "NODE_SILENT"),
            ("a-conflict", "TWO_AGENTS", "ID_CONFLICT"),
        )
    ),
    _guard(
        "a-problem-outlives-another-reason",
        "            elif node.doubted:\n",
        "            elif False:\n",
        "Problems: what was wrong may still be",
    ),
    _guard("a-node-that-is-back-is-no-problem", "if (kind, name) not in held:", "if False:", "Problems: they close"),
    _guard("a-silent-node-stays-a-problem", "if (kind, name) not in held:", "if True:", "Problems: while it lasts"),
    _guard(
        "a-problem-of-a-listed-node-stays",
        "if name not in nodes and draft.node(name) is not None:",
        "if draft.node(name) is not None:",
        "Problems: while the node is there",
    ),
    _guard(
        "a-strangers-problem-stays",
        "if name not in nodes and draft.node(name) is not None:",
        "if name not in nodes:",
        "Problems: others report some too",
    ),
    _guard(
        "what-is-left-of-a-removed-node-ends",
        "        self._end_with_removal(draft, nodes, wall)\n",
        "",
        "Problems: nobody would look at them again",
    ),
    _guard(
        "a-failed-installation-ends-with-its-vm",
        "        self._end_with_vms(draft, nodes, wall)\n",
        "",
        "Problems: nobody can begin it again",
    ),
    _guard(
        "a-doubted-node-may-have-the-vm",
        "if not failed or any((node := draft.node(name)) and node.doubted for name in nodes):",
        "if not failed:",
        "Problems: unknown is not gone",
    ),
    _guard(
        "a-strangers-failed-installation-stays",
        "if draft.installation(uuid) is not None and judge(",
        "if judge(",
        "Problems: others report some too",
    ),
    _guard(
        "a-failed-installation-of-a-vm-that-is-there-stays",
        "judge(draft.claims_of_vm(uuid), {}) is None:",
        "True:",
        "Problems: until a later one succeeds",
    ),
)

DEPARTURES = (
    _guard(
        "a-departure-has-time",
        "return bool(claim.departed) and not 0.0 <= wall - claim.departed <= ARRIVES_WITHIN_S",
        "return bool(claim.departed)",
        "5: the destination's word may come later",
    ),
    _guard(
        "a-clock-that-went-back-ends-a-departure",
        "not 0.0 <= wall - claim.departed <= ARRIVES_WITHIN_S",
        "not wall - claim.departed <= ARRIVES_WITHIN_S",
        "5: it ends by itself, also when the panel's clock went back",
    ),
    _guard(
        "only-who-left-is-overdue",
        "return bool(claim.departed) and not 0.0 <=",
        "return not 0.0 <=",
        "5: who has not left is not touched",
    ),
    _guard(
        "all-nodes-are-asked",
        "        if not self._inquiry.is_answered(draft, names):\n            return\n",
        "",
        "5: unknown until every node has said that it does not have it",
    ),
    _guard(
        "an-inquiry-is-for-its-own-departures",
        "missed = waiting & self._missed",
        "missed = waiting",
        "5: a listing from before a departure says nothing of it",
    ),
    _guard(
        "an-inquiry-is-spent",
        "        self._inquiry = None\n        # Of what",
        "        # Of what",
        "5: a listing from before a departure says nothing of it",
    ),
    _guard(
        "who-was-looked-for-changed-last",
        "draft.set_claim(uuid, name, replace(claim, turn=draft.next_turn()))",
        "draft.set_claim(uuid, name, claim)",
        "1: among stopped claims the one that changed last speaks",
    ),
    _guard(
        "the-end-of-a-departure-is-stored",
        "                draft.durable = True\n",
        "",
        "5: what is shown outlives a restart of the panel",
    ),
)

GUARDS = (*HEARING, *DOUBT, *REASONS, *TELLING, *DEPARTURES)
