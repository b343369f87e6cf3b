"""Nodes that a person removed and that report all the same: they could not be reached when they were removed, or the
panel ended meanwhile.

What they say counts, since their VMs may have been started elsewhere meanwhile, and such a duplicate must be seen. But
they do not come back silently: that is a problem until somebody has decided. A core without I/O.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from vmwatch.panel.problems import Kind, Level, Problem, Problems, close_problem, raise_problem

TOLD = "it was removed, and reports all the same"
ENDED_WITH_IT = (Kind.NODE_STOPPED, Kind.NODE_UNAVAILABLE, Kind.SKEW)
"""Problems that nobody would look at again once the node is removed; others end by themselves."""


def begun(draft: Problems, now: float, node: str) -> None:
    """A person removes a node, and stopping it takes a while: if the panel ends meanwhile, its next run must neither
    check the node nor set it up again. With the removal this is over."""
    _wait_for_a_person(draft, now, node, "its removal was begun and not ended: it is not configured")


def came_back(draft: Problems, now: float, node: str) -> None:
    """A node that had been removed reports. Nothing is done about it automatically: it may be wanted again."""
    _wait_for_a_person(draft, now, node, f"{TOLD}: what it says counts, and it is not configured")


def _wait_for_a_person(draft: Problems, now: float, node: str, what: str) -> None:
    text = f"{node}: {what}. Solve this to stop vmwatch-node there and remove it; add it to keep it."
    if raise_problem(draft, now, Kind.RETURNED, node, Level.WARNING, text):
        key = (Kind.RETURNED.value, node)
        draft.problems[key] = replace(draft.problems[key], automatic=False)


def decided(draft: Problems, now: float, node: str) -> None:
    """Somebody has removed it again, or keeps it."""
    close_problem(draft, now, Kind.RETURNED, node)


def returned(problems: Iterable[Problem]) -> frozenset[str]:
    """The nodes of which nobody has decided yet."""
    return frozenset(one.object for one in problems if one.type == Kind.RETURNED and one.is_open and not one.gone)
