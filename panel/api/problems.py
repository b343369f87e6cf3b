"""`problems`: what a person should know of, or do (design 03, *Problems*)."""

import re
from typing import Any

from msgspec import structs

from vmwatch.panel.attempts import Attempts
from vmwatch.panel.checkup import is_on_purpose
from vmwatch.panel.convention import ApiError, Done, Form, Listing, Params, bad_value, missed
from vmwatch.panel.convention import Kind as ErrorKind
from vmwatch.panel.functions import ADMIN, OPERATORS, VIEWERS, WORKERS, Call, Function, Panel
from vmwatch.panel.labels import time_label
from vmwatch.panel.mender import NotSolvable
from vmwatch.panel.paging import Page
from vmwatch.panel.problems import MAX_TEXT, Kind, Level, Phase, Problem, raise_problem
from vmwatch.panel.solving import ADVICE, Attempt, is_muted, next_at
from vmwatch.panel.writer import Work

UNSOLVED = "unsolved"
"""As the filter `state`: whatever is not solved."""
BY_ITSELF = "automatic"
"""Who made an attempt that nobody asked for."""
LEAST_PERIOD_S, LONGEST_PERIOD_S = 1, 7 * 86400
MOST_ATTEMPTS = 1000
_SUBJECT = re.compile(r"[^\x00-\x1f\x7f]{1,256}")
_TEXT = re.compile(rf"[^\x00]{{1,{MAX_TEXT}}}", re.DOTALL)
_ORDER = {Level.FATAL.value: 0, Level.ERROR.value: 1, Level.WARNING.value: 2, Level.MESSAGE.value: 3}


async def problems(call: Call) -> Listing:
    """All problems, open ones first, the worst of them first; filters `elid`, `type`, `object`, `state`."""
    chosen = select(call.panel.board.problems(), call.params)
    return Page.of(call.params).cut([row_of(call.panel, problem) for problem in chosen])


def select(found: list[Problem], params: Params) -> list[Problem]:
    """The problems that fit the filters, in order. Raises ApiError for a filter that there is not."""
    kind = params.one_of("type", [kind.value for kind in Kind])
    phase = params.one_of("state", [UNSOLVED, *(phase.value for phase in Phase)])
    subject, number = params.get("object").strip(), params.get("elid").strip()
    chosen = [
        problem
        for problem in found
        if (not kind or problem.type == kind)
        and (not phase or problem.phase == phase or (phase == UNSOLVED and problem.is_open))
        and (not subject or problem.object == subject)
        and (not number or str(problem.id) == number)
    ]
    return sorted(chosen, key=lambda one: (not one.is_open, _ORDER.get(one.level, 4), -one.last, one.id))


def about(found: list[Problem], uuid: str) -> list[Problem]:
    """Those open that are about a VM: it is their object, or one of the VMs of a duplicate by name or disk."""
    mine = (
        one
        for one in found
        if one.is_open and (one.object == uuid or (one.type == Kind.DUPLICATE and f"({uuid})" in one.text))
    )
    return sorted(mine, key=lambda one: one.id)


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


async def solve(call: Call) -> Done:
    """Begin an attempt at the problem `elid` now; answers with its number, or that of the one that is under way.

    What comes of it: `problems.log`.
    """
    problem = problem_of(call.panel, call.params.required("elid").strip())
    if problem.is_open and call.panel.solvers.of(problem.type) is None:
        text = f"{problem.type} cannot be solved from here, a person must act. {advice(problem)}"
        raise ApiError(ErrorKind.VALUE, "elid", text, str(problem.id))
    try:
        attempt = await call.panel.mender.solve(problem.key, call.caller.account.name if call.caller else "")
    except NotSolvable as error:
        raise bad_value("elid", str(error), str(problem.id)) from None
    return Done({"elid": str(problem.id), "attempt": str(attempt)})


async def edit(call: Call) -> Form | Done:
    """`automatic` (on, off), `period` (seconds), `attempts` (at most) of the problem `elid`; what is not named stays.

    `sok=ok` performs it. Switched on again, or with more attempts, it counts its attempts anew.
    """
    params = call.params
    problem = problem_of(call.panel, params.required("elid").strip())
    changes: dict[str, Any] = {}
    if automatic := params.one_of("automatic", ("on", "off")):
        changes["automatic"] = automatic == "on"
    if (period := params.whole("period", LEAST_PERIOD_S, LONGEST_PERIOD_S)) is not None:
        changes["period"] = float(period)
    if (most := params.whole("attempts", 1, MOST_ATTEMPTS)) is not None:
        changes["most"] = most
    if not params.sok:
        shown = structs.replace(problem, **changes)
        return Form({"elid": str(shown.id), **_settings(shown)})

    def job(work: Work) -> None:
        before = work.draft.problem(problem.key)
        if before is None:
            raise missed("problem", str(problem.id))
        after = structs.replace(before, **changes)
        if after.automatic and (not before.automatic or after.most > before.most):
            after = structs.replace(after, attempts=1 if after.attempt else 0)
        work.draft.problems[after.key] = after

    await call.panel.writer.do(job)
    return Done({"elid": str(problem.id)})


