"""What the worker needs of a panel; each kind of panel is one implementation beside this file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vmwatch.shared.errors import VmwatchError
from vmwatch.shared.report import Rejected, ReportEntry, Verdict
from vmwatch.workers.batcher import CallResult, Job, Outcome


class PanelFault(VmwatchError):
    """A call that settles nothing; the text says why, for the log and the status.

    `needs_person`: it will not mend itself. `too_large`: less at once may pass. `wait_s`: the panel asks to wait so
    many seconds. `blameless`: the panel cannot have looked at the messages, so it is no message's fault.
    """

    def __init__(
        self,
        text: str,
        *,
        needs_person: bool = False,
        too_large: bool = False,
        wait_s: float = 0.0,
        blameless: bool = False,
    ) -> None:
        super().__init__(text)
        self.needs_person = needs_person
        self.too_large = too_large
        self.wait_s = wait_s
        self.blameless = blameless

    def result(self, count: int) -> CallResult:
        """The outcome of a call with `count` messages that ended so."""
        return CallResult(
            [Outcome.RETRY] * count, too_large=self.too_large, wait_s=self.wait_s, blameless=self.blameless
        )


@dataclass
class Delivery:
    """How a call with messages ended. `fault`: what was wrong with it, also if some messages are settled."""

    result: CallResult
    verdicts: list[Verdict] = field(default_factory=list)
    fault: PanelFault | None = None


class PanelClient(Protocol):
    """One panel, as one worker sees it. Not for several threads.

    Each method makes one attempt and takes at most about `panel_timeout` seconds in all, however slowly a panel
    answers. Whatever a panel or a network does ends in a `PanelFault` that settles nothing; anything else that is
    raised is a defect of ours.
    """

    def deliver(self, jobs: Sequence[Job]) -> Delivery:
        """Call the panel with these messages, at least one. Only what its answer names is DELIVERED or REFUSED.

        A fault is returned, not raised: it may have come after some messages were settled.
        """
        ...

    def tell_presence(self, entries: Sequence[ReportEntry], rejects: Rejected | None = None) -> list[Verdict]:
        """Report signs of life, or with no entries only that the master runs, and what it dropped. Raises PanelFault.

        A panel that cannot be told of `rejects` is not.
        """
        ...

    def close(self) -> None:
        """Give up connections; unfinished business there is none."""
        ...
