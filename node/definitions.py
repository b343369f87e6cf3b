"""Domains' definitions: read once, and again only after something happened that may have changed one.

What a domain writes and its MAC addresses, for the panel's rule of duplicates (design 03, rule 6). `Definitions` is
the main loop's; a `Reading` is one listing's, in the listing's own thread.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import libvirt

from vmwatch.node.disks import DefinitionError, parse
from vmwatch.node.inventory import list_pairs
from vmwatch.node.places import Places
from vmwatch.shared.clock import Clock
from vmwatch.shared.messages import Disk, Event, ListedDomain, encode
from vmwatch.shared.states import ACTIVE

READING_S = 0.5
"""One listing reads for so long, which is a thousand definitions or more. What is left comes with the next one: the
first inventory shall not wait, nor the one that shows a domain gone."""
MORE_S = 1.0
"""The listing that reads what is left begins so long after."""
MAX_BYTES = 2 * 1024 * 1024
"""Of all definitions in one inventory: its list of domains alone is what a frame must always hold."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What an inventory tells of a definition; None: it cannot be read. `size` in bytes of a message."""

    disks: list[Disk] | None = None
    macs: list[str] | None = None
    size: int = 0


@dataclass
class Listing:
    """A listing that succeeded, and what was read for it. `unread`: how many definitions are left to be read."""

    domains: list[ListedDomain]
    read: dict[str, Definition] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Why a definition could not be read, by UUID."""
    unread: int = 0


class Reading:
    """One listing, in its own thread: it sees what was known when it began, and changes nothing of it."""

    def __init__(
        self, known: Iterable[str], failed: Iterable[str], places: Callable[[], Places], clock: Clock, limit_s: float
    ) -> None:
        self._known = frozenset(known)
        self._failed = frozenset(failed)
        self._places = places
        self._clock = clock
        self._limit_s = limit_s

    def list(self, connection: Any) -> Listing:  # noqa: ANN401 - libvirt-python has no types
        """All domains, and as many definitions as there is time for; raises libvirtError if the list fails."""
        pairs = list_pairs(connection)
        listing = Listing([listed for _, listed in pairs])
        todo = [(domain, listed) for domain, listed in pairs if listed.uuid not in self._known]
        if not todo:
            return listing
        # Those that failed last, so that they take no turn of others; what runs first, as it is what can collide.
        todo.sort(key=lambda pair: (pair[1].uuid in self._failed, pair[1].state not in ACTIVE))
        places = self._places()
        end = self._clock.monotonic() + self._limit_s
        for number, (domain, listed) in enumerate(todo, 1):
            self._read(domain, listed, places, listing)
            if self._clock.monotonic() >= end:
                listing.unread = sum(left.uuid not in self._failed for _, left in todo[number:])
                break
        return listing

    def _read(self, domain: Any, listed: ListedDomain, places: Places, listing: Listing) -> None:  # noqa: ANN401
        """One definition. Whatever is wrong with it spoils neither the others nor the listing."""
        try:
            disks, macs = parse(domain.XMLDesc(0), places)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:  # else it is gone, and the next listing says so
                listing.failed[listed.uuid] = f"{listed.name}: {error}"
        except Exception as error:  # no definition, not even a defect of ours, is worth an inventory
            reason = str(error) if isinstance(error, DefinitionError) else repr(error)
            listing.failed[listed.uuid] = f"{listed.name}: {reason}"
            listing.read[listed.uuid] = Definition()  # the same text would fail again
        else:
            listing.read[listed.uuid] = Definition(disks, macs, len(encode(disks)) + len(encode(macs)))


class Definitions:
    """What is known of all domains' definitions, and what has to be read. No I/O."""

    def __init__(self) -> None:
        self.failures: dict[str, str] = {}
        """Definitions that cannot be read, and why, by UUID."""
        self._known: dict[str, Definition] = {}
        self._changed: set[str] = set()
        """Since the running listing began: what it reads of these may be from before or after."""

    @property
    def known(self) -> int:
        """How many definitions are known."""
        return len(self._known)

    def observe(self, event: Event) -> None:
        """A domain that is defined or started anew may have other disks."""
        if event.event in ("defined", "started"):
            self.changed(event.vm.uuid)

    def changed(self, uuid: str) -> None:
        """This domain's definition is to be read again, at the next listing."""
        self._known.pop(uuid, None)
        self.failures.pop(uuid, None)
        self._changed.add(uuid)

    def begin(self, places: Callable[[], Places], clock: Clock, limit_s: float = READING_S) -> Reading:
        """A listing begins. `places` is called in its thread, and only if there is something to read."""
        self._changed.clear()
        return Reading(self._known, self.failures, places, clock, limit_s)

    def finished(self, listing: Listing) -> list[ListedDomain]:
        """The listing succeeded: its domains with what is known of their definitions. What is gone is forgotten."""
        for uuid in self._changed:
            listing.read.pop(uuid, None)
            listing.failed.pop(uuid, None)
        listed = {domain.uuid for domain in listing.domains}
        self._known = {uuid: known for uuid, known in self._known.items() if uuid in listed} | listing.read
        kept = {uuid: why for uuid, why in self.failures.items() if uuid in listed and uuid not in listing.read}
        self.failures = kept | listing.failed
        left = MAX_BYTES
        for domain in sorted(listing.domains, key=lambda domain: domain.state not in ACTIVE):
            known = self._known.get(domain.uuid, Definition())
            left -= known.size
            if left >= 0:
                domain.disks, domain.macs = known.disks, known.macs
        return listing.domains