async def log(call: Call) -> Listing:
    """The attempts at the problem `plid`, newest first; one that is under way with what it has told so far."""
    problem = problem_of(call.panel, call.params.required("plid").strip())
    return Page.of(call.params).cut([attempt_row_of(one) for one in await attempts_of(call.panel, problem)])


async def delete(call: Call) -> Done:
    """The problems `elid` go, with their logs. One whose cause is there comes back, as a new one."""
    found = [problem_of(call.panel, elid) for elid in call.params.elids]
    if not call.params.sok:
        raise bad_value("sok", "ok is required to delete")

    def job(work: Work) -> None:
        for one in found:
            now = work.draft.problem(one.key)
            if now is not None and now.attempt:
                raise ApiError(ErrorKind.EXISTS, "elid", "an attempt at it is under way; wait for its end", str(one.id))
            work.draft.forget_problem(one.key)

    await call.panel.writer.do(job)
    return Done({"elid": ", ".join(str(one.id) for one in found)})


def problem_of(panel: Panel, elid: str) -> Problem:
    """Raises ApiError if there is none with this number."""
    problem = panel.board.problem(elid)
    if problem is None:
        raise missed("problem", elid)
    return problem


async def attempts_of(panel: Panel, problem: Problem) -> list[Attempt]:
    """Its log, newest first."""
    # First what is told: an attempt that ends meanwhile is then read with its end.
    progress, log = panel.mender.progress(problem.id), Attempts(panel.store)
    found = await panel.read(lambda: log.of(problem.id))
    if progress is None or not found or found[0].id != progress.attempt or found[0].ended:
        return found
    output = "\n".join(progress.lines)
    return [structs.replace(found[0], output=output, lines=progress.told), *found[1:]]


def advice(problem: Problem) -> str:
    """What a person must do about it."""
    return ADVICE.get(problem.type, "")


def row_of(panel: Panel, problem: Problem) -> dict[str, str]:
    """The row as the API shows it. `solver`: can it be solved from here? `advice`: what a person must do if not.

    `next`: when it will be resolved automatically, empty if it will not. `attempts`: since it opened. `on_purpose`:
    somebody seems to have stopped it.
    """
    muted = is_muted(problem, panel.board.maintenance, panel.clock.wall())
    solvable = panel.solvers.of(problem.type) is not None
    following = next_at(problem) if solvable and not muted else 0.0
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
        "attempts": str(problem.attempts),
        "next": time_label(following),
        "automatic": "on" if problem.automatic else "off",
        "period": f"{problem.period:g}",
        "attempts_most": str(problem.most),
        "muted": "yes" if muted else "no",
        "flapping": "yes" if problem.is_flapping else "no",
        "on_purpose": "yes" if is_on_purpose(problem.object, problem.text) else "no",
        "solver": "yes" if solvable else "no",
        "advice": advice(problem),
    }


def attempt_row_of(attempt: Attempt) -> dict[str, str]:
    """The row as the API shows it; `outcome` is empty while it is under way."""
    return {
        "id": str(attempt.id),
        "began": time_label(attempt.began),
        "ended": time_label(attempt.ended),
        "who": attempt.who or BY_ITSELF,
        "outcome": attempt.outcome.value,
        "result": attempt.text,
        "lines": str(attempt.lines),
        "output": attempt.output,
    }


def _settings(problem: Problem) -> dict[str, str]:
    automatic = "on" if problem.automatic else "off"
    return {"automatic": automatic, "period": f"{problem.period:g}", "attempts": str(problem.most)}


FUNCTIONS = (
    Function("problems", problems, VIEWERS),
    Function("problems.register", register, WORKERS, changes=True),
    Function("problems.solve", solve, OPERATORS, changes=True),
    Function("problems.edit", edit, OPERATORS, changes=True),
    Function("problems.log", log, VIEWERS),
    Function("problems.delete", delete, ADMIN, changes=True),
)
