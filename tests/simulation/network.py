"""The network between nodes and masters: loses, repeats, delays, reorders, and cuts either direction."""

from tests.simulation.storm import Weather
from tests.simulation.world import Action, Process, World

RECORDED_MOST = 60


class Network:
    """Carries frames. A cut tells nobody: who is connected stays so, as with a half-open connection of TCP."""

    def __init__(self, world: World, weather: Weather) -> None:
        self.world = world
        self.weather = weather
        self.recorded: list[list[bytes]] = []
        """Frames of nodes, as somebody who listens has them."""
        self._cuts: dict[tuple[str, str], int] = {}
        self._stuck: list[tuple[tuple[str, str], int, Process, Action]] = []

    def cut(self, source: str, target: str) -> None:
        """Nothing gets from `source` to `target` until it is healed as often as it was cut."""
        self._cuts[source, target] = self._cuts.get((source, target), 0) + 1

    def heal(self, source: str, target: str) -> None:
        """What lay in the sender's buffers arrives now, late."""
        way = (source, target)
        self._cuts[way] = self._cuts.get(way, 1) - 1
        if self._cuts[way] > 0:
            return
        stuck = [item for item in self._stuck if item[0] == way]
        self._stuck = [item for item in self._stuck if item[0] != way]
        for _, life, process, deliver in stuck:
            if life == process.life:
                process.later(self.world.between(0.001, 0.5), deliver)

    def heal_all(self) -> None:
        for way, count in list(self._cuts.items()):
            for _ in range(count):
                self.heal(*way)

    def reachable(self, one: str, other: str) -> bool:
        """A connection can be made: that takes both directions."""
        return not self._cuts.get((one, other)) and not self._cuts.get((other, one))

    def carry(self, source: str, target: str, process: Process, deliver: Action) -> None:
        """One frame from `source` to `process` on `target`; it is lost if that process dies before."""
        if self._cuts.get((source, target)):
            if self.world.happens(0.5):
                self._stuck.append(((source, target), process.life, process, deliver))
            return
        weather = self.weather
        if self.world.happens(weather.lose):
            return
        for _ in range(2 if self.world.happens(weather.repeat) else 1):
            slow = self.world.happens(weather.straggle)
            delay_s = self.world.between(0.5, 5.0) if slow else self.world.between(0.001, 0.02)
            process.later(delay_s, deliver)

    def record(self, frames: list[bytes]) -> None:
        """Keep a sample of what was sent, early frames too."""
        if len(self.recorded) < RECORDED_MOST:
            self.recorded.append(frames)
        elif self.world.happens(0.2):
            self.recorded[self.world.chance.randrange(RECORDED_MOST)] = frames
