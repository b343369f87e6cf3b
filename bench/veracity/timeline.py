"""What is known of a value over time from samples of it: a core without I/O. All times are monotonic seconds.

A sample was taken at some moment between its begin and its end. So a change lies somewhere between the begin of the
last sample that showed the old value and the end of the first one that showed the new: in that time the value is one
of the two, and nobody can say which.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import NamedTuple

Value = str | None
"""A state's name, of a running VM with its node (`running@NODE`); None: there is nobody who could know it."""

NOBODY: Value = None

_RANK = ("running", "in_shutdown", "paused", "pmsuspended", "unknown", "crashed", "shutoff", "absent")
"""Which of several nodes' words is the VM's state. One that left a node by a migration is what it is at the other."""


class Span(NamedTuple):
    """From `begin` to `end` the value was one of `values`."""

    begin: float
    end: float
    values: frozenset[Value]


Piece = tuple[float, float, Value]


@dataclass(slots=True)
class Run:
    """Samples in a row that showed the same; (begin, end) of the first and of the last."""

    value: Value
    first: tuple[float, float]
    last: tuple[float, float]


class Timeline:
    """One value's samples, in the order in which they were taken."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def add(self, begin: float, end: float, value: Value) -> None:
        """A sample that was begun and had its answer at these times."""
        if self.runs and self.runs[-1].value == value:
            self.runs[-1].last = (begin, end)
        else:
            self.runs.append(Run(value, (begin, end), (begin, end)))

    @property
    def now(self) -> Value:
        """What the last sample showed."""
        return self.runs[-1].value if self.runs else NOBODY

    def spans(self, begin: float, end: float) -> list[Span]:
        """The whole of this time without gaps; before the first sample and after the last one theirs counts."""
        pieces: list[Piece] = []
        for number, run in enumerate(self.runs):
            known_from = begin if number == 0 else run.first[1]
            known_to = end if number + 1 == len(self.runs) else run.last[0]
            pieces.append((known_from, known_to, run.value))
        for before, after in pairwise(self.runs):
            changed = (before.last[0], after.first[1])
            pieces += [(*changed, before.value), (*changed, after.value)]
        return _overlay(pieces, begin, end)


def _overlay(pieces: Iterable[Piece], begin: float, end: float) -> list[Span]:
    """At each time the values of all pieces that cover it."""
    marks: list[tuple[float, int, Value]] = []
    for since, until, value in pieces:
        since, until = max(since, begin), min(until, end)
        if since < until:
            marks += [(since, 1, value), (until, -1, value)]
    spans: list[Span] = []
    covering: Counter[Value] = Counter()
    at = begin
    for time, step, value in [*sorted(marks, key=lambda mark: mark[0]), (end, 0, NOBODY)]:
        if time > at:
            values = frozenset(one for one, count in covering.items() if count)
            _append(spans, Span(at, time, values or frozenset({NOBODY})))
            at = time
        covering[value] += step
    return spans


def _append(spans: list[Span], span: Span) -> None:
    if spans and spans[-1].values == span.values:
        span = Span(spans.pop().begin, span.end, span.values)
    spans.append(span)


def together(*lines: Sequence[Span]) -> Iterator[tuple[float, float, tuple[frozenset[Value], ...]]]:
    """Times in which none of these changes, with the values of each; all lines cover the same time without gaps."""
    places = [0] * len(lines)
    at, end = lines[0][0].begin, lines[0][-1].end
    while at < end:
        spans = [line[place] for line, place in zip(lines, places, strict=True)]
        until = min(span.end for span in spans)
        yield at, until, tuple(span.values for span in spans)
        places = [place + (span.end <= until) for span, place in zip(spans, places, strict=True)]
        at = until


def join(lines: Sequence[Sequence[Span]]) -> list[Span]:
    """One VM's state from what is true of it on each node."""
    joined: list[Span] = []
    for begin, end, sets in together(*lines):
        _append(joined, Span(begin, end, frozenset(joined_value(values) for values in product(*sets))))
    return joined


def joined_value(values: Iterable[Value]) -> Value:
    """A VM's state from what each node has of it; where one says nothing, only that of a VM that runs elsewhere."""
    said = list(values)
    known = [value for value in said if value is not None]
    best = min(known, key=rank, default=NOBODY)
    return best if NOBODY not in said or (best is not None and rank(best) == 0) else NOBODY


def rank(value: str) -> int:
    """The lower one of two nodes' words counts."""
    return _RANK.index(value.partition("@")[0])
