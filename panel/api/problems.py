"""`problems`: what a person should know of, or do."""

import re

from vmwatch.panel.convention import Done, Listing, Params
from vmwatch.panel.functions import VIEWERS, WORKERS, Call, Function
from vmwatch.panel.labels import time_label
from vmwatch.panel.paging import Page
from vmwatch.panel.problems import MAX_TEXT, Kind, Level, Phase, Problem, raise_problem
from vmwatch.panel.writer import Work

_SUBJECT = re.compile(r"[^\x00-\x1f\x7f]{1,256}")
_TEXT = re.compile(rf"[^\x00]{{1,{MAX_TEXT}}}", re.DOTALL)
_ORDER = {Level.FATAL.value: 0, Level.ERROR.value: 1, Level.WARNING.value: 2, Level.MESSAGE.value: 3}


async def problems(call: Call) -> Listing:
    """All problems, open ones first, the worst of them first; filters `type`, `object`, `state`."""
    chosen = select(call.panel.board.problems(), call.params)
    return Page.of(call.params).cut([row_of(problem) for problem in chosen])


def select(found: list[Problem], params: Params) -> list[Problem]:
    """The problems that fit the filters, in order. Raises ApiError for a filter that there is not."""
    kind = params.one_of("type", [kind.value for kind in Kind])
    phase = params.one_of("state", [phase.value for phase in Phase])
    subject = params.get("object").strip()
    chosen = [
        problem
        for problem in found
        if (not kind or problem.type == kind)
        and (not phase or problem.phase == phase)
        and (not subject or problem.object == subject)
    ]
    return sorted(chosen, key=lambda one: (not one.is_open, _ORDER.get(one.level, 4), -one.last, one.id))


async def register(call: Call) -> Done:
    """Somebody noticed a problem: `type`, `object`, `level`, `description`. The same one again counts up."""
    params = call.params
    params.required("type")
    kind = params.one_of("type", [kind.value for kind in Kind])
    subject = params.matching("object", _SUBJECT, "a name of up to 256 characters", required=True)
    level = params.one_of("level", [level.value for level in Level]) or Level.ERROR
    text = params.matching("description", _TEXT, f"a text of up to {MAX_TEXT} characters", required=True)

    def job(work: Work) -> int:
        raise_problem(work.draft, work.now, kind, subject, level, text)
        return work.draft.problems[kind, subject].id

    return Done({"elid": str(await call.panel.writer.do(job))})


def row_of(problem: Problem) -> dict[str, str]:
    """The row as the API shows it."""
    return {
        "id": str(problem.id),
        "type": problem.type,
        "object": problem.object,
        "level": problem.level,
        "description": problem.text,
        "first": time_label(problem.first),
        "last": time_label(problem.last),
        "count": str(problem.count),
        "state": problem.phase,
        "closed": time_label(problem.closed),
    }


FUNCTIONS = (
    Function("problems", problems, VIEWERS),
    Function("problems.register", register, WORKERS, changes=True),
)
