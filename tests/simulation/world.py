"""Virtual time and seeded sources of chance: the same seed gives the same run, step by step."""

import heapq
import random
from collections.abc import Callable

BEGAN_WALL_S = 1_760_000_000.0
"""What clocks that are right show at virtual time 0: seconds since 1970."""

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

    def run(self, until: float) -> None:
        """Run to virtual time `until`."""
        agenda = self._agenda
        while agenda and agenda[0][0] <= until:
            self.now, _, action = heapq.heappop(agenda)
            self.steps += 1
            action()
        self.now = until

    def next_number(self) -> int:
        """Another one each time."""
        self._count += 1
        return self._count

    def happens(self, probability: float) -> bool:
        return probability > 0.0 and self.chance.random() < probability

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.chance.random()


class Process:
    """Something that runs: a kill ends all that it had begun, a hang (SIGSTOP, a swapping host) delays it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.alive = False
        self.life = 0
        self._hung_until = 0.0
        self._held_up: list[Action] = []

    def start(self) -> None:
        """Begin a life."""
        self.alive = True
        self.life += 1
        self._hung_until = 0.0
        self._held_up.clear()

    def kill(self) -> None:
        """End it, as kill -9 does."""
        self.alive = False
        self.life += 1

    def hang(self, for_s: float) -> None:
        """Do nothing for so long; what arrives meanwhile is done then, in its order."""
        if for_s > 0.0 and self.alive:
            self._hung_until = max(self._hung_until, self.world.now + for_s)
            life = self.life
            self.world.after(for_s, lambda: self._wake() if life == self.life else None)

    def _wake(self) -> None:
        if self._hung_until <= self.world.now:
            held_up, self._held_up = self._held_up, []
            for action in held_up:
                action()

    def later(self, delay_s: float, action: Action) -> None:
        """Something that this life of the process will do, unless it is killed before; nothing if it is dead."""
        life = self.life

        def unless_dead() -> None:
            if life != self.life or not self.alive:
                return
            if self._hung_until > self.world.now:
                self._held_up.append(unless_dead)
            else:
                action()

        self.world.after(delay_s, unless_dead)
