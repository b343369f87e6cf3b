"""The judgement: a picture's timeline beside the truth's. A core without I/O; times in seconds.

Truth and picture are both sampled, so of some times nobody can say whether the picture was wrong. These are counted
apart: the share of wrong time lies between `wrong_s` and `wrong_s + unsure_s`, for whichever picture it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from bench.veracity.timeline import NOBODY, Span, Timeline, Value, together

UNKNOWN = "unknown"
"""A picture's word that states nothing."""
STOPPED: frozenset[Value] = frozenset({"shutoff", "crashed", "absent"})
LATE_MOST_S = 90.0
"""A stop that is told so long after it was true is false, whatever was true then. No fault of the script is as long."""


class Verdict(Enum):
    """What can be said of a picture at one time."""

    RIGHT = "right"
    UNKNOWN = "unknown"
    UNSURE = "unsure"
    WRONG = "wrong"
    NO_TRUTH = "no truth"


def judge(truth: frozenset[Value], picture: frozenset[Value]) -> Verdict:
    """Of sets of which one value each was true, and was shown."""
    if NOBODY in truth:
        return Verdict.NO_TRUTH
    stated = picture - {UNKNOWN}
    if not stated or (stated == truth and len(truth) == 1):
        return Verdict.UNKNOWN if UNKNOWN in picture else Verdict.RIGHT
    if stated == picture and not truth & picture:
        return Verdict.WRONG
    return Verdict.UNSURE


@dataclass(frozen=True)
class Stretch:
    """A VM was shown otherwise than it was, without interruption."""

    vm: str
    begin: float
    end: float
    truth: str
    picture: str

    @property
    def lasted_s(self) -> float:
        return self.end - self.begin


@dataclass(frozen=True)
class Stop:
    """The picture began to show a VM as stopped at `at`, while it ran. `late`: it had been stopped a while before."""

    vm: str
    at: float
    late: bool


@dataclass
class Reckoning:
    """VM-seconds by verdict, and what went wrong."""

    seconds: dict[Verdict, float] = field(default_factory=lambda: dict.fromkeys(Verdict, 0.0))
    stretches: list[Stretch] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)

    @property
    def judged_s(self) -> float:
        """VM-seconds in which there is a truth."""
        return sum(self.seconds.values()) - self.seconds[Verdict.NO_TRUTH]

    @property
    def wrong_least(self) -> float:
        """Share in which it was certainly wrong."""
        return self._share(Verdict.WRONG)

    @property
    def wrong_most(self) -> float:
        """Share in which it was wrong, or may have been as far as the samples say."""
        return self._share(Verdict.WRONG, Verdict.UNSURE)

    @property
    def unknown(self) -> float:
        """Share in which it said that it does not know."""
        return self._share(Verdict.UNKNOWN)

    @property
    def longest(self) -> Stretch | None:
        """The longest stretch in which it was certainly wrong of one VM."""
        return max(self.stretches, key=lambda stretch: stretch.lasted_s, default=None)

    @property
    def false_stops(self) -> list[Stop]:
        return [stop for stop in self.stops if not stop.late]

    @property
    def late_stops(self) -> list[Stop]:
        return [stop for stop in self.stops if stop.late]

    def _share(self, *verdicts: Verdict) -> float:
        return sum(self.seconds[verdict] for verdict in verdicts) / self.judged_s if self.judged_s else 0.0


def reckon(
    truths: Mapping[str, Sequence[Span]], pictures: Mapping[str, Timeline], begin: float, end: float
) -> Reckoning:
    """All VMs of either side. A VM that one side never names is `absent` there."""
    found = Reckoning()
    nothing = [Span(begin, end, frozenset({"absent"}))]
    for vm in sorted(truths.keys() | pictures.keys()):
        truth = truths.get(vm, nothing)
        timeline = pictures.get(vm)
        picture = timeline.spans(begin, end) if timeline else nothing
        _compare(found, vm, truth, picture)
        if timeline:
            found.stops += stops(vm, truth, timeline)
    return found


def _compare(found: Reckoning, vm: str, truth: Sequence[Span], picture: Sequence[Span]) -> None:
    wrong: Stretch | None = None
    for begin, end, (true, shown) in together(truth, picture):
        verdict = judge(true, shown)
        found.seconds[verdict] += end - begin
        if verdict is not Verdict.WRONG:
            wrong = None
        elif wrong is None:
            wrong = Stretch(vm, begin, end, _text(true), _text(shown))
            found.stretches.append(wrong)
        else:
            wrong = Stretch(vm, wrong.begin, end, wrong.truth, wrong.picture)
            found.stretches[-1] = wrong


def _text(values: Iterable[Value]) -> str:
    return " or ".join(sorted(str(value) for value in values))


def stops(vm: str, truth: Sequence[Span], picture: Timeline) -> list[Stop]:
    """Each time at which the picture went over to "stopped" or "gone" although the VM was active all the while.

    It is a late one if the VM had been stopped at most LATE_MOST_S before, which no earlier stop of the picture was
    about. Where there is no truth, nothing is said.
    """
    found: list[Stop] = []
    true = _stopped(truth)
    told = -1
    """The last of the true stops that the picture has shown."""
    for before, run in zip([None, *picture.runs], picture.runs, strict=False):
        if run.value not in STOPPED:
            continue
        began = truth[0].begin if before is None else before.last[0]
        goes_over = before is not None and before.value not in STOPPED
        in_window = run.first[1] > truth[0].begin and began < truth[-1].end
        if goes_over and in_window and not _overlapping(true, began, run.first[1]):
            earlier = [n for n, (_, end) in enumerate(true) if n > told and began - LATE_MOST_S <= end <= began]
            found.append(Stop(vm, run.first[0], late=bool(earlier)))
            told = min(earlier, default=told)
        told = max([told, *_overlapping(true, began, run.last[1])])
    return found


def _stopped(truth: Sequence[Span]) -> list[tuple[float, float]]:
    """Times in which the VM may have been stopped."""
    found: list[tuple[float, float]] = []
    for span in truth:
        if not span.values & (STOPPED | {NOBODY}):
            continue
        begin = found.pop()[0] if found and found[-1][1] == span.begin else span.begin
        found.append((begin, span.end))
    return found


def _overlapping(times: Sequence[tuple[float, float]], begin: float, end: float) -> list[int]:
    """Numbers of those that touch this time."""
    return [number for number, (since, until) in enumerate(times) if since <= end and begin <= until]
