"""The truth: which VMs a simulated hypervisor has and in what state, and the events that libvirt would send."""

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.simulation.world import World
from vmwatch.shared.messages import Event, ListedDomain, Vm
from vmwatch.shared.states import State, state_of_event

VMS_MOST = 3
PAUSED_MIGRATION, SHUTOFF_MIGRATED, SHUTOFF_FAILED = 2, 4, 6
"""virDomainPausedReason of the ends of a migration, virDomainShutoffReason of what stays at its source."""


@dataclass
class Domain:
    uuid: str
    name: str
    state: State
    persistent: bool
    shutoff_reason: int = 1
    moving: bool = False
    """One end of a live migration: nobody else does anything with it."""


def _reason(domain: Domain) -> int:
    """What libvirt gives as the reason of the state."""
    if domain.moving:
        return PAUSED_MIGRATION
    return domain.shutoff_reason if domain.state is State.SHUTOFF else 1


@dataclass(frozen=True)
class Moment:
    """What was true of a VM right after one of its events, and what that event says. `name`: empty once it is gone."""

    state: State
    name: str
    told: State


Report = Callable[[Event, int], None]
"""Takes an event and its moment's index in `Hypervisor.history`; -1 for one that does not tell the state."""


FINISHES_S = 0.2
"""The source tells of a migration's end so long after the destination has resumed the guest, as libvirt 9 does."""


