"""vmwatch-master's function, from its status: does the loop turn, do workers work, does the panel answer. A core."""

from collections.abc import Iterator, Mapping
from typing import Any

from vmwatch.healthcheck.facts import Facts, Status, number_at, text_at, total_at, value_at
from vmwatch.healthcheck.figures import Bound, Figure
from vmwatch.healthcheck.levels import Finding, Level
from vmwatch.healthcheck.processhealth import process_figures

USUAL_TIMEOUT_S = 30.0
BEAT_S = 10.0
"""Beside a call of the panel a worker says something each second; on a machine under load, somewhat later."""


def _workers(status: Status) -> list[Mapping[str, Any]]:
    found = value_at(status, "workers")
    return [worker for worker in found if isinstance(worker, Mapping)] if isinstance(found, list) else []


def _nodes(status: Status) -> dict[str, Mapping[str, Any]]:
    found = value_at(status, "nodes")
    nodes = found.items() if isinstance(found, Mapping) else ()
    return {name: node for name, node in nodes if isinstance(node, Mapping)}


def _alive(status: Status) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((name, node) for name, node in _nodes(status).items() if node.get("alive") is True)


def _ready(facts: Facts) -> float | None:
    if value_at(facts.status, "workers") is None:
        return None
    return float(sum(worker.get("state") == "ready" for worker in _workers(facts.status)))


def _longest(status: Status, field: str, doing: str = "") -> float | None:
    """Of workers that are ready, and `doing` this if it is not empty; 0 if there is none."""
    if value_at(status, "workers") is None:
        return None
    ready = [worker for worker in _workers(status) if worker.get("state") == "ready"]
    ages = [number_at(worker, field) or 0.0 for worker in ready if not doing or worker.get("doing") == doing]
    return max(ages, default=0.0)


def _panel_answer(facts: Facts) -> float | None:
    """Before the first answer: since the start."""
    if "panel_answer_age_s" not in facts.status:
        return None
    age_s = number_at(facts.status, "panel_answer_age_s")
    return number_at(facts.status, "uptime_s") if age_s is None else age_s


def _nodes_alive(facts: Facts) -> float | None:
    return None if value_at(facts.status, "nodes") is None else float(sum(1 for _ in _alive(facts.status)))


def _skew(facts: Facts) -> float | None:
    skews = [abs(number_at(node, "clock_skew_s") or 0.0) for _, node in _alive(facts.status)]
    return max(skews, default=None)


def _timeout_s(status: Status) -> float:
    return number_at(status, "panel_timeout_s") or USUAL_TIMEOUT_S


def _wanted(status: Status) -> str:
    return f"{number_at(status, 'workers_wanted') or 1:g}:"


ONE_CALL = Bound("~:panel_timeout+10", lambda status: f"~:{_timeout_s(status) + BEAT_S:g}")
TWO_CALLS = Bound("~:2*panel_timeout+10", lambda status: f"~:{2 * _timeout_s(status) + BEAT_S:g}")

FIGURES = [
    Figure(
        "turn_age",
        "s",
        "time since its loop turned last",
        lambda facts: number_at(facts.status, "turn_age_s"),
        Bound("~:10"),
        Bound("~:30"),
    ),
    Figure("workers", "", "workers that are ready", _ready, Bound("workers:", _wanted), Bound("1:")),
    Figure(
        "worker_busy",
        "s",
        "longest call of the panel that is under way",
        lambda facts: _longest(facts.status, "since_s", "calling"),
        ONE_CALL,
        TWO_CALLS,
    ),
    Figure(
        "worker_silent",
        "s",
        "longest silence of a worker",
        lambda facts: _longest(facts.status, "silent_s"),
        ONE_CALL,
        TWO_CALLS,
    ),
    Figure(
        "queue",
        "",
        "messages that wait for a worker",
        lambda facts: number_at(facts.status, "waiting"),
        Bound("~:100000"),
        Bound("~:500000"),
    ),
    Figure("in_flight", "", "messages taken and not settled", lambda facts: number_at(facts.status, "in_flight")),
    Figure(
        "stall",
        "s",
        "messages are in flight and none was settled for",
        lambda facts: number_at(facts.status, "stall_s"),
        Bound("~:60"),
        Bound("~:300"),
    ),
    Figure("panel_answer", "s", "time since the panel answered", _panel_answer, Bound("~:45"), Bound("~:120")),
    Figure("nodes_alive", "", "nodes with signs of life", _nodes_alive),
    Figure("clock_skew", "s", "largest difference of a node's clock to this one", _skew, Bound("~:60")),
    Figure(
        "dead_letters",
        "c",
        "dead letters since its start",
        lambda facts: number_at(facts.status, "dead_letters", "written"),
    ),
    Figure(
        "rejected",
        "c",
        "frames rejected since its start",
        lambda facts: total_at(facts.status, "rejects", "by_reason"),
    ),
    *process_figures(1536, 3072),
]


def findings(facts: Facts) -> list[Finding]:
    """What is not well beside the figures."""
    status = facts.status
    found = []
    trouble = text_at(status, "panel_trouble")
    if trouble:
        person = value_at(status, "panel_needs_person") is True
        level, who = (Level.CRITICAL, ", a person must act") if person else (Level.WARNING, "")
        found.append(Finding("panel", level, f"calls of the panel fail{who}: {trouble}"))
    failure = text_at(status, "dead_letters", "failure")
    if failure:
        found.append(Finding("dead_letters", Level.CRITICAL, f"dead letters cannot be written: {failure}"))
    for worker in _workers(status):
        if worker.get("state") == "backoff":
            text = f"worker {worker.get('slot')} waits to be started again: {text_at(worker, 'last_trouble')}"
            found.append(Finding("worker", Level.WARNING, text))
    return found


def summary(facts: Facts) -> str:
    """What an operator wants to read when all is well."""
    status = facts.status
    alive, known = _nodes_alive(facts) or 0, len(_nodes(status))
    return (
        f"{_ready(facts) or 0:g} workers, {alive:g} of {known} nodes alive, "
        f"{number_at(status, 'in_flight') or 0:g} in flight, panel answered {_panel_answer(facts) or 0:.1f} s ago"
    )
