"""The turns of the watch: what time alone changes is looked at about once a second, in the writer's thread."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

import anyio.to_thread

from vmwatch.panel.complaints import Lying, WrongLogin, judge_knocks, judge_logins, settle
from vmwatch.panel.deadmail import DeadMail
from vmwatch.panel.functions import Panel
from vmwatch.panel.labels import time_label
from vmwatch.panel.maintenance import MASTER, end_due
from vmwatch.panel.writer import NotCommitted, Work, WriterBusy
from vmwatch.shared.paths import Paths

log = logging.getLogger(__name__)

EVERY_S = 1.0


async def keep_watch(panel: Panel) -> None:
    """Until cancelled."""
    mail = DeadMail(Paths(panel.prefix, MASTER).dead_letters)
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            wrong, lying = panel.identity.wrong_logins(), await anyio.to_thread.run_sync(mail.look)
            await panel.writer.do(lambda work: turn(work, wrong, lying))  # noqa: B023 - done before the next turn
        except (WriterBusy, NotCommitted) as error:
            log.warning("nodes are judged a little later: %s", error)
        except Exception:
            log.exception("nodes could not be judged; tried again in %g s", EVERY_S)


def turn(work: Work, wrong: Sequence[WrongLogin], lying: Mapping[str, Lying] | None = None) -> None:
    """One turn; costs no transaction where nothing changes. `wrong`: passwords of the last minutes; `lying`: dead
    letters by node, if that is known."""
    names = [host.name for host in work.hosts.values() if not host.hidden]
    for name in end_due(work.draft, work.now):
        log.info("the maintenance of %s is over", name)
        if (node := work.draft.node(name)) is not None:
            work.draft.nodes[name] = node  # shown anew
    work.watch.turn(work.draft, names, work.monotonic, work.now, time_label)
    judge_logins(work.draft, work.now, wrong)
    knocks = work.watch.knocks
    judge_knocks(work.draft, work.now, knocks.lately(work.monotonic), knocks.worst)
    settle(work.draft, work.now, lying)
