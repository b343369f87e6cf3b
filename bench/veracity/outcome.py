"""What a run has come to: its figures as a person reads them, and as JSON."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from bench.figures import Figures, Goal
from bench.veracity.observers import CONTENDERS, OURS
from bench.veracity.script import Course
from bench.veracity.verdict import Reckoning, Stop, Stretch, Verdict

MOST_OF_RIVAL = 0.1
"""The goal: we are wrong at most a tenth of the better rival's time."""
EXAMPLES = 30


@dataclass
class Outcome:
    """All that a run found; times of stretches and stops are monotonic seconds, `begin` the script's."""

    course: Course
    vms: int
    done: dict[str, int]
    begin: float
    seconds: float
    samples: dict[str, int]
    reckonings: dict[str, Reckoning]
    settled_s: float
    wrong_at_end: int
    troubles: list[str]

    @property
    def ratio(self) -> float:
        """Our wrong time at most, as a share of the better rival's at least: all doubt speaks against us."""
        rivals = min(found.wrong_least for name, found in self.reckonings.items() if name != OURS)
        return self.reckonings[OURS].wrong_most / rivals if rivals else inf

    @property
    def is_well(self) -> bool:
        """The goals are met, and nothing went wrong with the measurement."""
        met = self.course.storm or self.ratio <= MOST_OF_RIVAL
        return met and not self.reckonings[OURS].false_stops and not self.wrong_at_end and not self.troubles

    def tell(self, figures: Figures) -> None:
        """Print the figures, and keep them."""
        done = ", ".join(f"{what} {count}" for what, count in sorted(self.done.items()))
        what = "a storm" if self.course.storm else f"{self.course.hour_s / 60:.0f} minutes of an hour"
        figures.heading(f"{what} in {self.seconds:.0f} s, {self.vms} VMs on 4 nodes, seed {self.course.seed}: {done}")
        for name in CONTENDERS:
            self._tell_one(figures, name, self.reckonings[name])
        figures.heading("beside each other")
        goal = None if self.course.storm else _AT_MOST_A_TENTH
        figures.add("ratio", "wrong: ours at most, of the better rival's at least", self.ratio, "", goal)
        figures.add("wrong_at_end", "ours, VMs that stayed wrong after the end", self.wrong_at_end, "VMs", _NONE)
        figures.add("settled_s", "ours, from the end until all was right", self.settled_s, "s")
        for trouble in self.troubles:
            print(f"TROUBLE: {trouble}")

    def _tell_one(self, figures: Figures, name: str, found: Reckoning) -> None:
        figures.heading(_TITLES[name])
        figures.add(f"{name}_wrong_least", "wrong, at least", found.wrong_least * 100, "%")
        figures.add(f"{name}_wrong_most", "wrong, at most (as far as samples can tell)", found.wrong_most * 100, "%")
        figures.add(f"{name}_unknown", "said `unknown`", found.unknown * 100, "%")
        both = (found.wrong_most + found.unknown) * 100
        figures.add(f"{name}_wrong_or_unknown", "both together", both, "%")
        longest = found.longest
        text = f"longest wrong stretch{self._course_of([longest] if longest else [])}"
        figures.add(f"{name}_longest_s", text, longest.lasted_s if longest else 0.0, "s")
        goal = _NONE if name == OURS else None
        text = f"false stops{self._course_of(found.false_stops[:1])}"
        figures.add(f"{name}_false_stops", text, len(found.false_stops), "", goal)
        figures.add(f"{name}_late_stops", "stops told when the VM ran again", len(found.late_stops), "")

    def _course_of(self, found: Iterable[Stretch | Stop]) -> str:
        """When that was, for who looks for a cause."""
        for one in found:
            if isinstance(one, Stretch):
                return f" (at {one.begin - self.begin:.1f} s: {one.picture}, was {one.truth})"
            return f" (the first at {one.at - self.begin:.1f} s)"
        return ""

    def as_json(self, figures: Figures) -> dict[str, Any]:
        """The figures as `make bench` writes them, and examples of what was wrong."""
        return figures.as_json() | {
            "well": self.is_well,
            "course": asdict(self.course),
            "done": self.done,
            "samples": self.samples,
            "vm_seconds": {
                name: {verdict.value: found.seconds[verdict] for verdict in Verdict}
                for name, found in self.reckonings.items()
            },
            "stretches": {name: self._worst(found) for name, found in self.reckonings.items()},
            "stops": {
                name: [asdict(stop) | {"at": stop.at - self.begin} for stop in found.stops]
                for name, found in self.reckonings.items()
            },
            "troubles": self.troubles,
        }

    def _worst(self, found: Reckoning) -> list[dict[str, Any]]:
        worst = sorted(found.stretches, key=lambda stretch: stretch.lasted_s, reverse=True)[:EXAMPLES]
        return [
            {
                "vm": one.vm,
                "at_s": round(one.begin - self.begin, 3),
                "lasted_s": round(one.lasted_s, 3),
                "was": one.truth,
                "shown": one.picture,
            }
            for one in worst
        ]


_TITLES = {
    OURS: "vmwatch",
    "forwarder": "rival: forwards events, three retries, no lists",
    "poller": "rival: lists all domains in each period, no events",
}
_AT_MOST_A_TENTH = Goal(MOST_OF_RIVAL, at_most=True)
_NONE = Goal(0, at_most=True)