class Hypervisor:
    """Changes its VMs at random, as an operator and the guests would, and remembers all that was ever true."""

    def __init__(self, world: World, name: str, others: "Sequence[Hypervisor]" = ()) -> None:
        self.world = world
        self.name = name
        self.domains: dict[str, Domain] = {}
        self.history: dict[str, list[Moment]] = {}
        """By UUID; each event is a moment, whether an agent hears it or not."""
        self.report: Report | None = None
        """Who listens; None while no agent runs."""
        self.began: dict[str, tuple[int, int]] = {}
        """By UUID, of a VM that runs here: the moment since which it does so, and its run, which migrates with it."""
        self.visits: Counter[str] = Counter()
        """By UUID, how often a VM came here by a migration."""
        self.arrived: dict[tuple[str, int], int] = {}
        """By UUID and moment, the run that came here then."""
        self._others = others
        """Of the same cluster, this one too."""
        self._made = 0

    def listing(self) -> list[ListedDomain]:
        return [
            ListedDomain(d.uuid, d.name, d.state, _reason(d), d.persistent)
            for d in self.domains.values()
        ]

    def operate(self) -> None:
        """One random operation that libvirt would accept."""
        if not self.domains or (len(self.domains) < VMS_MOST and self.world.happens(0.2)):
            self._create()
            return
        domain = self.world.chance.choice(list(self.domains.values()))
        if domain.moving:
            return
        if domain.state is State.SHUTOFF and any(not other.may_receive(domain.uuid) for other in self._others):
            return  # it is another node's now, and nobody starts it twice
        if domain.state is State.SHUTOFF:
            self.world.chance.choice((self._start, self._start, self._rename, self._undefine))(domain)
        elif domain.state is State.PAUSED:
            self.world.chance.choice((self._resume, self._destroy))(domain)
        else:
            operations = (self._suspend, self._shut_down, self._destroy, self._reboot, self._migrate)
            self.world.chance.choice(operations)(domain)

    def _create(self) -> None:
        self._made += 1
        made = str(uuid.UUID(int=self.world.chance.getrandbits(128)))
        persistent = self.world.happens(0.8)
        domain = Domain(made, f"{self.name}-vm{self._made}", State.SHUTOFF, persistent)
        self.domains[made] = domain
        if persistent:
            self._tell(domain, "defined", "added")
        else:
            self._start(domain)

    def _start(self, domain: Domain) -> None:
        domain.state, domain.shutoff_reason = State.RUNNING, 1
        self.began[domain.uuid] = (len(self.history.get(domain.uuid, ())), self.world.next_number())
        self._tell(domain, "resumed", "unpaused")
        self._tell(domain, "started", "booted")

    def _suspend(self, domain: Domain) -> None:
        domain.state = State.PAUSED
        self._tell(domain, "suspended", "paused")

    def _resume(self, domain: Domain) -> None:
        domain.state = State.RUNNING
        self._tell(domain, "resumed", "unpaused")

    def _reboot(self, domain: Domain) -> None:
        self._tell(domain, "reboot", "")

    def _shut_down(self, domain: Domain) -> None:
        self._tell(domain, "shutdown", "guest")
        self._stop(domain, "shutdown")

    def _destroy(self, domain: Domain) -> None:
        self._stop(domain, "destroyed")

    def _stop(self, domain: Domain, detail: str) -> None:
        domain.state = State.SHUTOFF
        self.began.pop(domain.uuid, None)
        if not domain.persistent:
            del self.domains[domain.uuid]
        self._tell(domain, "stopped", detail)

    # Live migration: both ends, in the order that libvirt 9 gives their events in

    def _migrate(self, domain: Domain) -> None:
        others = [other for other in self._others if other is not self and other.may_receive(domain.uuid)]
        if not others:
            self._reboot(domain)
            return
        other = self.world.chance.choice(others)
        domain.moving = True
        incoming = other._receive(domain)
        finish = self._give_up if self.world.happens(0.3) else self._hand_over
        self.world.after(self.world.between(0.1, 3.0), lambda: finish(domain, other, incoming))

    def may_receive(self, uuid: str) -> bool:
        """It does not run here already."""
        return uuid not in self.domains or self.domains[uuid].state is State.SHUTOFF

    def _receive(self, domain: Domain) -> Domain:
        incoming = self.domains.get(domain.uuid) or Domain(domain.uuid, domain.name, State.PAUSED, persistent=False)
        incoming.name, incoming.state, incoming.moving = domain.name, State.PAUSED, True
        self.visits[domain.uuid] += 1
        self.domains[domain.uuid] = incoming
        self._tell(incoming, "started", "migrated")
        return incoming

    def _give_up(self, domain: Domain, other: "Hypervisor", incoming: Domain) -> None:
        """It fails, and the guest runs on where it was."""
        domain.moving = incoming.moving = False
        incoming.shutoff_reason = SHUTOFF_FAILED
        other._stop(incoming, "failed")

    def _hand_over(self, domain: Domain, other: "Hypervisor", incoming: Domain) -> None:
        domain.state = State.PAUSED
        self._tell(domain, "suspended", "migrated")
        if self.world.happens(0.5):
            incoming.persistent = True
            other._tell(incoming, "defined", "added")
        incoming.state, incoming.moving = State.RUNNING, False
        moment, run = len(other.history.get(incoming.uuid, ())), self.began.pop(domain.uuid)[1]
        other.began[incoming.uuid], other.arrived[incoming.uuid, moment] = (moment, run), run
        other._tell(incoming, "resumed", "migrated")
        self.world.after(FINISHES_S, lambda: self._left(domain))

    def _left(self, domain: Domain) -> None:
        domain.moving, domain.shutoff_reason = False, SHUTOFF_MIGRATED
        self._stop(domain, "migrated")

    def _rename(self, domain: Domain) -> None:
        self._tell(domain, "undefined", "renamed")
        domain.name += "x"
        self._tell(domain, "defined", "renamed")

    def _undefine(self, domain: Domain) -> None:
        del self.domains[domain.uuid]
        self._tell(domain, "undefined", "removed")

    def _tell(self, domain: Domain, event: str, detail: str) -> None:
        state = state_of_event(event)
        here = domain.uuid in self.domains
        true = domain.state if here else State.ABSENT
        moments = self.history.setdefault(domain.uuid, [])
        moments.append(Moment(true, domain.name if here else "", state or true))
        if self.report is not None:
            vm = Vm(domain.uuid, domain.name)
            told = Event(seq=0, time=self.world.now, vm=vm, event=event, detail=detail, state=state)
            self.report(told, len(moments) - 1 if state is not None else -1)
