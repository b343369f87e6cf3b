"""`vmwatch.maintenance`: the master and the nodes that somebody works on."""

import logging
import re

from vmwatch.panel.convention import Done, Form, Listing, bad_value, missed
from vmwatch.panel.functions import OPERATORS, VIEWERS, Call, Function
from vmwatch.panel.labels import time_label
from vmwatch.panel.maintenance import MASTER, Maintenance, begin, end
from vmwatch.panel.paging import Page
from vmwatch.panel.writer import Work

log = logging.getLogger(__name__)

LEAST_S, MOST_S = 1, 30 * 86400
"""One that nobody ends must not mute a cluster for ever."""
_REASON = re.compile(r"[^\x00-\x1f\x7f]{1,256}")


async def maintenances(call: Call) -> Listing:
    """What is in maintenance: `id` is the object, `until` when it ends by itself."""
    found = sorted(call.panel.board.in_maintenance.values(), key=lambda one: one.object)
    return Page.of(call.params).cut([row_of(one) for one in found])


async def edit(call: Call) -> Form | Done:
    """Begin that of `elid` (a node's name or number, or vmwatch-master) `for` so many seconds, or end it: `end=on`.

    `reason`: shown beside it. `sok=ok` performs it.
    """
    params = call.params
    subject = subject_of(call, params.required("elid").strip())
    for_s, ends = params.whole("for", LEAST_S, MOST_S), params.switch("end")
    reason = params.matching("reason", _REASON, "a text of up to 256 characters")
    if not params.sok:
        now = call.panel.board.in_maintenance.get(subject)
        return Form({"elid": subject, "for": params.get("for"), "end": "off", "reason": now.reason if now else ""})
    if ends == (for_s is not None):
        raise bad_value("for", "seconds are required, or end=on; not both")
    who = call.caller.account.name if call.caller else ""

    def job(work: Work) -> bool:
        if (node := work.draft.node(subject)) is not None:
            work.draft.nodes[subject] = node  # shown anew
        if for_s is None:
            return end(work.draft, subject)
        begin(work.draft, Maintenance(subject, work.now, work.now + for_s, who, reason))
        return True

    changed = await call.panel.writer.do(job)
    if for_s is not None:
        log.info("%s is in maintenance for %d s, says %s%s", subject, for_s, who, f": {reason}" if reason else "")
    elif changed:
        log.info("the maintenance of %s is ended by %s", subject, who)
    await call.panel.marks.follow()
    told = call.panel.board.in_maintenance.get(subject)
    return Done({"elid": subject, "until": time_label(told.until) if told else ""})


def subject_of(call: Call, elid: str) -> str:
    """A name goes first: rows of this list have no other `id`. Raises ApiError for what is neither a node nor the
    master."""
    if elid == MASTER:
        return MASTER
    row = call.panel.board.node_named(elid) or call.panel.board.node(elid)
    if row is None:
        raise missed("vmhostnode", elid)
    return row.name


def row_of(maintenance: Maintenance) -> dict[str, str]:
    """The row as the API shows it."""
    return {
        "id": maintenance.object,
        "object": maintenance.object,
        "since": time_label(maintenance.began),
        "until": time_label(maintenance.until),
        "by": maintenance.by,
        "reason": maintenance.reason,
    }


FUNCTIONS = (
    Function("vmwatch.maintenance", maintenances, VIEWERS),
    Function("vmwatch.maintenance.edit", edit, OPERATORS, changes=True),
)
