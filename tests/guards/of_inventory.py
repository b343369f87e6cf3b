"""Guards of `node/inventory.py`: what the picture rests on at the node."""

from tests.guards.guard import Guard

FILE = "node/inventory.py"


def _guard(name: str, text: str, replacement: str, keeps: str) -> Guard:
    return Guard(name, FILE, text, replacement, keeps)


LISTING = (
    _guard(
        "a-listing-that-fails-in-part-is-none",
        "if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN or attempt + 1 == _TRIES:",
        "if attempt + 1 == _TRIES:",
        "3: a failed listing is no data",
    ),
    _guard(
        "a-domain-that-vanishes-fails-no-listing",
        "if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN or attempt + 1 == _TRIES:",
        "if True:",
        "2: a complete snapshot",
    ),
    _guard(
        "as-of-is-from-before-the-listing",
        "return Inventory(seq=0, time=wall, as_of=as_of, domains=domains, token=token)",
        "return Inventory(seq=0, time=wall, as_of=as_of + 1, domains=domains, token=token)",
        "2: a snapshot never overwrites a newer event",
    ),
    _guard(
        "a-listing-is-of-one-epoch",
        "if begun_epoch != epoch:",
        "if False:",
        "01: a listing that was begun in an earlier epoch is thrown away",
    ),
    _guard(
        "a-listing-thrown-away-is-repeated",
        "            self._token = self._token or token\n            self.due_at = now\n",
        "            self._token = self._token or token\n",
        "01: thrown away and repeated",
    ),
    _guard(
        "a-wish-outlives-a-listing-thrown-away",
        "            self._token = self._token or token\n            self.due_at = now\n",
        "            self.due_at = now\n",
        "02: the inventory echoes the token",
    ),
    _guard(
        "a-wish-outlives-a-failure",
        "        token = self._end()[3]\n        self._token = self._token or token\n",
        "        self._end()\n",
        "02: the inventory echoes the token",
    ),
    _guard(
        "a-listing-echoes-its-own-token",
        "as_of=as_of, domains=domains, token=token)",
        "as_of=as_of, domains=domains, token=self._token or token)",
        "3: a listing from before the question is no answer",
    ),
    _guard(
        "a-token-is-echoed-once",
        '        self._token = ""\n        self._changed.clear()\n',
        "        self._changed.clear()\n",
        "3: a listing from before the question is no answer",
    ),
    _guard(
        "a-failure-is-tried-again-later",
        "        self.due_at = now + wait_s\n",
        "        self.due_at = now\n",
        "3: a failed listing is no data",
    ),
)

WISHES = (
    _guard(
        "a-wish-that-waits-changes-nothing",
        "if token == self._token or listing or",
        "if listing or",
        "a failing libvirt is not pressed by a wish that is repeated",
    ),
    _guard(
        "a-wish-that-is-listed-for-changes-nothing",
        "if token == self._token or listing or",
        "if token == self._token or",
        "02: one listing per token",
    ),
    _guard(
        "a-wish-that-was-listed-for-changes-nothing",
        "or (token == last and now - at < TOKEN_AGAIN_S):",
        "or False:",
        "02: one listing per token",
    ),
    _guard(
        "a-wish-whose-inventory-was-dropped-is-listed-for-again",
        "or (token == last and now - at < TOKEN_AGAIN_S):",
        "or token == last:",
        "02: one listing per token while no row with it is held",
    ),
    _guard(
        "a-listing-without-a-token-answers-none",
        "        if token:\n            self._last_token = (token, now)\n",
        "        self._last_token = (token, now)\n",
        "02: one listing per token",
    ),
)

SOON = (
    _guard(
        "an-undefinition-during-a-listing-needs-another",
        'if event.event == "undefined" and self._may_be_listed(now):',
        "if False:",
        "2: if the panel takes it for running, only a listing ends it",
    ),
    _guard(
        "any-other-undefinition-needs-none",
        'if event.event == "undefined" and self._may_be_listed(now):',
        'if event.event == "undefined":',
        "02: a listing within a second is for what else nobody tells",
    ),
    _guard(
        "a-definition-needs-no-listing",
        'if event.event == "undefined" and self._may_be_listed(now):',
        "if self._may_be_listed(now):",
        "02: a listing within a second is for what else nobody tells",
    ),
    _guard(
        "what-left-is-looked-for",
        'elif event.event == "stopped" and (event.detail == "migrated" or uuid not in self._persistent):',
        'elif event.event == "stopped" and uuid not in self._persistent:',
        "5: a migration can take the definition along, and nobody tells",
    ),
    _guard(
        "a-transient-vm-that-stopped-is-looked-for",
        '(event.detail == "migrated" or uuid not in self._persistent):',
        'event.detail == "migrated":',
        "02: a transient domain vanishes without another event",
    ),
    _guard(
        "a-persistent-vm-that-stopped-is-not-looked-for",
        '(event.detail == "migrated" or uuid not in self._persistent):',
        "True:",
        "02: a listing within a second is for what else nobody tells",
    ),
    _guard(
        "a-listing-under-way-may-have-it",
        "return self._begun is not None or (",
        "return (",
        "2: what is gone may be in a listing that is under way",
    ),
    _guard(
        "a-listing-just-written-may-have-it",
        "or (self.finished_at is not None and now - self.finished_at < JUST_NOW_S)",
        "",
        "2: what is gone may be in a listing that was just written",
    ),
    _guard(
        "only-what-changes-during-a-listing-is-newer",
        '        self._token = ""\n        self._changed.clear()\n',
        '        self._token = ""\n',
        "2: what a listing says of persistence counts over older events",
    ),
    _guard(
        "an-event-during-a-listing-is-newer",
        "        for uuid, persistent in self._changed.items():\n            self._apply(uuid, persistent)\n",
        "",
        "2: what a listing says of persistence may be older than the event",
    ),
    _guard(
        "a-listing-keeps-what-became-due-meanwhile",
        "self.due_at = min(self.due_at, max(now, begun_at + self.interval_s))",
        "self.due_at = max(now, begun_at + self.interval_s)",
        "02: within a second after it stopped",
    ),
    _guard(
        "what-is-due-stays-due",
        "        self._token = token\n        self.due_at = min(self.due_at, now)\n",
        "        self._token = token\n",
        "3: the panel asks for it",
    ),
)

GUARDS = (*LISTING, *WISHES, *SOON)
