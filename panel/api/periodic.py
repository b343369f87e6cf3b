"""`periodic`: what cron has the panel check (design 04, *Health*); `vmwatch.status`: how all services are."""

from vmwatch.panel.board import NodeRow
from vmwatch.panel.checks import CheckUnderWay
from vmwatch.panel.checkup import Result
from vmwatch.panel.convention import ApiError, Kind, Listing
from vmwatch.panel.functions import VIEWERS, WORKERS, Call, Function, Panel
from vmwatch.panel.labels import time_label
from vmwatch.panel.live import lag_label
from vmwatch.panel.maintenance import MASTER

MASTER_INTERVAL, NODES_INTERVAL = "60", "5"
"""Minutes, as the original's schedule says them."""


async def periodic(call: Call) -> Listing:
    """`interval=60`: check vmwatch-master; `interval=5`: all nodes. Answers after that, in 4 minutes at most."""
    params = call.params
    params.required("interval")
    interval = params.one_of("interval", (MASTER_INTERVAL, NODES_INTERVAL))
    checks = call.panel.checks
    try:
        results = await (checks.master() if interval == MASTER_INTERVAL else checks.nodes())
    except CheckUnderWay as error:
        raise ApiError(Kind.EXISTS, "interval", str(error), interval) from None
    return Listing([_row(result) for result in results], len(results), 1, len(results))


def _row(result: Result) -> dict[str, str]:
    return {"id": result.object, "object": result.object, "state": result.state, "description": result.text}


async def status(call: Call) -> Listing:
    """One row for each service: the panel, the master, and each node's agent."""
    rows = [_master_row(call.panel), *(_node_row(call.panel, row) for row in call.panel.board.nodes())]
    return Listing(rows, len(rows), 1, len(rows))


def _master_row(panel: Panel) -> dict[str, str]:
    age_s = panel.writer.report_age_s()
    state = "active" if panel.writer.hears_master() else "silent"
    seen = time_label(panel.clock.wall() - age_s) if age_s is not None else ""
    return _service(panel, "vmwatch-master", MASTER, state if age_s is not None else "new", seen)


def _node_row(panel: Panel, row: NodeRow) -> dict[str, str]:
    told = _service(panel, "vmwatch-node", row.name, row.state, time_label(row.seen))
    return told | {"doubt": row.doubt, "lag": lag_label(row), "version": row.agent, "reach": row.reach}


def _service(panel: Panel, service: str, subject: str, state: str, seen: str) -> dict[str, str]:
    """`check` and `checked`: the last check's result, and when; empty if there was none since the panel's start, or if
    all that it found is over."""
    checked = panel.checks.last.get(subject)
    problems = [problem.type for problem in panel.board.problems() if problem.is_open and problem.object == subject]
    if checked and checked.result.found and not any(found.kind in problems for found in checked.result.found):
        checked = None
    return {
        "id": subject,
        "service": service,
        "object": subject,
        "state": state,
        "last_seen": seen,
        "doubt": "",
        "lag": "",
        "version": "",
        "reach": "",
        "maintenance": time_label(panel.board.maintenance.get(subject, 0.0)),
        "problems": ", ".join(sorted(problems)),
        "check": checked.result.state if checked else "",
        "checked": time_label(checked.at) if checked else "",
        "description": checked.result.text if checked else "",
    }


FUNCTIONS = (
    Function("periodic", periodic, WORKERS, changes=True),
    Function("vmwatch.status", status, VIEWERS),
)
