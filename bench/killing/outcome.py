"""What a run has come to: its figures as a person reads them, and as JSON."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any

from bench.killing.schedule import Target

OVERALL = "overall"
UNDISTURBED = "no kill between"


@dataclass(frozen=True)
class Done:
    """A kill that was done, at `at` (seconds since 1970)."""

    target: Target
    at: float


@dataclass
class Outcome:
    """All that a run found. `defects`: what is wrong, a sentence each; none: all is well."""

    seed: int
    kills: dict[str, int]
    events_happened: int
    """Operations on libvirt's domains, and what the generator was seen to make."""
    events_made: int
    """Committed by the outboxes."""
    events_registered: int
    others_made: int
    others_registered: int
    observed: int
    """By virsh, of libvirt's events."""
    untold: int
    """libvirt's events that happened while no node listened: the inventory puts the picture right."""
    lost: int
    doubled: int
    out_of_order: int
    changed: int
    wrong_at_end: int
    refused: int
    longest_s: dict[str, float]
    """From a kill to the next registered event, by target and overall."""
    median_s: dict[str, float]
    silence: str
    """The longest time without any registered event that a kill began, and the kills in it."""
    restarts: dict[str, int]
    seconds: float
    settled_s: float
    """From the end of the stream until everything was delivered."""
    defects: list[str] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        return not self.defects

    def as_json(self) -> dict[str, Any]:
        """Plain values, with the verdict in front."""
        return {"well": self.is_well, **asdict(self)}

    def text(self) -> str:
        """Some lines for a terminal."""
        kills = ", ".join(f"{target} {count}" for target, count in self.kills.items())
        restarts = ", ".join(f"{name} {count}" for name, count in self.restarts.items())
        lines = [
            f"kills                 {sum(self.kills.values())}: {kills}",
            f"restarts              {restarts}",
            f"took                  {self.seconds:.0f} s; all delivered {self.settled_s:.1f} s after the last event",
            f"events produced       {self.events_made} (in outboxes; about {self.events_happened} happened)",
            f"events registered     {self.events_registered}",
            f"other messages        {self.others_made} produced, {self.others_registered} registered"
            " (a newer inventory replaces one not sent)",
            f"seen by the observer  {self.observed} of libvirt's events; {self.untold} happened while no node listened",
            f"lost                  {self.lost}",
            f"doubled               {self.doubled}",
            f"out of order          {self.out_of_order}",
            f"changed on the way    {self.changed}",
            f"refused               {self.refused}",
            f"wrong at the end      {self.wrong_at_end}",
            "kill to next event    longest (median), seconds",
        ]
        lines += [f"  {name:<20}{most:6.2f} ({self.median_s[name]:.2f})" for name, most in self.longest_s.items()]
        lines.append(f"longest silence       {self.silence}")
        lines += [f"DEFECT: {defect}" for defect in self.defects]
        lines.append("all is well" if self.is_well else f"NOT WELL (seed {self.seed})")
        return "\n".join(lines)


def delays(
    done: Sequence[Done], received: Mapping[str, Sequence[float]], nodes: Mapping[Target, str]
) -> dict[str, list[float]]:
    """Seconds from each kill to the next registered event, by target and `overall`.

    For a target with a node of its own (`nodes`) the next event of that node counts, else the next of any.
    `received` holds the moments, ascending, at which the panel began the transactions. `undisturbed`: of the kills
    after which an event was registered before the next kill; the others' time is also that of the kills that followed.
    """
    everywhere = sorted(moment for moments in received.values() for moment in moments)
    next_kills = [kill.at for kill in done[1:]] + [inf]
    found: dict[str, list[float]] = {}
    for kill, next_at in zip(done, next_kills, strict=True):
        moments = received.get(nodes[kill.target], ()) if kill.target in nodes else everywhere
        index = bisect_right(moments, kill.at)
        if index == len(moments):
            continue
        names = [kill.target, OVERALL, *([UNDISTURBED] if moments[index] < next_at else [])]
        for name in names:
            found.setdefault(name, []).append(moments[index] - kill.at)
    return {name: found[name] for name in (*Target, OVERALL, UNDISTURBED) if name in found}


def longest_silence(done: Sequence[Done], received: Mapping[str, Sequence[float]]) -> str:
    """The longest time from a kill until any event was registered, and the kills of that time; empty if none."""
    everywhere = sorted(moment for moments in received.values() for moment in moments)
    silences: dict[int, list[Done]] = {}
    for kill in done:
        silences.setdefault(bisect_right(everywhere, kill.at), []).append(kill)
    silences.pop(len(everywhere), None)
    if not silences:
        return ""
    end, kills = max(silences.items(), key=lambda silence: everywhere[silence[0]] - silence[1][0].at)
    first = kills[0].at
    course = ", ".join(f"{kill.target} at {kill.at - first:.1f}" for kill in kills)
    return f"{everywhere[end] - first:.2f} s ({course})"


def count_kills(done: Sequence[Done]) -> dict[str, int]:
    """How many of each target."""
    counts = Counter(kill.target for kill in done)
    return {target: counts[target] for target in Target}
