"""How nodes are looked at by `vmwatch-nodectl`: over SSH with the panel's restricted key, or here as root."""

from vmwatch.panel.checkup import Looked, Probed
from vmwatch.panel.nodereach import NodeReach
from vmwatch.panel.store import Host
from vmwatch.panel.ways import Ran, probed
from vmwatch.shared import nodectl
from vmwatch.shared.nodectl import Outcome, Request


class OverSsh:
    """A `ways.Way`."""

    def __init__(self, reach: NodeReach) -> None:
        self._reach = reach

    async def look(self, host: Host, limit_s: float) -> Looked:
        """Is it reachable, and does its libvirt answer?"""
        outcome = await self._ask(host, nodectl.LOOK, limit_s)
        if not outcome.version:  # it is not the node that speaks
            return Looked(reachable=False, libvirt=False, text=outcome.text)
        text = "" if outcome.ok else f"its libvirt does not answer: {outcome.text}"
        return Looked(reachable=True, libvirt=outcome.ok, text=text)

    async def probe(self, host: Host, limit_s: float) -> Probed:
        """What `vmwatch-healthcheck` says there."""
        outcome = await self._ask(host, nodectl.HEALTH, limit_s)
        if not outcome.version:
            return Probed(text=outcome.text, timed_out=True)
        return probed(Ran(outcome.code, outcome.text.encode(), outcome.text))

    async def _ask(self, host: Host, verb: str, limit_s: float) -> Outcome:
        return await self._reach.ask(host, Request(verb), lambda line: None, limit_s)
