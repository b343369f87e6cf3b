"""The figures of a run: printed as they come, with goals beside them, and kept for the JSON file."""

import os
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Goal:
    """What a figure should be at least, or (`at_most`) at most."""

    limit: float
    at_most: bool = False

    def met(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.limit:g}"


@dataclass(frozen=True)
class Figure:
    """`name` is its key in the JSON file; `text` what a person reads."""

    name: str
    text: str
    value: float
    unit: str
    goal: Goal | None = None

    def line(self) -> str:
        shown = f"{self.value:14,.2f}" if abs(self.value) < 100 else f"{self.value:14,.0f}"
        judged = "" if self.goal is None else f"goal {self.goal}: {'met' if self.goal.met(self.value) else 'NOT MET'}"
        return f"  {self.text:<62}{shown} {self.unit:<9} {judged}".rstrip()


@dataclass
class Figures:
    """All of a run, in order."""

    figures: list[Figure] = field(default_factory=list)

    @staticmethod
    def heading(text: str) -> None:
        print(f"\n{text}", flush=True)

    def add(self, name: str, text: str, value: float, unit: str, goal: Goal | None = None) -> float:
        """Keep and print a figure; returns its value."""
        figure = Figure(name, text, value, unit, goal)
        self.figures.append(figure)
        print(figure.line(), flush=True)
        return value

    @property
    def missed(self) -> list[Figure]:
        """Figures that are not what they should be."""
        return [figure for figure in self.figures if figure.goal is not None and not figure.goal.met(figure.value)]

    def summary(self) -> str:
        """One line: how many goals are met, and which are not."""
        goals = [figure for figure in self.figures if figure.goal is not None]
        missed = ", ".join(f"{figure.name} ({figure.value:.2f})" for figure in self.missed)
        return f"{len(goals) - len(self.missed)} of {len(goals)} goals met" + (f"; not met: {missed}" if missed else "")

    def as_json(self) -> dict[str, Any]:
        """Plain values for the JSON file."""
        return {
            "cores": os.cpu_count(),
            "load_average": os.getloadavg()[0],
            "figures": {figure.name: {"value": figure.value, "unit": figure.unit} for figure in self.figures},
            "goals": {
                figure.name: {"goal": str(figure.goal), "met": figure.goal.met(figure.value)}
                for figure in self.figures
                if figure.goal is not None
            },
        }
