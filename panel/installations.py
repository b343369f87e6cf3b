"""What a change of an installation brings with it in the same transaction: its row, a listing, a problem. No I/O."""

from typing import Protocol

from msgspec.structs import replace

from vmwatch.panel.installation import Installation, Outcome, label
from vmwatch.panel.problems import Kind, Level, Problems, close_problem, raise_problem


class Installations(Problems, Protocol):
    """Where installations are kept: a draft (`knowledge.Draft`)."""

    installations: dict[str, Installation]
    durable: bool

    def want_inventory(self, name: str) -> int:
        """Ask a node for a fresh listing, and say with which token's number."""
        ...


def keep_installation(draft: Installations, before: Installation | None, after: Installation, now: float) -> None:
    """Keep what became of an installation. `now`: wall clock, seconds."""
    if after is before:
        return
    if after.ask:
        after = replace(after, ask=False, asked=draft.want_inventory(after.node))
    draft.installations[after.uuid] = after
    draft.durable = True
    decided = before is None or before.outcome is not after.outcome
    where = f"{after.name} on {after.node}"
    if decided and after.outcome is Outcome.FAILED:
        text = f"the installation of {where} failed: {after.reason}"
        raise_problem(draft, now, Kind.INSTALL_FAILED, after.uuid, Level.ERROR, text)
    elif decided and after.outcome is Outcome.INSTALLED:
        close_problem(draft, now, Kind.INSTALL_FAILED, after.uuid)
    elif not after.unfinished and after.spoiled:
        why = f" ({label(after)})" if after.outcome is Outcome.FAILED else ""
        text = f"the definition of {where} could not be put back after its installation{why}: {after.note}"
        raise_problem(draft, now, Kind.INSTALL_FAILED, after.uuid, Level.ERROR, text)
