"""The inventory: a list of all domains, and when one is due (design 02, *Message types*)."""

import math
from typing import Any

import libvirt

from vmwatch.node.domainname import name_of
from vmwatch.shared.backoff import Backoff
from vmwatch.shared.messages import Event, Inventory, ListedDomain
from vmwatch.shared.states import state_of_libvirt

LISTING_LIMIT_S = 60.0
"""A listing that takes longer is called hung, and its result is not used."""
SOON_S = 0.3
"""After a domain that may have vanished: within the second that design 02 allows, and several at once share one."""
JUST_NOW_S = 1.0
"""An event that came so long after a listing was written may have happened before."""
TOKEN_AGAIN_S = 10.0
"""The same token is listed for again, if its inventory found no room in the outbox, no sooner than this."""
_TRIES = 5


def list_domains(connection: Any) -> list[ListedDomain]:  # noqa: ANN401 - libvirt-python has no types
    """All domains of a libvirt connection; raises libvirtError."""
    return [listed for _, listed in list_pairs(connection)]


def list_pairs(connection: Any) -> list[tuple[Any, ListedDomain]]:  # noqa: ANN401
    """All domains of a libvirt connection, and what a listing says of each; raises libvirtError.

    A listing that fails in part is no data.

    A domain that vanishes between its listing and the question for its state is no failure: the listing is
    repeated, some times at most.
    """
    for attempt in range(_TRIES):
        try:
            return [(domain, _listed(domain)) for domain in connection.listAllDomains(0)]
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN or attempt + 1 == _TRIES:
                raise
    raise AssertionError("the last attempt returns or raises")


def _listed(domain: Any) -> ListedDomain:  # noqa: ANN401
    state, reason = domain.state()
    return ListedDomain(
        uuid=domain.UUIDString().lower(),
        name=name_of(domain),
        state=state_of_libvirt(state),
        reason=reason,
        persistent=bool(domain.isPersistent()),
    )


class Inventories:
    """When to list, and what becomes of a listing. No I/O: the shell lists and tells. Times are monotonic seconds."""

    def __init__(self, interval_s: float, now: float) -> None:
        self.interval_s = interval_s
        self.due_at = now
        """When the next listing is due; the first one at once."""
        self.finished_at: float | None = None
        self.domains = 0
        """How many the last inventory had."""
        self.last_error = ""
        self._token = ""
        self._begun: tuple[float, int, int, str] | None = None
        self._last_token = ("", -math.inf)
        self._persistent: set[str] = set()
        self._changed: dict[str, bool] = {}
        """What events of persistence said since the running listing began: it may have been before or after them."""
        self._backoff = Backoff(1.0, 30.0)

    def ask(self, now: float, token: str) -> None:
        """The panel wants an inventory. Asked again and again, until that inventory is settled."""
        listing = self._begun is not None and self._begun[3] == token
        last, at = self._last_token
        if token == self._token or listing or (token == last and now - at < TOKEN_AGAIN_S):
            return
        self._token = token
        self.due_at = min(self.due_at, now)

    def observe(self, now: float, event: Event) -> None:
        """A domain that is not known to be persistent vanishes with `stopped`, and only a listing shows it."""
        uuid = event.vm.uuid
        if event.event in ("defined", "undefined"):
            self._changed[uuid] = event.event == "defined"
            self._apply(uuid, event.event == "defined")
            if event.event == "undefined" and self._may_be_listed(now):
                # If the panel takes it for running, from before this agent's start, only a listing ends it there.
                self.due_at = min(self.due_at, now + SOON_S)
        elif event.event == "stopped" and (event.detail == "migrated" or uuid not in self._persistent):
            # A migration can take the definition along, and libvirt tells no `undefined` of that.
            self.due_at = min(self.due_at, now + SOON_S)

    def _may_be_listed(self, now: float) -> bool:
        """A domain that is gone now may be in a listing that is under way, or was written just now."""
        return self._begun is not None or (self.finished_at is not None and now - self.finished_at < JUST_NOW_S)

    def begin(self, now: float, epoch: int, as_of: int) -> None:
        """A listing begins now. `as_of`: the last seq of `epoch`, taken before anything is asked of libvirt."""
        self._begun = (now, epoch, as_of, self._token)
        self._token = ""
        self._changed.clear()
        self.due_at = math.inf

    def finished(self, now: float, wall: float, epoch: int, domains: list[ListedDomain]) -> Inventory | None:
        """The listing succeeded; the inventory to send, or None if a new `epoch` has begun since: list again."""
        begun_at, begun_epoch, as_of, token = self._end()
        if begun_epoch != epoch:
            self._token = self._token or token
            self.due_at = now
            return None
        if token:
            self._last_token = (token, now)
        self._persistent = {domain.uuid for domain in domains if domain.persistent}
        for uuid, persistent in self._changed.items():
            self._apply(uuid, persistent)
        self.due_at = min(self.due_at, max(now, begun_at + self.interval_s))
        self.finished_at, self.domains, self.last_error = now, len(domains), ""
        self._backoff.reset()
        return Inventory(seq=0, time=wall, as_of=as_of, domains=domains, token=token)

    def failed(self, now: float, error: str) -> float:
        """The listing failed: no data. Returns the seconds until the next try."""
        token = self._end()[3]
        self._token = self._token or token
        self.last_error = error
        wait_s = self._backoff.next_s()
        self.due_at = now + wait_s
        return wait_s

    def _end(self) -> tuple[float, int, int, str]:
        if self._begun is None:
            raise RuntimeError("no listing has begun")
        begun, self._begun = self._begun, None
        return begun

    def _apply(self, uuid: str, persistent: bool) -> None:
        if persistent:
            self._persistent.add(uuid)
        else:
            self._persistent.discard(uuid)
