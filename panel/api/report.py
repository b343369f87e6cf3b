"""`vmwatch.report`: a batch of messages of the wire protocol, registered in one transaction."""

import re

from starlette.responses import Response

from vmwatch.panel.convention import ApiError, Kind, bad_value
from vmwatch.panel.functions import WORKERS, Call, Function
from vmwatch.panel.registration import register
from vmwatch.panel.removal import note_returns
from vmwatch.panel.writer import Work
from vmwatch.shared.errors import MessageError
from vmwatch.shared.messages import MAX_BATCH_BYTES
from vmwatch.shared.report import Report, Verdict, decode_report, encode_answer

_PLACE = re.compile(r"at `\$?\.?([^`]*)`|required field `([^`]*)`")


async def report(call: Call) -> Response:
    """Answers only after the commit: then, and not before, may anybody forget these messages."""
    decoded = _decode(call.body)

    def job(work: Work) -> list[Verdict]:
        try:
            verdicts = register(work.draft, decoded, work.now, work.registered)
        except MessageError as error:
            raise _error(error) from None
        note_returns(work, [verdict.node for verdict in verdicts])
        work.watch.reported(work.monotonic, [(entry.node, entry.epoch) for entry in decoded.nodes if entry.live])
        if decoded.rejects:
            work.watch.knocks.hear(work.monotonic, decoded.master, decoded.rejects)
        return verdicts

    verdicts = await call.panel.writer.do(job, len(call.body))
    for verdict in verdicts:
        call.panel.counters["messages.applied"] += verdict.applied
        call.panel.counters["messages.known"] += verdict.known
        call.panel.counters["messages.refused"] += len(verdict.refused)
    return Response(encode_answer(verdicts), media_type="application/json")


def _decode(body: bytes) -> Report:
    try:
        return decode_report(body)
    except MessageError as error:
        raise _error(error) from None


def _error(error: MessageError) -> ApiError:
    """`value` with the field's place where one field is wrong; `xml`, the convention's word, if it cannot be read."""
    place = _PLACE.search(str(error))
    if place is None:
        return ApiError(Kind.XML, "report", f"not a report in JSON: {error}")
    return bad_value(place[1] or place[2] or "report", str(error))


FUNCTIONS = (Function("vmwatch.report", report, WORKERS, changes=True, body=MAX_BATCH_BYTES),)
