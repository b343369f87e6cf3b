"""The truth: which VMs a simulated hypervisor has and in what state, and the events that libvirt would send."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.world import World
from vmwatch.shared.messages import Event, ListedDomain, Vm
from vmwatch.shared.states import State, state_of_event

Report = Callable[[Event], None]


@dataclass
class Domain:
    uuid: str
    name: str
    state: State
    persistent: bool


class Hypervisor:
    """Changes its VMs at random, as an operator and the guests would."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.domains: dict[str, Domain] = {}
        self.report: Report | None = None
        """Who listens; None while no agent runs."""
        self._made = 0

    def listing(self) -> list[ListedDomain]:
        return [ListedDomain(d.uuid, d.name, d.state, 0, d.persistent) for d in self.domains.values()]

    def operate(self) -> None:
        """One random operation that libvirt would accept."""
        if not self.domains or (len(self.domains) < 5 and self.world.happens(0.2)):
            self._create()
            return
        domain = self.world.chance.choice(sorted(self.domains.values(), key=lambda domain: domain.uuid))
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
        self._to(domain, State.RUNNING)
        self._tell(domain, "resumed", "unpaused")
        self._tell(domain, "started", "booted")

    def _suspend(self, domain: Domain) -> None:
        self._to(domain, State.PAUSED)
        self._tell(domain, "suspended", "paused")

    def _resume(self, domain: Domain) -> None:
        self._to(domain, State.RUNNING)
        self._tell(domain, "resumed", "unpaused")

    def _reboot(self, domain: Domain) -> None:
        self._tell(domain, "reboot", "")

    def _shut_down(self, domain: Domain) -> None:
        self._tell(domain, "shutdown", "guest")
        self._stop(domain, "shutdown")

    def _destroy(self, domain: Domain) -> None:
        self._stop(domain, "destroyed")

    def _stop(self, domain: Domain, detail: str) -> None:
        self._to(domain, State.SHUTOFF)
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

    def _to(self, domain: Domain, state: State) -> None:
        domain.state = state

    def _tell(self, domain: Domain, event: str, detail: str) -> None:
        if self.report is not None:
            vm = Vm(domain.uuid, domain.name)
            state = state_of_event(event)
            self.report(Event(seq=0, time=self.world.now, vm=vm, event=event, detail=detail, state=state))
