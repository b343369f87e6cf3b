"""The truth: which VMs a simulated hypervisor has and in what state, and the events that libvirt would send."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.world import World
from vmwatch.shared.messages import Event, ListedDomain, Vm
from vmwatch.shared.states import State, state_of_event

VMS_MOST = 3


@dataclass
class Domain:
    uuid: str
    name: str
    state: State
    persistent: bool


@dataclass(frozen=True)
class Moment:
    """What was true of a VM right after one of its events, and what that event says. `name`: empty once it is gone."""

    state: State
    name: str
    told: State


Report = Callable[[Event, int], None]
"""Takes an event and its moment's index in `Hypervisor.history`; -1 for one that does not tell the state."""


class Hypervisor:
    """Changes its VMs at random, as an operator and the guests would, and remembers all that was ever true."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.domains: dict[str, Domain] = {}
        self.history: dict[str, list[Moment]] = {}
        """By UUID; each event is a moment, whether an agent hears it or not."""
        self.report: Report | None = None
        """Who listens; None while no agent runs."""
        self._made = 0

    def listing(self) -> list[ListedDomain]:
        return [ListedDomain(d.uuid, d.name, d.state, 0, d.persistent) for d in self.domains.values()]

    def operate(self) -> None:
        """One random operation that libvirt would accept."""
        if not self.domains or (len(self.domains) < VMS_MOST and self.world.happens(0.2)):
            self._create()
            return
        domain = self.world.chance.choice(list(self.domains.values()))
        if domain.state is State.SHUTOFF:
            self.world.chance.choice((self._start, self._start, self._rename, self._undefine))(domain)
        elif domain.state is State.PAUSED:
            self.world.chance.choice((self._resume, self._destroy))(domain)
        else:
            self.world.chance.choice((self._suspend, self._shut_down, self._destroy, self._reboot))(domain)

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
        domain.state = State.RUNNING
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
        if not domain.persistent:
            del self.domains[domain.uuid]
        self._tell(domain, "stopped", detail)

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
