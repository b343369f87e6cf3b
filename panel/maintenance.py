"""Maintenance: who works on a service says so, for a time that ends by itself. A core without I/O.

While it lasts nothing of the object is repaired automatically, and its problems are shown muted.
"""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

MASTER = "vmwatch-master"
"""The object, beside the nodes' names: that of the master's problems."""


class Maintenance(Struct, frozen=True):
    """`object`: a node's name, or MASTER. `began` and `until` in seconds since 1970 by the panel's clock."""

    object: str
    began: float
    until: float
    by: str = ""
    reason: str = ""


class Maintained(Protocol):
    """Where it is kept: a draft (`knowledge.Draft`)."""

    maintenance: dict[str, Maintenance | None]
    durable: bool

    def all_maintenance(self) -> Mapping[str, Maintenance]:
        """By object, what was begun and not ended."""
        ...


def begin(draft: Maintained, maintenance: Maintenance) -> None:
    """From now on, or with another end than before."""
    before = draft.all_maintenance().get(maintenance.object)
    began = before.began if before is not None else maintenance.began
    draft.maintenance[maintenance.object] = Maintenance(
        maintenance.object, began, maintenance.until, maintenance.by, maintenance.reason
    )
    draft.durable = True


def end(draft: Maintained, subject: str) -> bool:
    """Now. True if it was in maintenance."""
    if subject not in draft.all_maintenance():
        return False
    draft.maintenance[subject] = None
    draft.durable = True
    return True


def end_due(draft: Maintained, now: float) -> list[str]:
    """End what is over; returns of which objects. `now`: wall clock, seconds."""
    due = [found.object for found in draft.all_maintenance().values() if found.until <= now]
    for subject in due:
        end(draft, subject)
    return due
