"""Virtual time and a seeded source of chance: the same seed gives the same run, step by step."""

import heapq
import random
from collections.abc import Callable

Action = Callable[[], None]


class World:
    """Runs what was scheduled, in order of virtual time; nothing waits for real."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 1000.0
        self.steps = 0
        self._count = 0
        self._agenda: list[tuple[float, int, Action]] = []

    def after(self, delay_s: float, action: Action) -> None:
        """Schedule `action`; equal times run in the order in which they were scheduled."""
        self._count += 1
        heapq.heappush(self._agenda, (self.now + delay_s, self._count, action))

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Run to virtual time `until`, or until `done` says so (asked ten times a virtual second)."""
        check_at = self.now
        while self._agenda and self._agenda[0][0] <= until:
            at, _, action = heapq.heappop(self._agenda)
            self.now = at
            if at >= check_at:
                if done():
                    return True
                check_at = at + 0.1
            self.steps += 1
            action()
        self.now = max(self.now, until)
        return done()

    def happens(self, probability: float) -> bool:
        return self.chance.random() < probability

    def between(self, low: float, high: float) -> float:
        return self.chance.uniform(low, high)


class Faults:
    """How bad the world is now. All zero: it is calm, and everything must come right again."""

    def __init__(self, lose: float = 0.0, repeat: float = 0.0, straggle: float = 0.0) -> None:
        self.lose = lose
        self.repeat = repeat
        self.straggle = straggle
        """Probability that something takes seconds instead of milliseconds, and so is overtaken."""

    def calm(self) -> None:
        self.lose = self.repeat = self.straggle = 0.0


class Network:
    """Carries frames between nodes and masters: loses, repeats, delays, reorders, and partitions."""

    def __init__(self, world: World, faults: Faults) -> None:
        self.world = world
        self.faults = faults
        self.cut: set[str] = set()
        """Nodes that cannot reach the master's host now."""

    def carry(self, node: str, deliver: Action) -> None:
        """One frame from or to `node`."""
        if node in self.cut or self.world.happens(self.faults.lose):
            return
        copies = 2 if self.world.happens(self.faults.repeat) else 1
        for _ in range(copies):
            slow = self.world.happens(self.faults.straggle)
            self.world.after(self.world.between(1.0, 8.0) if slow else self.world.between(0.001, 0.02), deliver)
