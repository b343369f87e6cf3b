"""`problems.close`: whoever registered a problem has seen that its cause is gone."""

import re

from vmwatch.panel.convention import Done
from vmwatch.panel.functions import WORKERS, Call, Function
from vmwatch.panel.problems import Kind, close_problem
from vmwatch.panel.writer import Work

_SUBJECT = re.compile(r"[^\x00-\x1f\x7f]{1,256}")


async def close(call: Call) -> Done:
    """The problem with this `type` and `object` is over; none that is open is no mistake."""
    params = call.params
    params.required("type")
    kind = params.one_of("type", [kind.value for kind in Kind])
    subject = params.matching("object", _SUBJECT, "a name of up to 256 characters", required=True)

    def job(work: Work) -> None:
        close_problem(work.draft, work.now, kind, subject)

    await call.panel.writer.do(job)
    return Done({"type": kind, "object": subject})


FUNCTIONS = (Function("problems.close", close, WORKERS, changes=True),)
