"""From jobs to a report, and from an answer to outcomes: pure functions (design 03, *vmwatch.report*)."""

from collections.abc import Sequence

from msgspec import Raw

from vmwatch.shared.messages import encode
from vmwatch.shared.report import Refusal, Report, ReportEntry, Verdict
from vmwatch.workers.batcher import CallResult, Job, Outcome

StreamKey = tuple[str, int]


def _grouped(jobs: Sequence[Job]) -> dict[StreamKey, list[int]]:
    """Positions of jobs by (node, epoch), in order."""
    groups: dict[StreamKey, list[int]] = {}
    for position, job in enumerate(jobs):
        groups.setdefault((job.stream.node, job.stream.epoch), []).append(position)
    return groups


def compose_report(master: str, jobs: Sequence[Job]) -> bytes:
    """The JSON of a report with these messages, each as its node sent it."""
    entries = []
    for (node, epoch), positions in _grouped(jobs).items():
        # Of a dead letter that is sent again, what is known of its node may be old.
        label = min((jobs[position].stream for position in positions), key=lambda stream: stream.returned)
        entries.append(
            ReportEntry(
                node=node,
                epoch=epoch,
                base=max(jobs[position].stream.base for position in positions),
                agent=label.agent,
                interval=label.interval,
                messages=[Raw(jobs[position].raw) for position in positions],
                returned=[jobs[position].seq for position in positions if jobs[position].stream.returned],
            )
        )
    return encode(Report(master, entries))


def judge(jobs: Sequence[Job], verdicts: Sequence[Verdict]) -> CallResult:
    """What an understood answer settles.

    A message is settled only if, for its (node, epoch), there is one verdict, applied + known + refused is the number
    that was sent, and every refusal names another message of them. All else counts as not delivered.
    """
    outcomes = [Outcome.RETRY] * len(jobs)
    refusals: dict[int, Refusal] = {}
    by_stream: dict[StreamKey, list[Verdict]] = {}
    for verdict in verdicts:
        by_stream.setdefault((verdict.node, verdict.epoch), []).append(verdict)
    for key, positions in _grouped(jobs).items():
        answers = by_stream.get(key, [])
        if len(answers) != 1:
            continue
        refused = {refusal.seq: refusal for refusal in answers[0].refused}
        seqs = {jobs[position].seq for position in positions}
        count = answers[0].applied + answers[0].known + len(answers[0].refused)
        if count != len(positions) or len(refused) != len(answers[0].refused) or not refused.keys() <= seqs:
            continue
        for position in positions:
            refusal = refused.get(jobs[position].seq)
            if refusal is None:
                outcomes[position] = Outcome.DELIVERED
            else:
                outcomes[position] = Outcome.REFUSED
                refusals[position] = refusal
    return CallResult(outcomes, refusals)
