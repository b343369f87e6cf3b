"""The fallback for panels without `vmwatch.report`: one `vm.event` for each event (design 03, *Other panels*).

At least once only: such a panel need not know repetitions. Inventories, statistics and words of agents have no place
there; they count as delivered and are not sent.
"""

import logging
import time
from collections.abc import Callable, Sequence

from vmwatch.shared.errors import MessageError
from vmwatch.shared.messages import Event, decode_message
from vmwatch.shared.report import Refusal
from vmwatch.workers.answers import DocFault
from vmwatch.workers.batcher import CallResult, Job, Outcome
from vmwatch.workers.client import Delivery, PanelFault

log = logging.getLogger(__name__)

FUNCTION = "vm.event"
REPORT_AGAIN_S = 600.0
"""A panel may have learnt `vmwatch.report` meanwhile: it is asked again after so long, and in each new session."""
REFUSALS = ("value", "exists", "missed")
"""Types of errors that are a word about this one message; all others are about the call."""

Call = Callable[[dict[str, str]], object]
"""Call `vm.event` with these parameters; returns only if the panel said `ok`. Raises PanelFault."""


class Fallback:
    """Whether the panel is, for now, one without `vmwatch.report`."""

    def __init__(self) -> None:
        self._until = 0.0
        self._session = 0
        self._said = False

    def begin(self, session: int) -> None:
        """The panel said, in this session, that it does not know `vmwatch.report`."""
        self._until = time.monotonic() + REPORT_AGAIN_S
        self._session = session
        if not self._said:
            self._said = True
            log.warning(
                "the panel does not know vmwatch.report: each event is sent by %s, at least once and perhaps more"
                " often; inventories and statistics are not sent",
                FUNCTION,
            )

    def is_on(self, session: int) -> bool:
        """Do not try `vmwatch.report` now."""
        return self._session == session and time.monotonic() < self._until

    def end(self) -> None:
        """`vmwatch.report` was answered."""
        if self._said:
            self._said = False
            log.info("the panel knows vmwatch.report again")
        self._until = 0.0


def deliver_events(jobs: Sequence[Job], call: Call) -> Delivery:
    """Deliver in order, and stop at the first fault: what comes after it may be of the same VM."""
    outcomes = [Outcome.RETRY] * len(jobs)
    refusals: dict[int, Refusal] = {}
    fault: PanelFault | None = None
    for position, job in enumerate(jobs):
        try:
            message = decode_message(job.raw)
            if isinstance(message, Event):
                call(parameters(job, message))
        except MessageError as error:
            refusals[position] = Refusal(job.seq, "value", "message", str(error))
        except DocFault as error:
            if error.error.type not in REFUSALS or error.denies(FUNCTION):
                fault = error
                break
            refusals[position] = Refusal(job.seq, error.error.type, error.error.object, error.error.text)
        except PanelFault as error:
            fault = error
            break
        outcomes[position] = Outcome.REFUSED if position in refusals else Outcome.DELIVERED
    result = CallResult(outcomes, refusals)
    if fault is not None:
        result.wait_s, result.blameless = fault.wait_s, fault.blameless
    return Delivery(result, fault=fault)


def parameters(job: Job, event: Event) -> dict[str, str]:
    """The documented ones, and ours (`uuid`, `epoch`, `seq`), by which a panel may know repetitions."""
    return {
        "hostnode": job.stream.node,
        "name": event.vm.name,
        "event": event.event,
        "detail": event.detail,
        "uuid": event.vm.uuid,
        "epoch": str(job.stream.epoch),
        "seq": str(event.seq),
    }
