"""The panel in the simulation: the real registration core; its disk is what was committed."""

from collections.abc import Callable

from tests.simulation.world import Faults, World
from vmwatch.panel.registration import Draft, EventRow, Known, register
from vmwatch.shared.report import Report, Verdict

Reply = Callable[[list[Verdict]], None]


class SimPanel:
    """Commits reports, dies at any step of it, and restarts from what it committed."""

    def __init__(self, world: World, faults: Faults) -> None:
        self.world = world
        self.faults = faults
        self.alive = True
        self.registered: list[EventRow] = []
        """The event log, in the order of commits."""
        self.runs = 1
        self.known = Known(run="p1")
        self._life = 0

    def request(self, report: Report, reply: Reply) -> None:
        """An HTTP call; without `reply` the caller learns nothing."""
        self.world.after(self.world.between(0.001, 0.02), lambda: self._begin(report, reply))

    def _begin(self, report: Report, reply: Reply) -> None:
        if not self.alive or self.world.happens(self.faults.lose):
            return
        life = self._life
        draft = Draft(self.known)
        verdicts = register(draft, report, self.world.now)

        def commit() -> None:
            if life != self._life:
                return  # killed before the commit: nothing of it happened
            draft.merge()
            self.registered += draft.events
            if not self.world.happens(self.faults.lose):  # else: committed, and its answer lost
                slow = self.world.happens(self.faults.straggle)
                self.world.after(self.world.between(2.0, 8.0) if slow else 0.001, lambda: reply(verdicts))

        # One writer: what it has begun it commits before it begins the next.
        commit()

    def kill(self) -> None:
        self.alive = False
        self._life += 1

    def start(self) -> None:
        """A new run: the same committed knowledge, a new name."""
        self.alive = True
        self.runs += 1
        self.known.run = f"p{self.runs}"
        self.known.want_all_inventories()
