"""The client of a panel that speaks the vmmgr calling convention (design 03): `vmwatch.report`, or else `vm.event`."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec import UNSET

from vmwatch.shared.handover import WorkerSettings
from vmwatch.shared.messages import MAX_BATCH_BYTES, encode
from vmwatch.shared.report import Rejected, Report, ReportEntry, Verdict
from vmwatch.workers import vmevent
from vmwatch.workers.answers import REPORT, DocFault, reported
from vmwatch.workers.batcher import Job, Outcome
from vmwatch.workers.client import Delivery, PanelFault
from vmwatch.workers.session import PanelSession
from vmwatch.workers.transport import Deadline, Transport
from vmwatch.workers.verdicts import compose_report, judge

_REPORT_BYTES = MAX_BATCH_BYTES - 64 * 1024
"""A report of signs of life stays below the panel's limit, its frame included."""

_T = TypeVar("_T")


class VmmgrClient:
    """See `PanelClient` for what may be assumed."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._master = settings.master
        self._timeout_s = settings.panel_timeout
        self._transport = Transport(settings.panel_url, settings.panel_ca)
        self._session = PanelSession(self._transport, settings.panel_user, settings.panel_password)
        self._fallback = vmevent.Fallback()

    def deliver(self, jobs: Sequence[Job]) -> Delivery:
        deadline = Deadline(self._timeout_s)

        def by_report() -> Delivery:
            verdicts = self._report(deadline, compose_report(self._master, jobs))
            result = judge(jobs, verdicts)
            fault = None
            if Outcome.RETRY in result.outcomes:
                fault = PanelFault("its answer does not say what became of each message")
            return Delivery(result, verdicts, fault)

        def by_events() -> Delivery:
            return vmevent.deliver_events(jobs, lambda fields: self._event(deadline, fields))

        try:
            return self._by_what_it_knows(by_report, by_events)
        except PanelFault as fault:
            return Delivery(fault.result(len(jobs)), fault=fault)

    def tell_presence(self, entries: Sequence[ReportEntry], rejects: Rejected | None = None) -> list[Verdict]:
        deadline = Deadline(self._timeout_s)

        def by_report() -> list[Verdict]:
            verdicts = []
            for part in _parts(entries):
                verdicts += self._report(deadline, encode(Report(self._master, part, rejects or UNSET)))
            return verdicts

        return self._by_what_it_knows(by_report, list)

    def _by_what_it_knows(self, by_report: Callable[[], _T], otherwise: Callable[[], _T]) -> _T:
        """By `vmwatch.report`, unless the panel says, or has said lately, that it does not know it."""
        if self._fallback.is_on(self._session.begun):
            return otherwise()
        try:
            done = by_report()
        except DocFault as fault:
            if not fault.denies(REPORT):
                raise
            self._fallback.begin(self._session.begun)
            return otherwise()
        self._fallback.end()
        return done

    def _report(self, deadline: Deadline, body: bytes) -> list[Verdict]:
        return self._session.post_json(deadline, REPORT, body, reported)

    def _event(self, deadline: Deadline, fields: dict[str, str]) -> None:
        doc = self._session.post_form(deadline, vmevent.FUNCTION, fields)
        if "ok" not in doc:
            raise PanelFault(f"its answer to {vmevent.FUNCTION} does not say ok")

    def close(self) -> None:
        self._transport.close()


def _parts(entries: Sequence[ReportEntry]) -> list[list[ReportEntry]]:
    """In order, each part within the panel's limit; one empty part for no entries: that the master runs is news too."""
    parts: list[list[ReportEntry]] = [[]]
    size = 0
    for entry in entries:
        length = len(encode(entry))
        if parts[-1] and size + length > _REPORT_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(entry)
        size += length
    return parts
