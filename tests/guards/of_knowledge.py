"""Guards of `panel/knowledge.py` and `panel/problems.py`: what is known, and what is kept of it."""

from tests.guards.guard import Guard

KNOWLEDGE, PROBLEMS = "panel/knowledge.py", "panel/problems.py"


def _of_knowledge(name: str, text: str, replacement: str, keeps: str) -> Guard:
    return Guard(name, KNOWLEDGE, text, replacement, keeps)


def _of_problems(name: str, text: str, replacement: str, keeps: str) -> Guard:
    return Guard(name, PROBLEMS, text, replacement, keeps)


KNOWN = (
    _of_knowledge(
        "another-runs-token-is-no-answer",
        "if run == self.run and number",
        "if number",
        "3: a listing from before the panel's start proves nothing",
    ),
    _of_knowledge(
        "a-start-asks-all-nodes",
        "self.nodes[name] = replace(node, wanted=self.next_token())",
        "self.nodes[name] = node",
        "3: what happened meanwhile no one told",
    ),
    _of_knowledge(
        "doubt-reaches-the-picture",
        "if (node := self.nodes.get(name)) and node.doubted}",
        "if (node := self.nodes.get(name)) and False}",
        "3: VMs of a silent node are unknown",
    ),
    _of_knowledge(
        "a-departure-is-found",
        "            if claim.departed:\n                self.departing.add(uuid)\n",
        "            if False:\n                self.departing.add(uuid)\n",
        "5: it ends by itself",
    ),
    _of_knowledge(
        "a-departure-that-is-over-is-not-looked-for",
        "elif uuid in self.departing and not any(one.departed for one in self.vms[uuid].values()):",
        "elif False:",
        "5: nodes are asked only for what is missing",
    ),
    _of_knowledge(
        "another-nodes-departure-is-not-over",
        "elif uuid in self.departing and not any(one.departed for one in self.vms[uuid].values()):",
        "elif uuid in self.departing:",
        "5: it ends by itself",
    ),
    _of_knowledge(
        "a-forgotten-vm-has-no-disks",
        "        self.devices.pop((uuid, node), None)\n",
        "",
        "6: only what the last inventories said",
    ),
    _of_knowledge(
        "a-departure-in-a-draft-is-found",
        "        if claim is not None and claim.departed:\n            self.departing.add(uuid)\n",
        "",
        "5: both ends may tell in one report",
    ),
    _of_knowledge(
        "an-arrival-ends-a-departure",
        "        if self.is_departing(uuid):\n",
        "        if False:\n",
        "5: what was told of the source counts again",
    ),
    _of_knowledge(
        "a-departure-of-an-earlier-report-is-found",
        "return under.is_departing(uuid) if isinstance(under, Draft) else uuid in under.departing",
        "return under.is_departing(uuid) if isinstance(under, Draft) else False",
        "5: the ends tell in reports of their own",
    ),
    _of_knowledge(
        "a-departure-of-the-same-transaction-is-found",
        "return under.is_departing(uuid) if isinstance(under, Draft) else uuid in under.departing",
        "return False if isinstance(under, Draft) else uuid in under.departing",
        "5: several reports are one transaction",
    ),
    _of_knowledge(
        "a-savepoints-departure-outlives-it",
        "            under.departing |= self.departing\n",
        "",
        "5: several reports are one transaction",
    ),
    _of_knowledge(
        "all-departures-are-looked-for",
        "return self.departing | (under.all_departing() if isinstance(under, Draft) else under.departing)",
        "return self.departing",
        "5: it ends by itself",
    ),
    _of_knowledge(
        "a-drafts-claims-are-seen-by-node",
        "            if owner == node:\n                if claim is None:\n",
        "            if False:\n                if claim is None:\n",
        "2: the listing of the same report knows its events",
    ),
    _of_knowledge(
        "a-drafts-claims-are-seen-by-vm",
        "            if of == uuid:\n",
        "            if False:\n",
        "5: both ends may tell in one report",
    ),
    _of_knowledge(
        "a-key-at-the-base-is-kept",
        "under.keys.get(key, ()) if seq >= base}",
        "under.keys.get(key, ()) if seq > base}",
        "9: every event is registered once",
    ),
    _of_knowledge(
        "a-drafts-keys-are-known",
        "self._under.unknown(key, seqs) if seq >= base}.difference(self.keys.get(key, ()))",
        "self._under.unknown(key, seqs) if seq >= base}",
        "9: every event is registered once",
    ),
    _of_knowledge(
        "a-finished-installation-is-left-alone",
        "        return [found for found in under.values() if found.node == node and found.unfinished]",
        "        return [found for found in under.values() if found.node == node]",
        "7: its outcome is decided once",
    ),
    _of_knowledge(
        "an-installation-is-on-its-node",
        "        return [found for found in under.values() if found.node == node and found.unfinished]",
        "        return [found for found in under.values() if found.unfinished]",
        "7: another node's listing tells nothing of it",
    ),
)

PROBLEM = (
    _of_problems(
        "a-problem-keeps-its-beginning",
        "problems.problems[key] = seen if before.is_open else _reopen(seen, now)",
        "problems.problems[key] = replace(seen, first=now) if before.is_open else _reopen(seen, now)",
        "Problems: since when",
    ),
    _of_problems(
        "a-problem-that-comes-back-begins-anew",
        "opened = replace(before, first=now, phase=phase, closed=0.0)",
        "opened = replace(before, phase=phase, closed=0.0)",
        "Problems: since when",
    ),
    _of_problems(
        "a-lasting-problem-is-not-counted",
        "    if before is None or not before.is_open or before.gone:\n",
        "    if True:\n",
        "6: as the same problem, not as a new one each minute",
    ),
    _of_problems(
        "a-solved-problem-is-opened-again",
        "    if before is None or not before.is_open or before.gone:\n",
        "    if before is None:\n",
        "6: it reopens as the same problem",
    ),
    _of_problems(
        "a-lasting-problem-is-not-written",
        "if (before.level, before.text) != (str(level), text[:MAX_TEXT]):",
        "if True:",
        "Problems: a state that lasts costs no transaction each second",
    ),
    _of_problems(
        "a-problem-tells-what-is-wrong-now",
        "if (before.level, before.text) != (str(level), text[:MAX_TEXT]):",
        "if False:",
        "6: it names the nodes as they are now",
    ),
    _of_problems(
        "a-solved-problem-is-closed-once",
        "    if before is None or not before.is_open:\n        return False",
        "    if before is None:\n        return False",
        "Problems: when it was solved",
    ),
    _of_problems(
        "only-open-problems-are-closed",
        "if problem.type == kind and problem.is_open]",
        "if problem.type == kind]",
        "Problems: when it was solved",
    ),
    _of_problems(
        "only-a-types-own-problems-are-closed",
        "if problem.type == kind and problem.is_open]",
        "if problem.is_open]",
        "Problems: each type has a life of its own",
    ),
)

GUARDS = (*KNOWN, *PROBLEM)
