"""The generator's VMs: what happens to them at random, and what is true of them."""

import random
import time
import uuid

from vmwatch.shared.messages import DomainStats, Event, Inventory, ListedDomain, Stats, Vm
from vmwatch.shared.states import ACTIVE, State, state_of_event

VMS = 60
_NAMESPACE = uuid.UUID("6e6a3c1e-9d9f-4bd0-8a57-0e2a4d2f7c11")

_ACTS: dict[State, tuple[tuple[str, str, State], ...]] = {
    State.ABSENT: (("defined", "added", State.SHUTOFF),),
    State.SHUTOFF: (("started", "booted", State.RUNNING), ("undefined", "removed", State.ABSENT)),
    State.CRASHED: (("started", "booted", State.RUNNING),),
    State.RUNNING: (
        ("suspended", "paused", State.PAUSED),
        ("stopped", "destroyed", State.SHUTOFF),
        ("crashed", "panicked", State.CRASHED),
        ("reboot", "", State.RUNNING),
    ),
    State.PAUSED: (("resumed", "unpaused", State.RUNNING), ("stopped", "destroyed", State.SHUTOFF)),
}
"""In each state: event, detail, and the state that it leads to."""


class Fleet:
    """VMs as one hypervisor has them. Each life begins in states of its own, as after a reboot of the host."""

    def __init__(self, seed: str) -> None:
        self._chance = random.Random(seed)
        self._vms = [Vm(str(uuid.uuid5(_NAMESPACE, str(n))), f"made-{n:03d}.example.org") for n in range(VMS)]
        self._states = {vm.uuid: self._chance.choice(list(_ACTS)) for vm in self._vms}

    @property
    def states(self) -> dict[str, str]:
        """The states of all VMs that are there, by UUID."""
        return {uuid: str(state) for uuid, state in self._states.items() if state is not State.ABSENT}

    def happen(self) -> Event:
        """Something happens to one of them."""
        vm = self._chance.choice(self._vms)
        event, detail, self._states[vm.uuid] = self._chance.choice(_ACTS[self._states[vm.uuid]])
        return Event(seq=0, time=time.time(), vm=vm, event=event, detail=detail, state=state_of_event(event))

    def listing(self, as_of: int, token: str) -> Inventory:
        """All that are there; `as_of` is the last seq that was assigned."""
        domains = [
            ListedDomain(uuid=vm.uuid, name=vm.name, state=self._states[vm.uuid])
            for vm in self._vms
            if self._states[vm.uuid] is not State.ABSENT
        ]
        return Inventory(seq=0, time=time.time(), as_of=as_of, domains=domains, token=token)

    def sample(self) -> Stats:
        """Statistics of all that are there."""
        domains = [
            DomainStats(uuid=vm.uuid, state=state, cpu_ns=time.monotonic_ns() if state in ACTIVE else None)
            for vm in self._vms
            if (state := self._states[vm.uuid]) is not State.ABSENT
        ]
        return Stats(seq=0, time=time.time(), interval=1.0, taken=time.time(), domains=domains)
