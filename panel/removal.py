"""The removal of nodes: their services end, and what they said of VMs goes; what they registered stays."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from msgspec import structs

from vmwatch.panel.configurereport import Part
from vmwatch.panel.functions import Panel
from vmwatch.panel.knowledge import Node
from vmwatch.panel.problems import close_problem
from vmwatch.panel.removed import ENDED_WITH_IT, came_back, decided
from vmwatch.panel.store import Host
from vmwatch.panel.writer import Work

SIGNS_END_S = 6.0
"""A master reports every 5 s: so long after a node's end its last sign of life may come."""
REPORTS_MOST_S = 20.0
LOOK_EVERY_S = 0.1
REPORTS = "calls.vmwatch.report"


def forget(work: Work, name: str) -> None:
    """The node's row, its epochs and its keys stay, so that nothing of it is ever registered twice; what it said last
    of itself would be told of one that is added again under its name."""
    for uuid in work.draft.claims_of_node(name):
        work.draft.claims[uuid, name] = None
    node = work.draft.node(name) or Node()
    work.draft.nodes[name] = structs.replace(node, wanted=work.draft.next_token(), status=b"")
    for kind in ENDED_WITH_IT:
        close_problem(work.draft, work.now, kind, name)
    decided(work.draft, work.now, name)
    hidden: Host = replace(work.hosts[name], hidden=True)
    work.writes.append(lambda recorder: recorder.save_host(hidden))


def added_again(node: Node) -> Node:
    """What is known of a node that was removed and is added now: as of a new one, nothing is missed of it before its
    first sign of life. Until it is added its silence counts, should something that it left be reported late."""
    return structs.replace(node, seen=0.0, doubted=0.0, doubt="", proof=0, emptied=(0, 0.0))


def note_returns(work: Work, names: Iterable[str]) -> None:
    """These nodes report; one that was removed is in the list again with that, and a problem says so."""
    for name in names:
        if (host := work.hosts.get(name)) is not None and host.hidden:
            came_back(work.draft, work.now, name)


async def finish_removal(panel: Panel, name: str, stopped: Part) -> Part:
    """Of one that came back, after its service was stopped, or could not be."""
    if not stopped.ok or not stopped.counts:
        return Part(name, False, f"it is not stopped: {stopped.text}; stop it there, or add it again to keep it")
    await signs_end(panel)
    await panel.writer.do(lambda work: forget(work, name))
    return Part(name, True, f"{stopped.text}, and it is removed")


async def signs_end(panel: Panel) -> None:
    """Wait for the last sign of life of a node that was stopped: it would bring back one that was removed."""
    counters, clock = panel.counters, panel.clock
    before, began = counters[REPORTS], clock.monotonic()
    await asyncio.sleep(SIGNS_END_S)
    # The next report may still hold it; the one after that cannot. Without a master there is none.
    while counters[REPORTS] < before + 2 and clock.monotonic() - began < REPORTS_MOST_S:
        await asyncio.sleep(LOOK_EVERY_S)
