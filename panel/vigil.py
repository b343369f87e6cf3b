"""The turns of the watch: what time alone changes is looked at about once a second, in the writer's thread."""

import asyncio
import logging

from vmwatch.panel.functions import Panel
from vmwatch.panel.labels import time_label
from vmwatch.panel.maintenance import end_due
from vmwatch.panel.writer import NotCommitted, Work, WriterBusy

log = logging.getLogger(__name__)

EVERY_S = 1.0


async def keep_watch(panel: Panel) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            await panel.writer.do(turn)
        except (WriterBusy, NotCommitted) as error:
            log.warning("nodes are judged a little later: %s", error)
        except Exception:
            log.exception("nodes could not be judged; tried again in %g s", EVERY_S)


def turn(work: Work) -> None:
    """One turn; costs no transaction where nothing changes."""
    names = [host.name for host in work.hosts.values() if not host.hidden]
    for name in end_due(work.draft, work.now):
        log.info("the maintenance of %s is over", name)
        if (node := work.draft.node(name)) is not None:
            work.draft.nodes[name] = node  # shown anew
    work.watch.turn(work.draft, names, work.monotonic, work.now, time_label)
